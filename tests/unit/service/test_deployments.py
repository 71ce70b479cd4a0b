"""Deployments over time: exchanged under load, kept over restarts, in the version that was asked for."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from models.client import InferenceClient
from models.engine import SOCKET_NAME, Engine
from models.service.server import ModelService
from models.service.settings import ServiceSettings
from models.settings import ModelSettings
from tests.unit.service.conftest import HereStore
from tests.unit.service.kit import Http, Runner
from tests.unit.service.test_contract import DEPLOY, GLAD, MODEL
from tests.until import until

MODEL_ID = DEPLOY["config"]["model_id"]


def deployment(version: str) -> dict[str, Any]:
    return {"config": DEPLOY["config"] | {"version": version}}


async def test_no_call_is_lost_while_a_model_is_exchanged_again_and_again(
    http: Http, store: HereStore, runners: dict[str, Runner]
) -> None:
    await http("POST", "/api/v1/models/deploy", deployment("latest"))
    answered: list[str] = []
    done = asyncio.Event()

    async def ask() -> None:
        while not done.is_set():
            status, answer = await http("POST", f"{MODEL}/inference", GLAD)
            assert status == 200, answer
            answered.append(answer["model"].partition("@")[2])

    asking = [asyncio.create_task(ask()) for _ in range(4)]
    retired = []
    for version in ("2", "3", "4"):
        count = len(answered)
        await until(lambda count=count: "" if len(answered) >= count + 8 else "calls between two exchanges")
        retired.append(runners[MODEL_ID])
        store.version, runners[MODEL_ID] = version, Runner(retired[0].takes, retired[0].answer)
        assert (await http("PUT", MODEL, {}))[1]["version"] == version
    await until(lambda: "" if answered[-1] == "4" else "an answer of the last version")
    done.set()
    await asyncio.gather(*asking)
    assert set(answered) == {"1", "2", "3", "4"}
    await until(lambda: "" if all(runner.closed for runner in retired) else "the old versions to be closed")
    assert len(answered) == sum(len(runner.asked) for runner in [*retired, runners[MODEL_ID]])


async def test_an_exchange_that_fails_leaves_the_old_version_at_work(
    http: Http, store: HereStore, runners: dict[str, Runner], monkeypatch: pytest.MonkeyPatch
) -> None:
    await http("POST", "/api/v1/models/deploy", deployment("latest"))
    store.version = "2"
    broken = Runner(runners[MODEL_ID].takes, None)

    async def fail() -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(broken, "start", fail)
    runners[MODEL_ID] = broken
    status, problem = await http("PUT", MODEL, {})
    assert (status, problem["code"]) == (503, "unavailable")
    assert (await http("POST", f"{MODEL}/inference", GLAD))[1]["model"].endswith("@1")


@pytest.mark.parametrize(("version", "state"), [("1", "failed"), ("latest", "deployed")])
async def test_a_version_that_was_asked_for_is_not_replaced_in_silence(
    http: Http, service: ModelService, engine: Engine, store: HereStore, tmp_path: Path, version: str, state: str
) -> None:
    await http("POST", "/api/v1/models/deploy", deployment(version))
    await http("POST", f"{MODEL}/scale", {"replicas": 0})
    store.version = "2"
    status, answer = await http("POST", f"{MODEL}/scale", {"replicas": 1})
    assert (status, answer.get("code", answer.get("state"))) == (
        (409, "version_not_here") if version == "1" else (200, "deployed")
    )
    store.version = "1"
    await http("POST", f"{MODEL}/scale", {"replicas": 1})
    await service.close()
    await engine.shelf.unload(MODEL_ID)
    store.version = "2"
    settings = ModelSettings(models_dir=store.root, service=ServiceSettings(port=0))
    second = ModelService(settings, tmp_path / SOCKET_NAME, store)
    await second.start()
    asked = Http(second.url)

    async def restored() -> str:
        told = (await asked("GET", "/api/v1/health/detailed"))[1]
        health = "ok" if state == "deployed" else "degraded"
        return "" if (told["models"], told["status"]) == ({MODEL_ID: state}, health) else f"{state}, not {told}"

    await until(restored)
    assert (await asked("GET", "/api/v1/health/ready"))[0] == 200
    status, answer = await asked("POST", f"{MODEL}/inference", GLAD)
    if version == "1":
        assert (status, answer["code"], engine.shelf.loaded()) == (409, "version_not_here", {})
        store.version = "1"
        status, answer = await asked("POST", f"{MODEL}/inference", GLAD)
    assert status == 200
    assert (await asked("GET", "/api/v1/health/ready"))[1]["status"] == "ok"
    await second.close()


async def test_a_file_of_deployments_that_is_none_is_refused(store: HereStore, tmp_path: Path) -> None:
    (store.root / "deployments.json").write_text("[]")
    service = ModelService(ModelSettings(models_dir=store.root), tmp_path / SOCKET_NAME, store)
    with pytest.raises(ValueError, match="not a file of deployments"):
        await service.start()
    await service.close()


async def test_a_pinned_version_that_was_let_go_is_not_replaced_by_a_question(
    http: Http, engine: Engine, store: HereStore, runners: dict[str, Runner]
) -> None:
    await http("POST", "/api/v1/models/deploy", deployment("1"))
    store.version = "2"
    assert (await http("POST", f"{MODEL}/inference", GLAD))[1]["model"].endswith("@1")
    await engine.shelf.unload(MODEL_ID)  # as it does when it needs the memory
    status, problem = await http("POST", f"{MODEL}/inference", GLAD)
    assert (status, problem["code"], problem["command"]) == (409, "version_not_here", f"candor models pull {MODEL_ID}")
    assert (MODEL_ID in engine.shelf.loaded(), len(runners[MODEL_ID].asked)) == (False, 1)
    store.version = "1"
    assert (await http("POST", f"{MODEL}/inference", GLAD))[1]["model"].endswith("@1")


async def test_the_answer_of_another_version_is_told_nobody(
    http: Http, engine: Engine, store: HereStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await http("POST", "/api/v1/models/deploy", deployment("1"))
    loaded = engine.shelf.loaded()
    monkeypatch.setattr(engine.shelf, "loaded", lambda: loaded)  # it lets it go after it was asked whether it has it
    store.version = "2"
    host = InferenceClient(tmp_path / SOCKET_NAME)  # somebody else who may tell this engine
    host.start()
    await until(lambda: "" if host.connected else "the engine")
    await host.unload(MODEL_ID)
    await host.route(MODEL_ID, None)
    assert (await http("POST", f"{MODEL}/inference", GLAD))[1]["code"] == "version_not_here"
    await host.close()


async def test_an_update_that_names_no_version_keeps_the_one_that_was_deployed(http: Http, store: HereStore) -> None:
    await http("POST", "/api/v1/models/deploy", deployment("1"))
    store.version = "2"
    assert (await http("PUT", MODEL, {"precision": "fp32"}))[1]["code"] == "version_not_here"
    assert (await http("POST", f"{MODEL}/inference", GLAD))[1]["model"].endswith("@1")
    assert (await http("PUT", MODEL, {"version": "latest"}))[1]["version"] == "2"
    store.version = "3"
    assert (await http("PUT", MODEL, {}))[1]["version"] == "3"


async def test_with_no_replicas_a_model_is_loaded_when_it_is_asked_and_not_before(
    http: Http, service: ModelService, engine: Engine, store: HereStore, tmp_path: Path
) -> None:
    body = {"config": DEPLOY["config"] | {"scaling_config": {"min_replicas": 0}, "precision": "bf16"}}
    status, told = await http("POST", "/api/v1/models/deploy", body)
    assert (status, told["state"], told["replicas"]["running"]) == (201, "idle", 0)
    assert engine.shelf.loaded() == {}
    await service.close()
    second = ModelService(
        ModelSettings(models_dir=store.root, service=ServiceSettings(port=0)), tmp_path / SOCKET_NAME, store
    )
    await second.start()
    asked = Http(second.url)

    async def ready() -> str:
        return "" if (await asked("GET", "/api/v1/health/ready"))[0] == 200 else "the service to be ready"

    await until(ready)
    assert (await asked("GET", "/api/v1/health/detailed"))[1]["models"] == {MODEL_ID: "idle"}
    assert "ai_model_health_status{" not in (await asked("GET", "/metrics"))[1]
    assert engine.shelf.loaded() == {}
    assert (await asked("POST", f"{MODEL}/inference", GLAD))[0] == 200
    assert store.tuned[MODEL_ID] == {"cpu": "bf16", "cuda": "bf16"}
    assert (await asked("GET", f"{MODEL}/status"))[1]["state"] == "deployed"
    await second.close()


NO_AMOUNTS: list[Any] = [
    {"limits": {"cpu": 1}},
    {"cpu": [1]},
    {"cpu": None},
    {"cpu": True},
    {"cpu": -1},
    {"cpu": 1e300},
    {"cpu": float("inf")},
    {"cpu": float("nan")},
    {"cpu": "x" * 65},
    {"x" * 64: 1},
    {"": 1},
    {"cpu\n": 1},
    {f"r{number}": 1 for number in range(21)},
    "cpu",
]


async def test_amounts_of_resources_that_are_none_are_refused(http: Http, store: HereStore) -> None:
    for amounts in NO_AMOUNTS:
        body = {"config": DEPLOY["config"] | {"resource_requirements": amounts}}
        status, problem = await http("POST", "/api/v1/models/deploy", body)
        assert (status, problem["code"]) == (422, "bad_request"), amounts
    assert not (store.root / "deployments.json").exists()


@pytest.mark.parametrize("name", ["half \ud800", "half \udfff"])
async def test_half_a_character_is_refused_and_a_whole_one_is_kept(http: Http, store: HereStore, name: str) -> None:
    for field in ("name", "framework"):
        body = {"config": DEPLOY["config"] | {field: name}}
        assert (await http("POST", "/api/v1/models/deploy", body))[1]["code"] == "bad_json"
    raw = json.dumps({"config": DEPLOY["config"] | {"name": "half"}}).replace("half", "\ud800")
    headers = {"Content-Type": "application/json"}
    path = "/api/v1/models/deploy"
    assert (await http("POST", path, data=raw.encode("utf-8", "surrogatepass"), headers=headers))[1][
        "code"
    ] == "bad_json"
    amounts = {"cpu": 2, "memory": "4Gi", "example.com/gpu": 0.5}
    body = {"config": DEPLOY["config"] | {"name": "whole \U0001f600", "resource_requirements": amounts}}
    assert (await http("POST", path, body))[0] == 201
    kept = json.loads((store.root / "deployments.json").read_text())["deployed"][MODEL_ID]
    assert (kept["name"], kept["resource_requirements"]) == ("whole \U0001f600", amounts)
