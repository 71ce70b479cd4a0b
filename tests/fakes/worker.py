"""A media worker without media: the real channel, the real messages, the bookkeeping, and canned SDP.

It checks every request against its model, keeps what a worker keeps, records what it was asked, and answers as a worker
does. What it cannot do is judge SDP: any offer is fine, but for one that contains `refuse-me`.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sfu.channel import Channel, ChannelError, serve
from sfu.channel.messages import (
    NOTIFICATIONS,
    REQUESTS,
    ChannelMessage,
    DropParticipant,
    DropRoom,
    Offer,
    OfferedMedia,
    OpenSubscribe,
    ParticipantSnapshot,
    PublishAnswer,
    PublishOffer,
    PutParticipant,
    PutRoom,
    SetMuted,
    SetProcessing,
    SetSubscriptions,
    Snapshot,
    TrackGone,
    TrackSnapshot,
)

KINDS = {"microphone": "audio", "music": "audio", "screen_audio": "audio", "camera": "video", "screen": "video"}


class FakeWorker:
    """One worker on one Unix socket. `asked` holds every request but snapshots, in order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked: list[ChannelMessage] = []
        self.rooms: dict[str, dict[str, Any]] = {}
        self.participants: dict[str, PutParticipant] = {}
        self.subscribe: dict[str, int] = {}
        self.tracks: dict[str, TrackSnapshot] = {}
        self.hold: asyncio.Event | None = None
        self._held: type[ChannelMessage] = ChannelMessage
        self._channels: set[Channel] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await serve(self.path, self._accept)

    async def close(self) -> None:
        """As if killed: the links break; what it held is in this object until `forget`."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.path.unlink(missing_ok=True)
        for channel in self._channels:
            await channel.close()
        self._channels.clear()

    def forget(self) -> None:
        """As a new process."""
        self.rooms.clear()
        self.participants.clear()
        self.subscribe.clear()
        self.tracks.clear()

    def hold_only(self, model: type[ChannelMessage]) -> asyncio.Event:
        """Let requests of one kind wait until the event is set; set `hold` to None to let later ones pass."""
        self.hold, self._held = asyncio.Event(), model
        return self.hold

    def requests(self, model: type[ChannelMessage]) -> list[Any]:
        """Every recorded request of a kind."""
        return [message for message in self.asked if isinstance(message, model)]

    def notify(self, event: str, **params: Any) -> None:
        """Send a notification, checked against its model."""
        message = NOTIFICATIONS[event].model_validate(params)
        for channel in self._channels:
            channel.notify(event, message.model_dump())

    def bypass(self, track_id: str, reason: str | None) -> None:
        """The original of a track goes around the transforms, for a reason; None: no longer."""
        self._change(track_id, bypassed=reason)
        state = "on" if reason is None else "bypass"
        self.notify("processing_state", track_id=track_id, state=state, reason=reason or "")

    def notify_raw(self, event: str, params: dict[str, Any]) -> None:
        """Send anything at all."""
        for channel in self._channels:
            channel.notify(event, params)

    def offer(self, participant_id: str) -> None:
        """Offer what the participant is subscribed to."""
        self.subscribe[participant_id] += 1
        version = self.subscribe[participant_id]
        asked = [one for one in self.requests(SetSubscriptions) if one.participant_id == participant_id]
        wanted = [track.track_id for track in asked[-1].tracks] if asked else []
        media = [
            OfferedMedia(track_id=one, participant_id=self.tracks[one].participant_id, kind=self.tracks[one].kind)
            for one in wanted
            if one in self.tracks
        ]
        tracks = {str(mid): one for mid, one in enumerate(media)}
        offer = Offer(participant_id=participant_id, sdp=f"v=0 offer {version}", version=version, tracks=tracks)
        self.notify("offer", **offer.model_dump())

    # --- the channel

    def _accept(self, channel: Channel) -> None:
        channel.on_request = self._answer
        self._channels.add(channel)
        channel.start()

    async def _answer(self, method: str, params: dict[str, Any]) -> Any:
        if method not in REQUESTS:
            raise ChannelError("no_such_method", method)
        message = REQUESTS[method][0].model_validate(params)
        if method == "snapshot":
            return self._snapshot().model_dump()
        self.asked.append(message)
        if self.hold is not None and isinstance(message, self._held):
            await self.hold.wait()
        handle: Callable[[Any], Any] | None = getattr(self, f"_{method}", None)
        return handle(message) if handle else None

    def _snapshot(self) -> Snapshot:
        participants = [
            ParticipantSnapshot(
                room_id=one.room_id,
                participant_id=one.participant_id,
                state=one.state,
                publish="connected",
                subscribe="connected" if one.participant_id in self.subscribe else None,
            )
            for one in self.participants.values()
        ]
        return Snapshot(rooms=dict(self.rooms), participants=participants, tracks=list(self.tracks.values()))

    def _put_room(self, message: PutRoom) -> None:
        self.rooms[message.room_id] = message.state

    def _drop_room(self, message: DropRoom) -> None:
        self.rooms.pop(message.room_id, None)
        for one in [one for one in self.participants.values() if one.room_id == message.room_id]:
            self._close_participant(one.participant_id)

    def _put_participant(self, message: PutParticipant) -> None:
        self.participants[message.participant_id] = message

    def _drop_participant(self, message: DropParticipant) -> None:
        self._close_participant(message.participant_id)

    def _close_participant(self, participant_id: str) -> None:
        self.participants.pop(participant_id, None)
        self.subscribe.pop(participant_id, None)
        for track in [track for track in self.tracks.values() if track.participant_id == participant_id]:
            self._close_track(track)

    def _close_track(self, track: TrackSnapshot) -> None:
        del self.tracks[track.track_id]
        gone = TrackGone(track_id=track.track_id, participant_id=track.participant_id)
        self.notify("track_gone", **gone.model_dump())

    def _open_subscribe(self, message: OpenSubscribe) -> None:
        self._known(message.participant_id)
        if message.fresh or message.participant_id not in self.subscribe:
            self.subscribe[message.participant_id] = 0
            self.offer(message.participant_id)

    def _set_subscriptions(self, message: SetSubscriptions) -> None:
        self._known(message.participant_id)

    def _restart_subscribe(self, message: Any) -> None:
        self._known(message.participant_id)
        self.offer(message.participant_id)

    def _publish_offer(self, message: PublishOffer) -> Any:
        self._known(message.participant_id)
        if "refuse-me" in message.sdp:
            raise ChannelError("bad_sdp", "no m-line can be used")
        wanted = {track.track_id for track in message.tracks}
        own = [track for track in self.tracks.values() if track.participant_id == message.participant_id]
        for track in own:
            if track.track_id not in wanted:
                self._close_track(track)
        for track in message.tracks:
            before = self.tracks.get(track.track_id)
            self.tracks[track.track_id] = TrackSnapshot(
                track_id=track.track_id,
                participant_id=message.participant_id,
                kind=KINDS[track.source],
                source=track.source,
                muted=track.muted,
                processors=before.processors if before else {},
                epoch=before.epoch if before else 0,
                bypassed=before.bypassed if before else None,
            )
        return PublishAnswer(sdp="v=0 answer").model_dump()

    def _set_muted(self, message: SetMuted) -> None:
        self._change(message.track_id, muted=message.muted)

    def _set_processing(self, message: SetProcessing) -> None:
        self._change(message.track_id, processors=message.processors, epoch=message.epoch)

    def _change(self, track_id: str, **changes: Any) -> None:
        if track_id not in self.tracks:
            raise ChannelError("no_such_track", "no such track")
        self.tracks[track_id] = self.tracks[track_id].model_copy(update=changes)

    def _known(self, participant_id: str) -> None:
        if participant_id not in self.participants:
            raise ChannelError("no_such_participant", "no such participant")


class FakeHost:
    """A host of processors on one Unix socket, without processors."""

    def __init__(self, path: Path, infos: list[dict[str, Any]]) -> None:
        self.path = path
        self.infos = infos
        self._channels: set[Channel] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await serve(self.path, self._accept)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self.path.unlink(missing_ok=True)
        for channel in self._channels:
            await channel.close()
        self._channels.clear()

    @property
    def connected(self) -> bool:
        """Whether somebody listens."""
        return bool(self._channels)

    def notify(self, event: str, params: dict[str, Any]) -> None:
        for channel in self._channels:
            channel.notify(event, params)

    def _accept(self, channel: Channel) -> None:
        channel.on_request = self._answer
        self._channels.add(channel)
        channel.start()

    async def _answer(self, method: str, params: dict[str, Any]) -> Any:
        if method == "processors":
            return {"processors": self.infos}
        raise ChannelError("no_such_method", method)
