"""The video host over a real tap socket, with the test as the worker and as signaling."""

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from media_processors.base import Picture
from media_processors.errors import UnavailableError
from media_processors.settings import ProcessingSettings
from media_processors.video import deriving
from media_processors.video.decode import VideoDecoder, to_rgb
from media_processors.video.depacketize import FrameAssembler, SightCounters
from media_processors.video.pace import PATIENCE_NS, RETRY_NS, TRIES, WINDOW_NS
from media_processors.video_host import SOCKET_NAME, VideoHost
from models.store import Store
from sfu.channel import connect
from sfu.rtp import vp8
from sfu.tap import (
    CloseTrack,
    Hello,
    OpenTrack,
    SelectLayer,
    Sound,
    TapFrame,
    TapPacket,
    TapSocket,
    VideoResult,
    WantKeyframe,
    listen,
)
from tests.fakes.camera import Camera, Film
from tests.unit.processors_video.transforms import Changes, Gate, negative
from tests.until import until

S = 1_000_000_000


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
        on: bool = True,
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
            processors={transform.name: on for transform in self.transforms},
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


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    scenes: list[Scene] = []

    async def start(*transforms: Changes) -> Scene:
        scenes.append(Scene(tmp_path, *transforms))
        await scenes[-1].start()
        return scenes[-1]

    yield start
    for scene in scenes:
        await scene.stop()


def decoded(results: list[VideoResult]) -> list[Picture]:
    """What a viewer sees, from a key frame on."""
    assembler, decoder = FrameAssembler("vp8", SightCounters()), VideoDecoder("vp8")
    pictures = []
    for seq, result in enumerate(results):
        packet = TapPacket(1, Sound.RAW, result.marker, seq, result.timestamp, seq, 0, 0, 0, result.payload)
        for frame in assembler.push(packet):
            picture = decoder.decode(frame.data, frame.timestamp)
            assert picture is not None
            pictures.append(to_rgb(picture))
    return pictures


def shown(frames: int) -> Picture:
    """What the camera shows in a frame."""
    camera, decoder = Camera(rate_hz=10), VideoDecoder("vp8")
    assembler = FrameAssembler("vp8", SightCounters())
    film = Film(camera)
    for _ in range(frames):
        (frame,) = [frame for packet in film.frame() for frame in assembler.push(packet)]
        picture = decoder.decode(frame.data, frame.timestamp)
    assert picture is not None
    return to_rgb(picture)


async def test_pictures_go_through_the_transform_and_back_under_their_own_times(start: Start) -> None:
    scene = await start(negative())
    assert (scene.hello.role, scene.hello.processors) == ("video", ("negative",))
    scene.open(epoch=3)
    await scene.wants(SelectLayer(1, deriving.LONGEST_PX))
    stamps, results = [], []
    for _ in range(4):
        stamps.append(scene.shoot())
        results += await scene.made(1)
    assert [result.timestamp for result in results if result.marker] == stamps
    assert {(result.handle, result.epoch) for result in results} == {(1, 0)}, "the epoch is that of the packets"
    pictures = decoded(results)
    assert len(pictures) == 4
    assert np.abs(pictures[-1].astype(int) - (255 - shown(4).astype(int))).mean() < 12
    await scene.told("negative", "on")
    stats = await scene.channel.request("stats")
    assert (stats["made"], stats["seeing"]["frames"], stats["refused"]) == (4, 4, 0)
    assert stats["tracks"]["track-1"]["latency_p50_ms"] > 0


async def test_a_key_frame_comes_when_it_is_wanted(start: Start) -> None:
    scene = await start(negative())
    scene.open()
    scene.shoot()
    first = await scene.made(1)
    scene.shoot()
    second = await scene.made(1)
    scene.link.send(WantKeyframe(1))
    scene.shoot()
    third = await scene.made(1)
    found = [vp8.parse(results[0].payload).keyframe for results in (first, second, third)]
    assert found == [True, False, True]


