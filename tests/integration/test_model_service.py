"""`candor models serve` as processes: its commands, the death of its engine, its end; and all seven tasks over HTTP."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.unit.models.test_models_cli import MIRROR, models, needs_mirror
from tests.unit.service.kit import Http, packed, png
from tests.until import until

MEDIA = Path(__file__).parents[3] / "shared" / "media"
needs_media = pytest.mark.skipif(not MEDIA.is_dir(), reason="../shared/media is not beside the repository")
CANDOR = [sys.executable, "-m", "candor.cli"]
ENGINE = re.compile(r'"child": "engine", "pid": (\d+)')
OWN_NICE = os.getpriority(os.PRIO_PROCESS, 0)
NICE = min(19, OWN_NICE + 5), min(19, OWN_NICE + 15)


@dataclass(slots=True)
class Served:
    """A service in processes of its own."""

    process: asyncio.subprocess.Process
    url: str
    environment: dict[str, str]
    log: list[str]

    def engine_pid(self) -> int:
        """Of the engine that was started last."""
        return int([found[1] for line in self.log if (found := ENGINE.search(line))][-1])

    def nice(self) -> tuple[int, int]:
        """Of the service and of its engine."""
        pids = self.process.pid, self.engine_pid()
        return os.getpriority(os.PRIO_PROCESS, pids[0]), os.getpriority(os.PRIO_PROCESS, pids[1])

    async def command(self, *arguments: str) -> tuple[int, str]:
        """The exit status of `candor models ...` and what it said."""
        process = await asyncio.create_subprocess_exec(
            *CANDOR,
            "models",
            *arguments,
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode()


@contextlib.asynccontextmanager
async def served(root: Path) -> AsyncIterator[Served]:
    """A service whose store is `root`, with an engine that it started itself."""
    environment = os.environ | {"CANDOR_MODELS__MODELS_DIR": str(root)}
    process = await asyncio.create_subprocess_exec(
        *CANDOR,
        "models",
        "serve",
        "--port",
        "0",
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    log: list[str] = []
    reading = asyncio.create_task(_read(process.stdout, log))
    await until(lambda: "" if any("served at" in line for line in log) else f"the service to start: {log}", 60)
    url = re.search(r"served at (\S+)/ ", "".join(log))
    assert url is not None
    environment |= {"CANDOR_MODELS__SERVICE__URL": url[1]}
    try:
        yield Served(process, url[1], environment, log)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()
        await reading


async def _read(stream: asyncio.StreamReader, log: list[str]) -> None:
    async for line in stream:
        log.append(line.decode())


async def is_ready(http: Http) -> str:
    return "" if (await http("GET", "/api/v1/health/ready"))[0] == 200 else "the service to be ready"


@needs_media
async def test_the_commands_and_the_death_of_the_engine(tmp_path: Path) -> None:
    async with served(tmp_path) as service:
        http = Http(service.url)
        await until(lambda: is_ready(http), 60)
        status, out = await service.command("deploy", "pocketsphinx-en-us")
        assert (status, json.loads(out)["state"]) == (0, "deployed")
        assert service.nice() == NICE
        digits = str(MEDIA / "speech_wideband_16k.wav")
        status, out = await service.command("infer", "speech_recognition", "--file", digits, "--language", "en")
        assert status == 0
        assert "zero" in json.loads(out)["result"]["text"]
        status, out = await service.command("infer", "text_summarization", "--text", "Long ago.", "--language", "en")
        assert (status, out.startswith("unavailable")) == (1, True)
        assert "models" in out

        before = service.engine_pid()
        os.kill(before, signal.SIGKILL)
        await until(lambda: "" if service.engine_pid() != before else "another engine", 60)
        await until(lambda: is_ready(http), 60)
        assert service.nice() == NICE
        told = json.loads((await service.command("status", "pocketsphinx-en-us"))[1])
        assert (told["state"], told["replicas"]["running"]) == ("deployed", 1)

        engine = service.engine_pid()
        service.process.send_signal(signal.SIGTERM)
        assert await service.process.wait() == 0
        assert not Path(f"/proc/{engine}").exists()


@pytest.mark.weights
@needs_mirror
@needs_media
async def test_all_seven_tasks(tmp_path: Path) -> None:
    """Real models of the mirror and PocketSphinx; where the mirror has none, real architectures with random weights."""
    pytest.importorskip("torch", reason="the extras speech and vision are not installed (make models)")
    from models import catalog
    from models.engine import SOCKET_NAME, Engine
    from models.service.server import ModelService
    from models.service.settings import ServiceSettings
    from models.settings import ModelSettings
    from models.store import Store
    from tests import tiny_models

    root = tmp_path / "store"
    assert models(root, "pull", "--mirror", str(MIRROR)) == 0
    random = {
        "emotion-english-distilroberta-base",
        "distilbart-cnn-6-6",
        "metricgan-plus-voicebank",
        "swin2sr-classical-x2",
        "wav2vec2-base-superb-er",
    }
    for name in random:
        tiny_models.install(root, catalog.load().get(name))
    store = Store(root, allow_random=True)
    settings = ModelSettings(models_dir=root, service=ServiceSettings(port=0))
    engine = Engine(tmp_path / SOCKET_NAME, settings, store=store)
    await engine.start()
    service = ModelService(settings, tmp_path / SOCKET_NAME, store)
    await service.start()
    http = Http(service.url)
    await until(lambda: is_ready(http), 60)

    digits = packed((MEDIA / "speech_wideband_16k.wav").read_bytes())
    face = packed((MEDIA / "face_real.jpg").read_bytes())
    asked: dict[str, tuple[dict[str, str], str]] = {
        "speech_recognition": ({"audio": digits}, "pocketsphinx-en-us"),
        "emotion_detection": ({"text": "What a pleasant surprise!"}, "emotion-english-distilroberta-base"),
        "text_summarization": ({"text": "We meet again tomorrow at ten. " * 4}, "distilbart-cnn-6-6"),
        "audio_denoising": ({"audio": digits}, "metricgan-plus-voicebank"),
        "video_enhancement": ({"image": packed(png(32, 24))}, "swin2sr-classical-x2"),
        "audio_deepfake": ({"audio": digits}, "aasist"),
        "face_deepfake": ({"image": face}, "meso-inception-4"),
    }
    answers: dict[str, Any] = {}
    for task, (data, model) in asked.items():
        body = {"input_data": data, "parameters": {"language": "en"}, "timeout": 60}
        status, answers[task] = await http("POST", f"/inference/{task}", body)
        assert (status, answers[task].get("model", "").partition("@")[0]) == (200, model), answers[task]
        assert answers[task]["model"].partition("@")[2] == (store.locate(catalog.load().get(model))).version
    assert "zero" in answers["speech_recognition"]["result"]["text"]
    assert answers["audio_deepfake"]["result"]["evidence"]["score"] > 0
    assert answers["face_deepfake"]["result"]["scores"][0]["value"] > 0.5
    for data, model in (({"audio": digits}, "wav2vec2-base-superb-er"), ({"image": face}, "mini-xception")):
        status, answer = await http("POST", "/inference/emotion_detection", {"input_data": data, "timeout": 60})
        assert (status, answer.get("model", "").partition("@")[0]) == (200, model), answer
        assert sum(score["value"] for score in answer["result"]["scores"]) == pytest.approx(1, abs=1e-4)

    status, told = await http("PUT", "/api/v1/models/distilbart-cnn-6-6", {"precision": "fp32"})
    assert (status, told["code"]) == (409, "not_deployed")
    config = {"model_id": "distilbart-cnn-6-6", "name": "Summaries", "model_type": "summary", "framework": "torch"}
    await http("POST", "/api/v1/models/deploy", {"config": config | {"precision": "fp32"}})
    status, told = await http("PUT", "/api/v1/models/distilbart-cnn-6-6", {"precision": "int8"})
    assert (status, told["precision"], told["device"]) == (200, "int8", "cpu")
    await service.close()
    await engine.close()
