"""The room as the bot sees it: a reducer over the server's messages, without I/O."""

from collections import deque

from media_processors.findings import ProcessorInfo, ProcessorStatus
from signaling.protocol import messages as wire

CHAT_LINES = 200


class RoomView:
    """Participants, tracks, processors, chat and speakers, as of the last message applied.

    `reset` takes a snapshot (join, resume), `apply` takes an event. Both are idempotent per fact, so an event that tells
    what the snapshot already knew is harmless.
    """

    def __init__(self) -> None:
        self.room_id = ""
        self.locked = False
        self.participants: dict[str, wire.ParticipantInfo] = {}
        self.tracks: dict[str, wire.TrackInfo] = {}
        self.processors: dict[str, ProcessorInfo] = {}
        self.processor_status: dict[tuple[str, str], ProcessorStatus] = {}
        self.chat: deque[wire.ChatLine] = deque(maxlen=CHAT_LINES)
        self.speakers: list[wire.Speaker] = []

    def reset(self, snapshot: wire.RoomSnapshot) -> None:
        """Forget everything and take the snapshot."""
        self.room_id = snapshot.room_id
        self.locked = snapshot.locked
        self.participants = {person.participant_id: person for person in snapshot.participants}
        self.tracks = {track.track_id: track for person in snapshot.participants for track in person.tracks}
        self._set_processors(snapshot.processors, snapshot.processor_status)
        self.chat = deque(snapshot.chat, maxlen=CHAT_LINES)
        self.speakers = []

    def apply(self, message: wire.Message) -> None:
        """Change the view as `message` says; messages that say nothing about the room change nothing."""
        match message:
            case wire.ParticipantJoined(participant=person):
                self.participants[person.participant_id] = person
                self.tracks |= {track.track_id: track for track in person.tracks}
            case wire.ParticipantLeft(participant_id=participant_id):
                self._remove_participant(participant_id)
            case wire.TrackPublished(track=track):
                self.tracks[track.track_id] = track
            case wire.TrackUnpublished(track_id=track_id):
                self._remove_track(track_id)
            case wire.TrackMuted(track_id=track_id, muted=muted) if track_id in self.tracks:
                self.tracks[track_id] = self.tracks[track_id].model_copy(update={"muted": muted})
            case wire.ActiveSpeakers(speakers=speakers):
                self.speakers = list(speakers)
            case wire.ProcessorsChanged(processors=processors, status=status):
                self._set_processors(processors, status)
            case wire.ChatMessage(line=line):
                self.chat.append(line)
            case wire.RoomChanged(locked=locked):
                self.locked = locked

    def name_of(self, participant_id: str) -> str | None:
        """The name of somebody in the room, or None."""
        person = self.participants.get(participant_id)
        return person.name if person else None

    def tracks_of(self, participant_id: str) -> list[wire.TrackInfo]:
        """The tracks that somebody publishes now."""
        return [track for track in self.tracks.values() if track.participant_id == participant_id]

    def _set_processors(self, processors: list[ProcessorInfo], status: list[ProcessorStatus]) -> None:
        self.processors = {info.name: info for info in processors}
        self.processor_status = {(entry.track_id, entry.processor): entry for entry in status}

    def _remove_participant(self, participant_id: str) -> None:
        self.participants.pop(participant_id, None)
        for track in self.tracks_of(participant_id):
            self._remove_track(track.track_id)

    def _remove_track(self, track_id: str) -> None:
        self.tracks.pop(track_id, None)
        self.processor_status = {key: value for key, value in self.processor_status.items() if key[0] != track_id}
