"""The small models through the whole way: mirror, store, lock, engine, socket, client."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from models import shelf as shelf_module
from models.client import InferenceClient
from models.engine import SOCKET_NAME, Engine
from models.errors import FailedError, LoadingError, UnavailableError
from models.questions import Faces, Picture, Scores, Sound
from models.settings import ModelSettings
from tests.unit.models.faces import astronaut
from tests.unit.models.test_models_cli import MIRROR, models, needs_mirror
from tests.unit.models.test_networks import MEDIA, WINDOW, recorded
from tests.until import until

pytestmark = [pytest.mark.weights, needs_mirror]
ROOM = {"room_id": "room", "deadline_ms": 30_000}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("store")
    assert models(root, "pull", "--mirror", str(MIRROR)) == 0
    return root


@pytest.fixture
async def engine(weights: Path, tmp_path: Path) -> AsyncIterator[Engine]:
    engine = Engine(tmp_path / SOCKET_NAME, ModelSettings(models_dir=weights, memory_budget_gb=1.2))
    await engine.start()
    yield engine
    await engine.close()


@pytest.fixture
async def client(engine: Engine, tmp_path: Path) -> AsyncIterator[InferenceClient]:
    client = InferenceClient(tmp_path / SOCKET_NAME)
    client.start()
    await until(lambda: "" if client.connected else "the engine")
    yield client
    await client.close()


def spoken(name: str, window: int = 0) -> Sound:
    samples = recorded(name)[window * WINDOW : (window + 1) * WINDOW]
    return Sound((samples * 32_768).astype(np.int16))


def picture(name: str) -> Picture:
    return Picture(np.asarray(cv2.cvtColor(cv2.imread(str(MEDIA / name)), cv2.COLOR_BGR2RGB), np.uint8))


async def test_a_voice_is_judged_the_same_however_loud_it_is(client: InferenceClient) -> None:
    loud = spoken("jfk.wav", 0).pcm
    scores = []
    for level in (1.0, 0.3, 0.1):
        answered = await client.ask("aasist", Sound((loud * level).astype(np.int16)), Scores, **ROOM)
        assert answered.model == "aasist@a04c9863"
        scores.append(answered.answer["bonafide"] - answered.answer["spoof"])
    assert scores == pytest.approx([scores[0]] * 3, abs=0.3)


def test_a_click_beside_a_quiet_voice_leaves_its_level_alone(tmp_path: Path) -> None:
    from models.runners.networks import aasist  # both only with torch
    from models.runners.small import AasistRunner

    runner = AasistRunner(tmp_path, aasist.LABELS)
    quiet = (spoken("jfk.wav", 0).pcm * 0.05).astype(np.int16)
    clicked = quiet.copy()
    clicked[20_000:20_008] = [30_000, -30_000] * 4
    plain, click = runner.prepare(Sound(quiet)), runner.prepare(Sound(clicked))
    assert np.abs(click).max() == 1
    assert np.delete(click, range(20_000, 20_008)) == pytest.approx(np.delete(plain, range(20_000, 20_008)), rel=0.05)


async def test_silence_has_no_level(client: InferenceClient) -> None:
    answered = await client.ask("aasist", Sound(np.zeros(WINDOW, np.int16)), Scores, **ROOM)
    assert np.isfinite(answered.answer.values).all()


async def test_a_face_is_found_and_judged(client: InferenceClient) -> None:
    faces = (await client.ask("yunet", Picture(astronaut()), Faces, **ROOM)).answer
    [face] = faces.boxes
    left, top = int(face.x), int(face.y)
    crop = Picture(astronaut()[top : top + int(face.height), left : left + int(face.width)])
    expression = (await client.ask("mini-xception", crop, Scores, **ROOM)).answer
    assert expression["happy"] > 0.9
    assert sum(expression.values) == pytest.approx(1, abs=1e-4)
    real = [crop, picture("face_real.jpg")]
    answers = [
        await client.ask("meso-inception-4", face, Scores, **ROOM) for face in (*real, picture("face_deepfake.jpg"))
    ]
    genuine, known, swapped = (answered.answer["real"] for answered in answers)
    assert min(genuine, known) > 0.9
    assert swapped < 0.1


async def test_questions_share_batches_and_get_their_own_answers(client: InferenceClient) -> None:
    await client.load("meso-inception-4")
    pictures = [picture("face_deepfake.jpg"), picture("face_real.jpg")] * 4
    answers = await asyncio.gather(*(client.ask("meso-inception-4", face, Scores, **ROOM) for face in pictures))
    assert [answered.answer["real"] > 0.5 for answered in answers] == [False, True] * 4
    stats = (await client.stats())["meso-inception-4"]
    assert stats["answered"] == 8
    assert stats["batches"] < 8


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        (Sound(np.zeros(1000, np.int16)), "1000 samples"),
        (Picture(np.zeros((64, 64, 3), np.uint8)), "takes no picture"),
    ],
)
async def test_a_question_of_another_shape_is_refused_by_name(
    client: InferenceClient, question: Sound | Picture, reason: str
) -> None:
    with pytest.raises(FailedError, match=reason):
        await client.ask("aasist", question, Scores, **ROOM)


async def test_a_picture_that_is_too_large_is_not_sent(client: InferenceClient) -> None:
    with pytest.raises(ValueError, match="1280 x 720"):
        await client.ask("yunet", Picture(np.zeros((720, 1280, 3), np.uint8)), Faces, **ROOM)


async def test_an_answer_of_another_kind_than_wanted_is_a_failure(client: InferenceClient) -> None:
    with pytest.raises(FailedError, match="answered Faces, not Scores"):
        await client.ask("yunet", Picture(astronaut()), Scores, **ROOM)


async def test_a_model_is_exchanged_while_calls_run(engine: Engine, client: InferenceClient) -> None:
    await client.load("aasist")
    old = engine.shelf.loaded()["aasist"]
    running = [asyncio.create_task(client.ask("aasist", spoken("jfk.wav"), Scores, **ROOM)) for _ in range(3)]
    await until(lambda: "" if not old.idle else "the calls to begin")
    assert await client.reload("aasist") == old.version
    fresh = engine.shelf.loaded()["aasist"]
    assert fresh is not old
    assert len({answered.answer.values for answered in await asyncio.gather(*running)}) == 1
    await until(lambda: "" if old.state == "closed" else "the old model to go")
    assert old.batcher.stats.answered == 3
    assert await client.ask("aasist", spoken("jfk.wav"), Scores, **ROOM) == running[0].result()


async def test_beyond_the_budget_the_model_unused_for_longest_goes(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(tmp_path / SOCKET_NAME, ModelSettings(models_dir=weights, memory_budget_gb=0.003))
    # What a process has in memory depends on what ran in it before.
    monkeypatch.setattr(shelf_module, "resident_bytes", lambda: 1_000_000 * len(engine.shelf.loaded()))
    await engine.start()
    for name in ("mini-xception", "meso-inception-4", "aasist"):
        await engine.shelf.get(name)
    assert list(engine.shelf.loaded()) == ["meso-inception-4", "aasist"]
    await engine.close()


async def test_a_budget_that_nothing_could_meet_unloads_nothing(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(tmp_path / SOCKET_NAME, ModelSettings(models_dir=weights, memory_budget_gb=0.003))
    monkeypatch.setattr(shelf_module, "resident_bytes", lambda: 1_000_000_000)
    await engine.start()
    for name in ("mini-xception", "aasist"):
        await engine.shelf.get(name)
    assert list(engine.shelf.loaded()) == ["mini-xception", "aasist"]
    await engine.close()


async def test_a_model_goes_on_loading_when_nobody_waits_any_more(
    client: InferenceClient, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, hold = shelf_module.create_runner, threading.Event()

    def slow(*arguments: Any) -> Any:
        hold.wait()
        return real(*arguments)

    monkeypatch.setattr(shelf_module, "create_runner", slow)
    with pytest.raises(LoadingError):
        await client.ask("yunet", Picture(astronaut()), Faces, room_id="room", deadline_ms=50)
    hold.set()
    await until(lambda: "" if "yunet" in engine.shelf.loaded() else "the model")


async def test_models_are_loaded_before_they_are_asked_for_if_wanted(weights: Path, tmp_path: Path) -> None:
    settings = ModelSettings(models_dir=weights, preload=["nothing", "mini-xception"])
    engine = Engine(tmp_path / SOCKET_NAME, settings)
    await engine.start()
    await until(lambda: "" if "mini-xception" in engine.shelf.loaded() else "the preloaded model")
    await engine.close()


async def test_swapped_weights_are_refused_with_both_hashes(weights: Path, tmp_path: Path) -> None:
    root = tmp_path / "store"
    assert models(root, "pull", "--mirror", str(MIRROR), "aasist", "meso-inception-4") == 0
    voice, face = next(root.rglob("AASIST.pth")), next(root.rglob("*.h5"))
    voice.write_bytes(face.read_bytes())
    engine = Engine(tmp_path / SOCKET_NAME, ModelSettings(models_dir=root))
    await engine.start()
    with pytest.raises(UnavailableError, match=r"has sha256 234586d4.*the lock says 51d2d9cf"):
        await engine.shelf.get("aasist")
    await engine.close()
