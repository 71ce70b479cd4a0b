"""Small pictures through a tiny Swin2SR and back, in the real engine and the real video host."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from media_processors import registry, video_host
from media_processors.settings import ProcessingSettings
from media_processors.video import enhancement
from media_processors.video.enhancement import VideoEnhancement
from media_processors.video_host import VideoHost
from models import catalog
from models.engine import SOCKET_NAME, Engine
from models.settings import ModelSettings
from models.store import Store
from sfu.rtp import vp8
from sfu.tap import Hello
from tests.fakes.camera import Camera, Film
from tests.unit.processors_video.host_scene import Scene
from tests.unit.processors_video.transforms import Changes
from tests.until import until

torch = pytest.importorskip("torch", reason="the extras speech and vision are not installed (make models)")
pytest.importorskip("transformers", reason="the extras speech and vision are not installed (make models)")

from tests import tiny_models  # noqa: E402  # only with torch

pytestmark = [pytest.mark.weights, pytest.mark.timeout(200)]
MODEL = "swin2sr-classical-x2"
NAME = "video_enhancement"


class Room(Scene):
    """The scene with the real transform and an engine that has the model."""

    async def start(self) -> None:
        root = self.run_dir / "store"
        root.mkdir()
        store = Store(root, allow_random=True)
        tiny_models.install(root, catalog.load().get(MODEL))
        self.engine = Engine(self.run_dir / SOCKET_NAME, ModelSettings(models_dir=root), catalog.load(), store)
        await self.engine.start()
        await super().start()

    def new_host(self) -> VideoHost:
        transform = VideoEnhancement()
        loaded = {NAME: registry.Loaded(transform.info(), transform)}
        store = Store(self.run_dir / "store", allow_random=True)
        return VideoHost(ProcessingSettings(), store, self.run_dir, 1, loaded)

    async def stop(self) -> None:
        await super().stop()
        await self.engine.close()

    def reason(self) -> str:
        return self.host.infos()[0].reason

    async def tried(self) -> str:
        """The outcome of the trial."""
        unknown = (enhancement.TRYING, "the model engine is restarting; findings pause")
        await until(lambda: "" if self.reason() not in unknown else "the end of the trial", 120)
        return self.reason()


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    room = Room(tmp_path, Changes(NAME, lambda picture: picture))
    yield room
    await room.stop()


async def test_a_machine_that_is_fast_enough_sends_pictures_twice_as_large(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enhancement, "BUDGET_MS", 60_000.0)
    monkeypatch.setattr(enhancement, "TRIAL_SIZE", (36, 64))
    monkeypatch.setattr(video_host, "TICK_S", 0.05)
    monkeypatch.setattr(enhancement, "DEADLINE_MS", 20_000.0)
    await room.start()
    assert await room.tried() == ""
    await room.wants(Hello(role="video", pid=os.getpid(), processors=(NAME,)))
    room.film = Film(Camera(width=160, height=90, rate_hz=10), seq=1)
    room.open()
    room.shoot()
    results = await room.made(1)
    described = vp8.parse(results[0].payload)
    assert (described.width, described.height) == (320, 180)
    await room.told(NAME, "on")


async def test_a_machine_that_is_not_is_refused_with_the_figure(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enhancement, "BUDGET_MS", 0.001)
    await room.start()
    assert "ms for a picture of 320x180" in await room.tried()
    (info,) = room.host.infos()
    assert not info.available
    assert info.model.startswith(MODEL)
