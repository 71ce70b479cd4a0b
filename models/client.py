"""The other end of the engine's socket: what hosts ask models with."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import structlog

from models import wire
from models.errors import DeadlineError, EngineGoneError, FailedError, LoadingError, OverloadedError, from_wire
from models.precision import Precision
from models.questions import Answer, Question, answer_from_wire
from models.speech import Transcript, Utterance

A = TypeVar("A", bound=Answer)

RETRY_S = 0.25
GRACE_MS = 500
"""How much longer than the deadline we wait for the engine to say that it passed."""

MAX_UNSENT_BYTES = 4 << 20
"""Ten windows of the longest kind. An engine that reads none of them gets no more to read."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Answered(Generic[A]):
    """An answer, and who gave it: while a model is exchanged, answers of both versions come."""

    answer: A
    model: str
    """name@version."""


class InferenceClient:
    """Connects to the engine, and again whenever it is gone. Never waits for a connection: no engine is an answer."""

    def __init__(self, socket_path: Path) -> None:
        self.on_connection: Callable[[bool], None] = _ignore
        """Called when the engine is there (True) or gone (False)."""
        self.connected = False
        self.missed = 0
        """Questions that were not answered in time, or refused because others were before them."""
        self._socket_path = socket_path
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._last_id = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to connect."""
        self._task = asyncio.create_task(self._keep_connected(), name="inference-client")

    async def close(self) -> None:
        """Disconnect; requests that wait raise EngineGoneError. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def transcribe(self, model: str, utterance: Utterance, deadline_ms: float) -> Answered[Transcript]:
        """What `model` hears in the window. Raises InferenceError: unavailable, overloaded, timeout, engine_gone, failed."""
        return await self.ask(model, utterance, Transcript, room_id=utterance.room_id, deadline_ms=deadline_ms)

    async def ask(
        self, model: str, question: Question, wanted: type[A], *, room_id: str, deadline_ms: float
    ) -> Answered[A]:
        """What `model` answers, and in which version; `wanted` is the kind of answer that its task has.

        Raises InferenceError, as `transcribe` does, and ValueError for a question that is too large to send.
        """
        fields = {"model": model, "room_id": room_id, "deadline_ms": deadline_ms, "question": question.to_wire()}
        reply = await self._ask("ask", fields, deadline_ms + GRACE_MS)
        try:
            answer, version = answer_from_wire(reply["answer"]), str(reply["model"])
        except (KeyError, TypeError, ValueError) as error:
            raise FailedError("malformed answer") from error
        if not isinstance(answer, wanted):
            raise FailedError(f"{model} answered {type(answer).__name__}, not {wanted.__name__}")
        return Answered(answer, version)

    async def load(self, model: str, precision: Precision | None = None, timeout_ms: float = 120_000) -> str:
        """Have the engine load `model`; returns its version. Raises InferenceError; UnavailableError says what would help.

        `precision` is for when it is loaded: one that is already here stays as it is.
        """
        return str((await self._ask("load", {"model": model, "precision": precision}, timeout_ms))["version"])

    async def reload(self, model: str, precision: Precision | None = None, timeout_ms: float = 120_000) -> str:
        """Have the engine exchange `model` for what the store has now; returns its version. Raises InferenceError."""
        return str((await self._ask("reload", {"model": model, "precision": precision}, timeout_ms))["version"])

    async def unload(self, model: str) -> None:
        """Have the engine let `model` go after its last call; whoever asks it again has it loaded again. Raises InferenceError."""
        await self._ask("unload", {"model": model}, 5_000)

    async def stats(self) -> dict[str, Any]:
        """Counters per loaded model. Raises InferenceError."""
        result: dict[str, Any] = await self._ask("stats", {}, 5_000)
        return result

    async def _ask(self, operation: str, fields: dict[str, Any], timeout_ms: float) -> Any:
        if self._writer is None:
            raise EngineGoneError("the model engine is not running; it is being restarted")
        if self._writer.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self.missed += 1
            raise OverloadedError("the model engine does not read")
        self._last_id += 1
        request_id = self._last_id
        future = self._waiting[request_id] = asyncio.get_running_loop().create_future()
        try:
            self._writer.write(wire.pack({"id": request_id, "op": operation, **fields}))
            async with asyncio.timeout(timeout_ms / 1000):
                return await future
        except (DeadlineError, OverloadedError) as error:
            self.missed += not isinstance(error, LoadingError)
            raise
        except TimeoutError as error:
            self.missed += 1
            raise DeadlineError("the engine did not answer") from error
        finally:
            self._waiting.pop(request_id, None)

    async def _keep_connected(self) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._socket_path)
            except OSError:
                await asyncio.sleep(RETRY_S)
                continue
            self._set_connected(writer)
            log.info("engine_connected")
            try:
                await self._read(reader)
            except (asyncio.IncompleteReadError, OSError, ValueError) as error:
                log.warning("engine_gone", error=type(error).__name__)
            finally:
                writer.close()
                self._set_connected(None)

    def _set_connected(self, writer: asyncio.StreamWriter | None) -> None:
        self._writer, self.connected = writer, writer is not None
        if writer is None:
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(EngineGoneError("the model engine died"))
        self.on_connection(self.connected)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while True:
            message = await wire.read(reader)
            future = self._waiting.get(message.get("id", 0))
            if future is None or future.done():
                continue  # its deadline has passed
            if message.get("ok"):
                future.set_result(message.get("result"))
            elif isinstance(message.get("error"), dict):
                future.set_exception(from_wire(message["error"]))
            else:
                future.set_exception(FailedError("malformed answer"))


def _ignore(connected: bool) -> None:
    del connected
