"""What a host of meetings on another machine asks over HTTP, in the maps of the engine's socket; `models.remote` is the other end.

    POST .../engine/v1/ask     {model, room_id, track_id?, deadline_ms, question}  scope models:infer
                       load    {model}                                  scope models:infer: asking loads a model as well
                       load    {model, precision}                       scope models:manage
                       reload  {model, precision?}                      scope models:manage
                       unload  {model}                                  scope models:manage
                       stats   {}                                       scope models:infer
    GET  .../engine/v1/models  -> `models.inventory.Told`               scope models:infer

Every answer is 200 and `{ok, result|error}`, whatever the engine says. What is not the engine's (keys, rates, bounds) is a
ServiceError. Nothing here knows who serves HTTP: the model service does (`engine_routes`), and Ray Serve (`models.ray_app`).
"""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from models import wire
from models.errors import FailedError, InferenceError, RefusedError, UnavailableError
from models.service.auth import Authority, Caller
from models.service.errors import ServiceError
from models.store import CorruptModelError

LOAD_S = 120.0
ANSWER_S = 5.0
MAX_DEADLINE_MS = 600_000
GRACE_MS = 250
"""How much longer than the deadline we wait for the engine; who asked us waits longer still."""

audit = structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger(0)).bind(audit=True)
"""Who changed what; not silenced by any log level."""


class Answering(Protocol):
    """Who answers what got through. Each raises InferenceError."""

    async def request(self, operation: str, fields: dict[str, Any], timeout_ms: float) -> Any:
        """The result of an operation of `models.engine`."""

    async def models(self) -> dict[str, Any]:
        """`models.inventory.Told`, as a map."""


@dataclass(frozen=True, slots=True)
class Request:
    """One of HTTP's. `read` gives the body; it raises ServiceError (413) if that is larger than it was told."""

    method: str
    operation: str
    authorization: str
    api_key: str
    read: Callable[[int], Awaitable[bytes]]


class EnginePort:
    """Lets questions through to `answering`."""

    def __init__(self, authority: Authority, answering: Answering) -> None:
        self._authority = authority
        self._answering = answering

    async def answer(self, request: Request) -> bytes:
        """The body of the answer, with status 200. Raises ServiceError."""
        caller = self._authority.caller(request.authorization, request.api_key)
        caller.demand("models:infer")
        self._authority.charge(caller)
        if (request.method, request.operation) == ("GET", "models"):
            return await _encoded(self._models())
        if request.method != "POST" or request.operation not in _OPERATIONS:
            raise ServiceError(404, "no_such_route", "not found")
        body = await request.read(wire.MAX_MESSAGE_BYTES)
        return await _encoded(self._pass_on(caller, request.operation, body))

    async def _models(self) -> dict[str, Any]:
        try:
            return await self._answering.models()
        except CorruptModelError as error:
            raise UnavailableError(str(error), "candor models pull") from error

    async def _pass_on(self, caller: Caller, operation: str, body: bytes) -> Any:
        try:
            fields = wire.decode(body)
            timeout_ms = _OPERATIONS[operation](fields)
            model = str(fields["model"]) if operation != "stats" else ""
        except (KeyError, TypeError, ValueError) as error:
            raise RefusedError(f"malformed request: {error}") from error
        changes = operation in ("reload", "unload") or (operation == "load" and fields.get("precision") is not None)
        if changes:
            caller.demand("models:manage")
        if operation == "ask":
            # Callers take turns at the engine, and one cannot pass for a room of another.
            fields["room_id"] = f"{caller.id}:{fields.get('room_id')}"
            if fields.get("track_id"):
                fields["track_id"] = f"{caller.id}:{fields['track_id']}"
        result = await self._answering.request(operation, fields, timeout_ms)
        if changes:
            audit.info("engine_changed", caller=caller.id, operation=operation, model=model)
        return result


async def _encoded(result: Awaitable[Any]) -> bytes:
    try:
        answer = wire.encode(wire.answer(await result))
    except InferenceError as error:
        return wire.encode(wire.answer(error))
    if len(answer) > wire.MAX_MESSAGE_BYTES:
        return wire.encode(wire.answer(FailedError(f"an answer of {len(answer)} bytes")))
    return answer


def _deadline_ms(fields: dict[str, Any]) -> float:
    deadline_ms = float(fields["deadline_ms"])
    if not math.isfinite(deadline_ms) or not 0 < deadline_ms <= MAX_DEADLINE_MS:
        raise ValueError("deadline_ms")
    return deadline_ms + GRACE_MS


def _load_ms(_: dict[str, Any]) -> float:
    return LOAD_S * 1000


def _short_ms(_: dict[str, Any]) -> float:
    return ANSWER_S * 1000


_OPERATIONS: dict[str, Callable[[dict[str, Any]], float]] = {
    "ask": _deadline_ms,
    "load": _load_ms,
    "reload": _load_ms,
    "unload": _short_ms,
    "stats": _short_ms,
}
"""How long each may take, in ms."""
