"""A bidirectional link: requests with a reply, and notifications without one.

A frame is a 4-byte big-endian length and a msgpack list: `[REQUEST, id, method, params]`, `[RESULT, id, value]`,
`[ERROR, id, code, message, retryable]` or `[NOTIFY, event, params]`. Both sides may send any of them. Where traces are made, a
request has a fifth element, the `traceparent` of what caused it.

Bounds: a frame is at most `MAX_FRAME_BYTES`; if the other side does not read and `MAX_UNSENT_BYTES` pile up, the channel
closes (a link that lost one message would be worse than one that is built anew, with a snapshot).
"""

import asyncio
import socket
import struct
import traceback
from collections.abc import Awaitable, Callable
from enum import IntEnum
from pathlib import Path
from typing import Any

import msgpack
import structlog

from sfu.channel import tracing

MAX_FRAME_BYTES = 4 << 20
MAX_UNSENT_BYTES = 16 << 20
_LENGTH = struct.Struct("!I")

log = structlog.get_logger()

RequestHandler = Callable[[str, dict[str, Any]], Awaitable[Any]]
NotifyHandler = Callable[[str, dict[str, Any]], None]


class ChannelError(Exception):
    """The other side refused a request: `code` is stable, the message is for people."""

    def __init__(self, code: str, message: str = "", retryable: bool = False) -> None:
        super().__init__(message or code)
        self.code = code
        self.message = message or code
        self.retryable = retryable


class ChannelClosedError(ChannelError):
    """The link is gone; the reply will never come."""

    def __init__(self) -> None:
        super().__init__("channel_closed", "the other process is gone", retryable=True)


class _Frame(IntEnum):
    REQUEST = 0
    RESULT = 1
    ERROR = 2
    NOTIFY = 3


class Channel:
    """One end of a link. Set `on_request` and `on_notify` before `start()`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str = "") -> None:
        self.name = name
        self.on_request: RequestHandler = _refuse
        self.on_notify: NotifyHandler = _ignore
        self.closed = asyncio.Event()
        self._reader = reader
        self._writer = writer
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._next_id = 0
        self._handlers: set[asyncio.Task[None]] = set()
        self._reading: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to read."""
        self._reading = asyncio.create_task(self._read(), name=f"channel-{self.name}")

    async def request(self, method: str, params: dict[str, Any] | None = None, timeout_s: float = 10.0) -> Any:
        """Ask the other side. Raises `ChannelError` with its code, `ChannelClosedError`, or code `timeout`."""
        if self.closed.is_set():
            raise ChannelClosedError
        self._next_id += 1
        request_id = self._next_id
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = future
        try:
            self._send([_Frame.REQUEST, request_id, method, params or {}, *tracing.outgoing()])
            return await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            raise ChannelError("timeout", f"{method}: no reply within {timeout_s:g} s", retryable=True) from None
        finally:
            self._waiting.pop(request_id, None)

    def notify(self, event: str, params: dict[str, Any]) -> None:
        """Tell the other side; silently nothing if the link is already gone."""
        if not self.closed.is_set():
            self._send([_Frame.NOTIFY, event, params])

    async def close(self) -> None:
        """Close the link. Requests that wait raise `ChannelClosedError`."""
        self._drop()
        for task in (self._reading, *self._handlers):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def _send(self, frame: list[Any]) -> None:
        data = msgpack.packb(frame)
        if len(data) > MAX_FRAME_BYTES:
            raise ChannelError("too_large", f"a channel frame of {len(data)} bytes")
        if self._writer.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            log.error("channel_stuck", channel=self.name)
            self._drop()
            return
        self._writer.write(_LENGTH.pack(len(data)) + data)

    async def _read(self) -> None:
        try:
            while True:
                (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
                if length > MAX_FRAME_BYTES:
                    log.error("channel_frame_too_large", channel=self.name, length_bytes=length)
                    return
                self._dispatch(msgpack.unpackb(await self._reader.readexactly(length)))
        except (asyncio.IncompleteReadError, ConnectionError, ValueError, TypeError, msgpack.UnpackException) as error:
            if not isinstance(error, asyncio.IncompleteReadError | ConnectionError):
                log.error("channel_malformed", channel=self.name, error=type(error).__name__)
        finally:
            self._drop()

    def _dispatch(self, frame: list[Any]) -> None:
        match frame:
            case [_Frame.REQUEST, int(request_id), str(method), dict(params), *caused]:
                task = asyncio.create_task(self._answer(request_id, method, params, caused))
                self._handlers.add(task)
                task.add_done_callback(self._handlers.discard)
            case [_Frame.NOTIFY, str(event), dict(params)]:
                self._notified(event, params)
            case [_Frame.RESULT, int(request_id), value]:
                if (future := self._waiting.get(request_id)) and not future.done():
                    future.set_result(value)
            case [_Frame.ERROR, int(request_id), str(code), str(message), bool(retryable)]:
                if (future := self._waiting.get(request_id)) and not future.done():
                    future.set_exception(ChannelError(code, message, retryable))
            case _:
                raise ValueError("unknown channel frame")

    def _notified(self, event: str, params: dict[str, Any]) -> None:
        try:
            self.on_notify(event, params)
        except Exception as error:  # a handler's mistake must not end the link for everybody
            log.error("channel_notify_failed", channel=self.name, notification=event, **_describe(error))

    async def _answer(self, request_id: int, method: str, params: dict[str, Any], caused: list[Any]) -> None:
        if caused:
            tracing.incoming(str(caused[0]))
        try:
            value = await self.on_request(method, params)
            reply = [_Frame.RESULT, request_id, value]
        except ChannelError as error:
            reply = [_Frame.ERROR, request_id, error.code, error.message, error.retryable]
        except Exception as error:  # the asker gets a code, the log gets the rest
            log.error("channel_request_failed", channel=self.name, method=method, **_describe(error))
            reply = [_Frame.ERROR, request_id, "internal", type(error).__name__, False]
        if not self.closed.is_set():
            self._send(reply)

    def _drop(self) -> None:
        if self.closed.is_set():
            return
        self.closed.set()
        self._writer.close()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ChannelClosedError())


def _describe(error: Exception) -> dict[str, str]:
    """What may be logged of a mistake: its type and place. Its text may hold what somebody said or is called."""
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "error": type(error).__name__,
        "at": f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "",
    }


async def _refuse(method: str, params: dict[str, Any]) -> Any:
    raise ChannelError("no_such_method", method)


def _ignore(event: str, params: dict[str, Any]) -> None:
    log.debug("channel_notification_ignored", notification=event)


async def serve(path: Path, accept: Callable[[Channel], None]) -> asyncio.Server:
    """Listen on a Unix socket (mode 0600). `accept` sets the handlers of each new channel and calls `start()`."""
    path.unlink(missing_ok=True)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accept(Channel(reader, writer, name=path.stem))

    server = await asyncio.start_unix_server(connected, path)
    path.chmod(0o600)
    return server


async def connect(path: Path) -> Channel:
    """Connect to `serve`. Raises OSError while nobody listens. The caller sets handlers and calls `start()`."""
    reader, writer = await asyncio.open_unix_connection(path)
    return Channel(reader, writer, name=path.stem)


async def pair() -> tuple[Channel, Channel]:
    """Two connected ends in one process, for tests and for everything-in-one-process runs."""
    left, right = socket.socketpair()
    return (
        Channel(*await asyncio.open_unix_connection(sock=left), name="left"),
        Channel(*await asyncio.open_unix_connection(sock=right), name="right"),
    )
