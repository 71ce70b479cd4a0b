"""The watch host: observers beside the path of media. It may be slow, late or dead, and no packet waits for it.

It connects to every worker's tap, hears the tracks that have an observer on, and serves `watch.sock`: requests `processors`
and `stats`, notifications `finding` and `processor_status` (all current ones when somebody connects). Tracks take turns; each
has a bounded queue. A worker that is gone is tried again; so is the engine, whose absence shows as a status.
"""

import asyncio
import dataclasses
import os
import time
from pathlib import Path
from typing import Any

import structlog

from media_processors import registry
from media_processors.audio.vad import SileroVad
from media_processors.base import AsksModels, HostServices, Observer
from media_processors.codec import load_library
from media_processors.errors import UnavailableError
from media_processors.findings import Finding, ProcessorInfo, ProcessorStatus
from media_processors.observing import Available, WatchCounters, WatchedTrack
from media_processors.settings import ProcessingSettings
from models.client import InferenceClient
from models.store import Store
from sfu.channel import Channel, ChannelError, serve
from sfu.tap import CloseTrack, Hello, OpenTrack, TapPacket, TapSocket, connect

SOCKET_NAME = "watch.sock"
ENGINE_SOCKET_NAME = "engine.sock"
ENGINE_GONE = "the model engine is restarting; findings pause"
RECONNECT_S = 0.25
TICK_S = 0.2
TURN_S = 0.01
"""Work this long, then let the event loop look at sockets."""
MESSAGES_PER_TURN = 32
MAX_TRACKS = 1024
"""Per worker; one more is refused."""

log = structlog.get_logger()


