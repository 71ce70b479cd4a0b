"""The interface to the letter: the bodies as whoever wrote it sends them, and the fields that they look for."""

import json
from typing import Any

import aiohttp
import pytest

from models.service import openapi
from models.service.routes import ROUTES
from models.service.server import ModelService
from tests.unit.service.kit import Http, packed, png, voice, wav

DEPLOY: dict[str, Any] = {
    "config": {
        "model_id": "emotion-english-distilroberta-base",
        "name": "Emotion in words",
        "version": "1",
        "model_type": "emotion_detection",
        "framework": "pytorch",
        "resource_requirements": {"cpu": "2", "memory": "4Gi"},
        "scaling_config": {"min_replicas": 1, "max_replicas": 5, "target_cpu_utilization": 70},
    }
}
MODEL = "/api/v1/models/emotion-english-distilroberta-base"
GLAD = {"input_data": {"text": "I am glad"}, "parameters": {"language": "en"}, "timeout": 30, "priority": 5}

TASKS: dict[str, tuple[dict[str, str], str, set[str]]] = {
    "speech_recognition": ({"audio": packed(wav(1.0))}, "pocketsphinx-en-us@1", {"text", "language", "words"}),
    "emotion_detection": ({"text": "I am glad"}, "emotion-english-distilroberta-base@1", {"scores"}),
    "text_summarization": ({"text": "Long ago ..."}, "distilbart-cnn-6-6@1", {"text", "read_characters"}),
    "audio_denoising": ({"audio": packed(wav(1.0))}, "metricgan-plus-voicebank@1", {"audio", "sample_rate_hz"}),
    "video_enhancement": ({"image": packed(png(32, 16))}, "swin2sr-classical-x2@1", {"image"}),
    "audio_deepfake": ({"audio": packed(voice(13.0))}, "aasist@1", {"scores", "evidence"}),
    "face_deepfake": ({"image": packed(png(400, 300))}, "meso-inception-4@1", {"scores", "faces", "evidence"}),
}


def test_every_route_of_the_interface_is_there() -> None:
    assert {(route.method.upper(), route.path.replace("{model_id}", "{id}")) for route in ROUTES} == {
        ("GET", "/api/v1/models"),
        ("POST", "/api/v1/models/deploy"),
        ("GET", "/api/v1/models/{id}/status"),
        ("POST", "/api/v1/models/{id}/inference"),
        ("POST", "/api/v1/models/{id}/batch_inference"),
        ("POST", "/api/v1/models/{id}/scale"),
        ("PUT", "/api/v1/models/{id}"),
        ("DELETE", "/api/v1/models/{id}"),
        ("POST", "/inference/{task_type}"),
        ("GET", "/api/v1/health/"),
        ("GET", "/api/v1/health/live"),
        ("GET", "/api/v1/health/ready"),
        ("GET", "/api/v1/health/startup"),
        ("GET", "/api/v1/health/detailed"),
        ("GET", "/metrics"),
        ("GET", "/api/openapi.json"),
    }


async def test_a_model_is_deployed_asked_scaled_updated_and_deleted(http: Http) -> None:
    status, told = await http("POST", "/api/v1/models/deploy", DEPLOY)
    assert (status, told["state"], told["version"]) == (201, "deployed", "1")
    assert told["replicas"] == {
        "wanted_min": 1,
        "wanted_max": 5,
        "running": 1,
        "most": 1,
        "note": "max_replicas is more than can run here: one engine per device holds each model once",
    }

    status, answer = await http("POST", f"{MODEL}/inference", GLAD)
    assert (status, answer["model"]) == (200, "emotion-english-distilroberta-base@1")
    assert answer["result"]["scores"] == [{"label": "joy", "value": 0.75}, {"label": "anger", "value": 0.25}]

    status, told = await http("GET", f"{MODEL}/status")
    assert (status, told["counters"]["answered"], told["latency"]["answers"]) == (200, 1, 1)

    assert (await http("POST", f"{MODEL}/scale", {"replicas": 0}))[1]["state"] == "stopped"
    status, problem = await http("POST", f"{MODEL}/inference", GLAD)
    assert (status, problem["code"]) == (503, "unavailable")
    assert problem["command"] == "candor models deploy emotion-english-distilroberta-base"

    assert (await http("POST", f"{MODEL}/scale", {"replicas": 1}))[1]["state"] == "deployed"
    assert (await http("PUT", MODEL, {"version": "1"}))[1]["state"] == "deployed"
    assert await http("DELETE", MODEL) == (200, {"model_id": "emotion-english-distilroberta-base", "state": "stopped"})
    assert (await http("POST", f"{MODEL}/inference", GLAD))[0] == 503