async def test_only_the_newest_picture_is_changed_when_there_is_no_time_for_all(start: Start) -> None:
    gate = Gate()
    scene = await start(Changes("gate", gate))
    scene.open()
    first = scene.shoot()
    await until(lambda: "" if gate.waiting.is_set() else "the first picture in the transform")
    stamps = [scene.shoot() for _ in range(5)]
    await until(lambda: "" if scene.host.counters.seeing.packets >= 1 else "packets")
    track = await scene.track()
    await until(lambda: "" if len(track._waiting) >= 5 else "the packets of the other pictures")
    gate.leave.release(2)
    results = await scene.made(2)
    assert [result.timestamp for result in results if result.marker] == [first, stamps[-1]]
    assert scene.host.counters.replaced == 4
    assert len(decoded(results)) == 2


async def test_off_says_so_and_on_again_begins_with_a_key_frame(start: Start) -> None:
    scene = await start(negative())
    scene.open()
    scene.shoot()
    await scene.made(1)
    scene.open(on=False)
    (end,) = await scene.made(1)
    assert end.payload == b""
    await scene.told("negative", "off")
    scene.shoot()
    scene.open()
    scene.shoot(keyframe=True)
    results = await scene.made(1)
    assert vp8.parse(results[0].payload).keyframe
    assert scene.host.counters.unwanted >= 1


async def test_a_loss_on_the_tap_is_noticed_and_a_key_frame_asked_for(start: Start) -> None:
    scene = await start(negative())
    scene.open()
    scene.shoot()
    await scene.made(1)
    lost = scene.film.frame()
    for _ in range(6):
        scene.shoot()
    await scene.wants(WantKeyframe(1))
    scene.shoot(keyframe=True)
    await scene.made(1)
    assert scene.host.counters.seeing.lost == len(lost)


async def test_a_new_bitrate_is_a_new_encoder_and_a_key_frame(start: Start) -> None:
    scene = await start(negative())
    scene.open(bitrate_bps=150_000)
    scene.shoot()
    await scene.made(1)
    scene.open(bitrate_bps=200_000)
    scene.shoot()
    results = await scene.made(1)
    assert vp8.parse(results[0].payload).keyframe
    ids = [vp8.parse(result.payload).picture_id for result in results]
    assert set(ids) == {1}, "one numbering"


async def test_what_raises_is_left_out_and_others_go_on(start: Start) -> None:
    def broken(picture: Picture) -> Picture:
        raise RuntimeError("no luck today")

    def refusing(picture: Picture) -> Picture:
        raise UnavailableError("large_enough")

    scene = await start(Changes("broken", broken), Changes("refusing", refusing), negative())
    scene.open()
    scene.shoot()
    await scene.told("broken", "unavailable", "failed: RuntimeError")
    scene.shoot()
    await scene.told("refusing", "unavailable", "large_enough")
    scene.shoot()
    await scene.made(1)
    await scene.told("negative", "on")
    assert scene.host.counters.failed == 1


async def test_the_last_one_that_refuses_ends_it(start: Start) -> None:
    def refusing(picture: Picture) -> Picture:
        raise UnavailableError("large_enough")

    scene = await start(Changes("refusing", refusing))
    scene.open()
    scene.shoot()
    (end,) = await scene.made(1)
    assert end.payload == b""


