"""What somebody in a room may ask: one method per request of the protocol, besides `join`."""

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from sfu.channel.messages import TrackWanted
from signaling.errors import MessageError, RoomError
from signaling.insights import Insights
from signaling.lobby import Lobby
from signaling.media import MediaPlane
from signaling.participants import Participant, Track
from signaling.protocol import messages
from signaling.protocol.codes import CloseReason, ErrorCode
from signaling.rooms import Room, Rooms

NOT_HOST = "only a host may do this"

Handler = Callable[[Participant, Any], Awaitable[messages.Message | None]]


class Requests:
    """Handlers of the requests of those who are in a room."""

    def __init__(self, rooms: Rooms, media: MediaPlane, insights: Insights, lobby: Lobby) -> None:
        self._rooms = rooms
        self._media = media
        self._insights = insights
        self._lobby = lobby
        self._handlers: dict[type[messages.Message], Handler] = {
            messages.Leave: self._leave,
            messages.Publish: self._publish,
            messages.SubscribeAnswer: self._subscribe_answer,
            messages.Subscribe: self._subscribe,
            messages.RestartSubscribe: self._restart_subscribe,
            messages.Mute: self._mute,
            messages.Chat: self._chat,
            messages.SetProcessor: self._set_processor,
            messages.Moderate: self._moderate,
            messages.ReportQuality: self._report_quality,
        }

    async def handle(self, participant: Participant, request: messages.Message) -> messages.Message | None:
        """The result of a request. Raises `SignalingError`."""
        room = self._rooms.of(participant)
        if participant.confirm_session():
            self._media.keep_participant(room, participant)
        return await self._handlers[type(request)](participant, request)

    async def _leave(self, participant: Participant, _: messages.Leave) -> None:
        self._lobby.dismiss(participant, CloseReason.LEFT)

    # --- media

    async def _publish(self, participant: Participant, request: messages.Publish) -> messages.PublishResult:
        room = self._rooms.of(participant)
        if len({track.mid for track in request.tracks}) < len(request.tracks):
            raise MessageError(ErrorCode.BAD_MESSAGE, "tracks: a mid appears twice")
        if len({track.source for track in request.tracks}) < len(request.tracks):
            raise MessageError(ErrorCode.BAD_MESSAGE, "tracks: a source appears twice")
        ids = {track.mid: participant.track_id(track.mid, track.source) for track in request.tracks}
        offered = [
            TrackWanted(
                mid=track.mid,
                track_id=ids[track.mid],
                source=track.source,
                muted=track.muted or _muted_before(participant, ids[track.mid]),
            )
            for track in request.tracks
        ]
        sdp = await self._media.publish(room, participant, request.sdp, offered)
        self._rooms.of(participant)
        for track_id in list(participant.tracks):
            if track_id not in ids.values():
                self._lobby.unpublish(room, participant, track_id)
        for track in request.tracks:
            self._announce_track(room, participant, ids[track.mid], track)
        self._media.keep_subscriptions(room)
        return messages.PublishResult(sdp=sdp, track_ids=ids)

    def _announce_track(
        self, room: Room, participant: Participant, track_id: str, wanted: messages.PublishedTrack
    ) -> None:
        known = participant.tracks.get(track_id)
        if known is not None:
            self._set_muted(room, known, known.muted or wanted.muted, by_host=False)
            self._media.renew_muted(room, known)
            if known.processors:
                self._media.renew_processing(room, participant, known)
            return
        track = Track(track_id, participant.id, wanted.source, wanted.muted)
        self._rooms.publish(participant, track)
        self._insights.refresh(participant, track)
        if track.processors:
            self._media.keep_processing(room, participant, track)
        room.broadcast(messages.TrackPublished(track=track.info()), besides=participant)
        if track.processors:
            self._insights.announce(room)

    async def _subscribe_answer(self, participant: Participant, request: messages.SubscribeAnswer) -> None:
        room = self._rooms.of(participant)
        await self._media.answered(room, participant, request.sdp, request.version)

    async def _subscribe(self, participant: Participant, request: messages.Subscribe) -> None:
        room = self._rooms.of(participant)
        participant.subscription = request
        self._media.keep_participant(room, participant)
        await self._media.set_subscriptions(room, participant)

    async def _restart_subscribe(self, participant: Participant, _: messages.RestartSubscribe) -> None:
        await self._media.restart_subscribe(self._rooms.of(participant), participant)

    async def _mute(self, participant: Participant, request: messages.Mute) -> None:
        room = self._rooms.of(participant)
        track = participant.tracks.get(request.track_id)
        if track is None:
            raise RoomError(ErrorCode.NO_SUCH_TRACK, "you publish no such track")
        self._set_muted(room, track, request.muted, by_host=False)
        await self._media.set_muted(room, track)

    def _set_muted(self, room: Room, track: Track, muted: bool, by_host: bool) -> None:
        if track.muted == muted:
            return
        track.muted = muted
        room.broadcast(messages.TrackMuted(track_id=track.track_id, muted=muted, by_host=by_host))

    # --- people

    async def _chat(self, participant: Participant, request: messages.Chat) -> None:
        room = self._rooms.of(participant)
        if not participant.chat_bucket.take(time.monotonic_ns()):
            raise MessageError(ErrorCode.RATE_LIMITED, "too many lines of chat; wait a moment")
        sent_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = messages.ChatLine(
            participant_id=participant.id, name=participant.name, text=request.text, sent_at=sent_at
        )
        room.chat.append(line)
        room.broadcast(messages.ChatMessage(line=line))

    async def _set_processor(self, participant: Participant, request: messages.SetProcessor) -> None:
        await self._insights.choose(self._rooms.of(participant), participant, request.processor, request.on)

    async def _report_quality(self, participant: Participant, request: messages.ReportQuality) -> None:
        participant.connection.client = request
        tell_quality(self._rooms.of(participant), participant)

    # --- hosts

    async def _moderate(self, participant: Participant, request: messages.Moderate) -> None:
        room = self._rooms.of(participant)
        if not participant.host:
            raise RoomError(ErrorCode.FORBIDDEN, NOT_HOST)
        match request.action:
            case "mute":
                await self._host_mutes(room, request.track_id)
            case "remove":
                self._host_removes(room, request.participant_id)
            case "lock" | "unlock":
                self._host_locks(room, locked=request.action == "lock")
            case "end":
                self._lobby.end(room)

    async def _host_mutes(self, room: Room, track_id: str | None) -> None:
        if track_id is None:
            raise MessageError(ErrorCode.BAD_MESSAGE, "track_id: needed to mute")
        track = next((track for track in room.tracks() if track.track_id == track_id), None)
        if track is None:
            raise RoomError(ErrorCode.NO_SUCH_TRACK, "there is no such track in this room")
        self._set_muted(room, track, muted=True, by_host=True)
        await self._media.set_muted(room, track)

    def _host_removes(self, room: Room, participant_id: str | None) -> None:
        if participant_id is None:
            raise MessageError(ErrorCode.BAD_MESSAGE, "participant_id: needed to remove")
        target = room.participants.get(participant_id)
        if target is None:
            raise RoomError(ErrorCode.NO_SUCH_PARTICIPANT, "there is no such participant in this room")
        self._lobby.remove(room, target)

    def _host_locks(self, room: Room, locked: bool) -> None:
        if room.locked == locked:
            return
        room.locked = locked
        self._media.keep_room(room)
        room.broadcast(room.changed())


def _muted_before(participant: Participant, track_id: str) -> bool:
    """Only `mute` unmutes: an offer is also sent to restart ICE, and must not undo what a host did."""
    known = participant.tracks.get(track_id)
    return known is not None and known.muted


def tell_quality(room: Room, participant: Participant) -> None:
    """Tell the room how somebody is connected, and themselves which layers they get, if that is news."""
    news = participant.connection.news(participant.id, time.monotonic_ns())
    if news is None:
        return
    if participant.present:
        participant.send(news)
    room.broadcast(news.model_copy(update={"layers": []}), besides=participant)
