"""The rooms' view of the media plane: workers behind channels, and what each of them shall hold.

A room lives on one worker. Everything but publishing is desired state (`signaling.desired`), sent again whenever a worker
is new or was out of reach. A worker keeps our notes, so that a signaling process that starts finds rooms in `synced`.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

import structlog
from pydantic import ValidationError

from sfu.channel import Channel, messages
from sfu.channel.messages import ChannelMessage, Snapshot
from signaling.desired import Build, DesiredState
from signaling.errors import MediaError
from signaling.links import REQUEST_TIMEOUT_S, Link
from signaling.participants import Participant, Track
from signaling.protocol.codes import CloseReason, ErrorCode
from signaling.rooms import Room, RoomState, not_here
from signaling.subscriptions import wanted

FIRST_CONTACT_S = 5.0
EARLY_MAX = 4_096
"""Notifications that wait for a snapshot; the oldest is dropped, which the snapshot most likely knows of."""

log = structlog.get_logger()


class MediaEvents(Protocol):
    """Who hears of the media plane."""

    def synced(self, worker: int, snapshot: Snapshot, first: bool) -> None:
        """A worker is in reach and holds `snapshot`; `first`: since this process started."""

    def notified(self, message: ChannelMessage) -> None:
        """One of `sfu.channel.messages.NOTIFICATIONS`."""


class WorkerState(Enum):
    """AWAY -> SYNCING -> READY -> AWAY."""

    AWAY = "away"
    SYNCING = "syncing"
    READY = "ready"


class Worker:
    """One media worker, as long as we run, across its restarts."""

    def __init__(self, index: int, path: Path, events: MediaEvents) -> None:
        self.index = index
        self.state = WorkerState.AWAY
        self.contacted = asyncio.Event()
        self.link = Link(path, self._session, self._notify, self._lost)
        self.desired = DesiredState(self.request)
        self.malformed = 0
        self._events = events
        self._early: deque[tuple[str, dict[str, Any]]] = deque(maxlen=EARLY_MAX)
        """What came before the snapshot was taken over: it may be newer, so it is heard afterwards."""

    @property
    def ready(self) -> bool:
        """Whether requests can be sent."""
        return self.state is WorkerState.READY

    async def request(self, method: str, message: ChannelMessage) -> Any:
        """Ask the worker. Raises `MediaError`."""
        if not self.ready:
            raise MediaError(ErrorCode.MEDIA_UNAVAILABLE, "the media server is restarting; try again in a moment")
        return await self.link.request(method, message.model_dump())

    async def _session(self, channel: Channel) -> None:
        self._early.clear()
        self._set_state(WorkerState.SYNCING)
        reply = await channel.request("snapshot", timeout_s=REQUEST_TIMEOUT_S)
        snapshot = Snapshot.model_validate(reply)
        first = not self.contacted.is_set()
        self._events.synced(self.index, snapshot, first)
        self._set_state(WorkerState.READY)
        while self._early:
            self._hear(*self._early.popleft())
        self.contacted.set()
        self.desired.reset()
        await self.desired.run()

    def _notify(self, event: str, params: dict[str, Any]) -> None:
        if self.state is WorkerState.SYNCING:
            self._early.append((event, params))
        else:
            self._hear(event, params)

    def _hear(self, event: str, params: dict[str, Any]) -> None:
        model = messages.NOTIFICATIONS.get(event)
        try:
            if model is None:
                raise ValueError("event: unknown")
            self._events.notified(model.model_validate(params))
        except ValueError:  # pydantic's ValidationError is one; its text holds the values, so it is not logged
            self.malformed += 1
            log.warning("worker_notification_malformed", worker=self.index, notification=event, count=self.malformed)

    def _lost(self) -> None:
        self._set_state(WorkerState.AWAY)

    def _set_state(self, state: WorkerState) -> None:
        if state is not self.state:
            log.info("worker_state", worker=self.index, old=self.state.value, new=state.value)
            self.state = state


class MediaPlane:
    """All workers of this node."""

    def __init__(
        self, paths: list[Path], events: MediaEvents, noted: Callable[[str], None] = lambda room_id: None
    ) -> None:
        """`noted` hears the id of a room whenever the notes on it, or on somebody in it, change."""
        self._workers = [Worker(index, path, events) for index, path in enumerate(paths)]
        self._noted = noted
        self._settled_by_s = 0.0

    def start(self) -> None:
        """Begin to connect to every worker."""
        self._settled_by_s = asyncio.get_running_loop().time() + FIRST_CONTACT_S
        for worker in self._workers:
            worker.link.start()

    async def close(self) -> None:
        """Disconnect; the workers go on without us."""
        for worker in self._workers:
            await worker.link.close()

    @property
    def ready_workers(self) -> int:
        """How many workers can take requests."""
        return sum(worker.ready for worker in self._workers)

    async def settled(self) -> bool:
        """Whether every worker was heard once since we started; waits for that until `FIRST_CONTACT_S` after the start.

        Before that a room that nobody knows may still turn up in a worker's snapshot.
        """
        remaining_s = self._settled_by_s - asyncio.get_running_loop().time()
        for worker in self._workers:
            if not worker.contacted.is_set() and remaining_s > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(worker.contacted.wait(), remaining_s)
        return all(worker.contacted.is_set() for worker in self._workers)

    def place(self, rooms: Iterable[Room]) -> int:
        """The worker for a new room: the one with the fewest participants. Raises `MediaError` if none is ready."""
        load = {worker.index: 0 for worker in self._workers if worker.ready}
        if not load:
            raise MediaError(ErrorCode.MEDIA_UNAVAILABLE, "the media server is starting; try again in a moment")
        for room in rooms:
            if room.worker in load:
                load[room.worker] += len(room.participants)
        return min(load, key=lambda index: (load[index], index))

    # --- what a worker shall hold

    def keep_room(self, room: Room) -> None:
        """Keep our notes about a room on its worker, unless it has ended."""
        if room.state is RoomState.ENDED:
            return
        desired = self._workers[room.worker].desired
        desired.want("put_room", room.id, lambda: _put_room(room))
        self._noted(room.id)

    def keep_participant(self, room: Room, participant: Participant) -> None:
        """Keep our notes about somebody on their worker, unless they are gone."""
        if participant.gone:
            return
        desired = self._workers[room.worker].desired
        desired.want("put_participant", participant.id, lambda: _put_participant(participant))
        self._noted(room.id)

    def keep_open(self, room: Room, participant: Participant) -> None:
        """Keep a subscribe transport, unless its owner is gone."""
        if participant.gone:
            return
        desired = self._workers[room.worker].desired
        desired.want("open_subscribe", participant.id, lambda: _open_subscribe(participant, fresh=False))

    def keep_subscriptions(self, room: Room) -> None:
        """Keep everybody's subscriptions in step with the room."""
        for participant in room.participants.values():
            self._want_subscriptions(room, participant)

    def _want_subscriptions(self, room: Room, participant: Participant) -> None:
        desired = self._workers[room.worker].desired
        desired.want("set_subscriptions", participant.id, lambda: wanted(participant, room.tracks()))

    async def open(self, room: Room, participant: Participant) -> None:
        """Make room and participant known to the worker and open the subscribe transport.

        Raises `MediaError`, or `RoomError` if they were removed meanwhile.
        """
        self._noted(room.id)
        desired = self._workers[room.worker].desired
        steps: list[tuple[str, str, Build]] = [
            ("put_room", room.id, lambda: _put_room(room)),
            ("put_participant", participant.id, lambda: _put_participant(participant)),
            ("open_subscribe", participant.id, lambda: _open_subscribe(participant, fresh=False)),
        ]
        await desired.send_drops()
        try:
            for method, target, build in steps:
                self._still_here(room, participant)
                await desired.put(method, target, build)
        finally:
            self._still_here(room, participant)

    def _still_here(self, room: Room, participant: Participant) -> None:
        """Raises `RoomError` if somebody was removed while we waited; what was sent for them since then is taken back."""
        if participant.gone:
            self.drop_participant(room, participant.id, participant.close_reason or CloseReason.LEFT)
            raise not_here(participant)

    async def reopen(self, room: Room, participant: Participant) -> None:
        """Close both transports and open a new subscribe transport.

        Raises `MediaError`, or `RoomError` if they were removed meanwhile.
        """
        worker = self._workers[room.worker]
        drop = messages.DropParticipant(participant_id=participant.id, reason="fresh_transports")
        try:
            await worker.request("drop_participant", drop)
            participant.unseen_offer = None  # of the transport that was dropped
            self._still_here(room, participant)
            await worker.request("put_participant", _put_participant(participant))
            self._still_here(room, participant)
            await worker.request("open_subscribe", _open_subscribe(participant, fresh=True))
        finally:
            self._still_here(room, participant)
            self._renew(room, participant)

    def _renew(self, room: Room, participant: Participant) -> None:
        """Send all that somebody needs again: what was held went with the transports."""
        self._workers[room.worker].desired.forget(participant.id)
        self.keep_participant(room, participant)
        self.keep_open(room, participant)
        self._want_subscriptions(room, participant)

    async def set_subscriptions(self, room: Room, participant: Participant) -> None:
        """Apply one participant's subscriptions now. Raises `MediaError`; they are still applied later."""
        desired = self._workers[room.worker].desired
        await desired.put("set_subscriptions", participant.id, lambda: wanted(participant, room.tracks()))

    def renew_muted(self, room: Room, track: Track) -> None:
        """Keep a track's mute, and send it even if the worker had it: an offer on its way may say otherwise."""
        desired = self._workers[room.worker].desired
        desired.doubt("set_muted", track.track_id)
        desired.want("set_muted", track.track_id, lambda: _set_muted(track))

    async def set_muted(self, room: Room, track: Track) -> None:
        """Apply a track's mute now. Raises `MediaError`; it is still applied later."""
        desired = self._workers[room.worker].desired
        await desired.put("set_muted", track.track_id, lambda: _set_muted(track))

    def keep_processing(self, room: Room, participant: Participant, track: Track) -> None:
        """Keep a track's processors as the participant wants them."""
        desired = self._workers[room.worker].desired
        desired.want("set_processing", track.track_id, lambda: _set_processing(participant, track))

    def renew_processing(self, room: Room, participant: Participant, track: Track) -> None:
        """Like `keep_processing`, and sent even if the worker had it: the producer may be a new one."""
        self._workers[room.worker].desired.doubt("set_processing", track.track_id)
        self.keep_processing(room, participant, track)

    async def set_processing(self, room: Room, participant: Participant, track: Track) -> None:
        """Apply a track's processors now, if it is still there. Raises `MediaError`; they are still applied later."""
        if track.track_id not in participant.tracks:
            return
        desired = self._workers[room.worker].desired
        await desired.put("set_processing", track.track_id, lambda: _set_processing(participant, track))

    def drop_track(self, room: Room, track_id: str) -> None:
        """A track is gone; want nothing for it any more."""
        self._workers[room.worker].desired.forget(track_id)

    def drop_participant(self, room: Room, participant_id: str, reason: CloseReason) -> None:
        """Close both transports of somebody who is gone."""
        desired = self._workers[room.worker].desired
        drop = messages.DropParticipant(participant_id=participant_id, reason=reason.value)
        desired.want_once("drop_participant", participant_id, lambda: drop)
        self._noted(room.id)

    def drop_room(self, worker: int, room_id: str) -> None:
        """Close all that a room has on its worker."""
        drop = messages.DropRoom(room_id=room_id)
        self._workers[worker].desired.want_once("drop_room", room_id, lambda: drop)
        self._noted(room_id)

    # --- what is asked once, by a client

    async def publish(self, room: Room, participant: Participant, sdp: str, tracks: list[messages.TrackWanted]) -> str:
        """Pass a publish offer on; the answer. Raises `MediaError`."""
        offer = messages.PublishOffer(room_id=room.id, participant_id=participant.id, sdp=sdp, tracks=tracks)
        reply = await self._workers[room.worker].request("publish_offer", offer)
        try:
            return messages.PublishAnswer.model_validate(reply).sdp
        except ValidationError:
            raise MediaError(ErrorCode.INTERNAL, "the media server's answer is malformed") from None

    async def answered(self, room: Room, participant: Participant, sdp: str, version: int) -> None:
        """Pass a subscribe answer on. Raises `MediaError`."""
        answer = messages.SubscribeAnswered(participant_id=participant.id, sdp=sdp, version=version)
        await self._workers[room.worker].request("subscribe_answered", answer)

    async def restart_subscribe(self, room: Room, participant: Participant) -> None:
        """Ask for new ICE credentials on the subscribe transport. Raises `MediaError`."""
        restart = messages.RestartSubscribe(participant_id=participant.id)
        await self._workers[room.worker].request("restart_subscribe", restart)


def _put_room(room: Room) -> messages.PutRoom:
    return messages.PutRoom(room_id=room.id, state=room.notes().model_dump())


def _put_participant(participant: Participant) -> messages.PutParticipant:
    return messages.PutParticipant(
        room_id=participant.room_id, participant_id=participant.id, state=participant.notes().model_dump()
    )


def _open_subscribe(participant: Participant, fresh: bool) -> messages.OpenSubscribe:
    return messages.OpenSubscribe(
        room_id=participant.room_id,
        participant_id=participant.id,
        stable_ssrcs=participant.stable_ssrcs,
        fresh=fresh,
    )


def _set_muted(track: Track) -> messages.SetMuted:
    return messages.SetMuted(track_id=track.track_id, muted=track.muted)


def _set_processing(participant: Participant, track: Track) -> messages.SetProcessing:
    return messages.SetProcessing(
        track_id=track.track_id, processors=dict(track.processors), epoch=participant.consent.epoch
    )
