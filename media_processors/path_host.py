"""The path host: a process that decodes, transforms and encodes audio tracks between a worker's tap and its inject.

The packet loop is the main thread: select, read, process, answer, nothing else. Results leave in the order of their packets;
those of one wake-up share system calls. A control thread serves `path.sock`: requests `processors`, `stats` and `metrics`,
notification `processor_status`, all current ones first. Bounds: a tap socket holds what the kernel lets it hold, and a result that
does not fit is dropped and counted; a packet that waited longer than `late_ms` is decoded and no more.
"""

import asyncio
import gc
import os
import selectors
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from prometheus_client import CollectorRegistry

from media_processors import registry
from media_processors.audio.vad import SileroVad
from media_processors.base import ChoosesModel, Transform
from media_processors.codec import RATE_HZ, OpusEncoder, load_library
from media_processors.errors import ProcessorError, UnavailableError, place_of
from media_processors.findings import ProcessorInfo, ProcessorStatus
from media_processors.metrics import PathMetrics
from media_processors.settings import ProcessingSettings
from media_processors.streams import PathCounters, PathStream, untouched
from models.store import Store
from sfu.channel import Channel, ChannelError, serve
from sfu.tap import CloseTrack, Hello, OpenTrack, TapFrame, TapPacket, TapSocket, Trace, connect

SOCKET_NAME = "path.sock"
RESCAN_S = 0.2
"""How often absent workers are looked for, and a stop is noticed."""
MESSAGES_PER_TURN = 16
"""So that one worker with much to say does not keep the others waiting."""
FLUSH_NS = 2_000_000
"""Results wait at most this long for others to share a system call with."""
MAX_TRACKS_PER_TAP = 1024

log = structlog.get_logger()


@dataclass(slots=True)
class _Track:
    """What a worker opened."""

    track_id: str
    stream: PathStream | None = None
    """None if nothing can be done to it here: its packets go back as they are."""


@dataclass(slots=True)
class _Tap:
    """The link to one worker, and its tracks."""

    path: Path
    link: TapSocket
    tracks: dict[int, _Track] = field(default_factory=dict)


