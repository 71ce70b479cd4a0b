"""The enhancement of small pictures: tried before it is offered. The engine is one that answers as slowly as a test says."""

import asyncio
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from media_processors import asking
from media_processors.base import HostServices, VideoTransform
from media_processors.errors import UnavailableError
from media_processors.frames import TrackRef
from media_processors.settings import ProcessingSettings
from media_processors.video import enhancement
from media_processors.video.enhancement import VideoEnhancement
from models import catalog
from models.choosing import Chosen
from models.client import Answered, InferenceClient
from models.errors import DeadlineError, InferenceError
from models.errors import UnavailableError as ModelUnavailableError
from models.questions import Picture
from models.store import Missing, Store
from tests.unit.processors_video.pictures import painted

TRACK = TrackRef("room", "ada", "track", "video", "camera", 0)
ENTRY = catalog.load().get("swin2sr-classical-x2")


class Engine:
    """Answers with the picture twice as large, after so many seconds per million pixels."""

    connected = True

    def __init__(self, seconds: float = 0.0, fails: InferenceError | None = None) -> None:
        self.seconds = seconds
        self.fails = fails
        self.asked: list[tuple[int, int]] = []
        self.now_s = 0.0

    async def load(self, model: str) -> None:
        assert model == ENTRY.name

    async def ask(self, model: str, question: Picture, wanted: type[Picture], **_: Any) -> Answered[Picture]:
        height, width = question.rgb.shape[:2]
        self.asked.append((width, height))
        self.now_s += self.seconds * width * height / 1e6
        if self.fails is not None:
            raise self.fails
        return Answered(Picture(question.rgb.repeat(2, 0).repeat(2, 1)), f"{model}@1")


async def tried(engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> VideoEnhancement:
    """One that has finished its trial. Time passes as the engine says."""
    monkeypatch.setattr(enhancement.time, "monotonic", lambda: engine.now_s)
    monkeypatch.setattr(asking, "choose", lambda task, store: Chosen(ENTRY, f"{ENTRY.name}@1"))
    transform = VideoEnhancement()
    assert isinstance(transform, VideoTransform)
    services = HostServices(cast(InferenceClient, engine), Store(tmp_path), ProcessingSettings())
    transform.attach(services)
    assert transform.info().reason == enhancement.TRYING
    assert transform._trial is not None
    await asyncio.wait_for(transform._trial, 10)
    monkeypatch.undo()
    return transform


async def test_a_machine_that_is_fast_enough_is_offered_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    engine = Engine(seconds=1.5)  # 86 ms
    transform = await tried(engine, monkeypatch, tmp_path)
    info = transform.info()
    assert (info.available, info.reason, info.model, info.default_on) == (True, "", f"{ENTRY.name}@1", False)
    assert engine.asked == [(64, 64)] * 2 + [(320, 180)] * 3
    stream = transform.open(TRACK)
    larger = await asyncio.to_thread(stream.process, painted(1), 0)
    assert larger is not None
    assert larger.shape == (360, 640, 3)
    engine.connected = False
    assert not transform.info().available


@pytest.mark.parametrize(
    ("seconds", "figure", "asked"),
    [(2.0, "115 ms for a picture of 320x180 (measured)", 5), (500.0, "28800 ms for a picture of 320x180 (by 2048", 2)],
)
async def test_one_that_is_not_says_by_how_much(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seconds: float, figure: str, asked: int
) -> None:
    engine = Engine(seconds)
    info = (await tried(engine, monkeypatch, tmp_path)).info()
    assert not info.available
    assert figure in info.reason
    assert "GPU" in info.reason
    assert len(engine.asked) == asked


async def test_an_engine_that_refuses_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    transform = await tried(Engine(fails=DeadlineError("30 s were over")), monkeypatch, tmp_path)
    assert (transform.info().available, transform.info().reason) == (False, "30 s were over")


async def test_without_the_model_the_command_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(asking, "choose", lambda task, store: Missing("not pulled", f"candor models pull {ENTRY.name}"))
    transform = VideoEnhancement()
    transform.attach(HostServices(cast(InferenceClient, Engine()), Store(tmp_path), ProcessingSettings()))
    info = transform.info()
    assert (info.available, info.reason) == (False, "not pulled")
    assert info.command == f"candor models pull {ENTRY.name}"


async def test_large_pictures_are_not_enlarged_and_late_ones_are_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    engine = Engine()
    stream = (await tried(engine, monkeypatch, tmp_path)).open(TRACK)
    for width, height in ((322, 180), (320, 568)):
        with pytest.raises(UnavailableError, match="large_enough"):
            stream.process(painted(1, width, height), 0)
    engine.fails = DeadlineError("late")
    assert await asyncio.to_thread(stream.process, painted(1), 0) is None
    engine.fails = ModelUnavailableError("its files are gone")
    with pytest.raises(UnavailableError, match="its files are gone"):
        await asyncio.to_thread(stream.process, painted(1), 0)


async def test_an_engine_that_hangs_costs_a_picture_and_no_thread(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    engine = Engine()
    transform = await tried(engine, monkeypatch, tmp_path)
    monkeypatch.setattr(enhancement, "DEADLINE_MS", 10)
    hung = asyncio.Event()

    async def hang(*_: Any, **__: Any) -> Any:
        hung.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(engine, "ask", hang)
    assert await asyncio.to_thread(transform.open(TRACK).process, np.zeros((180, 320, 3), np.uint8), 0) is None
    assert hung.is_set()
