"""The watch host: observers beside the path of media. It may be slow, late or dead, and no packet waits for it.

It connects to every worker's tap, with a second socket for video where there is an observer of video, hears and sees the tracks
that have an observer on, and serves `watch.sock`: requests `processors`, `stats` and `metrics`, notifications `finding` and
`processor_status` (all current ones when somebody connects). Tracks take turns; each has a bounded queue. Sound has longer turns
than video, after every 2 ms (or one frame) of it: it is the cheaper, and what is said matters more than how somebody looks. A
worker that is gone is tried again; so is the engine, whose absence shows as a status.
"""

import asyncio
import dataclasses
import os
import time
from functools import partial
from pathlib import Path
from typing import Any, Literal

import structlog
from prometheus_client import CollectorRegistry

from media_processors import registry
from media_processors.audio.vad import SileroVad
from media_processors.base import AsksModels, HostServices, Observer
from media_processors.codec import load_library
from media_processors.errors import UnavailableError
from media_processors.findings import Finding, ProcessorInfo, ProcessorStatus
from media_processors.host_channel import HostChannel, described
from media_processors.ladder import Ladder
from media_processors.metrics import WatchMetrics
from media_processors.observing import Available, WatchCounters, WatchedTrack
from media_processors.perceiving import Hearing, Perception
from media_processors.settings import ProcessingSettings
from media_processors.taps import HostTap
from media_processors.video.watching import Seeing
from models.backends import connect
from models.client import InferenceClient
from models.inventory import Inventory
from models.settings import ModelSettings
from sfu.tap import CloseTrack, Hello, OpenTrack, TapFrame, TapPacket

SOCKET_NAME = "watch.sock"
ENGINE_SOCKET_NAME = "engine.sock"
ENGINE_GONE = "the model engine is restarting; findings pause"
TICK_S = 0.2
TURNS_S: dict[str, float] = {"audio": 0.01, "video": 0.002}
"""Work this long, then let the event loop look at sockets, and the other medium have its turn."""
MAX_TRACKS = 1024
"""Per worker; one more is refused."""
Media = Literal["audio", "video"]

log = structlog.get_logger()


