"""Two versions of a model at work in an engine, asked over its socket: shares, rollback, shadow, and what a restart keeps."""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from models import shelf as shelf_module
from models.catalog import Catalog, ModelEntry
from models.client import InferenceClient
from models.engine import SOCKET_NAME, Engine
from models.errors import FailedError, InferenceError, LoadingError, RefusedError, UnavailableError
from models.questions import Scores, Text
from models.settings import ModelSettings
from models.store import Located, Store
from models.traffic import FILE_NAME, Limits, Route, RoutesFile
from tests.unit.models.test_catalog_and_store import COMMIT, entry_of, filled
from tests.unit.models.test_traffic import put
from tests.until import until

OLD, NEW = COMMIT[:8], "bbbbbbbb"
ENTRY = entry_of(task="text_emotion", runner="text_classification")
NAME = ENTRY.name
LIMITS = Limits(min_answers=20, min_units=20)


def alike(text: str) -> tuple[float, float]:
    """What both versions say, unless a test has other wishes."""
    return (0.9, 0.1) if len(text) % 2 else (0.1, 0.9)


class Runner:
    """Says of every text what it is told to."""

    takes = Text
    max_batch = 4
    max_wait_ms = 0.0
    isolated = True
    concurrency = 1

    def __init__(self, says: Callable[[str], tuple[float, float]] = alike) -> None:
        self.says = says
        self.broken = ""
        self.held = asyncio.Event()
        self.held.set()
        self.loading = asyncio.Event()
        self.loading.set()
        self.asked = 0
        self.closed = False

    async def start(self) -> None:
        await self.loading.wait()
        if self.broken:
            raise UnavailableError(self.broken)

    def check(self, question: Text) -> None:
        """Nothing to check."""

    async def run(self, batch: Sequence[Text]) -> list[Scores]:
        self.asked += len(batch)
        await self.held.wait()
        answers = [self.says(question.text) for question in batch]
        if not all(math.isfinite(value) for answer in answers for value in answer):
            raise FailedError("the model's answer is not a number")
        return [Scores(("joy", "anger"), answer) for answer in answers]

    async def close(self) -> None:
        self.closed = True


class Scene:
    """An engine, a client, and what runs each version."""

    def __init__(self, folder: Path) -> None:
        self.store = filled(folder / "store", ENTRY)
        assert put(self.store, "b") == NEW
        self.runners = {OLD: Runner(), NEW: Runner()}
        self.made: list[tuple[str, Any]] = []
        self.socket = folder / SOCKET_NAME
        self.engine: Engine
        self.client: InferenceClient

    def create(
        self, entry: ModelEntry, store: Store, _: ModelSettings, tuned: Any = None, version: str | None = None
    ) -> tuple[Runner, str]:
        located = store.locate(entry, version)
        assert isinstance(located, Located)
        self.made.append((located.version, tuned))
        return self.runners[located.version], located.version

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Scene"]:
        """One life of the engine."""
        settings = ModelSettings(models_dir=self.store.root)
        self.engine = Engine(self.socket, settings, Catalog(model=[ENTRY]), self.store)
        await self.engine.start()
        self.client = InferenceClient(self.socket)
        self.client.start()
        await until(lambda: "" if self.client.connected else "the engine")
        try:
            yield self
        finally:
            await self.client.close()
            await self.engine.close()

    async def ask(self, track_id: str, room_id: str = "room") -> str:
        """Which version answers."""
        text = Text(track_id or "x", "en")
        told = await self.client.ask(NAME, text, Scores, room_id=room_id, track_id=track_id, deadline_ms=5_000)
        return told.model.rpartition("@")[2]

    async def ask_all(self, count: int, first: int = 0) -> list[str]:
        """About so many tracks, eight at a time; `failed` where there was no answer."""
        answers: list[str] = []
        for begin in range(first, first + count, 8):
            asking = [self.ask(f"track-{number}") for number in range(begin, min(begin + 8, first + count))]
            told = await asyncio.gather(*asking, return_exceptions=True)
            answers += ["failed" if isinstance(answer, InferenceError) else str(answer) for answer in told]
        return answers

    async def traffic(self) -> dict[str, Any]:
        """What the engine tells of the arms, by arm."""
        told = (await self.client.stats())[NAME]["traffic"]
        return {arm["arm"]: arm for arm in told["arms"]} | {"rollbacks": told["rollbacks"]}


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    scene = Scene(tmp_path)
    monkeypatch.setattr(shelf_module, "create_runner", scene.create)
    return scene


def split(new: float, **more: Any) -> Route:
    return Route(arms={OLD: 1 - new, NEW: new}, stable=OLD, limits=LIMITS, **more)


