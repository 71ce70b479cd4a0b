"""The video host: transforms of pictures, between a worker's tap and the source that it derives from what comes back.

It is there only where a setting asks for a video transform. It connects to every worker's tap with role `video`, sees the tracks
on which one of its transforms is on, and serves `video.sock`: requests `processors`, `stats` and `metrics`, notification
`processor_status`, all current ones when somebody connects. Each track has a thread of its own (`video.deriving`); the event loop
only hands packets to and fro. Whatever happens here, viewers have the publisher's own pictures: media never waits.
"""

import asyncio
import dataclasses
import os
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from media_processors import registry
from media_processors.base import AsksModels, HostServices, ReadsSettings, VideoTransform
from media_processors.findings import ProcessorInfo, ProcessorStatus
from media_processors.host_channel import HostChannel, described
from media_processors.metrics import VideoMetrics
from media_processors.settings import ProcessingSettings
from media_processors.taps import HostTap
from media_processors.video.deriving import DeriveCounters, DerivedTrack
from models.backends import connect
from models.client import InferenceClient
from models.inventory import Inventory
from models.settings import ModelSettings
from sfu.tap import CloseTrack, Hello, OpenTrack, TapFrame, TapPacket, VideoResult, WantKeyframe

SOCKET_NAME = "video.sock"
ENGINE_SOCKET_NAME = "engine.sock"
TICK_S = 0.25
MAX_TRACKS = 32
"""In all: each has a thread and an encoder. One more is told that there are too many."""
TOO_MANY = "too_many"

Key = tuple[HostTap, int]
"""Handles are those of a worker."""

log = structlog.get_logger()