class PathHost:
    """The packet loop. `run()` blocks until `stop()`."""

    def __init__(
        self, settings: ProcessingSettings, run_dir: Path, workers: int, processors: dict[str, registry.Loaded]
    ) -> None:
        self.counters = PathCounters()
        self.infos = registry.infos(processors, "transform")
        self.on_status: Callable[[ProcessorStatus], None] = lambda status: None
        """Called from the packet loop with every new status."""
        self.on_close: Callable[[str], None] = lambda track_id: None
        """Called from the packet loop with the track that has no status any more."""
        self._late_ns = settings.late_ms * 1_000_000
        self._tap_paths = [run_dir / f"worker-{index}.tap" for index in range(workers)]
        self._transforms = _usable(registry.transforms(processors))
        self._models: dict[str, str] = {}
        """name@version of transforms."""
        self._vad: SileroVad | None = None
        self._selector = selectors.DefaultSelector()
        self._taps: dict[Path, _Tap] = {}
        self._failures: set[tuple[str, str]] = set()
        self._stopping = False

    def start(self, *, flush_denormals: bool = False) -> None:
        """Load what every track needs, and run every transform once: the first packet of a meeting finds warm caches."""
        missing: UnavailableError | None = None
        try:
            load_library()
            self._vad = SileroVad(flush_denormals=flush_denormals)
        except UnavailableError as error:
            log.error("path_host_unable", reason=error.reason)
            missing = error
        self.infos = [_describe(info, self._transforms, missing) for info in self.infos]
        self._models = {info.name: info.model for info in self.infos}
        if self._vad is not None and self._transforms:
            self._retire(self._warm_up(self._vad))
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 50)

    def run(self) -> None:
        """Serve taps until `stop()`."""
        next_scan = 0.0
        while not self._stopping:
            if time.monotonic() >= next_scan:
                self._connect()
                next_scan = time.monotonic() + RESCAN_S
            for key, _ in self._selector.select(RESCAN_S):
                self._serve(key.data)
        for tap in list(self._taps.values()):
            self._drop(tap)
        self._selector.close()

    def stop(self) -> None:
        """End `run()` within `RESCAN_S`; from any thread or a signal handler."""
        self._stopping = True

    def _retire(self, broken: dict[str, str]) -> None:
        """A transform that fails before anybody speaks is not offered to anybody."""
        for name in broken:
            del self._transforms[name]
        self.infos = [
            info.model_copy(update={"available": False, "reason": f"it was tried and {broken[info.name]}"})
            if info.name in broken
            else info
            for info in self.infos
        ]

    def _warm_up(self, vad: SileroVad) -> dict[str, str]:
        """The transforms that failed, and how."""
        encoder = OpusEncoder()
        noise = np.random.default_rng(0).normal(0, 0.05, 960).astype(np.float32)
        opened = OpenTrack(
            handle=0,
            track_id="",
            room_id="",
            participant_id="",
            kind="audio",
            source="microphone",
            codec="opus",
            clock_hz=48_000,
            processors=dict.fromkeys(self._transforms, True),
            epoch=0,
        )
        stream = PathStream(opened, self._transforms, vad.open(), PathCounters())
        for index in range(10):
            payload = encoder.encode(noise)
            stream.push(TapPacket(0, 0, 0, index, index * 960, 0, 0, 0, 0, payload), late=False)
        return {stage.name: stage.broken for stage in stream.chain.stages if stage.broken}

    def _connect(self) -> None:
        hello = Hello(role="path", pid=os.getpid(), processors=tuple(sorted(self._transforms)))
        for path in self._tap_paths:
            if path in self._taps:
                continue
            try:
                tap = _Tap(path, connect(path, hello))
            except OSError:  # nobody listens (yet)
                continue
            self._taps[path] = tap
            self._selector.register(tap.link, selectors.EVENT_READ, tap)
            log.info("tap_connected", tap=path.name)

    def _serve(self, tap: _Tap) -> None:
        try:
            for _ in range(MESSAGES_PER_TURN):
                try:
                    frames = tap.link.receive()
                except ValueError:
                    self.counters.malformed += 1
                    continue
                if frames is None:
                    self._drop(tap)
                    return
                if not frames:
                    return
                self._handle_all(tap, frames)
        except OSError:
            self._drop(tap)

    def _handle_all(self, tap: _Tap, frames: list[TapFrame]) -> None:
        refused = tap.link.dropped_full
        flushed_ns = time.monotonic_ns()
        for frame in frames:
            if isinstance(frame, TapPacket):
                self._process(tap, frame)
                if time.monotonic_ns() - flushed_ns > FLUSH_NS:
                    tap.link.flush()
                    flushed_ns = time.monotonic_ns()
            elif isinstance(frame, OpenTrack):
                self._open(tap, frame)
            elif isinstance(frame, CloseTrack):
                self._close(tap, frame.handle)
            elif isinstance(frame, Trace):
                self._asked(tap, frame.handle)
        tap.link.flush()
        self.counters.refused += tap.link.dropped_full - refused

    def _process(self, tap: _Tap, packet: TapPacket) -> None:
        track = tap.tracks.get(packet.handle)
        if track is None:
            self.counters.unknown += 1
            return
        if track.stream is None:
            tap.link.queue(untouched(packet))
            return
        late = time.monotonic_ns() - packet.arrival_ns > self._late_ns
        try:
            result = track.stream.push(packet, late)
        except Exception as error:  # whatever is wrong with us or the packet, the other tracks go on
            self._failed(track.stream, error)
            track.stream = None
            tap.link.queue(untouched(packet))
            return
        traced = track.stream.laps.take(packet.handle, packet.seq, self._models)
        if traced is not None:
            tap.link.queue(traced)
        tap.link.queue(result)
        for status in track.stream.take_changes():
            self.on_status(status)

    def _asked(self, tap: _Tap, handle: int) -> None:
        """The worker wants to know what we do with the packet that comes next."""
        track = tap.tracks.get(handle)
        if track is not None and track.stream is not None:
            track.stream.laps.begin()

    def _failed(self, stream: PathStream, error: Exception) -> None:
        """From here on the track's packets go back as they are, until it is opened again. Each kind of failure is logged once."""
        self.counters.failed += 1
        kind, place = type(error).__name__, place_of(error)
        if (kind, place) not in self._failures:
            self._failures.add((kind, place))
            log.error("path_stream_failed", track_id=stream.opened.track_id, error=kind, place=place)
        for name in stream.chain.names:
            self.on_status(
                ProcessorStatus(
                    track_id=stream.opened.track_id, processor=name, state="bypass", reason=f"failed: {kind}"
                )
            )

    def _open(self, tap: _Tap, opened: OpenTrack) -> None:
        wanted = {name: self._transforms[name] for name in opened.processors if name in self._transforms}
        track = tap.tracks.get(opened.handle)
        if track is None and len(tap.tracks) >= MAX_TRACKS_PER_TAP:
            return
        try:
            if track is not None and track.stream is not None and track.stream.continues(opened, wanted):
                track.stream.configure(opened)
            else:
                self._close(tap, opened.handle)
                track = tap.tracks[opened.handle] = _Track(opened.track_id)
                track.stream = self._new_stream(opened, wanted)
        except ProcessorError as error:
            log.error("path_open_refused", track_id=opened.track_id, error=str(error))
            return
        for status in [*_unavailable(opened, self.infos), *(track.stream.take_changes() if track.stream else ())]:
            self.on_status(status)

    def _new_stream(self, opened: OpenTrack, wanted: dict[str, Transform]) -> PathStream | None:
        """None if nothing can be done to the track here."""
        if opened.codec != "opus" or self._vad is None or not wanted:
            return None
        return PathStream(opened, wanted, self._vad.open(), self.counters)

    def _close(self, tap: _Tap, handle: int) -> None:
        track = tap.tracks.pop(handle, None)
        if track is not None:
            self.on_close(track.track_id)

    def _drop(self, tap: _Tap) -> None:
        """The worker is gone: so are its tracks."""
        log.info("tap_closed", tap=tap.path.name)
        self._selector.unregister(tap.link)
        tap.link.close()
        for handle in list(tap.tracks):
            self._close(tap, handle)
        del self._taps[tap.path]


