"""The Socket.IO protocol as pydantic models. `PROTOCOL.md` and the browser's types are generated from this module.

Event names are the keys of `REQUESTS` (client to server, always with an ack) and `EVENTS` (server to client).
An ack is `Ack`: `{ok: true, result}` or `{ok: false, error: {code, message, retryable}}`.
"""

from typing import Annotated, Any, Literal
from unicodedata import category

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, RootModel, StringConstraints

from media_processors.findings import Finding, ProcessorInfo, ProcessorStatus
from signaling.protocol.codes import CloseReason, ErrorCode

PROTOCOL_VERSION = 1
SDP_MAX_BYTES = 256 * 1024
INT_MAX = 2**31 - 1  # what the channel to a worker can carry, with much to spare

HOPS_MAX = 3
"""How often a client follows redirects in a row before it waits."""

JOINERS = frozenset("\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}")  # Persian, scripts of India, and emoji need them


def _without_controls(name: str) -> str:
    """Raises ValueError for names that show nothing, or that turn the text around them (Unicode categories Cc, Cf, Cs)."""
    if any(category(char) in ("Cc", "Cf", "Cs") and char not in JOINERS for char in name):
        raise ValueError("control and format characters are not allowed")
    if all(char in JOINERS or char.isspace() for char in name):
        raise ValueError("must show something")
    return name


RoomId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64), AfterValidator(_without_controls)
]
Id = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Sdp = Annotated[str, StringConstraints(min_length=1, max_length=SDP_MAX_BYTES)]