async def test_a_thousand_tracks_are_shared_by_weight_and_stay_after_a_restart(scene: Scene) -> None:
    async with scene.running():
        assert await scene.client.route(NAME, split(0.2)) is True
        answered = await scene.ask_all(1_000)
        assert abs(Counter(answered)[NEW] - 200) < 4 * math.sqrt(1_000 * 0.2 * 0.8)
        assert await scene.ask_all(200) == answered[:200]
        told = await scene.traffic()
        assert (told[OLD]["answered"] + told[NEW]["answered"], told["rollbacks"]) == (1_200, {})
        assert (await scene.client.stats())[NAME]["answered"] == 1_200
        assert await scene.client.route(NAME, split(0.2)) is False
    async with scene.running():
        assert await scene.ask_all(200) == answered[:200]
        assert await scene.client.route(NAME, None) is True
        assert set(await scene.ask_all(16)) == {NEW}
        assert list(scene.engine.shelf.arms(NAME)) == [""]
    async with scene.running():
        assert set(await scene.ask_all(16)) == {NEW}


async def test_a_version_that_is_loaded_already_is_not_loaded_again(scene: Scene) -> None:
    async with scene.running():
        await scene.ask("track")
        await scene.client.route(NAME, split(0.5))
        assert [version for version, _ in scene.made] == [NEW, OLD]
        await scene.client.route(NAME, None)
        assert len(scene.made) == 2
        await until(lambda: "" if scene.runners[OLD].closed else "the other version to go")
        assert not scene.runners[NEW].closed


async def test_who_is_asked_about_without_a_track_goes_by_the_room(scene: Scene) -> None:
    async with scene.running():
        await scene.client.route(NAME, split(0.5))
        rooms = [f"room-{number}" for number in range(32)]
        answered = [await scene.ask("", room) for room in rooms]
        assert set(answered) == {OLD, NEW}
        assert [await scene.ask("", room) for room in rooms] == answered
        await scene.client.route(NAME, split(0.5, unit="room"))
        assert len({await scene.ask(f"track-{number}") for number in range(32)}) == 1


