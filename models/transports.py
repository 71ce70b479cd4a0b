"""How questions get to an engine: what `models.client` asks of a way there, and the way to the engine of this machine."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import structlog

from models import wire
from models.errors import EngineGoneError, InferenceError, OverloadedError

RETRY_S = 0.25

MAX_UNSENT_BYTES = 4 << 20
"""Ten windows of the longest kind. An engine that reads none of them gets no more to read."""

log = structlog.get_logger()


class Transport(Protocol):
    """A way to an engine. It connects by itself, again whenever the engine is gone, and never waits for a connection."""

    connected: bool
    on_connection: Callable[[bool], None]
    """Called when the engine is there (True), also when it has other models than before, or gone (False)."""

    def start(self) -> None:
        """Begin to connect."""

    async def close(self) -> None:
        """Disconnect; requests that wait raise EngineGoneError. Idempotent."""

    async def request(self, operation: str, fields: dict[str, Any]) -> Any:
        """The result of an operation of `models.engine`; who waits no longer cancels this.

        Raises InferenceError, and ValueError for fields that are too large to send.
        """


class SocketTransport:
    """To the engine of this machine, by its Unix socket."""

    def __init__(self, socket_path: Path) -> None:
        self.on_connection: Callable[[bool], None] = ignore
        self.connected = False
        self._socket_path = socket_path
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._last_id = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to connect."""
        self._task = asyncio.create_task(self._keep_connected(), name="engine-socket")

    async def close(self) -> None:
        """Disconnect; requests that wait raise EngineGoneError. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def request(self, operation: str, fields: dict[str, Any]) -> Any:
        """See `Transport`. Raises OverloadedError if the engine has not read what it was sent before."""
        if self._writer is None:
            raise EngineGoneError("the model engine is not running; it is being restarted")
        if self._writer.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            raise OverloadedError("the model engine does not read")
        self._last_id += 1
        request_id = self._last_id
        future = self._waiting[request_id] = asyncio.get_running_loop().create_future()
        try:
            self._writer.write(wire.pack({"id": request_id, "op": operation, **fields}))
            return await future
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
            try:
                future.set_result(wire.result_of(message))
            except InferenceError as error:
                future.set_exception(error)


def ignore(connected: bool) -> None:
    """For who need not know."""
    del connected