class WatchHost:
    """All taps, tracks and observers of one watch host."""

    def __init__(
        self,
        settings: ProcessingSettings,
        store: Store,
        run_dir: Path,
        workers: int,
        processors: dict[str, registry.Loaded],
    ) -> None:
        self.counters = WatchCounters()
        self.engine = InferenceClient(run_dir / ENGINE_SOCKET_NAME)
        self._services = HostServices(self.engine, store, settings)
        self._socket_path = run_dir / SOCKET_NAME
        self._taps = [_Tap(self, run_dir / f"worker-{index}.tap") for index in range(workers)]
        self._processors = processors
        self._vad: SileroVad | None = None
        self._missing: UnavailableError | None = None
        self._tracks: dict[tuple[Path, int], WatchedTrack] = {}
        self._channels: set[Channel] = set()
        self._server: asyncio.Server | None = None
        self._work_to_do = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._closing: set[asyncio.Task[None]] = set()

    def observer_names(self) -> tuple[str, ...]:
        """What may run here, now or once its model is there."""
        return tuple(info.name for info in registry.infos(self._processors, "observer"))

    async def start(self) -> None:
        """Load what observers need, listen, connect."""
        try:
            load_library()
            self._vad = SileroVad()
        except UnavailableError as error:
            log.error("watch_host_deaf", reason=error.reason)
            self._missing = error
        for loaded in self._processors.values():
            if (asking := _asking(loaded)) is not None:
                asking.attach(self._services)
        self.engine.on_connection = lambda connected: self.refresh()
        self.engine.start()
        self._server = await serve(self._socket_path, self._accept)
        loops = [self._work(), self._tick(), *(tap.keep_connected() for tap in self._taps)]
        self._tasks = [asyncio.create_task(loop) for loop in loops]

    async def serve(self) -> None:
        """Run until cancelled. Raises what ends one of the host's own tasks: a new process is better than a deaf one."""
        await asyncio.gather(*self._tasks)

    async def close(self) -> None:
        """Stop; idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for tap in self._taps:
            tap.disconnect()
        for track in list(self._tracks.values()):
            await track.close(pending=False)
        self._tracks.clear()
        for task in list(self._closing):
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        if self._server is not None:
            self._server.close()
        for channel in list(self._channels):
            await channel.close()
        await self.engine.close()

    # --- observers

    def infos(self) -> list[ProcessorInfo]:
        """Every observer, whether it can run here, and if not why."""
        return [known.info for known in self._available()]

    def refresh(self) -> None:
        """What observers can do may have changed: tell."""
        available = self._available()
        for track in self._tracks.values():
            track.refresh(available)

    def _available(self) -> list[Available]:
        found: list[Available] = []
        for loaded in self._processors.values():
            observer = loaded.processor if isinstance(loaded.processor, Observer) else None
            info = _info(loaded, observer)
            if info.kind != "observer":
                continue
            if self._missing is not None and info.media == "audio":
                missing = {"reason": self._missing.reason, "command": self._missing.command}
                info = info.model_copy(update={"available": False, **missing})
            pausing = ENGINE_GONE if _asking(loaded) is not None and not self.engine.connected else ""
            found.append(Available(info, observer, pausing))
        return found

    # --- tracks

    def open(self, tap: Path, opened: OpenTrack) -> None:
        """A track, or new switches for one."""
        key = (tap, opened.handle)
        track = self._tracks.get(key)
        if track is None or track.opened.track_id != opened.track_id:
            self.forget(tap, opened.handle)
            if self._vad is None or len(self._tracks) >= MAX_TRACKS * len(self._taps):
                return
            track = self._tracks[key] = WatchedTrack(opened, self._vad, self.counters, self._found, self._tell)
        track.configure(opened, self._available())

    def put(self, tap: Path, packet: TapPacket) -> None:
        """A packet of a track."""
        track = self._tracks.get((tap, packet.handle))
        if track is None:
            self.counters.unwanted += 1
            return
        track.put(packet)
        self._work_to_do.set()

    def forget(self, tap: Path, handle: int) -> None:
        """A track ended; what was said last is still decoded."""
        track = self._tracks.pop((tap, handle), None)
        if track is not None:
            while track.waiting:
                track.work()
            task = asyncio.create_task(track.close(pending=True), name="track-close")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def forget_all(self, tap: Path) -> None:
        """The worker is gone."""
        for path, handle in list(self._tracks):
            if path == tap:
                self.forget(path, handle)

    async def _work(self) -> None:
        """One packet of each track in turn."""
        while True:
            await self._work_to_do.wait()
            self._work_to_do.clear()
            while busy := [track for track in self._tracks.values() if track.waiting]:
                until_s = time.monotonic() + TURN_S
                for track in busy:
                    if track.waiting:
                        track.work()
                    if time.monotonic() > until_s:
                        await asyncio.sleep(0)
                        until_s = time.monotonic() + TURN_S
                await asyncio.sleep(0)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.refresh()
            for track in self._tracks.values():
                track.tick(time.monotonic())

    # --- the channel

    def _accept(self, channel: Channel) -> None:
        self._channels = {known for known in self._channels if not known.closed.is_set()} | {channel}
        channel.on_request = self._answer
        channel.start()
        for track in self._tracks.values():
            for status in track.statuses.values():
                channel.notify("processor_status", status.model_dump())

    async def _answer(self, method: str, params: dict[str, Any]) -> Any:
        match method:
            case "processors":
                return {"processors": [info.model_dump() for info in self.infos()]}
            case "stats":
                return dataclasses.asdict(self.counters) | {"tracks": len(self._tracks)}
        raise ChannelError("no_such_method", method)

    def _found(self, finding: Finding) -> None:
        self.counters.findings += 1
        for channel in self._channels:
            channel.notify("finding", finding.model_dump())

    def _tell(self, status: ProcessorStatus) -> None:
        for channel in self._channels:
            channel.notify("processor_status", status.model_dump())


def _info(loaded: registry.Loaded, observer: Observer | None) -> ProcessorInfo:
    """What a processor says of itself now."""
    if observer is None:
        return loaded.info
    try:
        return observer.info()
    except Exception as error:  # anybody's code
        reason = f"it cannot describe itself: {type(error).__name__}"
        return loaded.info.model_copy(update={"available": False, "reason": reason})


def _asking(loaded: registry.Loaded) -> AsksModels | None:
    """The processor, if it depends on the engine."""
    processor: object = loaded.processor
    return processor if isinstance(processor, AsksModels) else None


class _Tap:
    """The link to one worker, and again whenever it is gone."""

    def __init__(self, host: WatchHost, path: Path) -> None:
        self._host = host
        self._path = path
        self._link: TapSocket | None = None
        self._gone = asyncio.Event()

    async def keep_connected(self) -> None:
        """Connect, read until the worker is gone, begin again."""
        loop = asyncio.get_running_loop()
        hello = Hello(role="watch", pid=os.getpid(), processors=self._host.observer_names())
        while True:
            try:
                self._link = connect(self._path, hello)
            except OSError:  # nobody listens (yet)
                await asyncio.sleep(RECONNECT_S)
                continue
            log.info("tap_connected", tap=self._path.name)
            self._gone.clear()
            loop.add_reader(self._link.fileno(), self._readable, self._link)
            await self._gone.wait()
            await asyncio.sleep(RECONNECT_S)

    def disconnect(self) -> None:
        """Let the worker go, and its tracks; idempotent."""
        link, self._link = self._link, None
        if link is None:
            return
        self._gone.set()  # first: whatever else fails, we connect again
        asyncio.get_running_loop().remove_reader(link.fileno())
        link.close()
        self._host.forget_all(self._path)

    def _readable(self, link: TapSocket) -> None:
        for _ in range(MESSAGES_PER_TURN):
            try:
                frames = link.receive()
            except ValueError:
                self._host.counters.malformed += 1
                continue
            except OSError:
                frames = None
            if frames is None:
                log.info("tap_closed", tap=self._path.name)
                self.disconnect()
                return
            if not frames:
                return
            for frame in frames:
                if isinstance(frame, TapPacket):
                    self._host.put(self._path, frame)
                elif isinstance(frame, OpenTrack):
                    self._host.open(self._path, frame)
                elif isinstance(frame, CloseTrack):
                    self._host.forget(self._path, frame.handle)


async def run(settings: ProcessingSettings, store_dir: Path, run_dir: Path, workers: int) -> None:
    """Be the watch host until cancelled. `store_dir`: where pulled models lie, to say which can run."""
    host = WatchHost(settings, Store(store_dir), run_dir, workers, registry.load_processors())
    try:
        await host.start()
        log.info("watch_host_ready", pid=os.getpid())
        await host.serve()
    finally:
        await host.close()