@pytest.mark.parametrize(
    ("says", "reason"),
    [(lambda _: (math.nan, 0.5), "errors"), (lambda _: (0.1, 0.9), "drift")],
    ids=["answers no numbers", "is biased"],
)
async def test_a_bad_version_is_taken_back_and_stays_back(
    scene: Scene, says: Callable[[str], tuple[float, float]], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scene.runners[OLD].says = lambda text: (0.9, 0.1) if int(text.rpartition("-")[2]) % 5 else (0.1, 0.9)
    scene.runners[NEW].says = says
    async with scene.running():
        await scene.client.route(NAME, split(0.5))
        answered = await scene.ask_all(400)
        assert NEW in answered or "failed" in answered
        assert set(answered[200:]) == {OLD}
        told = await scene.traffic()
        assert (list(told), told["rollbacks"]) == ([OLD, "rollbacks"], {reason: 1})
        assert "model_rolled_back" in capsys.readouterr().out
        page = await scene.client.request("metrics", {}, 1_000)
        assert f'ai_model_rollbacks_total{{model="{NAME}",reason="{reason}"}} 1.0' in page
        await until(lambda: "" if scene.runners[NEW].closed else "the bad version to go")
        await until(lambda: "" if RoutesFile(scene.store.root).read()[NAME].rolled_back else "the file to say so")
    kept = RoutesFile(scene.store.root).read()[NAME]
    assert kept.arms == {OLD: 1.0}
    assert kept.rolled_back is not None
    assert (kept.rolled_back.arm, kept.rolled_back.reason) == (NEW, reason)
    async with scene.running():
        assert set(await scene.ask_all(40)) == {OLD}


async def test_a_version_that_cannot_be_loaded_costs_no_answer(scene: Scene) -> None:
    async with scene.running():
        await scene.client.route(NAME, split(0.5))
    scene.runners[NEW].broken = "its files are another network's"
    async with scene.running():
        assert set(await scene.ask_all(40)) == {OLD}
        assert (await scene.traffic())["rollbacks"] == {"unavailable": 1}
    async with scene.running():  # also when it is loaded before anybody asks
        await scene.client.load(NAME)
        assert list(await scene.traffic()) == [OLD, "rollbacks"]


async def test_a_split_that_cannot_be_had_leaves_all_as_it_was(scene: Scene) -> None:
    async with scene.running():
        assert await scene.ask("track") == NEW
        scene.runners[OLD].broken = "no memory"
        with pytest.raises(UnavailableError, match="no memory"):
            await scene.client.route(NAME, split(0.5))
        with pytest.raises(UnavailableError, match="its version cccccccc is not here"):
            await scene.client.route(NAME, Route(arms={"cccccccc": 1.0}, stable="cccccccc"))
        with pytest.raises(UnavailableError, match="no model 'hal'"):
            await scene.client.route("hal", split(0.5))
        with pytest.raises(RefusedError, match="sum to 1"):
            await scene.client.request("route", {"model": NAME, "route": {"arms": {OLD: 0.5}, "stable": OLD}}, 1_000)
        scene.runners[OLD].broken = ""
        obstacle = scene.store.root / f".{FILE_NAME}"
        obstacle.mkdir()
        with pytest.raises(UnavailableError, match="cannot be written"):
            await scene.client.route(NAME, split(0.5))
        assert set(await scene.ask_all(40)) == {NEW}
        assert list(scene.engine.shelf.arms(NAME)) == [""]
        obstacle.rmdir()
        await scene.client.route(NAME, split(0.5))
        with pytest.raises(RefusedError, match="in two versions"):
            await scene.client.reload(NAME)


async def test_routes_that_cannot_be_read_are_said_and_the_newest_version_answers(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    (scene.store.root / FILE_NAME).write_text("{")
    async with scene.running():
        assert "routes_unreadable" in capsys.readouterr().out
        assert set(await scene.ask_all(16)) == {NEW}


async def test_a_shadow_is_asked_and_shown_nobody(scene: Scene) -> None:
    scene.runners[NEW].says = lambda text: (0.9, 0.1)
    async with scene.running():
        await scene.client.route(NAME, Route(arms={OLD: 1.0}, stable=OLD, shadow=NEW))
        for number in range(20):
            assert await scene.ask("x" * (number % 2 + 1)) == OLD
            count = number + 1
            await until(lambda count=count: "" if scene.runners[NEW].asked == count else "the shadow")
        told = (await scene.traffic())[NEW]
        assert (told["role"], told["weight"], told["agreed"], told["differed"]) == ("shadow", 0.0, 10, 10)
        assert (await scene.client.stats())[NAME]["answered"] == 20
        scene.runners[NEW].held.clear()
        assert set(await scene.ask_all(40)) == {OLD}
        assert (await scene.traffic())[NEW]["shed"] == 38
        scene.runners[NEW].says = lambda _: (math.nan, 0.0)
        scene.runners[NEW].held.set()
        await until_failed(scene, 2)
        assert set(await scene.ask_all(8)) == {OLD}


async def until_failed(scene: Scene, count: int) -> None:
    async def missing() -> str:
        return "" if (await scene.traffic())[NEW]["failed"] == count else f"{count} failures of the shadow"

    await until(missing)


async def test_what_is_let_go_while_it_is_loaded_does_not_stay(scene: Scene) -> None:
    async with scene.running():
        scene.runners[NEW].loading.clear()
        asking = asyncio.create_task(scene.ask("track"))
        await until(lambda: "" if scene.made else "the loading to begin")
        await scene.client.unload(NAME)
        scene.runners[NEW].loading.set()
        with pytest.raises(LoadingError, match="let go while"):
            await asking
        await until(lambda: "" if scene.runners[NEW].closed else "it to be closed")
        assert scene.engine.shelf.loaded() == {}
        assert await scene.ask("track") == NEW


async def test_a_version_that_is_let_go_while_it_is_loaded_is_not_taken_back(scene: Scene) -> None:
    async with scene.running():
        await scene.client.route(NAME, split(0.5))
        await scene.client.unload(NAME)
        scene.made.clear()
        scene.runners[NEW].loading.clear()
        tracks = [f"track-{number}" for number in range(40)]
        [track, *_] = [track for track in tracks if split(0.5).arm_of(NAME, track) == NEW]
        asking = asyncio.create_task(scene.ask(track))
        await until(lambda: "" if scene.made else "the loading to begin")
        await scene.client.unload(NAME)
        scene.runners[NEW].loading.set()
        with pytest.raises(LoadingError):
            await asking
        assert await scene.ask(track) == NEW
        assert (await scene.traffic())["rollbacks"] == {}


async def test_one_version_in_two_precisions(scene: Scene) -> None:
    fast = f"{NEW}+int8"
    async with scene.running():
        await scene.client.route(NAME, Route(arms={NEW: 0.5, fast: 0.5}, stable=NEW))
        assert scene.made == [(NEW, None), (NEW, {"cpu": "int8", "cuda": "int8"})]
        assert set(await scene.ask_all(40)) == {NEW, fast}
