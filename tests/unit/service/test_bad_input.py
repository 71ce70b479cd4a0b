"""What is wrong is refused with a status, a code and a sentence; nothing is half done, and what comes after it is answered."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from models.engine import SOCKET_NAME, Engine
from models.service import media
from models.service.auth import AUDIENCE, mint, new_key
from models.service.server import ModelService
from models.service.settings import SCOPES, ServiceSettings, checked
from models.settings import ModelSettings
from signaling import auth as invitations
from tests.unit.service.conftest import HereStore
from tests.unit.service.kit import Http, Runner, packed, png, wav
from tests.unit.service.test_contract import DEPLOY, GLAD, MODEL
from tests.until import until

SECRET = "s" * 32
MODEL_ID = DEPLOY["config"]["model_id"]
ALL, ALL_KEPT = new_key("all", list(SCOPES))
READER, READER_KEPT = new_key("reader", ["models:read"])
SPEECH = {"input_data": {"audio": packed(wav(1.0))}}
SECURED = pytest.mark.parametrize("options", [{"api_keys": [READER_KEPT], "secret": SECRET}])


def changed(**fields: Any) -> dict[str, Any]:
    """The body of a deployment with some fields otherwise."""
    return {"config": DEPLOY["config"] | fields}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/api/v1/models/hal/status", None, 404, "unknown_model"),
        ("POST", "/api/v1/models/hal/inference", GLAD, 404, "unknown_model"),
        ("POST", "/api/v1/models/hal/batch_inference", {"requests": [GLAD]}, 404, "unknown_model"),
        ("POST", "/api/v1/models/hal/scale", {"replicas": 1}, 404, "unknown_model"),
        ("PUT", "/api/v1/models/hal", {}, 404, "unknown_model"),
        ("DELETE", "/api/v1/models/hal", None, 404, "unknown_model"),
        ("POST", "/api/v1/models/deploy", changed(model_id="hal"), 404, "unknown_model"),
        ("POST", "/inference/mind_reading", GLAD, 404, "unknown_task"),
        ("GET", "/api/v1/nothing", None, 404, "no_such_route"),
        ("GET", "/api/v1/models/deploy", None, 405, "wrong_method"),
        ("POST", f"{MODEL}/inference", SPEECH, 422, "wrong_modality"),
        ("POST", "/inference/speech_recognition", GLAD, 422, "wrong_modality"),
        ("POST", f"{MODEL}/inference", {"input_data": "I am glad"}, 422, "language_needed"),
        ("POST", f"{MODEL}/inference", GLAD | {"input_data": {}}, 422, "bad_request"),
        ("POST", f"{MODEL}/inference", GLAD | {"timeout": -1}, 422, "bad_request"),
        ("POST", f"{MODEL}/inference", GLAD | {"priority": 99}, 422, "bad_request"),
        ("POST", f"{MODEL}/inference", GLAD | {"colour": "blue"}, 422, "bad_request"),
        ("POST", f"{MODEL}/inference", GLAD | {"input_data": " "}, 422, "empty"),
        ("POST", f"{MODEL}/inference", GLAD | {"input_data": "x" * 20_001}, 413, "too_long"),
        ("POST", f"{MODEL}/inference", GLAD | {"parameters": {"language": "zh"}}, 503, "unavailable"),
        ("POST", f"{MODEL}/batch_inference", {"requests": []}, 422, "bad_request"),
        ("POST", f"{MODEL}/batch_inference", {"requests": [GLAD] * 65}, 422, "bad_request"),
        ("POST", "/inference/speech_recognition", {"input_data": {"audio": "%%%"}}, 422, "bad_base64"),
        (
            "POST",
            "/inference/speech_recognition",
            {"input_data": {"audio": packed(wav(31.0, 8_000))}},
            413,
            "too_long",
        ),
        ("POST", "/inference/audio_denoising", {"input_data": {"audio": packed(wav(61.0, 8_000))}}, 413, "too_long"),
        ("POST", "/inference/audio_deepfake", SPEECH, 422, "too_short"),
        ("POST", "/inference/audio_deepfake", {"input_data": {"audio": packed(wav(13.0))}}, 422, "unfit_voice"),
        ("POST", "/inference/face_deepfake", {"input_data": {"image": packed(b"GIF89a")}}, 415, "unsupported_media"),
        ("POST", "/inference/face_deepfake", {"input_data": {"image": packed(png(64, 64))}}, 422, "face_too_small"),
        (
            "POST",
            "/inference/video_enhancement",
            {"input_data": {"image": packed(png(900, 900))}},
            413,
            "too_many_pixels",
        ),
        ("POST", "/api/v1/models/gtcrn/inference", SPEECH, 503, "unavailable"),
        ("POST", "/api/v1/models/whisper-base/inference", SPEECH, 503, "unavailable"),
        ("POST", f"{MODEL}/scale", {"replicas": -1}, 422, "bad_request"),
        ("POST", f"{MODEL}/scale", {"replicas": 2}, 422, "replicas_not_supported"),
        ("POST", "/api/v1/models/aasist/scale", {"replicas": 1}, 409, "not_deployed"),
        ("PUT", "/api/v1/models/aasist", {}, 409, "not_deployed"),
        ("PUT", MODEL, {"traffic_split": {"1": 0.8, "2": 0.1}}, 422, "bad_request"),
        ("PUT", MODEL, {"traffic_split": {"1": 0.8, "2": 0.2}}, 409, "version_not_here"),
        ("PUT", MODEL, {"traffic_split": {"1": 1.2, "2": -0.2}}, 422, "bad_request"),
        ("PUT", MODEL, {"shadow": "1"}, 422, "bad_request"),
        ("PUT", MODEL, {"rollback": True}, 409, "nothing_before"),
        ("PUT", "/api/v1/models/aasist", {"traffic_split": {"1": 1}}, 409, "not_deployed"),
        ("PUT", MODEL, {"traffic_split": {"1": 0.8}, "rollback": True}, 422, "bad_request"),
        ("PUT", MODEL, {"traffic_split": {"1": 1}, "version": "1"}, 422, "bad_request"),
        ("PUT", MODEL, {"sticky": "room"}, 422, "bad_request"),
        ("PUT", MODEL, {"shadow": 2}, 422, "bad_request"),
        ("POST", "/api/v1/models/deploy", changed(docker_image="example/model:1"), 501, "no_cluster"),
        ("POST", "/api/v1/models/deploy", changed(model_type="summary"), 422, "wrong_model_type"),
        ("POST", "/api/v1/models/deploy", changed(framework="tensorflow"), 422, "wrong_framework"),
        ("POST", "/api/v1/models/deploy", changed(version="2"), 409, "version_not_here"),
        ("POST", "/api/v1/models/deploy", changed(scaling_config={"min_replicas": -1}), 422, "bad_request"),
        (
            "POST",
            "/api/v1/models/deploy",
            changed(scaling_config={"min_replicas": 3, "max_replicas": 2}),
            422,
            "bad_request",
        ),
        (
            "POST",
            "/api/v1/models/deploy",
            changed(scaling_config={"min_replicas": 2, "max_replicas": 2}),
            422,
            "replicas_not_supported",
        ),
        ("POST", "/api/v1/models/deploy", changed(model_id="whisper-base"), 503, "unavailable"),
    ],
)
async def test_it_is_refused_and_nothing_has_changed(
    http: Http, engine: Engine, store: HereStore, method: str, path: str, body: Any, status: int, code: str
) -> None:
    async def known() -> Any:
        states = {model["model_id"]: model["state"] for model in (await http("GET", "/api/v1/models"))[1]["models"]}
        return states, (store.root / "deployments.json").read_text(), engine.shelf.loaded()[MODEL_ID]

    await http("POST", "/api/v1/models/deploy", DEPLOY)
    before = await known()
    answered, problem = await http(method, path, body)
    assert (answered, problem["code"]) == (status, code), problem
    assert set(problem) == {"code", "message", "retryable", "command"}
    assert await known() == before
    assert (await http("POST", f"{MODEL}/inference", GLAD))[0] == 200


async def test_a_model_that_is_not_here_names_the_command(http: Http) -> None:
    problem = (await http("POST", "/api/v1/models/deploy", changed(model_id="gtcrn")))[1]
    assert problem["code"] == "unavailable"
    problem = (await http("POST", "/inference/speech_recognition", SPEECH | {"parameters": {"language": "ja"}}))[1]
    assert problem["command"].startswith(("candor models pull", "make models"))


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize("data", [PLAYLIST, b"ffconcat version 1.0\nfile '/etc/hostname'\n", b"", wav(1.0)[:30]])
async def test_what_is_no_sound_is_refused(http: Http, data: bytes) -> None:
    status, problem = await http("POST", "/inference/speech_recognition", {"input_data": {"audio": packed(data)}})
    assert (status, problem["code"]) in [(415, "unsupported_media"), (422, "empty")]


async def test_a_picture_with_more_pixels_than_bytes_tell_is_refused_by_its_header(http: Http) -> None:
    bomb = bytearray(png(64, 64))
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    body = {"input_data": {"image": packed(bytes(bomb))}}
    assert (await http("POST", "/inference/face_deepfake", body))[1]["code"] == "too_many_pixels"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X-API-Key": "\udcff"}, 200),  # nobody needs a key here
        ({"Origin": "http://["}, 403),
    ],
)
async def test_headers_of_strangers_are_refused_and_no_mistake(
    http: Http, headers: dict[str, str], status: int
) -> None:
    assert (await http("GET", "/api/v1/models", headers=headers))[0] == status


@pytest.mark.parametrize("priority", ["²", "", "9" * 5_000, "12"])
async def test_a_forms_priority_that_is_no_digit(http: Http, priority: str) -> None:
    form = aiohttp.FormData()
    form.add_field("file", wav(1.0), content_type="audio/wav", filename="a.wav")
    form.add_field("priority", priority)
    assert (await http("POST", "/inference/speech_recognition", data=form))[0] == 422


@pytest.mark.parametrize("options", [{"max_body_bytes": 20_000}])
async def test_too_many_bytes(http: Http) -> None:
    status, problem = await http("POST", "/inference/speech_recognition", SPEECH)
    assert (status, problem["code"]) == (413, "too_large")


async def test_bodies_that_are_none(http: Http) -> None:
    json = {"Content-Type": "application/json"}
    assert (await http("POST", f"{MODEL}/inference", data=b"{", headers=json))[1]["code"] == "bad_json"
    assert (await http("POST", f"{MODEL}/inference", data=b"[" * 100_000, headers=json))[1]["code"] == "bad_json"
    text = {"Content-Type": "text/plain"}
    assert (await http("POST", f"{MODEL}/inference", data=b"hello", headers=text))[0] == 415
    form = aiohttp.FormData()
    form.add_field("file", b"%PDF-1.4", content_type="application/pdf", filename="a.pdf")
    assert (await http("POST", "/inference/speech_recognition", data=form))[0] == 415


@pytest.mark.parametrize(("task", "file"), [("speech_recognition", wav(1.0)), ("face_deepfake", png(400, 300))])
async def test_a_file_whose_kind_is_not_told_is_looked_at(http: Http, task: str, file: bytes) -> None:
    form = aiohttp.FormData()
    form.add_field("file", file, content_type="application/octet-stream", filename="file")
    assert (await http("POST", f"/inference/{task}", data=form))[0] == 200


@SECURED
async def test_keys_and_scopes(service: ModelService) -> None:
    strangers = [Http(service.url), Http(service.url, "cmk_wrong"), Http(service.url, "a.b.c")]
    for stranger in strangers:
        assert (await stranger("GET", "/api/v1/models"))[0] == 401
        assert (await stranger("GET", "/metrics"))[0] == 401
        assert (await stranger("GET", "/api/v1/health/live"))[0] == 200
    reader = Http(service.url, READER)
    assert (await reader("GET", "/api/v1/models"))[0] == 200
    assert (await Http(service.url)("GET", "/api/v1/models", headers={"X-API-Key": READER}))[0] == 200
    for method, path, body in (("POST", f"{MODEL}/inference", GLAD), ("DELETE", MODEL, None)):
        status, problem = await reader(method, path, body)
        assert (status, problem["code"]) == (403, "wrong_scope")


@SECURED
async def test_tokens(service: ModelService) -> None:
    asker = Http(service.url, mint(SECRET, ["models:infer"], 60))
    assert (await asker("POST", f"{MODEL}/inference", GLAD))[0] == 200
    assert (await asker("DELETE", MODEL))[1]["code"] == "wrong_scope"
    expired = Http(service.url, mint(SECRET, ["models:infer"], -60))
    assert (await expired("POST", f"{MODEL}/inference", GLAD))[1]["code"] == "token_expired"
    invitation = invitations.mint(SECRET, "room", host=True)
    assert AUDIENCE != invitations.AUDIENCE
    assert (await Http(service.url, invitation)("GET", "/api/v1/models"))[1]["code"] == "bad_key"


@pytest.mark.parametrize("options", [{"requests_per_s": 0.01, "request_burst": 3}])
async def test_who_asks_too_fast_is_told_when_to_come_back(service: ModelService, http: Http) -> None:
    status, answer = await http("POST", f"{MODEL}/batch_inference", {"requests": [GLAD, GLAD, GLAD]})
    assert (status, answer["succeeded"]) == (200, 3)
    async with aiohttp.ClientSession() as session, session.get(f"{service.url}/api/v1/models") as response:
        assert (response.status, (await response.json())["code"]) == (429, "rate_limited")
        assert int(response.headers["Retry-After"]) > 0
    assert (await http("GET", "/api/v1/health/live"))[0] == 200


async def test_a_page_of_another_origin_and_another_host_name_are_refused(http: Http) -> None:
    assert (await http("GET", "/api/v1/models", headers={"Origin": "https://evil.example"}))[1][
        "code"
    ] == "wrong_origin"
    assert (await http("GET", "/api/v1/models", headers={"Host": "evil.example"}))[1]["code"] == "wrong_host"


def test_beyond_this_computer_a_key_is_needed() -> None:
    with pytest.raises(ValueError, match="candor models key"):
        checked(ServiceSettings(host="0.0.0.0"))
    assert checked(ServiceSettings(host="0.0.0.0", api_keys=[READER_KEPT]))


async def test_an_answer_that_does_not_come_in_time(http: Http, runners: dict[str, Runner]) -> None:
    runners["emotion-english-distilroberta-base"].held.clear()
    status, problem = await http("POST", f"{MODEL}/inference", GLAD | {"timeout": 0.05})
    assert (status, problem["code"], problem["retryable"]) == (504, "timeout", True)
    runners["emotion-english-distilroberta-base"].held.set()
    assert (await http("POST", f"{MODEL}/inference", GLAD))[0] == 200


@pytest.mark.parametrize("options", [{"in_flight": 1, "max_waiting": 1}])
async def test_more_than_can_wait_is_shed(http: Http, runners: dict[str, Runner]) -> None:
    runner = runners["emotion-english-distilroberta-base"]
    runner.held.clear()
    first = asyncio.create_task(http("POST", f"{MODEL}/inference", GLAD))
    await until(lambda: "" if runner.asked else "the first question to be with the model")
    batch = {"requests": [GLAD, GLAD | {"priority": "high"}]}
    second = asyncio.create_task(http("POST", f"{MODEL}/batch_inference", batch))

    async def shed() -> str:
        page = (await http("GET", "/metrics"))[1]
        return "" if 'result="overloaded",task="text_emotion"} 1.0' in page else "one that was shed"

    await until(shed)
    runner.held.set()
    assert (await first)[0] == 200
    low, high = (await second)[1]["results"]
    assert (low["error"]["code"], low["error"]["retryable"], high["error"]) == ("overloaded", True, None)


async def test_the_engine_goes_and_comes_back(http: Http, engine: Engine, store: HereStore, tmp_path: Path) -> None:
    await http("POST", "/api/v1/models/deploy", DEPLOY)
    await engine.close()

    def ready(wanted: bool) -> Callable[[], Any]:
        async def check() -> str:
            status = (await http("GET", "/api/v1/health/ready"))[0]
            return "" if (status == 200) is wanted else f"readiness to become {wanted}"

        return check

    await until(ready(False))
    status, problem = await http("POST", f"{MODEL}/inference", GLAD)
    assert (status, problem["code"], problem["retryable"]) == (503, "engine_gone", True)
    assert (await http("DELETE", MODEL))[0] == 503
    told = (await http("GET", f"{MODEL}/status"))[1]
    assert (told["state"], told["replicas"]["running"]) == ("unloaded", 0)
    assert (await http("GET", "/api/v1/health/live"))[0] == 200

    again = Engine(tmp_path / SOCKET_NAME, ModelSettings(models_dir=store.root), store=store)
    await again.start()
    await until(ready(True))
    assert list(again.shelf.loaded()) == [DEPLOY["config"]["model_id"]]
    assert (await http("POST", f"{MODEL}/inference", GLAD))[0] == 200
    await again.close()


async def test_a_version_is_exchanged_while_calls_run(http: Http, store: HereStore, runners: dict[str, Runner]) -> None:
    await http("POST", "/api/v1/models/deploy", changed(version="latest"))
    old = runners["emotion-english-distilroberta-base"]
    old.held.clear()
    running = asyncio.create_task(http("POST", f"{MODEL}/inference", GLAD))
    await until(lambda: "" if old.asked else "a call that runs")
    store.version = "2"
    runners["emotion-english-distilroberta-base"] = Runner(old.takes, old.answer)
    status, told = await http("PUT", MODEL, {"version": "2"})
    assert (status, told["version"]) == (200, "2")
    assert (await http("POST", f"{MODEL}/inference", GLAD))[1]["model"].endswith("@2")
    old.held.set()
    assert (await running)[1]["model"].endswith("@1")
    await until(lambda: "" if old.closed else "the old version to be closed")


async def test_what_was_deployed_and_stopped_outlives_service_and_engine(
    http: Http, service: ModelService, engine: Engine, store: HereStore, tmp_path: Path
) -> None:
    await http("POST", "/api/v1/models/deploy", DEPLOY)
    await http("POST", "/api/v1/models/deploy", changed(model_id="aasist", model_type="voice_authenticity"))
    await http("DELETE", "/api/v1/models/aasist")
    await service.close()
    await engine.close()
    fresh = Engine(tmp_path / SOCKET_NAME, ModelSettings(models_dir=store.root), store=store)
    await fresh.start()
    settings = ModelSettings(models_dir=store.root, service=ServiceSettings(port=0))
    second = ModelService(settings, tmp_path / SOCKET_NAME, store)
    await second.start()
    await until(lambda: "" if fresh.shelf.loaded() else "what was deployed to be loaded")
    asked = Http(second.url)

    async def deployed() -> str:
        state = (await asked("GET", f"{MODEL}/status"))[1]["state"]
        return "" if state == "deployed" else f"the state deployed, not {state}"

    await until(deployed)
    assert list(fresh.shelf.loaded()) == [MODEL_ID]
    sound = {"input_data": {"audio": packed(wav(13.0))}}
    assert (await asked("POST", "/inference/audio_deepfake", sound))[1]["command"] == "candor models deploy aasist"
    await second.close()
    await fresh.close()


@pytest.mark.parametrize("options", [{"api_keys": [ALL_KEPT]}])
async def test_no_log_holds_what_was_said_nor_a_key_nor_an_address(
    service: ModelService,
    runners: dict[str, Runner],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(0)
    said = "the treasure lies below the oak"

    def fail(*_: Any) -> Any:
        raise RuntimeError(said)

    http = Http(service.url, ALL)
    await http("POST", f"{MODEL}/inference", GLAD | {"input_data": said})
    await http("POST", f"{MODEL}/inference", GLAD | {"input_data": {"image": said}})
    await Http(service.url, "cmk_treasure")("GET", "/api/v1/models")
    await http("POST", "/api/v1/models/deploy", changed(name=said))
    runners[MODEL_ID].answer = fail
    assert (await http("POST", f"{MODEL}/inference", GLAD))[0] == 502
    monkeypatch.setattr(media, "sound", fail)
    assert (await http("POST", "/inference/speech_recognition", SPEECH))[0] == 500
    reader, writer = await asyncio.open_connection("127.0.0.1", int(service.url.rpartition(":")[2]))
    writer.write(f"{said}\r\n\r\n".encode())
    assert b"400" in await reader.readline()
    writer.close()
    logged = "".join(capsys.readouterr()) + caplog.text
    assert "model_deployed" in logged
    assert "http_failed" in logged
    for secret in ("treasure", ALL, "127.0.0.1"):
        assert secret not in logged
