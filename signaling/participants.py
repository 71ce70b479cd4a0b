"""Somebody in a room: state, tracks, consent, and what is needed to bring them back."""

import asyncio
import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Protocol

import structlog
from pydantic import BaseModel, ConfigDict, Field

from signaling.alerts import Alerts
from signaling.auth import SessionKey, digest_of, key_matches
from signaling.events import Event
from signaling.limits import Budget, TokenBucket
from signaling.policy import Consent
from signaling.protocol.codes import CloseReason
from signaling.protocol.messages import (
    Message,
    ParticipantInfo,
    Subscribe,
    SubscribeOffer,
    TrackInfo,
    TrackKind,
    TrackSource,
)
from signaling.quality import Connection

CHAT_PER_S = 2.0
CHAT_BURST = 10

log = structlog.get_logger()

KIND_OF_SOURCE: dict[TrackSource, TrackKind] = {
    "microphone": "audio",
    "music": "audio",
    "screen_audio": "audio",
    "camera": "video",
    "screen": "video",
}


class Outlet(Protocol):
    """The way to one client: a socket, until it closes."""

    def send(self, event: Event) -> None:
        """Queue an event. Never blocks and never raises."""

    def release(self) -> None:
        """The socket no longer speaks for its participant."""


class ParticipantState(Enum):
    """JOINING -> PRESENT <-> AWAY (the socket is lost, the seat is kept) -> GONE."""

    JOINING = "joining"
    PRESENT = "present"
    AWAY = "away"
    GONE = "gone"


@dataclass(slots=True)
class Track:
    """A published track. `processors` and `bypassed` are what the worker was told and what it said."""

    track_id: str
    participant_id: str
    source: TrackSource
    muted: bool
    processors: dict[str, bool] = field(default_factory=dict)
    bypassed: str | None = None

    @property
    def kind(self) -> TrackKind:
        """`audio` or `video`."""
        return KIND_OF_SOURCE[self.source]

    def info(self) -> TrackInfo:
        """As the room sees it."""
        return TrackInfo(
            track_id=self.track_id,
            participant_id=self.participant_id,
            kind=self.kind,
            source=self.source,
            muted=self.muted,
        )