class WatchHost:
    """All taps, tracks and observers of one watch host."""

    def __init__(
        self,
        settings: ProcessingSettings,
        store: Inventory,
        run_dir: Path,
        workers: int,
        processors: dict[str, registry.Loaded],
        engine: InferenceClient | None = None,
    ) -> None:
        """`engine`: whom observers ask; unless told, the one of the run directory. `store`: what it has."""
        self.counters = WatchCounters()
        self.engine = engine or InferenceClient(run_dir / ENGINE_SOCKET_NAME)
        self._services = HostServices(self.engine, store, settings)
        self._metrics = WatchMetrics(
            CollectorRegistry(), self.counters, self.infos, self._statuses, lambda: self.engine.missed
        )
        self._channel = HostChannel(
            run_dir / SOCKET_NAME, self.infos, self._statistics, self._statuses, self._metrics.page
        )
        self._processors = processors
        paths = [run_dir / f"worker-{index}.tap" for index in range(workers)]
        kinds: list[Media] = ["audio", "video"] if self.observer_names("video") else ["audio"]
        self._taps = [HostTap(self, path, partial(self._greeting, media)) for path in paths for media in kinds]
        self._runnable_video: tuple[str, ...] = ()
        self._ladder = Ladder()
        self._missed = 0
        self._vad: SileroVad | None = None
        self._missing: UnavailableError | None = None
        self._tracks: dict[tuple[HostTap, int], WatchedTrack] = {}
        self._work_to_do: dict[str, asyncio.Event] = {"audio": asyncio.Event(), "video": asyncio.Event()}
        self._tasks: list[asyncio.Task[None]] = []
        self._closing: set[asyncio.Task[None]] = set()

    def observer_names(self, media: Media) -> tuple[str, ...]:
        """What may run here, now or once its model is there."""
        return tuple(info.name for info in registry.infos(self._processors, "observer") if info.media == media)

    def wanted_names(self, media: Media) -> tuple[str, ...]:
        """The observers for whose sake the worker shall send tracks. Sound costs little; of video, only what can run now."""
        return self.observer_names(media) if media == "audio" else self._runnable_video

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
        self.refresh()
        self.engine.on_connection = self._engine_changed
        self.engine.start()
        await self._channel.start()
        loops = [self._work("audio"), self._work("video"), self._tick(), *(tap.keep_connected() for tap in self._taps)]
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
        await self._channel.close()
        await self.engine.close()

    # --- observers

    def infos(self) -> list[ProcessorInfo]:
        """Every observer, whether it can run here, and if not why."""
        return [known.info for known in self._available()]

    def _engine_changed(self, connected: bool) -> None:
        """An engine that was started anew may run what the last one refused, and other versions of it."""
        if connected:
            for loaded in self._processors.values():
                if (asking := _asking(loaded)) is not None:
                    asking.attach(self._services)
        self.refresh()

    def refresh(self) -> None:
        """What observers can do may have changed: tell."""
        available = self._available()
        infos = [known.info for known in available]
        self._runnable_video = tuple(info.name for info in infos if info.media == "video" and info.available)
        for track in self._tracks.values():
            track.refresh(available)

    def _available(self) -> list[Available]:
        found: list[Available] = []
        for loaded in self._processors.values():
            if loaded.info.kind != "observer":
                continue
            observer = loaded.processor if isinstance(loaded.processor, Observer) else None
            info = described(loaded)
            if self._missing is not None and info.media == "audio":
                missing = {"reason": self._missing.reason, "command": self._missing.command}
                info = info.model_copy(update={"available": False, **missing})
            pausing = ENGINE_GONE if _asking(loaded) is not None and not self.engine.connected else ""
            found.append(Available(info, observer, pausing, self._ladder.sheds_now(info)))
        return found

    def _greeting(self, media: Media) -> Hello:
        role: Literal["watch", "watch_video"] = "watch_video" if media == "video" else "watch"
        return Hello(role=role, pid=os.getpid(), processors=self.wanted_names(media))

    # --- tracks

    def received(self, tap: HostTap, frame: TapFrame) -> None:
        """See `TapOwner`."""
        if isinstance(frame, TapPacket):
            self.put(tap, frame)
        elif isinstance(frame, OpenTrack):
            self.open(tap, frame)
        elif isinstance(frame, CloseTrack):
            self.forget(tap, frame.handle)

    def malformed(self) -> None:
        """See `TapOwner`."""
        self.counters.malformed += 1

    def open(self, tap: HostTap, opened: OpenTrack) -> None:
        """A track, or new switches for one."""
        key = (tap, opened.handle)
        track = self._tracks.get(key)
        if track is None or track.opened.track_id != opened.track_id:
            self.forget(tap, opened.handle)
            perception = self._perception(tap, opened)
            if perception is None or len(self._tracks) >= MAX_TRACKS * len(self._taps):
                return
            track = WatchedTrack(opened, perception, self.counters, self._found, self._channel.tell, tap.ask)
            self._tracks[key] = track
        track.configure(opened, self._available())

    def _perception(self, tap: HostTap, opened: OpenTrack) -> Perception | None:
        if opened.kind == "video":
            return Seeing(opened, self.counters.seeing, tap.ask)
        return Hearing(self._vad, self.counters.listening) if self._vad is not None else None

    def put(self, tap: HostTap, packet: TapPacket) -> None:
        """A packet of a track."""
        track = self._tracks.get((tap, packet.handle))
        if track is None:
            self.counters.unwanted += 1
            return
        track.put(packet)
        self._work_to_do[track.opened.kind].set()

    def forget(self, tap: HostTap, handle: int) -> None:
        """A track ended; what was said last is still decoded, what was seen last is not."""
        track = self._tracks.pop((tap, handle), None)
        if track is not None:
            while track.waiting and track.opened.kind == "audio":
                track.work()
            task = asyncio.create_task(track.close(pending=True), name="track-close")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def forget_all(self, tap: HostTap) -> None:
        """The worker is gone."""
        for owner, handle in list(self._tracks):
            if owner is tap:
                self.forget(owner, handle)

    async def _work(self, media: Media) -> None:
        """One packet of each track in turn."""
        turn_s = TURNS_S[media]
        while True:
            await self._work_to_do[media].wait()
            self._work_to_do[media].clear()
            while busy := [track for track in self._tracks.values() if track.waiting and track.opened.kind == media]:
                until_s = time.monotonic() + turn_s
                for track in busy:
                    if track.waiting:
                        track.work()
                    if time.monotonic() > until_s:
                        await asyncio.sleep(0)
                        until_s = time.monotonic() + turn_s
                await asyncio.sleep(0)

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + TICK_S
            await asyncio.sleep(TICK_S)
            self._metrics.lag.observe(max(0.0, loop.time() - due_s))
            self._measure()
            self.refresh()
            for tap in self._taps:
                tap.introduce()
            for track in self._tracks.values():
                track.tick(time.monotonic())

    def _measure(self) -> None:
        """Shed observers, or let them come back, by how late packets and answers are."""
        now_ns = time.monotonic_ns()
        lag_ms = max((track.lag_ms(now_ns) for track in self._tracks.values()), default=0.0)
        missed, self._missed = self.engine.missed - self._missed, self.engine.missed
        self._ladder.measure(lag_ms, missed, now_ns / 1e9)
        self.counters.sheds, self.counters.shed_rungs = self._ladder.sheds, self._ladder.level

    # --- the channel

    def _statuses(self) -> list[ProcessorStatus]:
        return [status for track in self._tracks.values() for status in track.statuses.values()]

    def _statistics(self) -> dict[str, Any]:
        return dataclasses.asdict(self.counters) | {"tracks": len(self._tracks)}

    def _found(self, finding: Finding) -> None:
        self.counters.findings += 1
        self._metrics.findings.labels(finding.kind).inc()
        self._channel.notify("finding", finding)


def _asking(loaded: registry.Loaded) -> AsksModels | None:
    """The processor, if it depends on the engine."""
    processor: object = loaded.processor
    return processor if isinstance(processor, AsksModels) else None


async def run(settings: ProcessingSettings, models: ModelSettings, run_dir: Path, workers: int) -> None:
    """Be the watch host until cancelled. `models`: whom it asks."""
    engine, inventory = connect(models, run_dir / ENGINE_SOCKET_NAME)
    host = WatchHost(settings, inventory, run_dir, workers, registry.load_processors(), engine)
    try:
        await host.start()
        log.info("watch_host_ready", pid=os.getpid())
        await host.serve()
    finally:
        await host.close()
