"""The watch host's second tap: a camera over a real socket to an observer made for the test."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Literal

import pytest

from media_processors import observing, registry
from media_processors.settings import ProcessingSettings
from media_processors.video.watching import PICTURE_INTERVAL_MS
from media_processors.watch_host import SOCKET_NAME, WatchHost
from models.store import Store
from sfu.channel import connect
from sfu.tap import CloseTrack, Hello, OpenTrack, SelectLayer, TapFrame, TapSocket, WantKeyframe, listen
from tests.fakes.camera import Camera, Film
from tests.integration.sight import NAME, Sight, SightStream
from tests.until import until


class Scene:
    """The host, a worker's ends of its two taps, and a channel as signaling has one."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.observer = Sight()
        self.listener = listen(run_dir / "worker-0.tap")
        self.taps: dict[str, TapSocket] = {}
        self.hellos: dict[str, Hello] = {}
        self.texts: list[str] = []
        self.times_ms: list[int] = []
        self.states: list[tuple[str, str]] = []

    async def start(self) -> None:
        loaded = {NAME: registry.Loaded(self.observer.info(), self.observer)}
        self.host = WatchHost(ProcessingSettings(), Store(self.run_dir), self.run_dir, 1, loaded)
        await self.host.start()
        await self.accept()
        self.channel = await connect(self.run_dir / SOCKET_NAME)
        self.channel.on_notify = self._notified
        self.channel.start()

    async def accept(self) -> None:
        """Wait for both connections of the host."""
        waiting: list[TapSocket] = []
        self.taps.clear()

        def missing() -> str:
            with contextlib.suppress(BlockingIOError):
                waiting.append(TapSocket(self.listener.accept()[0]))
            for link in waiting:
                for hello in link.receive() or []:
                    assert isinstance(hello, Hello)
                    self.taps[hello.role] = link
                    self.hellos[hello.role] = hello
            return "" if len(self.taps) == 2 else "two connections of the host"

        await until(missing)

    async def stop(self) -> None:
        await self.channel.close()
        await self.host.close()
        for link in self.taps.values():
            link.close()
        self.listener.close()

    def _notified(self, event: str, params: dict[str, object]) -> None:
        if event == "finding":
            self.texts.append(str(params["text"]))
            self.times_ms.append(int(str(params["start_ms"])))
        else:
            self.states.append((str(params["state"]), str(params["reason"])))

    def open(self, on: bool = True, epoch: int = 0, codec: Literal["vp8", "h264", "vp9"] = "vp8") -> None:
        opened = OpenTrack(
            handle=1,
            track_id="track",
            room_id="room",
            participant_id="participant",
            kind="video",
            source="camera",
            codec=codec,
            clock_hz=90_000,
            processors={NAME: on},
            epoch=epoch,
        )
        self.send([opened])

    def send(self, frames: Sequence[TapFrame]) -> None:
        for frame in frames:
            self.taps["watch_video"].queue(frame)
        self.taps["watch_video"].flush()

    def asked(self) -> list[TapFrame]:
        """What the host has asked for since the last call."""
        return self.taps["watch_video"].receive() or []

    async def seen(self, count: int) -> None:
        await until(lambda: "" if len(self.texts) >= count else f"{count - len(self.texts)} pictures")


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    scene = Scene(tmp_path)
    await scene.start()
    yield scene
    await scene.stop()


async def test_a_camera_is_seen_over_a_tap_of_its_own(scene: Scene) -> None:
    assert scene.hellos["watch_video"].processors == (NAME,)
    assert scene.hellos["watch"].processors == ()
    scene.open()
    film = Film(Camera(rate_hz=10))
    for _ in range(11):
        scene.send(film.frame())
    await scene.seen(3)
    assert (scene.texts, scene.times_ms) == (["320x180"] * 3, [0, PICTURE_INTERVAL_MS, 2 * PICTURE_INTERVAL_MS])
    assert scene.states == [("on", "")]
    stats = await scene.channel.request("stats")
    assert (stats["seeing"]["frames"], stats["seeing"]["pictures"]) == (11, 3)


async def test_a_codec_that_cannot_be_decoded_says_so(scene: Scene) -> None:
    scene.open(codec="vp9")
    await until(lambda: "" if scene.states == [("unavailable", "codec: vp9")] else "the status")


