"""The engine: the process that runs models for all tracks and rooms of a node, one per device.

A host connects to `engine.sock` and sends `{id, op, ...}`; the answer is `{id, ok: true, result}` or `{id, ok: false, error}`.

    transcribe  {model, deadline_ms, utterance}  -> a Transcript
    load        {model}                          -> {}, once the model is ready
    stats       {}                               -> {model: counters}

Models are loaded when first asked for. Each has its own batcher, so a slow one delays nobody else.
"""

import asyncio
import dataclasses
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog

from models import catalog, wire
from models.batching import Batcher
from models.catalog import Catalog, ModelEntry
from models.errors import FailedError, InferenceError, OverloadedError, UnavailableError
from models.runners import SpeechRunner, create_speech_runner
from models.settings import ModelSettings
from models.speech import Transcript, Utterance
from models.store import Store

SOCKET_NAME = "engine.sock"
MAX_PENDING = 256
"""Requests of one host that may be open at a time; one more is refused."""

log = structlog.get_logger()


class LoadedModel:
    """A model, its runner and its batcher."""

    def __init__(self, entry: ModelEntry, runner: SpeechRunner, max_queued: int) -> None:
        self.entry = entry
        self.runner = runner
        self.batcher: Batcher[Utterance, Transcript] = Batcher(
            runner.transcribe,
            max_batch=runner.max_batch,
            max_wait_ms=runner.max_wait_ms,
            max_queued=max_queued,
            concurrency=runner.concurrency,
        )

    async def start(self) -> None:
        """Load the weights. Raises UnavailableError."""
        await self.runner.start()
        self.batcher.start()

    async def close(self) -> None:
        """Free everything; idempotent."""
        await self.batcher.close()
        await self.runner.close()


class Engine:
    """Serves models on a Unix socket."""

    def __init__(self, socket_path: Path, settings: ModelSettings, models: Catalog | None = None) -> None:
        self._socket_path = socket_path
        self._settings = settings
        self._catalog = models or catalog.load()
        self._store = Store(settings.store_dir)
        self._models: dict[str, LoadedModel] = {}
        self._loading = asyncio.Lock()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen; the socket is for this user only."""
        self._socket_path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._accept, path=self._socket_path)
        self._socket_path.chmod(0o600)

    async def close(self) -> None:
        """Stop listening, drop connections, unload; idempotent."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        for model in self._models.values():
            await model.close()
        self._models.clear()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(Connection(self.answer, reader, writer).run(), name="engine-connection")
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def answer(self, message: dict[str, Any]) -> Any:
        """The result of a request. Raises InferenceError, KeyError, TypeError, ValueError."""
        match message["op"]:
            case "transcribe":
                utterance = Utterance.from_wire(message["utterance"])
                model = await self._model(str(message["model"]))
                if not model.entry.speaks(utterance.language):
                    raise UnavailableError(f"{model.entry.name} does not know the language {utterance.language!r}")
                room_id, deadline_ms = utterance.room_id, float(message["deadline_ms"])
                transcript = await model.batcher.submit(utterance, room_id=room_id, deadline_ms=deadline_ms)
                return transcript.to_wire()
            case "load":
                await self._model(str(message["model"]))
                return {}
            case "stats":
                return {name: self._stats(model) for name, model in self._models.items()}
            case other:
                raise ValueError(f"unknown op {other!r}")

    def _stats(self, model: LoadedModel) -> dict[str, Any]:
        return dataclasses.asdict(model.batcher.stats) | {"queued": model.batcher.queued}

    async def _model(self, name: str) -> LoadedModel:
        """The loaded model `name`, loading it now if need be. Raises UnavailableError."""
        if name in self._models:
            return self._models[name]
        async with self._loading:
            if name in self._models:
                return self._models[name]
            try:
                entry = self._catalog.get(name)
            except KeyError as error:
                raise UnavailableError(str(error.args[0])) from error
            runner = await asyncio.to_thread(create_speech_runner, entry, self._store, self._settings)
            model = LoadedModel(entry, runner, self._settings.max_queued)
            await model.start()
            log.info("model_loaded", model=name)
            self._models[name] = model
            return model


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
            self._reply(message.get("id"), FailedError(f"malformed request: {error}"))

    def _reply(self, request_id: Any, result: Any) -> None:
        if isinstance(result, InferenceError):
            reply = {"id": request_id, "ok": False, "error": result.to_wire()}
        else:
            reply = {"id": request_id, "ok": True, "result": result}
        self._writer.write(wire.pack(reply))


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
