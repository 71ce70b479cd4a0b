"""What an engine is asked, by operation. Who asks, and over what, is somebody else's: a socket here, HTTP on other machines.

    ask     {model, room_id, track_id?, deadline_ms, question}  -> {answer (`models.questions`), model: name@version}
    load    {model, precision?}                      -> {version}, once the model is ready
    reload  {model, precision?}                      -> {version}, of what the store has now; calls that run end with the old one
    unload  {model}                                  -> {}, the model goes after its last call
    route   {model, route?}                          -> {changed}, who answers (`models.traffic.Route`); none: the newest version
    stats   {}                                       -> {model: counters}
    metrics {}                                       -> the text for Prometheus (`models.metrics`)

`precision` (fp32, bf16, int8) counts until another is told; without it the old wish stays, and without any wish what was measured.
`track_id` and `room_id` stay with the version that answered about them before, where two answer.
"""

import asyncio
import time
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from models import tracing, wire
from models.arms import Arms
from models.errors import FailedError, InferenceError, LoadingError, RefusedError, UnavailableError
from models.metrics import EngineMetrics
from models.precision import PRECISIONS, Precision
from models.questions import Text, question_from_wire
from models.shelf import Shelf
from models.speech import Utterance
from models.traffic import Route

log = structlog.get_logger()


class Operations:
    """On the models of a shelf. `arms`: without them one version of each is asked."""

    def __init__(self, shelf: Shelf, arms: Arms | None = None) -> None:
        self._shelf = shelf
        self._arms = arms or Arms(shelf)
        self._metrics = EngineMetrics(CollectorRegistry(), self._arms.stats, shelf.loading)
        shelf.on_batch = self._metrics.batch

    async def reply(self, message: dict[str, Any]) -> dict[str, Any]:
        """What is sent for a request, whatever becomes of it: `models.wire.answer`."""
        try:
            return wire.answer(await self._answer(message))
        except InferenceError as error:
            return wire.answer(error)
        except (KeyError, TypeError, ValueError) as error:
            return wire.answer(RefusedError(f"malformed request: {error}"))
        except Exception as error:  # whatever it is, who asked is told
            log.error("request_failed", op=str(message.get("op")), error=type(error).__name__)
            return wire.answer(FailedError(type(error).__name__))

    async def _answer(self, message: dict[str, Any]) -> Any:
        """The result of a request. Raises InferenceError, KeyError, TypeError, ValueError."""
        match message["op"]:
            case "ask":
                return await self._counted(message)
            case "load":
                precision = wanted_precision(message)
                return {"version": await self._arms.load(str(message["model"]), precision)}
            case "reload":
                precision = wanted_precision(message)
                return {"version": await self._arms.reload(str(message["model"]), precision)}
            case "unload":
                await self._shelf.unload(str(message["model"]))
                return {}
            case "route":
                told = message.get("route")
                route = None if told is None else Route.model_validate(told)
                return {"changed": await self._arms.change(str(message["model"]), route)}
            case "stats":
                return self._arms.stats()
            case "metrics":
                return self._metrics.page()
            case other:
                raise ValueError(f"unknown op {other!r}")

    async def _counted(self, message: dict[str, Any]) -> dict[str, Any]:
        """As `_ask`, and what became of it is counted: ok, the code of the error, or cancelled where who asked is gone."""
        began_s, result = time.monotonic(), "ok"
        name = str(message.get("model"))
        try:
            with tracing.span("model.infer", self._shelf.known_as(name)[0]) as running:
                answer = await self._ask(message)
                running.set_attribute("candor.model", answer["model"])
            self._metrics.seconds.labels(self._shelf.known_as(name)[0]).observe(time.monotonic() - began_s)
            return answer
        except InferenceError as error:
            result = error.code
            raise
        except (KeyError, TypeError, ValueError):
            result = RefusedError.code
            raise
        except asyncio.CancelledError:
            result = "cancelled"
            raise
        except Exception:
            result = FailedError.code
            raise
        finally:
            self._metrics.requests.labels(*self._shelf.known_as(name), result).inc()

    async def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + float(message["deadline_ms"]) / 1000
        question = question_from_wire(message["question"])
        room_id, track_id = str(message["room_id"]), str(message.get("track_id", ""))
        try:
            async with asyncio.timeout_at(until_s):
                asked = await self._arms.choose(str(message["model"]), track_id, room_id)
        except TimeoutError as error:
            raise LoadingError("the model is still being loaded") from error
        model = asked.model
        if isinstance(question, Utterance | Text) and not model.entry.speaks(question.language):
            raise UnavailableError(f"language: {model.entry.name} does not know {question.language!r}")
        began_s = loop.time()
        try:
            answer = await model.ask(question, room_id, max(0.0, until_s - began_s) * 1000)
        except ValueError as error:
            raise RefusedError(str(error)) from error
        except InferenceError as error:
            self._arms.failed(asked, error)
            raise
        self._arms.answered(asked, question, answer, loop.time() - began_s, room_id)
        return {"answer": answer.to_wire(), "model": model.full_version}


def wanted_precision(message: dict[str, Any]) -> Precision | None:
    """What a message says of precision. Raises ValueError for one that nobody knows."""
    name = message.get("precision")
    if name is None:
        return None
    for precision in PRECISIONS:
        if name == precision:
            return precision
    raise ValueError(f"precision {name!r}")
