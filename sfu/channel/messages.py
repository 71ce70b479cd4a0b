"""What signaling and a media worker say to each other.

Requests (signaling to worker) are the keys of `REQUESTS`; notifications (worker to signaling) are the keys of
`NOTIFICATIONS`. Everything is desired state: sending a request twice changes nothing.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["audio", "video"]


class ChannelMessage(BaseModel):
    """Base of everything on the channel."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# --- requests


class PutParticipant(ChannelMessage):
    """Keep `state` for whoever asks for a snapshot: signaling's own notes, which outlive the signaling process."""

    room_id: str
    participant_id: str
    state: dict[str, Any]


class DropParticipant(ChannelMessage):
    """Close both transports of a participant and forget it."""

    participant_id: str
    reason: str


class PutRoom(ChannelMessage):
    """Keep `state` of a room for snapshots."""

    room_id: str
    state: dict[str, Any]


class DropRoom(ChannelMessage):
    """Close everything in a room."""

    room_id: str


class TrackWanted(ChannelMessage):
    """An m-line of a publish offer that sends a track."""

    mid: str
    track_id: str
    source: str
    muted: bool = False


class PublishOffer(ChannelMessage):
    """A client's offer. The first one, or one with another DTLS fingerprint, builds a new publish transport."""

    room_id: str
    participant_id: str
    sdp: str
    tracks: list[TrackWanted]


class PublishAnswer(ChannelMessage):
    """Our answer; producers exist already when it leaves."""

    sdp: str


class OpenSubscribe(ChannelMessage):
    """Create (or with `fresh` recreate) the subscribe transport. `offer` notifications follow."""

    room_id: str
    participant_id: str
    stable_ssrcs: bool = False
    fresh: bool = False


class WantedTrack(ChannelMessage):
    """A subscription: which track, and how large it is shown (0 x 0: not visible)."""

    track_id: str
    width: int = 1280
    height: int = 720


class SetSubscriptions(ChannelMessage):
    """The whole desired state of a subscribe transport. Unknown tracks are kept until they appear."""

    participant_id: str
    tracks: list[WantedTrack]


class SubscribeAnswered(ChannelMessage):
    """The client's answer to the offer `version`."""

    participant_id: str
    sdp: str
    version: int


class RestartSubscribe(ChannelMessage):
    """Offer new ICE credentials on the subscribe transport."""

    participant_id: str


class SetMuted(ChannelMessage):
    """While muted nothing of a track is forwarded, whatever the client sends."""

    track_id: str
    muted: bool


class SetProcessing(ChannelMessage):
    """Which processors run on a track, under which consent epoch. Applied to taps at once and again after restarts."""

    track_id: str
    processors: dict[str, bool]
    epoch: int = 0


class Empty(ChannelMessage):
    """A request without parameters."""


class TrackSnapshot(ChannelMessage):
    """A producer as the worker knows it."""

    track_id: str
    participant_id: str
    kind: Kind
    source: str
    muted: bool
    processors: dict[str, bool]
    epoch: int
    bypassed: str | None = Field(
        default=None,  # of a worker that was started before there was this field
        description="why the last `processing_state` said `bypass`; null if it said `on`, or none was",
    )


class ParticipantSnapshot(ChannelMessage):
    """A participant as the worker knows it."""

    room_id: str
    participant_id: str
    state: dict[str, Any]
    publish: str | None = Field(description="state of the publish transport")
    subscribe: str | None = Field(description="state of the subscribe transport")


class Snapshot(ChannelMessage):
    """Everything a new signaling process needs to go on."""

    rooms: dict[str, dict[str, Any]]
    participants: list[ParticipantSnapshot]
    tracks: list[TrackSnapshot]


REQUESTS: dict[str, tuple[type[ChannelMessage], type[ChannelMessage] | None]] = {
    "put_participant": (PutParticipant, None),
    "drop_participant": (DropParticipant, None),
    "put_room": (PutRoom, None),
    "drop_room": (DropRoom, None),
    "publish_offer": (PublishOffer, PublishAnswer),
    "open_subscribe": (OpenSubscribe, None),
    "set_subscriptions": (SetSubscriptions, None),
    "subscribe_answered": (SubscribeAnswered, None),
    "restart_subscribe": (RestartSubscribe, None),
    "set_muted": (SetMuted, None),
    "set_processing": (SetProcessing, None),
    "snapshot": (Empty, Snapshot),
    "stats": (Empty, None),
    "metrics": (Empty, None),
}


# --- notifications


class OfferedMedia(ChannelMessage):
    """What an m-line of an offer carries."""

    track_id: str
    participant_id: str
    kind: Kind


class Offer(ChannelMessage):
    """An offer for a participant's subscribe transport."""

    participant_id: str
    sdp: str
    version: int
    tracks: dict[str, OfferedMedia]


class TransportState(ChannelMessage):
    """A transport connected, lost its peer, or is gone."""

    participant_id: str
    direction: Literal["publish", "subscribe"]
    state: Literal["new", "connecting", "connected", "disconnected", "failed", "closed"]


class TrackGone(ChannelMessage):
    """A producer closed."""

    track_id: str
    participant_id: str


class ActiveSpeaker(ChannelMessage):
    """Somebody who speaks now."""

    participant_id: str
    track_id: str
    level_dbov: int


class Speakers(ChannelMessage):
    """Who speaks now in a room, loudest first; sent when it changes."""

    room_id: str
    speakers: list[ActiveSpeaker]


class LayerState(ChannelMessage):
    """Which layer a consumer gets, and why not a higher one."""

    track_id: str
    layer: Literal["low", "middle", "high", "paused"]
    reason: Literal["tile", "bandwidth", "loss", "available", "hidden"]


class Quality(ChannelMessage):
    """What the worker measures of a participant's connection, every 2 s."""

    participant_id: str
    uplink_loss_percent: float
    downlink_loss_percent: float
    rtt_ms: float | None
    estimate_bps: int | None = Field(description="downlink, from REMB")
    layers: list[LayerState]


class ProcessingState(ChannelMessage):
    """The worker bypassed a transform, or took it back: (track, processor `*`, state, reason)."""

    track_id: str
    state: Literal["on", "bypass"]
    reason: str


NOTIFICATIONS: dict[str, type[ChannelMessage]] = {
    "offer": Offer,
    "transport_state": TransportState,
    "track_gone": TrackGone,
    "speakers": Speakers,
    "quality": Quality,
    "processing_state": ProcessingState,
}

# --- between signaling and the hosts of processors (media_processors): requests `processors` -> {"processors": [...]},
# notifications `finding` and `processor_status`; their payloads are the models in media_processors.findings.
HOST_REQUESTS = ("processors",)
HOST_NOTIFICATIONS = ("finding", "processor_status")