class VideoHost:
    """All taps and tracks of one video host."""

    def __init__(
        self,
        settings: ProcessingSettings,
        store: Inventory,
        run_dir: Path,
        workers: int,
        processors: dict[str, registry.Loaded],
        engine: InferenceClient | None = None,
    ) -> None:
        """`processors`: the video transforms that may run here. `engine`: whom they ask; unless told, the one of the run directory.

        `store`: what it has.
        """
        self.counters = DeriveCounters()
        self.engine = engine or InferenceClient(run_dir / ENGINE_SOCKET_NAME)
        self._services = HostServices(self.engine, store, settings)
        self._metrics = VideoMetrics(CollectorRegistry(), self.counters, self.infos, self._statuses)
        self._channel = HostChannel(
            run_dir / SOCKET_NAME, self.infos, self._statistics, self._statuses, self._metrics.page
        )
        self._processors = processors
        self._available: dict[str, VideoTransform] = {}
        self._taps = [HostTap(self, run_dir / f"worker-{index}.tap", self._greeting) for index in range(workers)]
        self._opened: dict[Key, OpenTrack] = {}
        """Everything that workers told us of."""
        self._tracks: dict[Key, DerivedTrack] = {}
        """Those of them on which a transform is on that can run, and for which there is room."""
        self._tasks: list[asyncio.Task[None]] = []
        self._closing: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen, connect."""
        self._attach()
        self.engine.on_connection = lambda connected: self._attach() if connected else None
        if any(isinstance(loaded.processor, AsksModels) for loaded in self._processors.values()):
            self.engine.start()
        await self._channel.start()
        loops = [self._tick(), *(tap.keep_connected() for tap in self._taps)]
        self._tasks = [asyncio.create_task(loop) for loop in loops]

    async def serve(self) -> None:
        """Run until cancelled. Raises what ends one of the host's own tasks: a new process is better than a blind one."""
        await asyncio.gather(*self._tasks)

    async def close(self) -> None:
        """Stop; idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for tap in self._taps:
            tap.disconnect()
        await asyncio.gather(*self._closing, return_exceptions=True)
        await self._channel.close()
        await self.engine.close()

    # --- transforms

    def _attach(self) -> None:
        """An engine that was started anew may run what the last one refused, and other versions of it."""
        for loaded in self._processors.values():
            processor: object = loaded.processor
            if isinstance(processor, AsksModels):
                processor.attach(self._services)
        self.refresh()

    def infos(self) -> list[ProcessorInfo]:
        """Every transform, whether it can run here, and if not why."""
        return [described(loaded) for loaded in self._processors.values()]

    def refresh(self) -> None:
        """What transforms can do may have changed: tracks follow."""
        before = set(self._available)
        self._available = {
            info.name: loaded.processor
            for loaded in self._processors.values()
            if (info := described(loaded)).available and isinstance(loaded.processor, VideoTransform)
        }
        if set(self._available) != before:
            for key in list(self._opened):
                self._place(key)

    def _greeting(self) -> Hello:
        return Hello(role="video", pid=os.getpid(), processors=tuple(sorted(self._available)))

    # --- tracks

    def received(self, tap: HostTap, frame: TapFrame) -> None:
        """See `TapOwner`."""
        if isinstance(frame, OpenTrack):
            self._opened[tap, frame.handle] = frame
            self._place((tap, frame.handle))
        elif isinstance(frame, CloseTrack):
            self._opened.pop((tap, frame.handle), None)
            self._free((tap, frame.handle))
        elif isinstance(frame, TapPacket | WantKeyframe):
            track = self._tracks.get((tap, frame.handle))
            if track is None:
                self.counters.unwanted += 1
            elif isinstance(frame, TapPacket):
                track.put(frame)
            else:
                track.want_keyframe()

    def malformed(self) -> None:
        """See `TapOwner`."""
        self.counters.malformed += 1

    def forget_all(self, tap: HostTap) -> None:
        """See `TapOwner`."""
        gone = [key for key in self._opened if key[0] is tap]
        self._opened = {key: opened for key, opened in self._opened.items() if key[0] is not tap}
        for key in gone:
            self._free(key)

    def _wanted(self, opened: OpenTrack) -> list[str]:
        """Which transforms of a track are on and can run."""
        return [name for name, on in opened.processors.items() if on and name in self._available]

    def _place(self, key: Key) -> None:
        """A track that needs a place gets one if there is room; one that needs none any more gives it to another."""
        opened, track = self._opened[key], self._tracks.get(key)
        wanted = self._wanted(opened)
        if wanted and track is None:
            if opened.codec != "vp8" or len(self._tracks) >= MAX_TRACKS:
                self._decline(key[0], opened)
                return
            track = self._tracks[key] = DerivedTrack(opened, self.counters, key[0].send_all, self._channel.tell)
        if track is not None:
            track.configure(opened, self._available)
            if not wanted:
                self._free(key)

    def _decline(self, tap: HostTap, opened: OpenTrack) -> None:
        """The worker need not send what nobody looks at; other codecs it does not send anyway."""
        if opened.codec == "vp8":
            tap.send_all([VideoResult(opened.handle, opened.epoch, 1, 0, b"")])
        for status in self._refusals(opened):
            self._channel.tell(status)

    def _refusals(self, opened: OpenTrack) -> list[ProcessorStatus]:
        reason = TOO_MANY if opened.codec == "vp8" else "codec"
        return [
            ProcessorStatus(track_id=opened.track_id, processor=name, state="unavailable", reason=reason)
            for name in self._wanted(opened)
        ]

    def _free(self, key: Key) -> None:
        track = self._tracks.pop(key, None)
        if track is None:
            return
        task = asyncio.create_task(track.close(), name="track-close")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        for other in [other for other in self._opened if other not in self._tracks]:
            self._place(other)

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + TICK_S
            await asyncio.sleep(TICK_S)
            self._metrics.lag.observe(max(0.0, loop.time() - due_s))
            self.refresh()
            for tap in self._taps:
                tap.introduce()
            self._tick_tracks(time.monotonic_ns())

    def _tick_tracks(self, now_ns: int) -> None:
        """Where there is not enough time for all, the newest is given up first, and the others are judged anew without it."""
        for track in reversed(self._tracks.values()):
            if track.tick(now_ns, self._available):
                for other in self._tracks.values():
                    other.pace.reset()
                return

    # --- the channel

    def _statuses(self) -> list[ProcessorStatus]:
        declined = [opened for key, opened in self._opened.items() if key not in self._tracks]
        told = [status for track in self._tracks.values() for status in track.statuses.values()]
        return told + [status for opened in declined for status in self._refusals(opened)]

    def _statistics(self) -> dict[str, Any]:
        now_ns = time.monotonic_ns()
        tracks = {track.opened.track_id: track.statistics(now_ns) for track in self._tracks.values()}
        return dataclasses.asdict(self.counters) | {"tracks": tracks}


async def run(
    settings: ProcessingSettings, models: ModelSettings, run_dir: Path, workers: int, transforms: Collection[str]
) -> None:
    """Be the video host for these transforms until cancelled. `models`: whom it asks."""

    def prepare(processor: object) -> None:
        if isinstance(processor, ReadsSettings):
            processor.configure(settings)

    found = registry.video_transforms(registry.load_processors(prepare), transforms)
    for name in sorted(set(transforms) - set(found)):
        log.error("no_such_video_transform", processor=name)
    engine, inventory = connect(models, run_dir / ENGINE_SOCKET_NAME)
    host = VideoHost(settings, inventory, run_dir, workers, found, engine)
    try:
        await host.start()
        log.info("video_host_ready", pid=os.getpid())
        await host.serve()
    finally:
        await host.close()
