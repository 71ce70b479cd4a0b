"""What hosts ask models with: one face, whether the engine runs on this machine or somewhere else (`models.backends`)."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from models.errors import DeadlineError, FailedError, LoadingError, OverloadedError
from models.precision import Precision
from models.questions import Answer, Question, answer_from_wire
from models.speech import Transcript, Utterance
from models.traffic import Route
from models.transports import SocketTransport, Transport, ignore

A = TypeVar("A", bound=Answer)

GRACE_MS = 500
"""How much longer than the deadline we wait for the engine to say that it passed."""


@dataclass(frozen=True, slots=True)
class Answered(Generic[A]):
    """An answer, and who gave it: while a model is exchanged, answers of both versions come."""

    answer: A
    model: str
    """name@version."""


class InferenceClient:
    """Asks an engine. Never waits for a connection: no engine is an answer.

    `engine`: the socket of one on this machine, or another way to one.
    """

    def __init__(self, engine: Path | Transport) -> None:
        self.on_connection: Callable[[bool], None] = ignore
        """Called when the engine is there (True), or has other models than before, or is gone (False)."""
        self.missed = 0
        """Questions that were not answered in time, or refused because others were before them."""
        self._transport: Transport = SocketTransport(engine) if isinstance(engine, Path) else engine
        self._transport.on_connection = self._connection_changed

    @property
    def connected(self) -> bool:
        """Whether the engine is there."""
        return self._transport.connected

    def start(self) -> None:
        """Begin to connect."""
        self._transport.start()

    async def close(self) -> None:
        """Disconnect; requests that wait raise EngineGoneError. Idempotent."""
        await self._transport.close()

    async def transcribe(self, model: str, utterance: Utterance, deadline_ms: float) -> Answered[Transcript]:
        """What `model` hears in the window. Raises InferenceError: unavailable, overloaded, timeout, engine_gone, failed."""
        room_id, track_id = utterance.room_id, utterance.track_id
        return await self.ask(model, utterance, Transcript, room_id=room_id, track_id=track_id, deadline_ms=deadline_ms)

    async def ask(
        self, model: str, question: Question, wanted: type[A], *, room_id: str, deadline_ms: float, track_id: str = ""
    ) -> Answered[A]:
        """What `model` answers, and in which version; `wanted` is the kind of answer that its task has.

        Where two versions answer, a track stays with one, and what is asked about no track goes by its room (`models.traffic`).
        Raises InferenceError, as `transcribe` does, and ValueError for a question that is too large to send.
        """
        fields = {"model": model, "room_id": room_id, "deadline_ms": deadline_ms, "question": question.to_wire()}
        if track_id:
            fields["track_id"] = track_id
        reply = await self.request("ask", fields, deadline_ms + GRACE_MS)
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
        return await self._version("load", {"model": model, "precision": precision}, timeout_ms)

    async def reload(self, model: str, precision: Precision | None = None, timeout_ms: float = 120_000) -> str:
        """Have the engine exchange `model` for what the store has now; returns its version. Raises InferenceError."""
        return await self._version("reload", {"model": model, "precision": precision}, timeout_ms)

    async def unload(self, model: str) -> None:
        """Have the engine let `model` go after its last call; whoever asks it again has it loaded again. Raises InferenceError."""
        await self.request("unload", {"model": model}, 5_000)

    async def route(self, model: str, route: Route | None, timeout_ms: float = 240_000) -> bool:
        """Have the engine ask `model` by `route`, or in its newest version; whether that is new. Raises InferenceError."""
        fields = {"model": model, "route": None if route is None else route.model_dump(mode="json")}
        result = await self.request("route", fields, timeout_ms)
        if not isinstance(result, dict) or "changed" not in result:
            raise FailedError("malformed answer")
        return bool(result["changed"])

    async def stats(self) -> dict[str, Any]:
        """Counters per loaded model. Raises InferenceError."""
        result = await self.request("stats", {}, 5_000)
        if not isinstance(result, dict):
            raise FailedError("malformed answer")
        return result

    async def request(self, operation: str, fields: dict[str, Any], timeout_ms: float) -> Any:
        """The result of an operation in the maps of the wire, for who passes them on. Raises as `ask`."""
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                return await self._transport.request(operation, fields)
        except (DeadlineError, OverloadedError) as error:
            self.missed += not isinstance(error, LoadingError)
            raise
        except TimeoutError as error:
            self.missed += 1
            raise DeadlineError("the engine did not answer") from error

    async def _version(self, operation: str, fields: dict[str, Any], timeout_ms: float) -> str:
        result = await self.request(operation, fields, timeout_ms)
        if not isinstance(result, dict) or "version" not in result:
            raise FailedError("malformed answer")
        return str(result["version"])

    def _connection_changed(self, connected: bool) -> None:
        self.on_connection(connected)