class Message(BaseModel):
    """Base of everything on the wire: immutable, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# --- acks


class Error(Message):
    """Why a request was refused."""

    code: ErrorCode
    message: str
    retryable: bool


class Ack(Message):
    """The answer to every request."""

    ok: bool
    result: dict[str, Any] | None = None
    error: Error | None = None


# --- the room as everybody sees it

TrackKind = Literal["audio", "video"]
TrackSource = Literal["microphone", "music", "camera", "screen", "screen_audio"]


class TrackInfo(Message):
    """A published track. Microphones are processed, music and screen audio never are."""

    track_id: Id
    participant_id: Id
    kind: TrackKind
    source: TrackSource
    muted: bool


class ParticipantInfo(Message):
    """Somebody in the room."""

    participant_id: Id
    name: Name
    host: bool
    bot: bool
    joined_at: str = Field(description="UTC, ISO 8601")
    tracks: list[TrackInfo]


class ChatLine(Message):
    """A line of chat. Clients must treat `text` as text, never as markup."""

    participant_id: Id
    name: Name
    text: Annotated[str, StringConstraints(min_length=1, max_length=4000)]
    sent_at: str = Field(description="UTC, ISO 8601")


class IceServer(Message):
    """As in RTCConfiguration.iceServers."""

    urls: list[str]
    username: str | None = None
    credential: str | None = None


class RoomSnapshot(Message):
    """The whole room, sent at join and at resume, so that no client ever has to replay events."""

    room_id: RoomId
    locked: bool
    participants: list[ParticipantInfo]
    processors: list[ProcessorInfo]
    processor_status: list[ProcessorStatus]
    chat: list[ChatLine] = Field(description="the last lines: 200 at most, in 128 KiB")


# --- requests: client to server


class Join(Message):
    """Enter a room, or come back within 30 s with `session_key`, which brings the same participant back."""

    room_id: RoomId
    name: Name
    token: str | None = Field(default=None, max_length=4096, description="signed grant; not needed in an open room")
    session_key: str | None = Field(
        default=None, max_length=256, description="from the last `JoinResult`; void after the resume"
    )
    bot: bool = False
    fresh_transports: bool = Field(
        default=False, description="on resume: my connections are gone (page refresh), forget them and start new ones"
    )
    stable_ssrcs: bool = Field(default=False, description="aiortc clients: a reused m-line keeps its first SSRC")
    hops: int = Field(default=0, ge=0, le=HOPS_MAX, description="how many redirects in a row led here")
    protocol_version: int = Field(default=PROTOCOL_VERSION, ge=0, le=INT_MAX)


class JoinResult(Message):
    """Who you are, what the room looks like, and the key for coming back."""

    participant_id: Id
    host: bool
    resumed: bool
    session_key: str
    room: RoomSnapshot
    ice_servers: list[IceServer]
    protocol_version: int
    invite_url: str
    nodes: list[str] = Field(description="other servers that may know this room when this one cannot be reached")


class Redirect(Message):
    """The room lives on another server: close this connection and send the same `join`, one hop more, there."""

    redirect: str = Field(description="its origin, e.g. https://b.meet.example")


class JoinAnswer(RootModel[JoinResult | Redirect]):
    """You are in, or you shall ask elsewhere."""


class Leave(Message):
    """Leave the room for good."""


class PublishedTrack(Message):
    """What the m-line `mid` of a publish offer carries."""

    mid: Annotated[str, StringConstraints(min_length=1, max_length=16)]
    source: TrackSource
    muted: bool = Field(default=False, description="true mutes; false leaves a known track as it is, `mute` unmutes")


class Publish(Message):
    """An offer of the publish transport. `tracks` names every m-line that sends; an m-line left out stops being published.

    One track of each source, so that a participant has one microphone that is processed.

    Sent again to add or remove tracks, and with new ICE credentials to restart ICE.
    """

    sdp: Sdp
    tracks: list[PublishedTrack] = Field(max_length=16)


class PublishResult(Message):
    """The answer, and the ids under which the tracks are known in the room."""

    sdp: Sdp
    track_ids: dict[str, Id] = Field(description="mid -> track_id")


class SubscribeAnswer(Message):
    """The answer to `subscribe_offer` number `version`."""

    sdp: Sdp
    version: int = Field(ge=1, le=INT_MAX)


class Tile(Message):
    """How large a track is shown, in CSS pixels times device pixel ratio; 0 x 0 while it is not visible."""

    track_id: Id
    width: int = Field(ge=0, le=16384)
    height: int = Field(ge=0, le=16384)


class Subscribe(Message):
    """Desired state of subscription. Whoever never sends it gets every track; a later one replaces it whole."""

    auto: bool = Field(default=True, description="subscribe to every track of others")
    only: list[Id] = Field(default_factory=list, max_length=512, description="with auto=false: just these tracks")
    tiles: list[Tile] = Field(default_factory=list, max_length=512)


class RestartSubscribe(Message):
    """Ask for an ICE restart of the subscribe transport: a `subscribe_offer` with new credentials follows."""


class Mute(Message):
    """Mute or unmute an own track."""

    track_id: Id
    muted: bool


class Chat(Message):
    """Say something to everybody."""

    text: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4000)]


class SetProcessor(Message):
    """Switch a processor on or off for the caller's own tracks."""

    processor: Id
    on: bool


class Moderate(Message):
    """Host only. `mute` needs `track_id`; `remove` needs `participant_id`; `lock`, `unlock` and `end` need neither."""

    action: Literal["mute", "remove", "lock", "unlock", "end"]
    participant_id: Id | None = None
    track_id: Id | None = None


class ReportQuality(Message):
    """What the client measures of its reception, every few seconds; shown as connection quality to everybody."""

    rtt_ms: float | None = Field(default=None, ge=0)
    loss_percent: float = Field(ge=0, le=100)
    freezes: int = Field(default=0, ge=0, le=INT_MAX)


REQUESTS: dict[str, tuple[type[Message], type[BaseModel] | None]] = {
    "join": (Join, JoinAnswer),
    "leave": (Leave, None),
    "publish": (Publish, PublishResult),
    "subscribe_answer": (SubscribeAnswer, None),
    "subscribe": (Subscribe, None),
    "restart_subscribe": (RestartSubscribe, None),
    "mute": (Mute, None),
    "chat": (Chat, None),
    "set_processor": (SetProcessor, None),
    "moderate": (Moderate, None),
    "report_quality": (ReportQuality, None),
}


