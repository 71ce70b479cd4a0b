"""What a caller may not reach: stopped models, an engine of others, a service behind a proxy; and a broken store."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from models.engine import SOCKET_NAME, Engine
from models.service.auth import new_key
from models.service.server import ModelService
from models.service.settings import ServiceSettings
from models.settings import ModelSettings
from tests.unit.service.conftest import HereStore
from tests.unit.service.kit import Http, Runner, packed, png, wav
from tests.unit.service.test_contract import DEPLOY, GLAD, MODEL
from tests.until import until

MODEL_ID = DEPLOY["config"]["model_id"]
FACE = {"input_data": {"image": packed(png(400, 300))}}
SPEECH = {"input_data": {"audio": packed(wav(1.0))}}
ASKER, ASKER_KEPT = new_key("asker", ["models:infer"])
MANAGER, MANAGER_KEPT = new_key("manager", ["models:manage", "models:read"])


async def test_a_stopped_detector_is_not_asked_for_faces(http: Http, runners: dict[str, Runner]) -> None:
    assert (await http("DELETE", "/api/v1/models/yunet"))[0] == 200
    for task in ("face_deepfake", "emotion_detection"):
        status, problem = await http("POST", f"/inference/{task}", FACE)
        assert (status, problem["code"], problem["command"]) == (503, "unavailable", "candor models deploy yunet")
    assert not runners["yunet"].asked


@pytest.fixture
async def shared(tmp_path: Path, store: HereStore, engine: Engine) -> AsyncIterator[ModelService]:
    """A service over the engine of somebody else."""
    options = ServiceSettings(port=0, api_keys=[ASKER_KEPT, MANAGER_KEPT])
    service = ModelService(
        ModelSettings(models_dir=store.root, service=options), tmp_path / SOCKET_NAME, store, shared=True
    )
    await service.start()

    async def ready() -> str:
        return "" if (await Http(service.url)("GET", "/api/v1/health/ready"))[0] == 200 else "the service to be ready"

    await until(ready)
    yield service
    await service.close()


async def test_nobody_who_may_only_ask_loads_a_model_into_the_engine_of_others(
    shared: ModelService, engine: Engine
) -> None:
    asker, manager = Http(shared.url, ASKER), Http(shared.url, MANAGER)
    status, problem = await asker("POST", f"{MODEL}/inference", GLAD)
    assert (status, problem["code"], problem["command"]) == (503, "unavailable", f"candor models deploy {MODEL_ID}")
    assert (await asker("POST", "/inference/face_deepfake", FACE))[1]["command"] == "candor models deploy yunet"
    assert engine.shelf.loaded() == {}
    await engine.shelf.get("pocketsphinx-en-us")  # as a meeting does
    assert (await asker("POST", "/inference/speech_recognition", SPEECH))[0] == 200
    assert (await manager("POST", "/api/v1/models/deploy", DEPLOY))[0] == 201
    assert (await asker("POST", f"{MODEL}/inference", GLAD))[0] == 200


PASSED_ON = ["X-Forwarded-For", "x-forwarded-proto", "X-Real-IP", "Forwarded", "Via"]


@pytest.mark.parametrize("name", PASSED_ON)
async def test_what_a_proxy_passes_on_is_refused_where_no_key_is_needed(http: Http, name: str) -> None:
    status, problem = await http("GET", "/api/v1/models", headers={name: "203.0.113.7"})
    assert (status, problem["code"], problem["command"]) == (403, "key_needed", "candor models key NAME")


@pytest.mark.parametrize("options", [{"api_keys": [MANAGER_KEPT]}])
async def test_with_keys_a_proxy_may_pass_on(service: ModelService) -> None:
    asked = Http(service.url, MANAGER)
    assert (await asked("GET", "/api/v1/models", headers=dict.fromkeys(PASSED_ON, "203.0.113.7")))[0] == 200


BROKEN = [
    ("POST", "/inference/speech_recognition", SPEECH),
    ("POST", "/inference/face_deepfake", FACE),
    ("POST", "/inference/text_summarization", GLAD),
    ("POST", "/api/v1/models/deploy", DEPLOY),
    ("PUT", "/api/v1/models/aasist", {}),
    ("GET", "/api/v1/models/a-head-of-ours/status", None),
]


@pytest.mark.parametrize("text", [b"{", b'{"models": 1}', b"\xff\xfe", None])
async def test_a_lock_file_that_cannot_be_read_is_said_with_what_would_help(
    http: Http, store: HereStore, text: bytes | None
) -> None:
    assert (await http("POST", "/api/v1/models/deploy", {"config": DEPLOY["config"] | AASIST}))[0] == 201
    lock = store.root / "models.lock"
    if text is None:
        lock.mkdir()
    else:
        lock.write_bytes(text)
    for method, path, body in BROKEN:
        status, problem = await http(method, path, body)
        assert (status, problem["code"]) == (503, "unavailable"), (path, problem)
        assert problem["command"] == "mv models.lock models.lock.broken && candor models pull", path
        assert str(store.root) not in problem["message"]
    status, told = await http("GET", "/api/v1/models")
    assert (status, {model["state"] for model in told["models"]}) == (200, {"unavailable"})
    assert (await http("GET", "/api/v1/health/ready"))[0] == 200


AASIST = {"model_id": "aasist", "model_type": "voice_authenticity"}


async def test_a_form_in_an_encoding_of_which_nobody_has_heard(http: Http) -> None:
    part = b'Content-Disposition: form-data; name="text"\r\nContent-Type: text/plain; charset=nonsense\r\n\r\nhello'
    headers = {"Content-Type": "multipart/form-data; boundary=edge"}
    data = b"--edge\r\n" + part + b"\r\n--edge--\r\n"
    status, problem = await http("POST", f"{MODEL}/inference", data=data, headers=headers)
    assert (status, problem["code"]) == (400, "bad_form")


async def test_the_document_names_every_status(http: Http) -> None:
    document = (await http("GET", "/api/openapi.json"))[1]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert {"403", "405", "421", "500"} <= set(operation["responses"]), path
    deploy: dict[str, Any] = document["paths"]["/api/v1/models/deploy"]["post"]["responses"]
    assert {"400", "401", "404", "408", "409", "413", "415", "422", "429", "501", "502", "503", "504"} <= set(deploy)
    assert json.dumps(deploy["503"]).count("store_unwritable") == 1
