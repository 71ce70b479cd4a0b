"""The engine's socket and its client, with a runner that answers at once or never."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from models import shelf as shelf_module
from models import wire
from models.catalog import ModelEntry
from models.client import GRACE_MS, InferenceClient
from models.engine import SOCKET_NAME, Engine
from models.errors import (
    DeadlineError,
    EngineGoneError,
    FailedError,
    OverloadedError,
    RefusedError,
    UnavailableError,
    from_wire,
)
from models.questions import Text
from models.settings import ModelSettings
from models.speech import Transcript, Utterance, Word
from models.transports import MAX_UNSENT_BYTES, SocketTransport
from tests.until import until


class Runner:
    """Says how many samples it heard."""

    takes = Utterance
    max_batch = 1
    max_wait_ms = 0.0
    isolated = False
    concurrency = 1

    def __init__(self) -> None:
        self.silent = False
        self.closed = False

    async def start(self) -> None:
        """Nothing to load."""

    def check(self, question: Utterance) -> None:
        """Nothing to check."""

    async def run(self, batch: Sequence[Utterance]) -> list[Transcript]:
        if self.silent:
            await asyncio.Event().wait()
        return [Transcript((Word(f" {len(utterance.pcm)}", 0, 10, 0.5),), "en", 0.1, 1.2) for utterance in batch]

    async def close(self) -> None:
        self.closed = True


def utterance(language: str = "en") -> Utterance:
    return Utterance("room", "track", "segment", np.arange(160, dtype=np.int16), True, language)


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Runner:
    runner = Runner()

    def create(entry: ModelEntry, *_: Any) -> tuple[Runner, str]:
        if entry.name != "pocketsphinx-en-us":
            raise UnavailableError("its weights have not been pulled", f"candor models pull {entry.name}")
        return runner, "1"

    monkeypatch.setattr(shelf_module, "create_runner", create)
    return runner


@pytest.fixture
async def client(runner: Runner, tmp_path: Path) -> AsyncIterator[InferenceClient]:
    engine = Engine(tmp_path / SOCKET_NAME, ModelSettings(models_dir=tmp_path))
    await engine.start()
    client = InferenceClient(tmp_path / SOCKET_NAME)
    client.start()
    await until(lambda: "" if client.connected else "the engine")
    yield client
    await client.close()
    await engine.close()
    assert runner.closed or not engine.shelf.loaded()


async def test_a_window_is_answered(client: InferenceClient) -> None:
    answered = await client.transcribe("pocketsphinx-en-us", utterance(), 1_000)
    assert answered.answer == Transcript((Word(" 160", 0, 10, 0.5),), "en", 0.1, 1.2)
    assert answered.model == "pocketsphinx-en-us@1"
    stats = await client.stats()
    assert stats["pocketsphinx-en-us"]["answered"] == 1


async def test_a_model_that_is_not_here_names_the_command(client: InferenceClient) -> None:
    with pytest.raises(UnavailableError) as caught:
        await client.load("whisper-tiny")
    assert caught.value.command == "candor models pull whisper-tiny"


async def test_an_unknown_model_is_unavailable(client: InferenceClient) -> None:
    with pytest.raises(UnavailableError, match="no model 'hal'"):
        await client.transcribe("hal", utterance(), 1_000)


async def test_another_language_is_unavailable_never_guessed(client: InferenceClient) -> None:
    with pytest.raises(UnavailableError, match="language"):
        await client.transcribe("pocketsphinx-en-us", utterance("zh"), 1_000)


async def test_a_deadline_passes(client: InferenceClient, runner: Runner) -> None:
    runner.silent = True
    with pytest.raises(DeadlineError):
        await client.transcribe("pocketsphinx-en-us", utterance(), 20)


async def test_a_malformed_request_is_refused_and_the_connection_lives(client: InferenceClient) -> None:
    with pytest.raises(FailedError, match="malformed"):
        await client.request("ask", {"model": "pocketsphinx-en-us", "question": {"kind": "utterance"}}, 1_000)
    with pytest.raises(FailedError, match="unknown op"):
        await client.request("sing", {}, 1_000)
    await client.transcribe("pocketsphinx-en-us", utterance(), 1_000)


async def test_what_a_model_does_not_take_is_refused_for_good(client: InferenceClient) -> None:
    with pytest.raises(RefusedError, match="takes no text") as caught:
        await client.ask("pocketsphinx-en-us", Text("hello", "en"), Transcript, room_id="room", deadline_ms=1_000)
    assert not caught.value.retryable


async def test_a_model_goes_when_told_and_comes_again_when_asked(client: InferenceClient, runner: Runner) -> None:
    assert await client.load("pocketsphinx-en-us") == "1"
    await client.unload("pocketsphinx-en-us")
    assert await client.stats() == {}
    await until(lambda: "" if runner.closed else "the end of what was unloaded")
    await client.transcribe("pocketsphinx-en-us", utterance(), 1_000)
    assert list(await client.stats()) == ["pocketsphinx-en-us"]


async def test_a_model_with_one_precision_takes_no_other(client: InferenceClient) -> None:
    with pytest.raises(UnavailableError, match="one precision only"):
        await client.load("pocketsphinx-en-us", "int8")


async def test_a_precision_that_cannot_be_changes_nothing_for_others(client: InferenceClient) -> None:
    with pytest.raises(UnavailableError, match="one precision only"):
        await client.load("pocketsphinx-en-us", "int8")
    assert await client.load("pocketsphinx-en-us")


async def test_a_precision_that_nobody_knows_is_refused(client: InferenceClient) -> None:
    with pytest.raises(RefusedError, match="precision 'fp7'"):
        await client.request("reload", {"model": "pocketsphinx-en-us", "precision": "fp7"}, 1_000)


async def test_bytes_that_are_no_message_end_that_connection_only(client: InferenceClient, tmp_path: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(tmp_path / SOCKET_NAME)
    writer.write(b"\xff" * 32)
    assert await reader.read() == b""
    writer.close()
    await client.transcribe("pocketsphinx-en-us", utterance(), 1_000)


async def test_without_an_engine_the_answer_comes_at_once(tmp_path: Path) -> None:
    client = InferenceClient(tmp_path / "nobody.sock")
    client.start()
    with pytest.raises(EngineGoneError):
        await client.transcribe("pocketsphinx-en-us", utterance(), 1_000)
    await client.close()
    await client.close()


async def test_an_engine_that_does_not_read_is_asked_no_more(tmp_path: Path) -> None:
    done = asyncio.Event()

    async def stalled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()

    server = await asyncio.start_unix_server(stalled, tmp_path / SOCKET_NAME, limit=1 << 12)
    client = InferenceClient(tmp_path / SOCKET_NAME)
    client.start()
    await until(lambda: "" if client.connected else "the engine")
    window = Utterance("room", "track", "segment", np.zeros(12 * 16_000, np.int16), True, "en")
    errors = []
    for _ in range(20):
        with pytest.raises((DeadlineError, OverloadedError)) as caught:
            await client.transcribe("pocketsphinx-en-us", window, -GRACE_MS)
        errors.append(caught.type)
    assert errors[0] is DeadlineError
    assert errors[-1] is OverloadedError
    assert isinstance(client._transport, SocketTransport)
    assert client._transport._writer is not None
    assert client._transport._writer.transport.get_write_buffer_size() < MAX_UNSENT_BYTES + len(window.pcm) * 2 + 1_000
    done.set()
    await client.close()
    server.close()


async def test_an_engine_that_goes_fails_what_waits_and_one_that_comes_is_found(runner: Runner, tmp_path: Path) -> None:
    seen: list[bool] = []
    settings = ModelSettings(models_dir=tmp_path)
    engine = Engine(tmp_path / SOCKET_NAME, settings)
    await engine.start()
    client = InferenceClient(tmp_path / SOCKET_NAME)
    client.on_connection = seen.append
    client.start()
    await until(lambda: "" if client.connected else "the engine")
    runner.silent = True
    waiting = asyncio.create_task(client.transcribe("pocketsphinx-en-us", utterance(), 60_000))
    await until(lambda: "" if engine.shelf.loaded() else "the model")
    await engine.close()
    with pytest.raises((EngineGoneError, FailedError)):
        await waiting
    await until(lambda: "" if not client.connected else "the loss to be noticed")
    runner.silent = False
    again = Engine(tmp_path / SOCKET_NAME, settings)
    await again.start()
    await until(lambda: "" if client.connected else "the engine again")
    await client.transcribe("pocketsphinx-en-us", utterance(), 1_000)
    assert seen == [True, False, True]
    await client.close()
    await again.close()


@given(st.binary(max_size=64))
def test_wire_refuses_anything_malformed_with_value_error_only(data: bytes) -> None:
    try:
        assert isinstance(wire.decode(data), dict)
    except ValueError:
        return


def test_errors_survive_the_wire() -> None:
    error = from_wire(UnavailableError("not here", "make models", retry_s=600.0).to_wire())
    assert isinstance(error, UnavailableError)
    assert (error.message, error.command, error.retry_s) == ("not here", "make models", 600.0)
    assert from_wire({"code": "something new"}).code == "inference_failed"


async def test_what_is_asked_and_how_it_ended_is_told_to_prometheus(client: InferenceClient, runner: Runner) -> None:
    await client.transcribe("pocketsphinx-en-us", utterance(), 1_000)
    with pytest.raises(UnavailableError):
        await client.transcribe("whisper-tiny", utterance(), 1_000)
    with pytest.raises(UnavailableError):
        await client.transcribe("whoever-asks-may-say-anything", utterance(), 1_000)
    runner.silent = True
    with pytest.raises(DeadlineError):
        await client.transcribe("pocketsphinx-en-us", utterance(), 20)
    page = await client.request("metrics", {}, 1_000)
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
    requests = "ai_model_inference_requests_total"
    assert samples[requests, "ok", "pocketsphinx-en-us", "speech_to_text"] == 1
    assert samples[requests, "pocketsphinx-en-us", "speech_to_text", "timeout"] == 1
    assert samples[requests, "speech_to_text", "unavailable", "whisper-tiny"] == 1
    assert samples[requests, "other", "other", "unavailable"] == 1
    assert samples["ai_model_inference_duration_seconds_count", "pocketsphinx-en-us"] == 1
    assert samples["ai_model_batch_size_count", "pocketsphinx-en-us"] == 2
    assert samples["ai_model_queue_wait_seconds_count", "pocketsphinx-en-us"] == 2
    assert samples["ai_model_health_status", "pocketsphinx-en-us"] == 1
    assert samples["ai_model_resource_usage", "load_s", "pocketsphinx-en-us"] >= 0
    assert "whoever" not in page
