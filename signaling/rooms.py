"""Rooms and who is in them. Plain state, changed only by synchronous methods, so it is never seen half changed."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from enum import Enum

import structlog
from pydantic import BaseModel, ConfigDict

from media_processors.findings import ProcessorInfo, ProcessorStatus
from signaling.chat import ChatHistory
from signaling.errors import MediaError, RoomError, SignalingError
from signaling.events import Event
from signaling.participants import Participant, Track
from signaling.protocol.codes import CloseReason, ErrorCode
from signaling.protocol.messages import Message, RoomChanged, RoomSnapshot

BANNED_MAX = 1000  # per room; the oldest ban is forgotten

log = structlog.get_logger()


class RoomState(Enum):
    """OPEN -> ENDED."""

    OPEN = "open"
    ENDED = "ended"


class RoomNotes(BaseModel):
    """What a worker keeps for us about a room. The chat is not kept: it ends with the signaling process."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    locked: bool
    banned: list[str]


class Room:
    """A meeting. `worker` is the index of the media worker on which all of it lives."""

    def __init__(self, room_id: str, worker: int) -> None:
        self.id = room_id
        self.worker = worker
        self.state = RoomState.OPEN
        self.locked = False
        self.banned: deque[str] = deque(maxlen=BANNED_MAX)
        self.chat = ChatHistory()
        self.participants: dict[str, Participant] = {}

    def end(self) -> None:
        """Nobody may come in any more."""
        self._set_state(RoomState.ENDED)

    def _set_state(self, state: RoomState) -> None:
        if state is not self.state:
            log.info("room_state", room=self.id, old=self.state.value, new=state.value)
            self.state = state

    def by_identity(self, identity: str) -> Participant | None:
        """Who is here under this identity."""
        return next((one for one in self.participants.values() if one.identity == identity), None)

    def tracks(self) -> Iterator[Track]:
        """All tracks, in order of arrival."""
        for participant in self.participants.values():
            yield from participant.tracks.values()

    def has_host(self) -> bool:
        """Whether anybody is a host."""
        return any(participant.host for participant in self.participants.values())

    def heir(self) -> Participant | None:
        """Who has been here longest and is a person: bots are never made hosts."""
        return next((one for one in self.participants.values() if not one.bot), None)

    def broadcast(self, message: Message, besides: Participant | None = None) -> None:
        """Send an event to everybody who is present."""
        event = Event.of(message)
        for participant in self.participants.values():
            if participant.present and participant is not besides:
                participant.deliver(event)

    def changed(self) -> RoomChanged:
        """The event that says how the room is."""
        hosts = [participant.id for participant in self.participants.values() if participant.host]
        return RoomChanged(locked=self.locked, hosts=hosts)

    def snapshot(self, processors: list[ProcessorInfo], status: list[ProcessorStatus]) -> RoomSnapshot:
        """All that somebody who comes in must know."""
        return RoomSnapshot(
            room_id=self.id,
            locked=self.locked,
            participants=[one.info() for one in self.participants.values() if one.state.value != "joining"],
            processors=processors,
            processor_status=status,
            chat=self.chat.lines(),
        )

    def notes(self) -> RoomNotes:
        """What the worker shall keep."""
        return RoomNotes(locked=self.locked, banned=list(self.banned))

    def restore(self, notes: RoomNotes) -> None:
        """Take over what a worker kept."""
        self.locked = notes.locked
        self.banned.extend(notes.banned)


class Rooms:
    """All rooms of this node, with an index of participants and tracks."""

    def __init__(self) -> None:
        self.closed: Counter[CloseReason] = Counter()
        """Seats given up so far."""
        self._rooms: dict[str, Room] = {}
        self._participants: dict[str, Participant] = {}
        self._tracks: dict[str, Track] = {}

    def __iter__(self) -> Iterator[Room]:
        return iter(list(self._rooms.values()))

    def find(self, room_id: str) -> Room | None:
        """The room, if it exists."""
        return self._rooms.get(room_id)

    def open(self, room_id: str, worker: int) -> Room:
        """A new room. Raises ValueError if there is one of that name."""
        if room_id in self._rooms:
            raise ValueError("room_id: exists")
        room = self._rooms[room_id] = Room(room_id, worker)
        log.info("room_opened", room=room_id, worker=worker)
        return room

    def close(self, room: Room) -> None:
        """Forget a room; everybody must have left. Raises ValueError otherwise."""
        if room.participants:
            raise ValueError("room: not empty")
        room.end()
        self._rooms.pop(room.id, None)

    def of(self, participant: Participant) -> Room:
        """The room in which somebody is. Raises `SignalingError` if they are in none any more."""
        room = self._rooms.get(participant.room_id)
        if room is None or participant.gone:
            raise not_here(participant)
        return room

    def participant(self, participant_id: str) -> Participant | None:
        """Somebody, by id."""
        return self._participants.get(participant_id)

    def track(self, track_id: str) -> Track | None:
        """A track, by id."""
        return self._tracks.get(track_id)

    def enter(self, room: Room, participant: Participant) -> None:
        """Give somebody a seat."""
        room.participants[participant.id] = participant
        self._participants[participant.id] = participant

    def remove(self, participant: Participant) -> None:
        """Take the seat, and the tracks with it."""
        for track_id in list(participant.tracks):
            self.unpublish(participant, track_id)
        if self._participants.pop(participant.id, None) is not None and participant.close_reason is not None:
            self.closed[participant.close_reason] += 1
        room = self._rooms.get(participant.room_id)
        if room is not None:
            room.participants.pop(participant.id, None)

    def publish(self, participant: Participant, track: Track) -> None:
        """Add a track."""
        participant.tracks[track.track_id] = track
        self._tracks[track.track_id] = track

    def unpublish(self, participant: Participant, track_id: str) -> Track | None:
        """Take a track away; None if it was not there."""
        self._tracks.pop(track_id, None)
        return participant.tracks.pop(track_id, None)

    def on_worker(self, worker: int) -> Iterable[Room]:
        """The rooms that live on one worker."""
        return [room for room in self._rooms.values() if room.worker == worker]


def not_here(participant: Participant) -> SignalingError:
    """The error for somebody who is in no room any more."""
    if participant.close_reason is CloseReason.MOVED:
        return MediaError(ErrorCode.MEDIA_UNAVAILABLE, "the room is moving to another server; try again in a moment")
    ended = participant.close_reason is CloseReason.ROOM_ENDED
    return RoomError(ErrorCode.ROOM_ENDED if ended else ErrorCode.NOT_JOINED, "you are not in the room")
