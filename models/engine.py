"""The engine: the process that runs models for all tracks and rooms of a node, one per device.

A host connects to `engine.sock` and sends `{id, op, ...}`, an operation of `models.operations`; the answer is
`{id, ok: true, result}` or `{id, ok: false, error}`.

Models are loaded when first asked for, or at the start (`preload`). Each has its own batcher, so a slow one delays nobody else.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog

from models import catalog, journal, wire
from models.arms import Arms
from models.catalog import Catalog
from models.errors import FailedError, InferenceError, OverloadedError
from models.journal import Journal
from models.operations import Operations
from models.settings import ModelSettings
from models.shelf import Shelf
from models.store import Store
from models.traffic import RoutesFile

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
        store = store or Store(settings.store_dir)
        self.shelf = Shelf(models or catalog.load(), store, settings, self._journal)
        self._arms = Arms(self.shelf, RoutesFile(store.root))
        self._operations = Operations(self.shelf, self._arms)
        self._preloading: asyncio.Task[None] | None = None
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen; the socket is for this user only."""
        self._journal.open()
        self._arms.open()
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
        await self._arms.close()
        await self.shelf.close()
        self._journal.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(Connection(self._operations.reply, reader, writer).run(), name="engine-connection")
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)


class Connection:
    """One host on the socket. Requests run side by side; answers leave in the order in which they are ready."""

    def __init__(
        self,
        answer: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]],
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
                    self._reply(message.get("id"), wire.answer(OverloadedError("too many open requests")))
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
        answer = await self._answer(message)
        try:
            self._reply(message.get("id"), answer)
        except ValueError as error:
            self._reply(message.get("id"), wire.answer(FailedError(str(error))))

    def _reply(self, request_id: Any, answer: dict[str, Any]) -> None:
        self._writer.write(wire.pack({"id": request_id, **answer}))


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