def overload(tracks: list[deriving.DerivedTrack], since_ns: int) -> int:
    """Thirty pictures a second come, none goes, for as long as it takes to be too slow; the end."""
    for now_ns in range(since_ns, since_ns + WINDOW_NS + PATIENCE_NS, S // 2):
        for track in tracks:
            track.pace.came(now_ns, 15)
            track.pace.too_slow(now_ns)
    return since_ns + WINDOW_NS + PATIENCE_NS


async def test_a_track_that_cannot_keep_up_is_given_up_and_tried_again(start: Start) -> None:
    scene = await start(negative())
    scene.open()
    scene.shoot()
    await scene.made(1)
    track = await scene.track()
    available = scene.host._available
    now_ns = time.monotonic_ns()
    for tries in range(1, TRIES + 1):
        track.pace.reset()
        now_ns = overload([track], now_ns)
        assert track.tick(now_ns, available)
        (end,) = await scene.made(1)
        assert end.payload == b""
        assert not track.working
        await until(lambda: "" if scene.states[-1:] and scene.states[-1][1] == "unavailable" else "a status")
        assert scene.states[-1] == ("negative", "unavailable", "too_slow: 0.0 pictures/s of 30.0")
        assert not track.tick(now_ns + RETRY_NS - 1, available)
        assert not track.working
        now_ns += RETRY_NS
        track.tick(now_ns, available)
        assert track.working is (tries < TRIES)
    assert scene.host.counters.given_up == TRIES
    scene.open(on=False)
    scene.open()
    scene.shoot(keyframe=True)
    await scene.made(1)


async def test_pictures_count_as_come_while_the_thread_is_busy_with_one(start: Start) -> None:
    """Else a transform that takes two seconds for each would seem to have a camera that pauses."""
    gate = Gate()
    scene = await start(Changes("gate", gate))
    scene.open()
    scene.shoot()
    await until(lambda: "" if gate.waiting.is_set() else "the first picture in the transform")
    track = await scene.track()
    for _ in range(5):
        scene.shoot()

    def missing() -> str:
        came, _ = track.pace.rates(time.monotonic_ns())
        return "" if came else "pictures"

    await until(missing)
    gate.leave.release(2)
    await scene.made(2)


async def test_what_cannot_run_any_more_is_not_offered_to_the_worker(start: Start) -> None:
    transform = negative()
    scene = await start(transform)
    scene.open()
    scene.shoot()
    await scene.made(1)
    transform.reason = "its model is gone"
    await scene.wants(Hello(role="video", pid=scene.hello.pid, processors=()))
    (end,) = await scene.made(1)
    assert end.payload == b""
    (info,) = (await scene.channel.request("processors"))["processors"]
    assert (info["available"], info["reason"]) == (False, "its model is gone")


async def test_other_codecs_and_too_many_tracks_are_told(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = await start(negative())
    scene.open(codec="h264")
    await scene.told("negative", "unavailable", "codec")
    monkeypatch.setattr("media_processors.video_host.MAX_TRACKS", 1)
    scene.open(handle=2)
    scene.open(handle=3)
    await scene.told("negative", "unavailable", "too_many")
    scene.link.send(CloseTrack(2))
    scene.open(handle=4)
    await until(lambda: "" if [key[1] for key in scene.host._tracks] == [3] else "another track in its place")


async def test_a_picture_is_never_larger_than_what_a_track_may_cost(start: Start) -> None:
    scene = await start(negative())
    scene.film = Film(Camera(width=1280, height=720, rate_hz=10), seq=1)
    scene.open()
    scene.shoot()
    results = await scene.made(1)
    described = vp8.parse(results[0].payload)
    assert (described.width, described.height) == (640, 360)


async def test_a_worker_that_comes_back_is_found_again(start: Start) -> None:
    scene = await start(negative())
    scene.open()
    scene.link.send(CloseTrack(1))
    scene.link.close()
    await scene.accept()
    assert scene.hello.role == "video"
    scene.open()
    scene.film = Film(Camera(rate_hz=10), seq=1)
    scene.shoot()
    await scene.made(1)


async def test_where_there_is_no_time_for_all_the_newest_is_given_up_and_the_others_judged_anew(start: Start) -> None:
    scene = await start(negative())
    for handle in (1, 2, 3):
        scene.open(handle=handle)
    await until(lambda: "" if len(scene.host._tracks) == 3 else "three tracks")
    tracks = list(scene.host._tracks.values())
    now_ns = time.monotonic_ns()
    for working in ([True, True, False], [True, False, False]):
        now_ns = overload(tracks, now_ns)
        for _ in range(2):
            scene.host._tick_tracks(now_ns)
            assert [track.working for track in tracks] == working
