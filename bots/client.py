"""The Socket.IO connection: typed requests with typed acks, and the server's events in their order."""

import asyncio
from typing import Any, TypeVar, overload

import socketio
import structlog
from pydantic import BaseModel, ValidationError

from bots.errors import BotError, ConnectionLost
from signaling.protocol import messages as wire

ACK_TIMEOUT_S = 15.0
EVENTS_WAITING = 1024

R = TypeVar("R", bound=BaseModel)
_NAMES = {request: name for name, (request, _) in wire.REQUESTS.items()}
_log = structlog.get_logger()


class SignalingClient:
    """One connection to the server; it does not reconnect by itself, its owner makes a new one.

    Events wait in a queue of at most 1024. If the owner falls behind that far the connection is dropped: a resume brings a
    full snapshot, while a lost event would leave a wrong view for good. Events that this version of the protocol does not
    know are skipped and counted in `unknown_events`.
    """

    def __init__(self, url: str, verify_tls: bool = True) -> None:
        self.unknown_events = 0
        self._url = url
        self._socket = socketio.AsyncClient(reconnection=False, ssl_verify=verify_tls, handle_sigint=False)
        self._events: asyncio.Queue[wire.Message | None] = asyncio.Queue()
        self._lost = asyncio.Event()
        # Plain functions, not coroutines: python-socketio calls them without a step in between, which keeps the order.
        self._socket.on("*", self._on_event)
        self._socket.on("disconnect", self._on_disconnect)

    async def connect(self) -> None:
        """Connect. Raises ConnectionLost if there is no server or it refuses."""
        try:
            await self._socket.connect(self._url, transports=["websocket"], wait_timeout=ACK_TIMEOUT_S)
        except (socketio.exceptions.ConnectionError, OSError) as error:
            await self._socket.disconnect()
            raise ConnectionLost("no connection to the server") from error

    async def close(self) -> None:
        """Close the connection; the events end. Harmless when closed already."""
        self._end()
        await self._socket.disconnect()

    @overload
    async def request(self, request: wire.Message, result: type[R]) -> R: ...
    @overload
    async def request(self, request: wire.Message, result: None = None) -> None: ...
    async def request(self, request: wire.Message, result: type[R] | None = None) -> R | None:
        """Send a request and wait for its ack. Returns its result as `result`.

        Raises BotError with the server's code if refused, ConnectionLost if there is no answer within 15 s or the connection
        is lost before.
        """
        body = request.model_dump(mode="json")
        call = asyncio.ensure_future(self._socket.call(_NAMES[type(request)], body, timeout=ACK_TIMEOUT_S))
        lost = asyncio.ensure_future(self._lost.wait())
        try:
            # python-socketio goes on waiting for an ack after the connection is gone.
            await asyncio.wait({call, lost}, return_when=asyncio.FIRST_COMPLETED)
            if not call.done():
                raise ConnectionLost("the connection was lost before the answer")
            return read_ack(call.result(), result)
        except (socketio.exceptions.SocketIOError, OSError) as error:
            raise ConnectionLost("no answer from the server") from error
        finally:
            call.cancel()
            lost.cancel()

    async def next_event(self) -> wire.Message | None:
        """The next event, or None once the connection is lost or closed and all its events were read."""
        event = await self._events.get()
        if event is None:
            self._events.put_nowait(None)
        return event

    def _on_event(self, name: str, body: Any = None, *_: Any) -> None:
        model = wire.EVENTS.get(name)
        try:
            event = model.model_validate(body) if model else None
        except ValidationError:
            event = None
        if event is None:
            self.unknown_events += 1
            _log.warning("bot_event_unknown", event_name=name)
        elif self._events.qsize() >= EVENTS_WAITING:
            self._end()
        elif not self._lost.is_set():
            self._events.put_nowait(event)

    def _on_disconnect(self, *_: Any) -> None:
        self._end()

    def _end(self) -> None:
        if not self._lost.is_set():
            self._lost.set()
            self._events.put_nowait(None)


def read_ack(answer: Any, result: type[R] | None) -> R | None:
    """The result in an ack. Raises BotError if it is a refusal, ConnectionLost if it is not an ack of this protocol."""
    try:
        ack = wire.Ack.model_validate(answer)
        if ack.ok and result is not None:
            return result.model_validate(ack.result)
    except ValidationError as error:
        raise ConnectionLost("the server's answer is not of this protocol") from error
    if not ack.ok:
        if ack.error is None:
            raise ConnectionLost("the server refused without a reason")
        raise BotError(ack.error.code, ack.error.message, ack.error.retryable)
    return None
