"""Two versions of a deployed model: split, shadow, the way back, what restarts keep; and updates under load."""

import asyncio
import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.client import InferenceClient
from models.engine import SOCKET_NAME, Engine
from models.errors import FailedError
from models.questions import Scores, Text
from models.service.server import ModelService
from models.service.settings import ServiceSettings
from models.settings import ModelSettings
from models.traffic import RoutesFile
from tests.unit.service.conftest import HereStore
from tests.unit.service.kit import Http, Runner
from tests.unit.service.test_cli import said
from tests.unit.service.test_contract import DEPLOY, GLAD, MODEL
from tests.until import until

MODEL_ID = DEPLOY["config"]["model_id"]
SPLIT = {"traffic_split": {"1": 0.8, "2": 0.2}, "guard": {"min_answers": 20, "min_units": 20}}
OFTEN = pytest.mark.parametrize("options", [{"requests_per_s": 10_000.0, "request_burst": 10_000}])
CALLS_PER_S = 20


def deployment(version: str) -> dict[str, Any]:
    return {"config": DEPLOY["config"] | {"version": version}}


@pytest.fixture
def two(store: HereStore, runners: dict[str, Runner]) -> dict[str, Runner]:
    """Version 2 was pulled after version 1."""
    store.version, store.earlier = "2", ["1"]
    runners[f"{MODEL_ID}@2"] = Runner(runners[MODEL_ID].takes, runners[MODEL_ID].answer)
    return runners


async def ask(http: Http, track: str | None = None) -> str:
    """The version that answers, or the code of the error."""
    parameters = {"language": "en"} | ({} if track is None else {"track": track})
    status, answer = await http("POST", f"{MODEL}/inference", GLAD | {"parameters": parameters})
    return str(answer["code"]) if status != 200 else str(answer["model"]).partition("@")[2]


async def ask_all(http: Http, count: int) -> list[str]:
    """About so many tracks, eight at a time."""
    answers: list[str] = []
    for begin in range(0, count, 8):
        asking = [ask(http, f"track-{number}") for number in range(begin, min(count, begin + 8))]
        answers += await asyncio.gather(*asking)
    return answers


