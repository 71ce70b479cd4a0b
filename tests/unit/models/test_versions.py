"""Two versions of a real network with random weights, in a real store and engine: shared out, the bad one taken back."""

import math
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from models.client import InferenceClient
from models.engine import SOCKET_NAME, Engine
from models.errors import UnavailableError
from models.questions import Scores, Text
from models.settings import ModelSettings
from models.store import LockedModel, Store, sha256_of
from models.traffic import Limits, Route, RoutesFile
from tests.until import until

torch = pytest.importorskip("torch", reason="the extras speech and vision are not installed (make models)")
pytest.importorskip("transformers", reason="the extras speech and vision are not installed (make models)")

from safetensors.torch import load_file, save_file  # noqa: E402  # only with torch

from tests import tiny_models  # noqa: E402  # only with torch

pytestmark = pytest.mark.weights
NAME = "emotion-english-distilroberta-base"
ROW = tiny_models.row(NAME)
OLD, NEW = tiny_models.COMMIT[:8], "b" * 8
LIMITS = Limits(min_answers=30, min_units=30)
Change = Callable[[dict[str, Any]], None]


def nothing(tensors: dict[str, Any]) -> None:
    """Another version that is as good: the same network."""


def answers_no_number(tensors: dict[str, Any]) -> None:
    tensors["roberta.embeddings.LayerNorm.weight"][:] = 3e38


def always_says_the_last(tensors: dict[str, Any]) -> None:
    """Of any text; the other says the first of any, as random networks do."""
    tensors["classifier.out_proj.bias"][-1] = 100.0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store", allow_random=True)
    tiny_models.install(store.root, ROW)
    return store


def changed(folder: Path, change: Change) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def pull_second(store: Store, change: Change) -> None:
    """The first version with a change, as one that was pulled after it."""
    locked = store.lock().models[NAME]
    folder = store.root / locked.folder
    second = folder.with_name("b" * 40)
    second.mkdir()
    for path in folder.iterdir():
        (second / path.name).write_bytes(path.read_bytes())
    changed(second, change)
    files = {path.name: sha256_of(path) for path in second.iterdir()}
    store.put(NAME, LockedModel(repository=locked.repository, commit=second.name, files=files, random=True), keep=1)


@asynccontextmanager
async def asking(store: Store) -> AsyncIterator[InferenceClient]:
    """One life of the engine."""
    socket = store.root.parent / SOCKET_NAME
    engine = Engine(socket, ModelSettings(models_dir=store.root), store=store)
    await engine.start()
    client = InferenceClient(socket)
    client.start()
    await until(lambda: "" if client.connected else "the engine")
    try:
        yield client
    finally:
        await client.close()
        await engine.close()


async def versions(client: InferenceClient, count: int) -> list[str]:
    """Which version answers about each of so many tracks."""
    told = []
    for number in range(count):
        text = Text(f"What a pleasant surprise {number * 7919}!", "en")
        asked = client.ask(NAME, text, Scores, room_id="room", track_id=f"track-{number}", deadline_ms=60_000)
        told.append((await asked).model.partition("@")[2])
    return told


def split(new: float) -> Route:
    return Route(arms={OLD: 1 - new, NEW: new}, stable=OLD, limits=LIMITS)


async def test_four_hundred_tracks_at_eighty_to_twenty(store: Store) -> None:
    pull_second(store, nothing)
    async with asking(store) as client:
        await client.route(NAME, split(0.2))
        answered = await versions(client, 400)
        assert abs(Counter(answered)[NEW] - 80) < 4 * math.sqrt(400 * 0.2 * 0.8)
        assert set(answered) == {OLD, NEW}
    async with asking(store) as client:
        assert await versions(client, 100) == answered[:100]


async def test_a_biased_version_is_taken_back(store: Store) -> None:
    pull_second(store, always_says_the_last)
    async with asking(store) as client:
        await client.route(NAME, split(0.5))
        answered = await versions(client, 200)
        assert set(answered[:100]) == {OLD, NEW}
        assert set(answered[100:]) == {OLD}
        assert (await client.stats())[NAME]["traffic"]["rollbacks"] == {"drift": 1}
        await until(lambda: "" if RoutesFile(store.root).read()[NAME].rolled_back else "the file to say so")


async def test_a_version_that_answers_no_numbers_is_not_let_in(store: Store) -> None:
    pull_second(store, answers_no_number)
    async with asking(store) as client:
        with pytest.raises(UnavailableError):
            await client.route(NAME, split(0.5))
        assert RoutesFile(store.root).read() == {}


async def test_fp32_against_int8_of_one_version(store: Store) -> None:
    exact, fast = f"{OLD}+fp32", f"{OLD}+int8"
    async with asking(store) as client:
        await client.route(NAME, Route(arms={exact: 0.5, fast: 0.5}, stable=exact, limits=LIMITS))
        assert set(await versions(client, 60)) == {exact, fast}
