"""What the engine says of its work in spans."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from models import shelf as shelf_module
from models.batching import Batcher
from models.catalog import ModelEntry
from models.client import InferenceClient
from models.engine import SOCKET_NAME, Engine
from models.errors import DeadlineError, UnavailableError
from models.settings import ModelSettings
from models.speech import Transcript, Utterance
from tests.until import until

MODEL = "pocketsphinx-en-us"


class Runner:
    """Answers two at a time, or never."""

    takes = Utterance
    max_batch = 2
    max_wait_ms = 60_000.0
    isolated = False
    concurrency = 1
    silent = False

    async def start(self) -> None:
        """Nothing to load."""

    def check(self, question: Utterance) -> None:
        """Nothing to check."""

    async def run(self, batch: Sequence[Utterance]) -> list[Transcript]:
        if self.silent:
            await asyncio.Event().wait()
        return [Transcript((), "en", 0.1, 1.2) for _ in batch]

    async def close(self) -> None:
        """Nothing to free."""


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Runner:
    runner = Runner()

    def create(entry: ModelEntry, *_: Any) -> tuple[Runner, str]:
        if entry.name != MODEL:
            raise UnavailableError("its weights have not been pulled")
        return runner, "7"

    monkeypatch.setattr(shelf_module, "create_runner", create)
    return runner


@pytest.fixture
async def client(runner: Runner, made: InMemorySpanExporter, tmp_path: Path) -> AsyncIterator[InferenceClient]:
    engine = Engine(tmp_path / SOCKET_NAME, ModelSettings(models_dir=tmp_path))
    await engine.start()
    client = InferenceClient(tmp_path / SOCKET_NAME)
    client.start()
    await until(lambda: "" if client.connected else "the engine")
    yield client
    await client.close()
    await engine.close()


def utterance() -> Utterance:
    return Utterance("room", "track", "segment", np.arange(160, dtype=np.int16), True, "en")


def named(made: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in made.get_finished_spans() if span.name == name]


async def test_questions_of_a_batch_tell_how_long_they_waited_and_who_answered(
    client: InferenceClient, made: InMemorySpanExporter
) -> None:
    await asyncio.gather(*(client.transcribe(MODEL, utterance(), 30_000) for _ in range(2)))
    (load,) = named(made, "model.load")
    assert load.attributes == {"candor.model": f"{MODEL}@7", "candor.outcome": "ok"}
    infers = named(made, "model.infer")
    assert len(infers) == 2
    for span in infers:
        assert span.attributes is not None
        assert {**span.attributes, "candor.queue_wait_ms": 0} == {
            "candor.model": f"{MODEL}@7",
            "candor.outcome": "ok",
            "candor.batch_size": 2,
            "candor.queue_wait_ms": 0,
        }
        waited_ms = span.attributes["candor.queue_wait_ms"]
        assert isinstance(waited_ms, float)
        assert span.start_time is not None
        assert span.end_time is not None
        assert 0 <= waited_ms <= (span.end_time - span.start_time) / 1e6
        assert span.parent is None


async def test_what_went_wrong_is_a_code(client: InferenceClient, runner: Runner, made: InMemorySpanExporter) -> None:
    with pytest.raises(UnavailableError):
        await client.transcribe("whisper-tiny", utterance(), 30_000)
    with pytest.raises(UnavailableError):
        await client.transcribe("what somebody calls it", utterance(), 30_000)
    runner.silent = True
    with pytest.raises(DeadlineError):
        await client.transcribe(MODEL, utterance(), 50)
    await until(lambda: "" if len(named(made, "model.infer")) == 3 else "three questions")
    told = [dict(span.attributes or {}) for span in named(made, "model.infer")]
    assert told == [
        {"candor.model": "whisper-tiny", "candor.outcome": "unavailable"},
        {"candor.model": "other", "candor.outcome": "unavailable"},
        {"candor.model": MODEL, "candor.outcome": "timeout"},
    ]


async def test_a_batcher_needs_nobody_who_makes_spans() -> None:
    async def double(batch: Sequence[int]) -> list[int]:
        return [2 * number for number in batch]

    batcher = Batcher(double, max_batch=1, max_wait_ms=0, max_queued=4)
    batcher.start()
    assert await batcher.submit(21, room_id="room", deadline_ms=10_000) == 42
    await batcher.close()