@OFTEN
@pytest.mark.parametrize("version", ["latest", "1"])
async def test_a_split_is_sticky_told_and_ended_by_naming_one(
    http: Http, store: HereStore, two: dict[str, Runner], version: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (await http("POST", "/api/v1/models/deploy", deployment(version)))[0] == 201
    status, told = await http("PUT", MODEL, SPLIT)
    assert (status, told["version"], told["versions"]) == (200, "1", ["2", "1"])
    assert "traffic_split={'1': 0.8, '2': 0.2}" in capsys.readouterr().out
    answered = await ask_all(http, 200)
    assert abs(Counter(answered)["2"] - 40) < 4 * math.sqrt(200 * 0.8 * 0.2)
    assert await ask_all(http, 200) == answered
    assert {await ask(http) for _ in range(64)} == {"1", "2"}  # each for itself
    told = (await http("GET", f"{MODEL}/status"))[1]["traffic"]
    assert (told["stable"], told["weights"], told["rolled_back"]) == ("1", {"1": 0.8, "2": 0.2}, None)
    assert [(arm["version"], arm["role"], arm["loaded"]) for arm in told["arms"]] == [
        ("1", "stable", True),
        ("2", "canary", True),
    ]
    assert sum(arm["answered"] for arm in told["arms"]) == 464
    page = (await http("GET", "/metrics"))[1]
    assert f'ai_model_arm_requests_total{{model="{MODEL_ID}",result="answered",version="2"}}' in page
    for change in (("PUT", MODEL, {}), ("POST", "/api/v1/models/deploy", deployment("2"))):
        assert (await http(*change))[1]["code"] == "split_running"
    assert (await http("POST", "/api/v1/models/deploy", deployment(version)))[0] == 201  # nothing new: it goes on
    assert set(await ask_all(http, 40)) == {"1", "2"}
    assert (await http("PUT", MODEL, {"traffic_split": {"2": 1}}))[1]["traffic"]["weights"] == {"2": 1.0}
    assert set(await ask_all(http, 40)) == {"2"}
    kept = json.loads((store.root / "deployments.json").read_text())["deployed"][MODEL_ID]["version"]
    assert kept == ("latest" if version == "latest" else "2")


@OFTEN
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda _: Scores(("joy", "anger"), (math.nan, 0.5)), "errors"),
        (lambda _: Scores(("joy", "anger"), (0.1, 0.9)), "drift"),
    ],
    ids=["fails", "is biased"],
)
async def test_a_version_that_is_worse_is_taken_back_and_latest_is_not_it(
    http: Http, two: dict[str, Runner], answer: Callable[[Any], Scores], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def checked(question: Any) -> Scores:
        scores = answer(question)
        if not all(map(math.isfinite, scores.values)):
            raise FailedError("the model's answer is not a number")
        return scores

    monkeypatch.setattr(two[f"{MODEL_ID}@2"], "answer", checked)
    await http("POST", "/api/v1/models/deploy", deployment("1"))
    await http("PUT", MODEL, SPLIT | {"traffic_split": {"1": 0.5, "2": 0.5}})
    await ask_all(http, 160)
    assert set(await ask_all(http, 40)) == {"1"}
    told = (await http("GET", f"{MODEL}/status"))[1]
    assert (told["version"], told["traffic"]["weights"]) == ("1", {"1": 1.0})
    assert (told["traffic"]["rolled_back"]["arm"], told["traffic"]["rolled_back"]["reason"]) == ("2", reason)
    assert f'reason="{reason}"}} 1.0' in (await http("GET", "/metrics"))[1]
    assert (await http("PUT", MODEL, {"version": "latest"}))[1]["version"] == "1"
    monkeypatch.setattr(two[f"{MODEL_ID}@2"], "answer", two[MODEL_ID].answer)
    assert (await http("PUT", MODEL, {"version": "2"}))[1]["version"] == "2"  # who names it wants it
    assert set(await ask_all(http, 16)) == {"2"}


@pytest.mark.parametrize("how", ["update", "deploy"])
async def test_the_way_back_and_no_further(http: Http, store: HereStore, two: dict[str, Runner], how: str) -> None:
    await http("POST", "/api/v1/models/deploy", deployment("latest"))
    assert await ask(http) == "2"
    status, told = await http("PUT", MODEL, {"rollback": True})
    assert (status, told["version"], told["traffic"]["rolled_back"]["reason"]) == (200, "1", "asked")
    assert await ask(http) == "1"
    assert (await http("PUT", MODEL, {"rollback": True}))[1]["code"] == "nothing_before"
    assert (await http("PUT", MODEL, {}))[1]["version"] == "1"
    assert (await http("POST", "/api/v1/models/deploy", deployment("latest")))[1]["version"] == "1"
    store.version, store.earlier = "3", ["2", "1"]
    change = ("PUT", MODEL, {}) if how == "update" else ("POST", "/api/v1/models/deploy", deployment("latest"))
    assert (await http(*change))[1]["version"] == "3"  # newer than what was taken back
    await http("PUT", MODEL, {"traffic_split": {"3": 0.5, "2": 0.5}})
    assert (await http("PUT", MODEL, {"rollback": True}))[1]["version"] == "2"
    assert (await http("DELETE", MODEL))[0] == 200
    assert RoutesFile(store.root).read() == {}


@OFTEN
async def test_a_shadow_is_asked_and_shown_nobody(http: Http, two: dict[str, Runner]) -> None:
    await http("POST", "/api/v1/models/deploy", deployment("1"))
    told = (await http("PUT", MODEL, {"shadow": "2"}))[1]["traffic"]
    assert (told["weights"], told["shadow"]) == ({"1": 1.0}, "2")
    assert {await ask(http) for _ in range(16)} == {"1"}

    async def agreed() -> str:
        arms = (await http("GET", f"{MODEL}/status"))[1]["traffic"]["arms"]
        return "" if arms[1]["agreed"] + arms[1]["shed"] == 16 and arms[1]["agreed"] else f"16 of {arms[1]}"

    await until(agreed)
    assert (await http("PUT", MODEL, {"shadow": ""}))[1]["traffic"]["shadow"] is None


async def test_a_split_outlives_service_and_engine(
    http: Http, service: ModelService, engine: Engine, store: HereStore, two: dict[str, Runner], tmp_path: Path
) -> None:
    await http("POST", "/api/v1/models/deploy", deployment("1"))
    await http("PUT", MODEL, SPLIT | {"traffic_split": {"1": 0.5, "2": 0.5}})
    answered = await ask_all(http, 40)
    await service.close()
    await engine.close()
    settings = ModelSettings(models_dir=store.root, service=ServiceSettings(port=0))
    second = Engine(tmp_path / SOCKET_NAME, settings, store=store)
    await second.start()
    again = ModelService(settings, tmp_path / SOCKET_NAME, store)
    await again.start()
    asked = Http(again.url)

    async def ready() -> str:
        return "" if (await asked("GET", "/api/v1/health/ready"))[0] == 200 else "the service to be ready"

    await until(ready)
    assert (await asked("GET", "/api/v1/health/detailed"))[1]["models"] == {MODEL_ID: "deployed"}
    assert await ask_all(asked, 40) == answered
    assert set(answered) == {"1", "2"}
    await again.close()
    await second.close()


async def test_a_version_that_was_deployed_by_its_name_answers_though_a_newer_one_came(
    http: Http, engine: Engine, store: HereStore
) -> None:
    await http("POST", "/api/v1/models/deploy", deployment("1"))
    store.version, store.earlier = "2", ["1"]
    await engine.shelf.unload(MODEL_ID)  # as it does when it needs the memory
    assert await ask(http) == "1"


async def test_a_file_of_routes_that_is_none_is_told_with_what_helps(http: Http, store: HereStore) -> None:
    (store.root / "routes.json").write_text("{")
    status, problem = await http("POST", "/api/v1/models/deploy", deployment("1"))
    assert (status, problem["command"]) == (503, "mv routes.json routes.json.broken")


async def test_the_commands(service: ModelService, two: dict[str, Runner], capsys: pytest.CaptureFixture[str]) -> None:
    settings = ServiceSettings(url=service.url)
    await said(settings, capsys, "deploy", MODEL_ID)
    told = json.loads(await said(settings, capsys, "split", MODEL_ID, "1=0.75", "2=0.25", "--sticky", "room"))
    assert (told["traffic"]["weights"], told["traffic"]["sticky"]) == ({"1": 0.75, "2": 0.25}, "room")
    assert json.loads(await said(settings, capsys, "rollback", MODEL_ID))["version"] == "1"
    told = json.loads(await said(settings, capsys, "split", MODEL_ID, "--shadow", "2"))
    assert told["traffic"]["shadow"] == "2"


def numbered(question: Text) -> Scores:
    return Scores(("number",), (float(question.text),))


@OFTEN
async def test_five_updates_at_twenty_calls_a_second_lose_and_double_nothing(
    http: Http, store: HereStore, runners: dict[str, Runner], tmp_path: Path
) -> None:
    """Half of the calls come over HTTP, half as those of hosts do; every question is a number of its own, and so is its answer."""
    runners[MODEL_ID] = Runner(Text, numbered)
    made = [runners[MODEL_ID]]
    await http("POST", "/api/v1/models/deploy", deployment("latest"))
    client = InferenceClient(tmp_path / SOCKET_NAME)
    client.start()
    await until(lambda: "" if client.connected else "the engine")
    answers: list[tuple[float, str]] = []

    async def over_http(number: int) -> None:
        status, told = await http("POST", f"{MODEL}/inference", GLAD | {"input_data": {"text": str(number)}})
        assert status == 200, told
        answers.append((told["result"]["scores"][0]["value"], told["model"]))

    async def as_a_host(number: int) -> None:
        told = await client.ask(MODEL_ID, Text(str(number), "en"), Scores, room_id="room", deadline_ms=5_000)
        answers.append((told.answer["number"], told.model))

    calls: list[asyncio.Task[None]] = []

    async def load() -> None:
        while True:
            calls.append(asyncio.create_task((over_http, as_a_host)[len(calls) % 2](len(calls))))
            await asyncio.sleep(1 / CALLS_PER_S)  # the rate that is asked for, not a wait for anything

    loading = asyncio.create_task(load())
    for version in "23456":
        count = len(calls)
        await until(lambda count=count: "" if len(calls) >= count + 8 else "calls between two updates")
        store.version, runners[MODEL_ID] = version, Runner(Text, numbered)
        made.append(runners[MODEL_ID])
        assert (await http("PUT", MODEL, {}))[1]["version"] == version
    await until(lambda: "" if answers[-1][1].endswith("@6") else "an answer of the last version")
    loading.cancel()
    await asyncio.gather(*calls)
    assert sorted(number for number, _ in answers) == list(range(len(calls)))
    assert {model.partition("@")[2] for _, model in answers} == set("123456")
    assert sum(len(runner.asked) for runner in made) == len(calls)
    await client.close()