# --- events: server to client


class OfferedTrack(Message):
    """What the m-line of a subscribe offer carries."""

    track_id: Id
    participant_id: Id
    kind: TrackKind


class SubscribeOffer(Message):
    """An offer of the subscribe transport. Answer with `subscribe_answer` and the same `version`."""

    sdp: Sdp
    version: int
    tracks: dict[str, OfferedTrack] = Field(description="mid -> track, for the m-lines that carry one")


class ParticipantJoined(Message):
    """Somebody came (also after a resume that took longer than the others were told to wait)."""

    participant: ParticipantInfo


class ParticipantLeft(Message):
    """Somebody is gone, with all their tracks."""

    participant_id: Id
    reason: CloseReason


class TrackPublished(Message):
    """A new track."""

    track: TrackInfo


class TrackUnpublished(Message):
    """A track is gone."""

    track_id: Id
    participant_id: Id


class TrackMuted(Message):
    """A track was muted or unmuted; `by_host` if not by its owner."""

    track_id: Id
    muted: bool
    by_host: bool


class Speaker(Message):
    """Somebody who speaks now, loudest first."""

    participant_id: Id
    track_id: Id
    level_dbov: int = Field(ge=-127, le=0)


class ActiveSpeakers(Message):
    """Who speaks now; sent when it changes. Empty: nobody."""

    speakers: list[Speaker]


class FindingEvent(Message):
    """A finding for whose audience the receiver is."""

    finding: Finding


class ProcessorsChanged(Message):
    """Which processors exist changed (a host started or died), or their state on a track did."""

    processors: list[ProcessorInfo]
    status: list[ProcessorStatus]


class ChatMessage(Message):
    """A line of chat, the sender's own included."""

    line: ChatLine


class RoomChanged(Message):
    """The room was locked or unlocked, or has another host."""

    locked: bool
    hosts: list[Id] = Field(default_factory=list, description="who is a host now")


class Layer(Message):
    """Which layer of a video track is being received, and why not a higher one."""

    track_id: Id
    layer: Literal["low", "middle", "high", "paused"]
    reason: Literal["tile", "bandwidth", "loss", "available", "hidden"]


class ConnectionQuality(Message):
    """How well somebody is connected, 0 (lost) to 3 (good), and the receiver's own layers if it is about themselves."""

    participant_id: Id
    score: int = Field(ge=0, le=3)
    layers: list[Layer] = Field(default_factory=list)


class TransportReplace(Message):
    """The media worker was replaced: build both transports anew and publish again."""


class IceServersChanged(Message):
    """Fresh credentials for the relays, in time before the last ones expire; for what is gathered from now on."""

    ice_servers: list[IceServer]


class Moved(Message):
    """The room lives on another server now: close this connection and resume there, with fresh transports."""

    url: str | None = Field(description="its origin; null: ask the `nodes` of the last `JoinResult`")


class Closed(Message):
    """You are no longer in the room. After `removed`, `room_ended` and `duplicate_identity` resuming is refused."""

    reason: CloseReason


EVENTS: dict[str, type[Message]] = {
    "subscribe_offer": SubscribeOffer,
    "participant_joined": ParticipantJoined,
    "participant_left": ParticipantLeft,
    "track_published": TrackPublished,
    "track_unpublished": TrackUnpublished,
    "track_muted": TrackMuted,
    "active_speakers": ActiveSpeakers,
    "finding": FindingEvent,
    "processors_changed": ProcessorsChanged,
    "chat_message": ChatMessage,
    "room_changed": RoomChanged,
    "connection_quality": ConnectionQuality,
    "transport_replace": TransportReplace,
    "moved": Moved,
    "ice_servers_changed": IceServersChanged,
    "closed": Closed,
}
