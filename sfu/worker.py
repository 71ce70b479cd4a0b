"""A media worker: one event loop, one UDP port, the rooms that were placed on it.

Signaling talks to it over a channel and may come and go; the worker keeps what a successor needs (`snapshot`). Hosts of
processors connect to its tap. `run` is the process's whole life.
"""

import asyncio
import contextlib
import gc
import resource
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Histogram
from pydantic import ValidationError

from sfu.channel import Channel, ChannelError, serve
from sfu.channel.messages import (
    REQUESTS,
    ChannelMessage,
    DropParticipant,
    DropRoom,
    OpenSubscribe,
    ParticipantSnapshot,
    ProcessingState,
    PublishAnswer,
    PublishOffer,
    PutParticipant,
    PutRoom,
    RestartSubscribe,
    SetMuted,
    SetProcessing,
    SetSubscriptions,
    Snapshot,
    SubscribeAnswered,
    TrackSnapshot,
)
from sfu.channel.tracing import span
from sfu.dataplane.python import PythonPlane
from sfu.errors import SfuError, UnknownTargetError
from sfu.frame_traces import FrameTraces
from sfu.metrics import WorkerMetrics
from sfu.net.peer import Certificate, Peer
from sfu.net.srtp import PacketBuffer
from sfu.net.udp_mux import UdpMux
from sfu.path import AudioPacket, PathMode
from sfu.producer import Producer
from sfu.quality import measure
from sfu.router import Router
from sfu.settings import SfuSettings
from sfu.subscribe_transport import SubscribeTransport
from sfu.tap import Sound
from sfu.tap_server import TapServer

log = structlog.get_logger()

TICK_S = 0.02
TRANSPORT_FEEDBACK_S = 0.05
SPEAKERS_S = 0.1
LAYERS_S = 0.25
REPORT_S = 1.0
QUALITY_S = 2.0
GC_THRESHOLD = 20_000
"""Container objects between two collections, instead of Python's 700: packets make many and leave none in cycles."""


