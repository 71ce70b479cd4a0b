"""The engine: the process that runs models for all tracks and rooms of a node, one per device.

A host connects to `engine.sock` and sends `{id, op, ...}`; the answer is `{id, ok: true, result}` or `{id, ok: false, error}`.

    ask     {model, room_id, deadline_ms, question}  -> {answer (`models.questions`), model: name@version}
    load    {model, precision?}                      -> {version}, once the model is ready
    reload  {model, precision?}                      -> {version}, of what the store has now; calls that run end with the old one
    unload  {model}                                  -> {}, the model goes after its last call
    stats   {}                                       -> {model: counters}
    metrics {}                                       -> the text for Prometheus (`models.metrics`)

`precision` (fp32, bf16, int8) counts until another is told; without it the old wish stays, and without any wish what was measured.

Models are loaded when first asked for, or at the start (`preload`). Each has its own batcher, so a slow one delays nobody else.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from models import catalog, journal, wire
from models.catalog import Catalog
from models.errors import (
    FailedError,
    InferenceError,
    LoadingError,
    OverloadedError,
    RefusedError,
    UnavailableError,
)
from models.journal import Journal
from models.metrics import EngineMetrics
from models.precision import PRECISIONS, Precision
from models.questions import Text, question_from_wire
from models.settings import ModelSettings
from models.shelf import Shelf
from models.speech import Utterance
from models.store import Store

SOCKET_NAME = "engine.sock"
MAX_PENDING = 256
"""Requests of one host that may be open at a time; one more is refused."""

log = structlog.get_logger()


class Engine:
    """Serves models on a Unix socket."""

    def __init__(
        self, socket_path: Path, settings: ModelSettings, models: Catalog | None = None, store: Store | None = None
    ) -> None:
        self._socket_path = socket_path
        self._settings = settings
        self._journal = Journal(socket_path.with_name(journal.NAME))
        self.shelf = Shelf(models or catalog.load(), store or Store(settings.store_dir), settings, self._journal)
        self._metrics = EngineMetrics(CollectorRegistry(), self._stats, self.shelf.loading)
        self.shelf.on_batch = self._metrics.batch
        self._preloading: asyncio.Task[None] | None = None
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen; the socket is for this user only."""
        self._journal.open()
        self._socket_path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._accept, path=self._socket_path)
        self._socket_path.chmod(0o600)
        self._preloading = asyncio.create_task(self._preload(), name="engine-preload")

    async def _preload(self) -> None:
        """One after the other. What cannot be loaded is said, and asked for again when somebody wants it."""
        for name in self._settings.preload:
            try:
                await self.shelf.get(name)
            except InferenceError as error:
                log.error("preload_failed", model=name, reason=error.message, command=error.command)

    async def close(self) -> None:
        """Stop listening, drop connections, unload; idempotent."""
        if self._server is not None:
            self._server.close()
        tasks = [*self._connections] + ([self._preloading] if self._preloading else [])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.shelf.close()
        self._journal.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(Connection(self.answer, reader, writer).run(), name="engine-connection")
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def answer(self, message: dict[str, Any]) -> Any:
        """The result of a request. Raises InferenceError, KeyError, TypeError, ValueError."""
        match message["op"]:
            case "ask":
                return await self._counted(message)
            case "load":
                precision = wanted_precision(message)
                return {"version": (await self.shelf.get_in(str(message["model"]), precision)).version}
            case "reload":
                precision = wanted_precision(message)
                return {"version": await self.shelf.reload(str(message["model"]), precision)}
            case "unload":
                await self.shelf.unload(str(message["model"]))
                return {}
            case "stats":
                return self._stats()
            case "metrics":
                return self._metrics.page()
            case other:
                raise ValueError(f"unknown op {other!r}")

    def _stats(self) -> dict[str, dict[str, Any]]:
        return {name: model.stats() for name, model in self.shelf.loaded().items()}

    async def _counted(self, message: dict[str, Any]) -> dict[str, Any]:
        """As `_ask`, and what became of it is counted: ok, the code of the error, or cancelled where who asked is gone."""
        began_s, result = time.monotonic(), "ok"
        name = str(message.get("model"))
        try:
            answer = await self._ask(message)
            self._metrics.seconds.labels(self.shelf.known_as(name)[0]).observe(time.monotonic() - began_s)
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
            self._metrics.requests.labels(*self.shelf.known_as(name), result).inc()

    async def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + float(message["deadline_ms"]) / 1000
        question = question_from_wire(message["question"])
        try:
            async with asyncio.timeout_at(until_s):
                model = await self.shelf.get(str(message["model"]))
        except TimeoutError as error:
            raise LoadingError("the model is still being loaded") from error
        if isinstance(question, Utterance | Text) and not model.entry.speaks(question.language):
            raise UnavailableError(f"language: {model.entry.name} does not know {question.language!r}")
        try:
            answer = await model.ask(question, str(message["room_id"]), max(0.0, until_s - loop.time()) * 1000)
        except ValueError as error:
            raise RefusedError(str(error)) from error
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


class Connection:
    """One host on the socket. Requests run side by side; answers leave in the order in which they are ready."""

    def __init__(
        self,
        answer: Callable[[dict[str, Any]], Awaitable[Any]],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._answer = answer
        self._reader = reader
        self._writer = writer
        self._requests: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until the host is gone or sends what is not a message."""
        try:
            while True:
                message = await wire.read(self._reader)
                if len(self._requests) >= MAX_PENDING:
                    self._reply(message.get("id"), OverloadedError("too many open requests"))
                    continue
                task = asyncio.create_task(self._serve(message), name="engine-request")
                self._requests.add(task)
                task.add_done_callback(self._requests.discard)
        except (asyncio.IncompleteReadError, ConnectionError):
            log.info("host_gone")
        except ValueError as error:
            log.warning("host_malformed", error=str(error))
        finally:
            for task in tuple(self._requests):
                task.cancel()
            await asyncio.gather(*self._requests, return_exceptions=True)
            self._writer.close()

    async def _serve(self, message: dict[str, Any]) -> None:
        try:
            self._reply(message.get("id"), await self._answer(message))
        except InferenceError as error:
            self._reply(message.get("id"), error)
        except (KeyError, TypeError, ValueError) as error:
            self._reply(message.get("id"), RefusedError(f"malformed request: {error}"))
        except Exception as error:  # whatever it is, who asked is told
            log.error("request_failed", op=str(message.get("op")), error=type(error).__name__)
            self._reply(message.get("id"), FailedError(type(error).__name__))

    def _reply(self, request_id: Any, result: Any) -> None:
        self._writer.write(wire.pack({"id": request_id, **wire.answer(result)}))


async def run(settings: ModelSettings, run_dir: Path) -> None:
    """Be the engine until cancelled. Threads of the libraries that runners load are limited before they load."""
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
    engine = Engine(run_dir / SOCKET_NAME, settings)
    try:
        await engine.start()
        log.info("engine_ready", pid=os.getpid())
        await asyncio.Event().wait()
    finally:
        await engine.close()
