"""The video host over a real tap socket, with the test as the worker and as signaling."""

import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

from media_processors.settings import ProcessingSettings
from media_processors.video import deriving
from media_processors.video_host import SOCKET_NAME, VideoHost
from models.store import Store
from sfu.channel import connect
from sfu.tap import (
    Hello,
    OpenTrack,
    TapFrame,
    TapSocket,
    VideoResult,
    listen,
)
from tests.fakes.camera import Camera, Film
from tests.unit.processors_video.transforms import Changes
from tests.until import until


class Scene:
    """The host, the worker's end of its tap, and a channel as signaling has one."""

    def __init__(self, run_dir: Path, *transforms: Changes) -> None:
        self.run_dir = run_dir
        self.transforms = transforms
        self.film = Film(Camera(rate_hz=10), seq=1)
        self.results: list[VideoResult] = []
        self.asked: list[TapFrame] = []
        self.states: list[tuple[str, str, str]] = []

    async def start(self) -> None:
        self.listener = listen(self.run_dir / "worker-0.tap")
        self.host = self.new_host()
        await self.host.start()
        await self.accept()
        self.channel = await connect(self.run_dir / SOCKET_NAME)
        self.channel.on_notify = self._notified
        self.channel.start()

    def new_host(self) -> VideoHost:
        loaded = {name: one for transform in self.transforms for name, one in transform.loaded.items()}
        return VideoHost(ProcessingSettings(), Store(self.run_dir), self.run_dir, 1, loaded)

    async def accept(self) -> None:
        """Wait for the host's connection."""

        def missing() -> str:
            with contextlib.suppress(BlockingIOError):
                self.link = TapSocket(self.listener.accept()[0])
                return ""
            return "a connection of the host"

        await until(missing)
        (hello,) = self.link.receive() or []
        assert isinstance(hello, Hello)
        self.hello = hello

    async def stop(self) -> None:
        await self.channel.close()
        await self.host.close()
        self.link.close()
        self.listener.close()

    def _notified(self, event: str, params: dict[str, object]) -> None:
        assert event == "processor_status"
        self.states.append((str(params["processor"]), str(params["state"]), str(params["reason"])))

    def open(
        self,
        on: bool | dict[str, bool] = True,
        epoch: int = 0,
        codec: Literal["vp8", "h264"] = "vp8",
        bitrate_bps: int = 400_000,
        handle: int = 1,
    ) -> None:
        opened = OpenTrack(
            handle=handle,
            track_id=f"track-{handle}",
            room_id="room",
            participant_id="participant",
            kind="video",
            source="camera",
            codec=codec,
            clock_hz=90_000,
            processors=on if isinstance(on, dict) else {transform.name: on for transform in self.transforms},
            epoch=epoch,
            bitrate_bps=bitrate_bps,
        )
        assert self.link.send(opened)

    def shoot(self, keyframe: bool = False) -> int:
        """Send the next picture; its timestamp."""
        packets = self.film.frame(keyframe)
        for packet in packets:
            self.link.queue(packet)
        self.link.flush()
        return packets[0].timestamp

    def read(self) -> None:
        while frames := self.link.receive():
            for frame in frames:
                if isinstance(frame, VideoResult):
                    self.results.append(frame)
                else:
                    self.asked.append(frame)

    async def made(self, count: int) -> list[VideoResult]:
        """The packets of so many more pictures; those."""

        def missing() -> str:
            self.read()
            found = sum(result.marker for result in self.results)
            return "" if found >= count else f"{count - found} pictures"

        await until(missing)
        taken, self.results = self.results, []
        return taken

    async def wants(self, frame: TapFrame) -> None:
        """Wait until the host asks for something."""

        def missing() -> str:
            self.read()
            return "" if frame in self.asked else f"{frame}"

        await until(missing)

    async def track(self) -> deriving.DerivedTrack:
        """The only one."""
        await until(lambda: "" if self.host._tracks else "a track")
        return next(iter(self.host._tracks.values()))

    async def told(self, name: str, state: str, reason: str = "") -> None:
        await until(lambda: "" if (name, state, reason) in self.states else f"{name} {state} {reason}: {self.states}")


Start = Callable[..., Awaitable[Scene]]