class ParticipantNotes(BaseModel):
    """What a worker keeps for us, so that a new signaling process can go on. Never logged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    host: bool
    bot: bool
    identity: str
    lineage: list[str]
    joined_at: str
    expires_at: int | None
    stable_ssrcs: bool
    key_digest: str
    spare_digest: str
    choices: dict[str, bool]
    epoch: int = Field(ge=0)
    alerts: list[tuple[str, str]]
    subscription: dict[str, Any]


class Participant:
    """One seat in a room. Only `signaling.rooms` adds it to a room or takes it out."""

    def __init__(
        self,
        room_id: str,
        name: str,
        *,
        host: bool = False,
        bot: bool = False,
        identity: str = "",
        lineage: Iterable[str] = (),
        expires_at: int | None = None,
        stable_ssrcs: bool = False,
        participant_id: str | None = None,
    ) -> None:
        self.id = participant_id or f"p_{secrets.token_hex(8)}"
        self.room_id = room_id
        self.name = name
        self.host = host
        self.bot = bot
        self.identity = identity or self.id
        self.lineage = tuple(lineage)  # who invited them, who invited those, ...: traces, as in `auth.Grant.inv`
        self.expires_at = expires_at
        self.stable_ssrcs = stable_ssrcs
        self.joined_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.state = ParticipantState.JOINING
        self.close_reason: CloseReason | None = None
        self.outlet: Outlet | None = None
        self.tracks: dict[str, Track] = {}
        self.consent = Consent()
        self.alerts = Alerts()
        self.subscription = Subscribe()
        self.connection = Connection()
        self.budget: Budget | None = None
        self.chat_bucket = TokenBucket(CHAT_PER_S, CHAT_BURST)
        self.unseen_offer: SubscribeOffer | None = None
        self.needs_new_transports = False
        self.window: asyncio.TimerHandle | None = None
        self._key_digest = ""
        self._spare_digest = ""

    # --- state

    @property
    def present(self) -> bool:
        """Whether events of the room are for them now."""
        return self.state is ParticipantState.PRESENT

    @property
    def gone(self) -> bool:
        """Whether the seat is given up for good."""
        return self.state is ParticipantState.GONE

    def arrive(self, outlet: Outlet) -> None:
        """They are in, through this socket."""
        self.outlet = outlet
        self.stop_window()
        self._set_state(ParticipantState.PRESENT)

    def share_budget(self, of_socket: Budget) -> Budget:
        """What they may still ask: their own from before, so that a new socket is not a new allowance; else the socket's."""
        if self.budget is None:
            self.budget = of_socket
        return self.budget

    def lose_socket(self) -> None:
        """The socket is gone, the seat is kept."""
        self.outlet = None
        self._set_state(ParticipantState.AWAY)

    def leave(self, reason: CloseReason) -> None:
        """The seat is given up; the session key is void."""
        self.stop_window()
        self.close_reason = reason
        self._key_digest = self._spare_digest = ""
        self._set_state(ParticipantState.GONE)
        outlet, self.outlet = self.outlet, None
        if outlet is not None:
            outlet.release()

    def stop_window(self) -> None:
        """Nobody waits for them any more."""
        if self.window is not None:
            self.window.cancel()
            self.window = None

    def _set_state(self, state: ParticipantState) -> None:
        if state is self.state or self.gone:
            return
        log.info("participant_state", participant=self.id, room=self.room_id, old=self.state.value, new=state.value)
        self.state = state

    # --- session key

    def new_session_key(self) -> str:
        """A key for the next resume. All before are void, but for the one that brought them back: see `confirm_session`."""
        key = SessionKey.new(self.id)
        self._key_digest = key.digest
        return key.text

    def use_session_key(self, key: str) -> bool:
        """Use the key up. False if it is neither the current one nor the spare one. Until the next is made none is good."""
        if not (key_matches(key, self._key_digest) or key_matches(key, self._spare_digest)):
            return False
        self._key_digest = self._spare_digest = ""
        return True

    def spare_session_key(self, key: str) -> None:
        """Let a used key be good once more: the client may never hear of the next one, or the resume failed on our side."""
        self._spare_digest = digest_of(key)

    def confirm_session(self) -> bool:
        """The client has heard of its new key, for it asks something else now. True if a spare key is void from now on."""
        spare, self._spare_digest = self._spare_digest, ""
        return bool(spare)

    # --- to others

    def send(self, message: Message) -> None:
        """Send an event, if there is a socket."""
        self.deliver(Event.of(message))

    def deliver(self, event: Event) -> None:
        """Send an event that others receive, too."""
        if self.outlet is not None:
            self.outlet.send(event)

    def track_id(self, mid: str, source: str) -> str:
        """The id of the track on an m-line: the same at every publish, also by another process."""
        digest = hashlib.blake2b("\0".join((self.id, source, mid)).encode(), digest_size=8)
        return f"t_{digest.hexdigest()}"

    def info(self) -> ParticipantInfo:
        """As the room sees them."""
        return ParticipantInfo(
            participant_id=self.id,
            name=self.name,
            host=self.host,
            bot=self.bot,
            joined_at=self.joined_at,
            tracks=[track.info() for track in self.tracks.values()],
        )

    def notes(self) -> ParticipantNotes:
        """What the worker shall keep."""
        return ParticipantNotes(
            name=self.name,
            host=self.host,
            bot=self.bot,
            identity=self.identity,
            lineage=list(self.lineage),
            joined_at=self.joined_at,
            expires_at=self.expires_at,
            stable_ssrcs=self.stable_ssrcs,
            key_digest=self._key_digest,
            spare_digest=self._spare_digest,
            choices=dict(self.consent.choices),
            epoch=self.consent.epoch,
            alerts=self.alerts.standing(),
            subscription=self.subscription.model_dump(),
        )

    @classmethod
    def adopted(cls, room_id: str, participant_id: str, notes: ParticipantNotes) -> "Participant":
        """Somebody who was here before this process: AWAY until their client comes back with its key."""
        participant = cls(
            room_id,
            notes.name,
            host=notes.host,
            bot=notes.bot,
            identity=notes.identity,
            lineage=notes.lineage,
            expires_at=notes.expires_at,
            stable_ssrcs=notes.stable_ssrcs,
            participant_id=participant_id,
        )
        participant.joined_at = notes.joined_at
        participant.consent = Consent(dict(notes.choices), notes.epoch)
        participant.alerts = Alerts(notes.alerts)
        participant.subscription = Subscribe.model_validate(notes.subscription)
        participant._key_digest = notes.key_digest
        participant._spare_digest = notes.spare_digest
        participant.lose_socket()
        return participant


def expired(participant: Participant, now_s: float) -> bool:
    """Whether the token they came with is no longer valid."""
    return participant.expires_at is not None and now_s > participant.expires_at