class Control:
    """Serves `path.sock` from a thread of its own, so that nothing asynchronous runs between two packets."""

    def __init__(self, host: PathHost, path: Path) -> None:
        self._host = host
        self._path = path
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="path-control", daemon=True)
        self._listening = threading.Event()
        self._done: asyncio.Event | None = None
        self._channels: set[Channel] = set()
        self._current: dict[str, dict[str, ProcessorStatus]] = {}
        self._metrics = PathMetrics(CollectorRegistry(), host.counters, lambda: host.infos, self._statuses)
        host.on_status = self._status_from_loop
        host.on_close = self._closed_from_loop

    def start(self) -> None:
        """Listen; returns once clients can connect. Raises OSError if that takes more than 10 s."""
        self._thread.start()
        if not self._listening.wait(10):
            raise OSError(f"cannot listen on {self._path.name}")

    def close(self) -> None:
        """Stop listening and end the thread; idempotent."""
        if self._thread.is_alive() and self._done is not None:
            self._loop.call_soon_threadsafe(self._done.set)
            self._thread.join(5)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._done = asyncio.Event()
        server = await serve(self._path, self._accept)
        self._listening.set()
        await self._done.wait()
        server.close()
        for channel in list(self._channels):
            await channel.close()

    def _accept(self, channel: Channel) -> None:
        self._channels = {known for known in self._channels if not known.closed.is_set()} | {channel}
        channel.on_request = self._answer
        channel.start()
        for status in self._statuses():
            channel.notify("processor_status", status.model_dump())

    def _statuses(self) -> list[ProcessorStatus]:
        return [status for track in self._current.values() for status in track.values()]

    async def _answer(self, method: str, params: dict[str, Any]) -> Any:
        match method:
            case "processors":
                return {"processors": [info.model_dump() for info in self._host.infos]}
            case "stats":
                return self._host.counters.as_dict()
            case "metrics":
                return self._metrics.page()
        raise ChannelError("no_such_method", method)

    def _status_from_loop(self, status: ProcessorStatus) -> None:
        self._loop.call_soon_threadsafe(self._tell, status)

    def _closed_from_loop(self, track_id: str) -> None:
        self._loop.call_soon_threadsafe(self._current.pop, track_id, None)

    def _tell(self, status: ProcessorStatus) -> None:
        self._current.setdefault(status.track_id, {})[status.processor] = status
        for channel in self._channels:
            channel.notify("processor_status", status.model_dump())


def _usable(transforms: dict[str, Transform]) -> dict[str, Transform]:
    """Those that run at the rate of the path."""
    return {name: transform for name, transform in transforms.items() if transform.sample_rate_hz == RATE_HZ}


def _describe(info: ProcessorInfo, transforms: dict[str, Transform], missing: UnavailableError | None) -> ProcessorInfo:
    """What the registry says, less what cannot run in this host."""
    if not info.available:
        return info
    if missing is not None:
        update = {"available": False, "reason": missing.reason, "command": missing.command}
        return info.model_copy(update=update)
    if info.name not in transforms:
        return info.model_copy(update={"available": False, "reason": f"does not run at {RATE_HZ} Hz"})
    return info


def _unavailable(opened: OpenTrack, infos: list[ProcessorInfo]) -> list[ProcessorStatus]:
    return [
        ProcessorStatus(track_id=opened.track_id, processor=info.name, state="unavailable", reason=info.reason)
        for info in infos
        if info.name in opened.processors and not info.available
    ]


def main(
    settings: ProcessingSettings,
    store_dir: Path,
    run_dir: Path,
    workers: int,
    turn: Callable[[], object] = lambda: None,
) -> None:
    """Run the path host until SIGTERM or SIGINT. Main thread only. Loads everything, then waits until `turn` returns."""

    def prepare(processor: object) -> None:
        if isinstance(processor, ChoosesModel):
            processor.choose_model(settings, Store(store_dir))

    host = PathHost(settings, run_dir, workers, registry.load_processors(prepare))
    control = Control(host, run_dir / SOCKET_NAME)
    host.start(flush_denormals=True)  # this thread is ours alone, see SileroVad
    turn()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: host.stop())
    control.start()
    try:
        host.run()
    finally:
        control.close()