class Worker:
    """Everything of one media process."""

    def __init__(self, settings: SfuSettings, run_dir: Path, index: int, frames_between: int = 0) -> None:
        """`frames_between`: one packet in so many is traced on its way through a transform; 0: none."""
        self._settings = settings
        self._run_dir = run_dir
        self._index = index
        self._receive = PacketBuffer()
        self._send = PacketBuffer()
        self._mux = UdpMux(settings.host, settings.port + index if settings.port else 0, self._receive.view)
        self._certificate = Certificate.generateCertificate()
        self._plane = PythonPlane(self._mux.sock, self._send, self)
        traces = FrameTraces(frames_between)
        self._taps = TapServer(run_dir / f"worker-{index}.tap", self._plane, self._path_changed, traces)
        self._routers: dict[str, Router] = {}
        self._router_of: dict[str, Router] = {}
        """By participant."""
        self._metrics = WorkerMetrics(
            CollectorRegistry(), self._plane.counters, self._mux.drops, self._routers, self._taps
        )
        self._channels: set[Channel] = set()
        self._server: asyncio.Server | None = None
        self._timers: list[asyncio.Task[None]] = []
        self._handlers = self._request_handlers()

    async def start(self) -> None:
        """Listen for signaling, hosts and clients."""
        self._mux.start()
        self._taps.start()
        self._server = await serve(self._run_dir / f"worker-{self._index}.sock", self._accept)
        for period_s, call in (
            (TICK_S, self._plane.tick),
            (TRANSPORT_FEEDBACK_S, lambda _: self._plane.send_transport_feedback()),
            (SPEAKERS_S, self._speakers),
            (LAYERS_S, self._layers),
            (REPORT_S, self._report),
            (QUALITY_S, self._quality),
        ):
            self._timers.append(asyncio.create_task(_every(period_s, call, self._metrics.lag)))
        log.info("worker_started", worker=self._index, udp_port=self._mux.address[1])

    async def close(self) -> None:
        """Close every room and stop listening; idempotent."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        for router in list(self._routers.values()):
            await router.close()
        self._routers.clear()
        if self._server is not None:
            self._server.close()
            self._server = None
        for channel in list(self._channels):
            await channel.close()
        self._taps.close()
        self._mux.close()

    # --- the channel

    def _accept(self, channel: Channel) -> None:
        channel.on_request = self._requested
        self._channels.add(channel)
        channel.start()

    def _notify(self, event: str, message: ChannelMessage) -> None:
        params = message.model_dump()
        for channel in list(self._channels):
            if channel.closed.is_set():
                self._channels.discard(channel)
            else:
                channel.notify(event, params)

    async def _requested(self, method: str, params: dict[str, Any]) -> Any:
        if method not in REQUESTS:
            raise ChannelError("no_such_method", method)
        try:
            request = REQUESTS[method][0].model_validate(params)
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            raise ChannelError("bad_message", f"{first['loc']}: {first['msg']}") from error
        try:
            result = await self._handlers[method](request)
        except SfuError as error:
            raise ChannelError(error.code, str(error)) from error
        return result.model_dump() if isinstance(result, ChannelMessage) else result

    def _request_handlers(self) -> dict[str, Callable[[Any], Awaitable[Any]]]:
        return {name: getattr(self, f"_on_{name}") for name in REQUESTS}

    async def _on_put_room(self, request: PutRoom) -> None:
        self._router(request.room_id).state = request.state

    async def _on_drop_room(self, request: DropRoom) -> None:
        router = self._routers.pop(request.room_id, None)
        if router is not None:
            for participant_id in router.participants:
                self._router_of.pop(participant_id, None)
            await router.close()

    async def _on_put_participant(self, request: PutParticipant) -> None:
        router = self._router_of[request.participant_id] = self._router(request.room_id)
        router.participant(request.participant_id).state = request.state

    async def _on_drop_participant(self, request: DropParticipant) -> None:
        router = self._router_of.pop(request.participant_id, None)
        if router is not None:
            await router.drop(request.participant_id)

    async def _on_publish_offer(self, request: PublishOffer) -> PublishAnswer:
        router = self._router_of[request.participant_id] = self._router(request.room_id)
        ids = {"room_id": request.room_id, "participant_id": request.participant_id}
        with span("negotiate", direction="publish", **ids):
            return PublishAnswer(sdp=await router.publish(request))

    async def _on_open_subscribe(self, request: OpenSubscribe) -> None:
        router = self._router_of[request.participant_id] = self._router(request.room_id)
        await router.open_subscribe(request)

    async def _on_set_subscriptions(self, request: SetSubscriptions) -> None:
        self._of(request.participant_id).want(request.participant_id, request.tracks)

    async def _on_subscribe_answered(self, request: SubscribeAnswered) -> None:
        self._subscription(request.participant_id).answered(request.sdp, request.version)

    async def _on_restart_subscribe(self, request: RestartSubscribe) -> None:
        self._subscription(request.participant_id).restart()

    async def _on_set_muted(self, request: SetMuted) -> None:
        producer = self._track(request.track_id)
        producer.set_muted(request.muted)
        if request.muted:
            self._router_of[producer.participant_id].speakers.remove(producer.track_id)

    async def _on_set_processing(self, request: SetProcessing) -> None:
        self._track(request.track_id)
        self._taps.set_processing(request.track_id, request.processors, request.epoch)

    async def _on_snapshot(self, request: ChannelMessage) -> Snapshot:
        participants = [
            ParticipantSnapshot(
                room_id=router.room_id,
                participant_id=p.participant_id,
                state=p.state,
                publish=p.publish.peer.state.value if p.publish is not None else None,
                subscribe=p.subscribe.peer.state.value if p.subscribe is not None else None,
            )
            for router in self._routers.values()
            for p in router.participants.values()
        ]
        tracks = [
            TrackSnapshot(
                track_id=producer.track_id,
                participant_id=producer.participant_id,
                kind=producer.kind,
                source=producer.source,
                muted=producer.muted,
                processors=processors,
                epoch=epoch,
                bypassed=bypassed,
            )
            for router in self._routers.values()
            for producer in router.tracks.values()
            for processors, epoch, bypassed in [self._taps.processing(producer.track_id)]
        ]
        rooms = {room_id: router.state for room_id, router in self._routers.items()}
        return Snapshot(rooms=rooms, participants=participants, tracks=tracks)

    async def _on_stats(self, request: ChannelMessage) -> dict[str, Any]:
        counters = self._plane.counters
        usage = resource.getrusage(resource.RUSAGE_SELF)
        drops = counters.drops + self._mux.drops
        return {
            "udp_port": self._mux.address[1],
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "rooms": len(self._routers),
            "received": counters.received,
            "forwarded": counters.forwarded,
            "forwarded_bytes": counters.forwarded_bytes,
            "retransmitted": counters.retransmitted,
            "nacks_sent": counters.nacks_sent,
            "nacks_received": counters.nacks_received,
            "keyframe_requests_sent": counters.keyframe_requests_sent,
            "keyframe_requests_received": counters.keyframe_requests_received,
            "drops": {reason.value: count for reason, count in drops.items()},
            "taps": self._taps.statistics(),
        }

    async def _on_metrics(self, request: ChannelMessage) -> str:
        return self._metrics.page()

    # --- finding things

    def _router(self, room_id: str) -> Router:
        router = self._routers.get(room_id)
        if router is None:
            router = self._routers[room_id] = Router(room_id, self._plane, self._taps, self._make_peer, self._notify)
        return router

    def _of(self, participant_id: str) -> Router:
        router = self._router_of.get(participant_id)
        if router is None:
            raise UnknownTargetError("no such participant")
        return router

    def _subscription(self, participant_id: str) -> SubscribeTransport:
        return self._of(participant_id).subscription(participant_id)

    def _track(self, track_id: str) -> Producer:
        for router in self._routers.values():
            if (producer := router.tracks.get(track_id)) is not None:
                return producer
        raise UnknownTargetError("no such track")

    def _make_peer(self, *, controlling: bool, on_state: Callable[[Peer], None]) -> Peer:
        host, port = self._mux.address
        settings = self._settings
        announced_port = settings.announced_port + self._index if settings.announced_port else port
        return Peer(
            self._mux,
            self._certificate,
            self._plane,
            announced=(settings.announced_host or host, announced_port),
            for_relays=(settings.relay_host, port) if settings.relay_host else None,
            receive=self._receive,
            send=self._send,
            controlling=controlling,
            on_state=on_state,
        )

    # --- what the data plane tells (PlaneEvents)

    def audio_level(self, producer: Producer, level: int, now_ns: int) -> None:
        """See `PlaneEvents`."""
        router = self._router_of.get(producer.participant_id)
        if router is not None:
            router.speakers.heard(producer.track_id, level, now_ns)

    def audio_heard(self, producer: Producer, packet: AudioPacket, payload: bytes, level: int, sound: Sound) -> None:
        """See `PlaneEvents`."""
        self._taps.heard(producer, packet, payload, level, sound)

    def _path_changed(self, track_id: str, mode: PathMode, reason: str) -> None:
        processed = mode is PathMode.PROCESSED
        message = ProcessingState(track_id=track_id, state="on" if processed else "bypass", reason=reason)
        self._notify("processing_state", message)

    # --- timers

    def _speakers(self, now_ns: int) -> None:
        for router in list(self._routers.values()):
            router.tick_speakers(now_ns)

    def _layers(self, now_ns: int) -> None:
        for router in list(self._routers.values()):
            router.tick_layers(now_ns)
        self._taps.tick_layers(now_ns)

    def _report(self, now_ns: int) -> None:
        self._plane.send_reports(now_ns)
        self._taps.refresh()

    def _quality(self, now_ns: int) -> None:
        for router in list(self._routers.values()):
            for participant in list(router.participants.values()):
                self._notify("quality", measure(participant, now_ns))


async def _every(period_s: float, call: Callable[[int], None], lag: Histogram) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due_s = loop.time() + period_s
        await asyncio.sleep(period_s)
        lag.observe(max(0.0, loop.time() - due_s))
        try:
            call(time.monotonic_ns())
        except Exception as error:  # a timer that dies would stop feedback for everybody
            log.error("timer_failed", timer=call.__qualname__, error=type(error).__name__, exc_info=True)


async def run(settings: SfuSettings, run_dir: Path, index: int, frames_between: int = 0) -> None:
    """Start a worker and stay until cancelled. `frames_between`: see `Worker`."""
    worker = Worker(settings, run_dir, index, frames_between)
    await worker.start()
    gc.collect()
    gc.freeze()  # what lives as long as the process need not be looked at by every later collection
    gc.set_threshold(GC_THRESHOLD, 10, 10)
    try:
        await asyncio.Event().wait()
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await worker.close()