async def test_a_batch_answers_each_for_itself(http: Http) -> None:
    item = {"input_data": "I am glad", "parameters": {"language": "en"}}
    wrong = {"input_data": {"image": packed(png(8, 8))}}
    status, answer = await http(
        "POST", f"{MODEL}/batch_inference", {"requests": [item, wrong, {"input": 1}], "timeout": 30}
    )
    assert (status, answer["succeeded"], answer["failed"]) == (200, 1, 2)
    assert answer["results"][0]["answer"]["model"] == "emotion-english-distilroberta-base@1"
    assert [result["error"] and result["error"]["code"] for result in answer["results"]] == [
        None,
        "wrong_modality",
        "bad_request",
    ]


@pytest.mark.parametrize("task", TASKS)
async def test_every_task_names_the_model_that_answered(http: Http, task: str) -> None:
    data, model, fields = TASKS[task]
    status, answer = await http("POST", f"/inference/{task}", {"input_data": data, "parameters": {"language": "en"}})
    assert (status, answer.get("model")) == (200, model), answer
    assert {name for name, value in answer["result"].items() if value is not None} == fields


@pytest.mark.parametrize("task", [task for task in TASKS if "text" not in TASKS[task][0]])
async def test_a_form_does_as_well(http: Http, task: str) -> None:
    form = aiohttp.FormData()
    kind = "audio/wav" if "audio" in TASKS[task][0] else "image/png"
    sound = voice(13.0) if task == "audio_deepfake" else wav(1.0)
    form.add_field(
        "file",
        sound if kind == "audio/wav" else png(400 if task == "face_deepfake" else 40, 300),
        content_type=kind,
        filename="file",
    )
    form.add_field("parameters", json.dumps({"language": "en"}))
    form.add_field("priority", "high")
    status, answer = await http("POST", f"/inference/{task}", data=form)
    assert (status, answer.get("model")) == (200, TASKS[task][1]), answer


async def test_the_list_says_why_a_model_is_not_here(http: Http) -> None:
    status, told = await http("GET", "/api/v1/models")
    models = {model["model_id"]: model for model in told["models"]}
    assert status == 200
    assert models["aasist"]["state"] == "available"
    assert models["whisper-base"]["state"] == "unavailable"
    assert models["whisper-base"]["command"].startswith(("candor models pull", "make models"))


async def test_health(http: Http) -> None:
    for path in ("", "live", "ready", "startup"):
        assert await http("GET", f"/api/v1/health/{path}") == (200, {"status": "ok"})
    assert (await http("GET", "/api/v1/health/detailed"))[1]["engine"] == "connected"


async def test_what_is_counted(http: Http) -> None:
    await http("POST", "/api/v1/models/deploy", DEPLOY)
    await http("POST", f"{MODEL}/inference", GLAD)
    await http("POST", f"{MODEL}/batch_inference", {"requests": [GLAD]})
    page = (await http("GET", "/metrics"))[1]
    label = 'model="emotion-english-distilroberta-base"'
    for line in (
        f'ai_model_deployments_total{{action="deploy",{label},result="ok"}} 1.0',
        f'ai_model_inference_requests_total{{{label},result="ok",task="text_emotion"}} 2.0',
        f"ai_model_inference_duration_seconds_count{{{label}}} 2.0",
        f'ai_model_batch_inference_requests_total{{{label},result="ok"}} 1.0',
        f'ai_model_resource_usage{{{label},resource="queued"}} 0.0',
        f"ai_model_health_status{{{label}}} 1.0",
    ):
        assert line in page, line


async def test_the_document_is_the_file(service: ModelService, http: Http) -> None:
    status, document = await http("GET", "/api/openapi.json")
    assert (status, document) == (200, json.loads(openapi.FILE.read_text()))
    assert sum(len(operations) for operations in document["paths"].values()) == len(ROUTES)
