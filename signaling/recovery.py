"""What the media plane tells us: offers and states to pass on, and what to do when it or we were away.

After a worker was lost: whoever is missing in its snapshot gets `transport_replace` and publishes again. After *we* were
lost: the first snapshot of every worker is adopted, and its participants have the resume window to come back.
"""

from typing import cast, get_args

import structlog
from pydantic import ValidationError

from sfu.channel import messages as channel
from sfu.channel.messages import ChannelMessage, Snapshot
from signaling.cluster.records import RoomRecord
from signaling.insights import Insights
from signaling.lobby import Lobby
from signaling.media import MediaPlane
from signaling.participants import Participant, ParticipantNotes, Track
from signaling.protocol import messages
from signaling.protocol.codes import CloseReason
from signaling.protocol.messages import TrackSource
from signaling.requests import tell_quality
from signaling.rooms import Room, RoomNotes, Rooms

SOURCES = frozenset(get_args(TrackSource))

log = structlog.get_logger()


class Recovery:
    """Hears the media plane (`MediaEvents`). `attach` closes the circle: the plane needs its listener to be made."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._media: MediaPlane
        self._insights: Insights
        self._lobby: Lobby

    def attach(self, media: MediaPlane, insights: Insights, lobby: Lobby) -> None:
        """Who acts on what is heard."""
        self._media = media
        self._insights = insights
        self._lobby = lobby

    # --- snapshots

    def synced(self, worker: int, snapshot: Snapshot, first: bool) -> None:
        """Bring rooms and worker back together."""
        if first:
            self._adopt(worker, snapshot)
        self._drop_strangers(worker, snapshot)
        self._replace_lost(worker, snapshot)
        for seen in snapshot.tracks:
            self._bypassed(seen.track_id, seen.bypassed)

    def _adopt(self, worker: int, snapshot: Snapshot) -> None:
        for room_id, state in snapshot.rooms.items():
            self._adopt_room(worker, room_id, state)
        for seen in snapshot.participants:
            self._adopt_participant(worker, seen)
        for track in snapshot.tracks:
            self._adopt_track(track)
        for room in list(self._rooms.on_worker(worker)):
            self._finish_adoption(room)

    def restore(self, room_id: str, record: RoomRecord) -> None:
        """Open a room that another machine had: everybody is away and has the resume window to come here.

        Their tracks are gone, and with them the alerts that rest on them. Raises `MediaError` if no worker is ready.
        """
        room = self._rooms.open(room_id, self._media.place(self._rooms))
        room.restore(record.room)
        for participant_id, notes in record.participants.items():
            participant = Participant.adopted(room_id, participant_id, notes)
            participant.alerts.clear()
            participant.needs_new_transports = True
            self._rooms.enter(room, participant)
        self._finish_adoption(room)

    def _adopt_room(self, worker: int, room_id: str, state: dict[str, object]) -> None:
        if self._rooms.find(room_id) is not None:
            return
        try:
            notes = RoomNotes.model_validate(state)
        except ValidationError:
            log.error("room_notes_malformed", room=room_id, worker=worker)
            return
        self._rooms.open(room_id, worker).restore(notes)

    def _adopt_participant(self, worker: int, seen: channel.ParticipantSnapshot) -> None:
        room = self._rooms.find(seen.room_id)
        if room is None or room.worker != worker:
            return
        try:
            notes = ParticipantNotes.model_validate(seen.state)
        except ValidationError:
            log.error("participant_notes_malformed", participant=seen.participant_id, worker=worker)
            return
        self._rooms.enter(room, Participant.adopted(room.id, seen.participant_id, notes))

    def _adopt_track(self, seen: channel.TrackSnapshot) -> None:
        participant = self._rooms.participant(seen.participant_id)
        if participant is None or seen.source not in SOURCES:
            return
        source = cast(TrackSource, seen.source)
        track = Track(seen.track_id, participant.id, source, seen.muted, dict(seen.processors))
        participant.consent.epoch = max(participant.consent.epoch, seen.epoch)
        self._rooms.publish(participant, track)

    def _finish_adoption(self, room: Room) -> None:
        if not room.participants:
            self._rooms.close(room)
            return
        self._media.keep_room(room)
        for participant in room.participants.values():
            self._media.keep_participant(room, participant)
            self._media.keep_open(room, participant)
            for track in participant.tracks.values():
                if track.processors:
                    self._media.keep_processing(room, participant, track)
            self._lobby.open_window(participant)
        self._media.keep_subscriptions(room)
        log.info("room_adopted", room=room.id, worker=room.worker, participants=len(room.participants))

    def _drop_strangers(self, worker: int, snapshot: Snapshot) -> None:
        """What the worker holds and nobody here knows: it ended while the two could not talk."""
        for room_id in snapshot.rooms:
            room = self._rooms.find(room_id)
            if room is None or room.worker != worker:
                self._media.drop_room(worker, room_id)
        for seen in snapshot.participants:
            room = self._rooms.find(seen.room_id)
            if room is not None and room.worker == worker and seen.participant_id not in room.participants:
                self._media.drop_participant(room, seen.participant_id, CloseReason.LEFT)

    def _replace_lost(self, worker: int, snapshot: Snapshot) -> None:
        """Whom and what the worker does not hold: it was replaced, or a track ended while the two could not talk."""
        held = {seen.participant_id for seen in snapshot.participants}
        tracks = {track.track_id for track in snapshot.tracks}
        for room in self._rooms.on_worker(worker):
            for participant in list(room.participants.values()):
                for track_id in [track_id for track_id in participant.tracks if track_id not in tracks]:
                    self._lobby.unpublish(room, participant, track_id)
                if participant.id not in held:
                    self._replace_transports(participant)

    def _replace_transports(self, participant: Participant) -> None:
        participant.unseen_offer = None
        participant.connection.lost_transports.clear()
        if participant.present:
            participant.send(messages.TransportReplace())
        else:
            participant.needs_new_transports = True

    # --- notifications

    def notified(self, message: ChannelMessage) -> None:
        """Act on a worker's notification. What is about somebody who has just gone is ignored."""
        match message:
            case channel.Offer():
                self._offer(message)
            case channel.TransportState():
                self._transport_state(message)
            case channel.TrackGone():
                self._track_gone(message)
            case channel.Speakers():
                self._speakers(message)
            case channel.Quality():
                self._quality(message)
            case channel.ProcessingState():
                self._processing_state(message)

    def _locate(self, participant_id: str) -> tuple[Room, Participant] | None:
        participant = self._rooms.participant(participant_id)
        room = self._rooms.find(participant.room_id) if participant else None
        return (room, participant) if room and participant else None

    def _offer(self, offer: channel.Offer) -> None:
        found = self._locate(offer.participant_id)
        if found is None:
            return
        _, participant = found
        tracks = {mid: messages.OfferedTrack(**media.model_dump()) for mid, media in offer.tracks.items()}
        event = messages.SubscribeOffer(sdp=offer.sdp, version=offer.version, tracks=tracks)
        if participant.outlet is not None:
            participant.send(event)
        else:
            participant.unseen_offer = event

    def _transport_state(self, change: channel.TransportState) -> None:
        if found := self._locate(change.participant_id):
            room, participant = found
            participant.connection.set_transport(change.direction, change.state)
            tell_quality(room, participant)

    def _track_gone(self, gone: channel.TrackGone) -> None:
        if found := self._locate(gone.participant_id):
            room, participant = found
            self._lobby.unpublish(room, participant, gone.track_id)

    def _speakers(self, change: channel.Speakers) -> None:
        room = self._rooms.find(change.room_id)
        if room is None:
            return
        speakers = [messages.Speaker(**speaker.model_dump()) for speaker in change.speakers]
        room.broadcast(messages.ActiveSpeakers(speakers=speakers))

    def _quality(self, quality: channel.Quality) -> None:
        if found := self._locate(quality.participant_id):
            room, participant = found
            participant.connection.worker = quality
            tell_quality(room, participant)

    def _processing_state(self, change: channel.ProcessingState) -> None:
        self._bypassed(change.track_id, change.reason if change.state == "bypass" else None)

    def _bypassed(self, track_id: str, reason: str | None) -> None:
        track = self._rooms.track(track_id)
        found = self._locate(track.participant_id) if track else None
        if track is None or found is None:
            return
        room, _ = found
        self._insights.bypassed(track, room, reason)