async def test_the_worker_is_told_what_can_run_now(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    info = scene.observer.info()
    away = info.model_copy(update={"available": False, "reason": "no model"})
    for shown, names in ((away, ()), (info, (NAME,))):
        monkeypatch.setattr(scene.observer, "info", lambda shown=shown: shown)
        hellos: list[TapFrame] = []
        await until(lambda hellos=hellos: hellos.extend(scene.asked()) or ("" if hellos else "a greeting"))
        assert [(hello.role, hello.processors) for hello in hellos if isinstance(hello, Hello)] == [
            ("watch_video", names)
        ]


async def test_what_is_lost_on_the_tap_is_made_good_by_a_key_frame(scene: Scene) -> None:
    scene.open()
    film = Film(Camera(rate_hz=2))
    scene.send(film.frame())
    await scene.seen(1)
    film.frame()  # the socket was full
    scene.send(film.frame())
    scene.send(film.frame())
    wishes: list[TapFrame] = []
    await until(lambda: wishes.extend(scene.asked()) or ("" if wishes else "a wish for a key frame"))
    assert wishes == [WantKeyframe(1)]
    assert len(scene.texts) == 1
    scene.send(film.frame(keyframe=True))
    scene.send(film.frame())
    await scene.seen(3)


async def test_an_epoch_ends_pictures_at_once_and_the_next_begins_with_a_key_frame(scene: Scene) -> None:
    scene.open(epoch=1)
    old = Film(Camera(rate_hz=2), epoch=1)
    scene.send(old.frame())
    await scene.seen(1)
    scene.open(epoch=2)
    scene.send(old.frame())
    new = Film(old.camera, epoch=2)
    scene.send(new.frame())
    scene.send(new.frame(keyframe=True))
    await scene.seen(2)
    assert scene.host.counters.stale == 1
    assert scene.times_ms == [0, 1500]
    scene.open(on=False, epoch=3)
    scene.send(Film(old.camera, epoch=3).frame(keyframe=True))
    await until(lambda: "" if scene.host.counters.unwanted else "the packet that nobody wants")
    assert len(scene.texts) == 2


async def test_the_widest_wish_goes_to_the_worker(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observing, "CHOOSE_S", 0.0)
    monkeypatch.setenv("SIGHT_WANTS_PX", "500")
    scene.open()
    wishes: list[TapFrame] = []
    await until(lambda: wishes.extend(scene.asked()) or ("" if wishes else "a wish for a layer"))
    assert wishes[0] == SelectLayer(1, 500)


@pytest.mark.parametrize("wish", ["wide", -1, 1 << 20, None])
async def test_a_wish_that_is_none_counts_as_none(scene: Scene, monkeypatch: pytest.MonkeyPatch, wish: object) -> None:
    monkeypatch.setattr(observing, "CHOOSE_S", 0.0)
    monkeypatch.setattr(
        SightStream, "wanted_width_px", property(lambda self: wish, lambda self, value: None), raising=False
    )
    scene.open()
    wishes: list[TapFrame] = []
    await until(lambda: wishes.extend(scene.asked()) or ("" if wishes else "a wish for a layer"))
    assert wishes[0] == SelectLayer(1, 0)


async def test_a_wish_that_raises_ends_its_observer_only(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observing, "CHOOSE_S", 0.0)

    def broken(stream: SightStream) -> int:
        raise RuntimeError("a bug")

    monkeypatch.setattr(SightStream, "wanted_width_px", property(broken, lambda self, value: None), raising=False)
    scene.open()
    await until(lambda: "" if ("unavailable", "it failed: RuntimeError") in scene.states else "the status")
    await scene.channel.request("stats")


async def test_a_worker_that_comes_back_is_seen_again(scene: Scene) -> None:
    scene.open()
    scene.send(Film(Camera()).frame())
    await scene.seen(1)
    for link in scene.taps.values():
        link.close()
    await scene.accept()
    assert scene.host._tracks == {}
    scene.open()
    scene.send(Film(Camera()).frame())
    await scene.seen(2)


async def test_what_waits_of_a_camera_that_ends_is_not_looked_at(scene: Scene) -> None:
    scene.open()
    await until(lambda: "" if scene.host._tracks else "the track")
    scene.send([*Film(Camera()).frame(), CloseTrack(1)])
    await until(lambda: "the track's end" if scene.host._tracks else "")
    assert (scene.host.counters.seeing.packets, scene.host.counters.unwanted) == (0, 0)


async def test_a_camera_that_ends_says_nothing_more(scene: Scene) -> None:
    scene.open()
    film = Film(Camera(rate_hz=2))
    scene.send(film.frame())
    await scene.seen(1)
    scene.send([CloseTrack(1)])
    scene.send(film.frame())
    await until(lambda: "" if scene.host.counters.unwanted else "the packet after the end")
    assert len(scene.texts) == 1
