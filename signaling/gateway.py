"""Sockets: Socket.IO events in, acks and events out. Checks shape, size, speed and origin; knows nothing about meetings.

Order: the requests of one socket are handled one after the other, in order of arrival, and no event overtakes the ack
of a join (events wait in the outbox until the ack is on its way).

Bounds: `PENDING_MAX` requests waiting (more are refused: `rate_limited`); `OUTBOX_MAX` events waiting for the ack of a join,
and `UNREAD_MAX_BYTES` waiting for a client that does not read (then the socket is cut; resuming brings a fresh snapshot, so
nothing is lost silently). A socket that goes on asking while it is refused, as fast again as it may, is cut, too.
"""

import asyncio
import contextlib
import time
import traceback
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Protocol
from urllib.parse import urlsplit

import socketio
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import ValidationError

from sfu.channel.tracing import span
from signaling.errors import MessageError, RoomError, SignalingError, from_validation
from signaling.events import Event
from signaling.limits import Budget, TokenBucket
from signaling.metrics import RequestCounters
from signaling.participants import Outlet, Participant
from signaling.protocol.codes import CloseReason, ErrorCode
from signaling.protocol.messages import REQUESTS, Ack, Closed, Join, JoinResult, Message, Redirect
from signaling.settings import SignalingSettings

PENDING_MAX = 64
JOINS_PER_S = 0.5
JOIN_BURST = 10
OUTBOX_MAX = 1024
UNREAD_MAX_BYTES = 2 << 20
FAREWELL_S = 1.0
PING_INTERVAL_S = 10
PING_TIMEOUT_S = 10
CLIENT_PACKETS = frozenset(
    (socketio.packet.CONNECT, socketio.packet.DISCONNECT, socketio.packet.EVENT, socketio.packet.ACK)
)
RESERVED_EVENTS = frozenset((*socketio.AsyncServer.reserved_events, "*"))
SOCKET_PATH = "/socket.io/"
JOIN = "join"
TRACED = frozenset({JOIN, "publish", "subscribe", "restart_subscribe"})
"""Requests that make a span: those that a media worker negotiates for."""

log = structlog.get_logger()


class Lobby(Protocol):
    """Who gives seats (`signaling.lobby.Lobby`)."""

    async def join(self, request: Join, outlet: Outlet, base_url: str) -> tuple[Participant, JoinResult] | Redirect:
        """Give a seat, or say where the room is. Raises `SignalingError`."""

    def socket_lost(self, participant: Participant, outlet: Outlet) -> None:
        """The socket of somebody closed."""


Handle = Callable[[Participant, Message], Awaitable[Message | None]]


class TextPacket(socketio.packet.Packet):  # type: ignore[misc]  # python-socketio ships no types
    """Socket.IO packets without binary attachments (which the library would collect without bound) and with a name."""

    uses_binary_events = False

    def decode(self, encoded_packet: str) -> int:
        """Raises ValueError for all that a client does not send, and for event names that mean something to the library."""
        try:
            attachments = int(super().decode(encoded_packet) or 0)
        except RecursionError:
            raise ValueError("packet: nested too deeply") from None
        if attachments or self.packet_type not in CLIENT_PACKETS:
            raise ValueError("packet: type")
        if self.packet_type == socketio.packet.EVENT:
            name = self.data[0] if isinstance(self.data, list) and self.data else None
            if not isinstance(name, str) or name in RESERVED_EVENTS:
                raise ValueError("packet: event name")
        return attachments


class PacketOrGoodbye(TextPacket):
    """What cannot be read counts as the client's disconnection: the library would log it, and it may be personal."""

    def __init__(self, *arguments: Any, encoded_packet: str | bytes | None = None, **options: Any) -> None:
        if encoded_packet is not None and not encoded_packet:
            encoded_packet = "?"  # the library takes an empty packet for one that is to be sent
        super().__init__(*arguments, encoded_packet=encoded_packet, **options)

    def decode(self, encoded_packet: str) -> int:
        """Never raises."""
        try:
            return super().decode(encoded_packet)
        except ValueError:
            log.info("packet_malformed")
            self.packet_type = socketio.packet.DISCONNECT
            self.namespace = self.data = self.id = None
            return 0


class UnreadQueue(asyncio.Queue[Any]):
    """The library's queue of packets for one client, which has no bound of its own; this one knows what it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting_bytes = 0

    def _put(self, item: Any) -> None:
        self.waiting_bytes += _size_bytes(item)
        super()._put(item)

    def _get(self) -> Any:
        item = super()._get()
        self.waiting_bytes -= _size_bytes(item)
        return item


def _size_bytes(packet: Any) -> int:
    """The size of an Engine.IO packet: Socket.IO hands over text, and JSON as the library writes it is ASCII."""
    data = getattr(packet, "data", None)
    return len(data) if isinstance(data, str) else 0


class Connection:
    """One socket: what waits in it, and for whom it speaks."""

    def __init__(self, sid: str, request: web.Request, settings: SignalingSettings, counters: RequestCounters) -> None:
        self.sid = sid
        self._counters = counters
        self.participant: Participant | None = None
        self.last_close: CloseReason | None = None
        self.turn = asyncio.Lock()
        self.pending = 0
        self.closed = False
        self.joins = TokenBucket(JOINS_PER_S, JOIN_BURST)
        self.budget = Budget(settings.messages_per_s, settings.message_burst)
        self.base_url = f"{settings.scheme if settings.tls_cert else request.scheme}://{request.host}"
        self.outbox: deque[Event] = deque()
        self.wake = asyncio.Event()
        self.held = True
        self.sending: asyncio.Task[None] | None = None
        self._request = request

    def send(self, event: Event) -> None:
        """Queue an event; a client for whom too many wait is cut off."""
        if self.closed:
            return
        if len(self.outbox) >= OUTBOX_MAX:
            self.cut("outbox_full")
            return
        self.outbox.append(event)
        self.wake.set()

    def release(self) -> None:
        """It no longer speaks for its participant."""
        if self.participant is not None:
            self.last_close = self.participant.close_reason
        self.participant = None

    def open_outbox(self) -> None:
        """Let events out."""
        self.held = False
        self.wake.set()

    def discard_outbox(self) -> None:
        """Forget events of a join that failed."""
        self.outbox.clear()

    def hang_up(self) -> None:
        """Close the TCP connection after what was written."""
        self.closed = True
        if self._request.transport is not None:
            self._request.transport.close()

    def cut(self, reason: str) -> None:
        """Close the TCP connection at once: a client that does not read would not read a farewell either."""
        if not self.closed:
            log.warning("socket_cut", sid=self.sid, reason=reason)
            self._counters.cut[reason] += 1
            self.closed = True
            if self._request.transport is not None:
                self._request.transport.abort()


class Gateway:
    """The Socket.IO server."""

    def __init__(
        self, settings: SignalingSettings, lobby: Lobby, handle: Handle, origins: Callable[[], list[str]] = list
    ) -> None:
        """`origins`: of pages that may connect, besides those of the settings."""
        self.counters = RequestCounters()
        self._origins = origins
        self._settings = settings
        self._lobby = lobby
        self._handle = handle
        self._connections: dict[str, Connection] = {}
        self._finishing: set[asyncio.Task[None]] = set()
        self._sio = socketio.AsyncServer(
            async_mode="aiohttp",
            serializer=PacketOrGoodbye,
            transports=["websocket"],
            max_http_buffer_size=settings.max_message_bytes,
            cors_allowed_origins=self._origin_allowed,
            cors_credentials=False,
            ping_interval=PING_INTERVAL_S,
            ping_timeout=PING_TIMEOUT_S,
        )
        self._sio.eio.create_queue = UnreadQueue
        self._sio.on("connect", self._connected)
        self._sio.on("disconnect", self._disconnected)
        self._sio.on("*", self._received)

    @property
    def sockets(self) -> int:
        """How many there are."""
        return len(self._connections)

    def attach(self, app: web.Application) -> None:
        """Serve `/socket.io/` in `app`."""
        app.middlewares.append(_hang_up_on_nonsense)
        self._sio.attach(app)

    async def close(self) -> None:
        """Tell every client that we go down, and close the sockets. Seats are kept: media workers may go on."""
        for connection in list(self._connections.values()):
            connection.send(Event.of(Closed(reason=CloseReason.SERVER_SHUTDOWN)))
            connection.open_outbox()
            connection.closed = True
            connection.wake.set()
        farewells = [self._farewell(connection) for connection in self._connections.values()]
        await asyncio.gather(*farewells)
        await asyncio.gather(*self._finishing, return_exceptions=True)
        await self._sio.shutdown()

    async def _farewell(self, connection: Connection) -> None:
        """Let out what waits, then hang up: not by a Socket.IO disconnect, after which clients would not come back."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                if connection.sending is not None:
                    await asyncio.wait({connection.sending})  # the client may hang up first, which cancels it
                socket = self._socket(connection.sid)
                if socket is not None:
                    await socket.queue.join()
        connection.hang_up()

    # --- sockets

    def _origin_allowed(self, origin: str | None, environ: dict[str, Any]) -> bool:
        listed = [*self._settings.allowed_origins, self._settings.public_url, *self._origins()]
        return origin_allowed(origin, environ.get("HTTP_HOST", ""), [url for url in listed if url])

    async def _connected(self, sid: str, environ: dict[str, Any], *_: Any) -> None:
        connection = Connection(sid, environ["aiohttp.request"], self._settings, self.counters)
        self._connections[sid] = connection
        connection.sending = asyncio.create_task(self._send(connection), name=f"outbox-{sid}")

    async def _disconnected(self, sid: str, *_: Any) -> None:
        connection = self._connections.pop(sid, None)
        if connection is None:
            return
        connection.closed = True
        connection.wake.set()
        self._finish(connection)
        participant = connection.participant
        if participant is not None:
            self._lobby.socket_lost(participant, connection)

    def _finish(self, connection: Connection) -> None:
        task = connection.sending
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            self._finishing.add(task)
            task.add_done_callback(self._finishing.discard)

    async def _send(self, connection: Connection) -> None:
        while True:
            await connection.wake.wait()
            connection.wake.clear()
            while connection.outbox and not connection.held:
                event = connection.outbox.popleft()
                await self._sio.emit(event.name, event.body, to=connection.sid)
                if self._unread_bytes(connection.sid) > UNREAD_MAX_BYTES:
                    connection.cut("client_does_not_read")
            if connection.closed:
                return

    def _unread_bytes(self, sid: str) -> int:
        """What waits in the library for a client, besides what its writer has taken out already: as much again at most."""
        socket = self._socket(sid)
        return socket.queue.waiting_bytes if socket is not None else 0

    def _socket(self, sid: str) -> Any:
        """The library's own socket, or None."""
        return self._sio.eio.sockets.get(self._sio.manager.eio_sid_from_sid(sid, "/"))

    # --- requests

    async def _received(self, event: str, sid: str, *arguments: Any) -> dict[str, Any]:
        connection = self._connections.get(sid)
        if connection is None:
            return _refusal(RoomError(ErrorCode.NOT_JOINED, "the connection is closed"))
        return await self.answer(connection, event, arguments)

    async def answer(self, connection: Connection, event: str, arguments: tuple[Any, ...]) -> dict[str, Any]:
        """The ack of a request. Never raises."""
        if event not in TRACED:
            return self._counted(event, await self._answered(connection, event, arguments))
        with span(event) as running:
            ack = self._counted(event, await self._answered(connection, event, arguments))
            joined = event == JOIN and ack["ok"]
            running.set_attribute("candor.outcome", _how_joined(ack) if joined else _result_of(ack))
            if connection.participant is not None:
                running.set_attribute("candor.room_id", connection.participant.room_id)
                running.set_attribute("candor.participant_id", connection.participant.id)
            return ack

    def _counted(self, event: str, ack: dict[str, Any]) -> dict[str, Any]:
        result = _result_of(ack)
        self.counters.requests[event if event in REQUESTS else "unknown", result] += 1
        if event == JOIN:
            self.counters.joins[_how_joined(ack) if ack["ok"] else result] += 1
        return ack

    async def _answered(self, connection: Connection, event: str, arguments: tuple[Any, ...]) -> dict[str, Any]:
        try:
            self._throttle(connection)
            request = parse(event, arguments)
        except SignalingError as error:
            return _refusal(error)
        connection.pending += 1
        try:
            async with connection.turn:
                return await self._answer_in_turn(connection, request)
        finally:
            connection.pending -= 1

    async def _answer_in_turn(self, connection: Connection, request: Message) -> dict[str, Any]:
        try:
            result = await self._dispatch(connection, request)
        except SignalingError as error:
            return _refusal(error)
        except Exception as error:  # the client gets a code, the log the place; the error's text may be personal
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{place.filename}:{place.lineno}"
            log.error("request_failed", request=type(request).__name__, error=type(error).__name__, where=where)
            return _refusal(SignalingError(ErrorCode.INTERNAL, "something went wrong on the server"))
        payload = result.model_dump(mode="json") if result is not None else None
        return Ack(ok=True, result=payload).model_dump(mode="json", exclude={"error"})

    async def _dispatch(self, connection: Connection, request: Message) -> Message | None:
        if connection.closed:
            raise RoomError(ErrorCode.NOT_JOINED, "the connection is closed")
        if isinstance(request, Join):
            return await self._join(connection, request)
        if connection.participant is None:
            ended = connection.last_close is CloseReason.ROOM_ENDED
            raise RoomError(ErrorCode.ROOM_ENDED if ended else ErrorCode.NOT_JOINED, "you are not in a room")
        return await self._handle(connection.participant, request)

    async def _join(self, connection: Connection, request: Join) -> JoinResult | Redirect:
        if connection.participant is not None:
            raise RoomError(ErrorCode.ALREADY_JOINED, "you are in a room already")
        if not connection.joins.take(time.monotonic_ns()):
            raise MessageError(ErrorCode.RATE_LIMITED, "too many attempts to join; wait a moment")
        connection.held = True
        began_s = time.monotonic()
        try:
            answer = await self._lobby.join(request, connection, connection.base_url)
        except BaseException:
            connection.discard_outbox()
            raise
        if isinstance(answer, Redirect):
            return answer
        participant, result = answer
        self.counters.join_seconds.observe(time.monotonic() - began_s)
        connection.participant = participant
        connection.budget = participant.share_budget(connection.budget)
        if connection.closed:
            self._lobby.socket_lost(participant, connection)
        # The ack is queued in the same step of the loop in which the handler returns, the outbox opens in a later one.
        asyncio.get_running_loop().call_soon(connection.open_outbox)
        return result

    def _throttle(self, connection: Connection) -> None:
        now_ns = time.monotonic_ns()
        if not connection.budget.messages.take(now_ns):
            if not connection.budget.patience.take(now_ns):
                connection.cut("flood")
            raise MessageError(ErrorCode.RATE_LIMITED, "too many messages; wait a moment")
        if self._unread_bytes(connection.sid) > UNREAD_MAX_BYTES:
            connection.cut("client_does_not_read")
        if connection.pending >= PENDING_MAX:
            raise MessageError(ErrorCode.RATE_LIMITED, f"more than {PENDING_MAX} requests are waiting")


@web.middleware
async def _hang_up_on_nonsense(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A frame that is not even Engine.IO raises out of the library's loop; it costs its sender the connection."""
    try:
        return await handler(request)
    except ValueError:
        if not request.path.startswith(SOCKET_PATH):
            raise
        log.info("frame_malformed")
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=400)


def parse(event: str, arguments: tuple[Any, ...]) -> Message:
    """The typed request. Raises `MessageError`."""
    if event not in REQUESTS:
        raise MessageError(ErrorCode.BAD_MESSAGE, "there is no such request")
    if len(arguments) != 1 or not isinstance(arguments[0], dict):
        raise MessageError(ErrorCode.BAD_MESSAGE, "a request carries exactly one object")
    model, _ = REQUESTS[event]
    try:
        return model.model_validate(arguments[0])
    except ValidationError as error:
        raise from_validation(error) from None


def origin_allowed(origin: str | None, host: str, listed: list[str]) -> bool:
    """Whether a page of `origin` may connect (RFC 6455 section 10.2): our own, or one that is listed.

    Programs that are not browsers send no Origin; they are let in, for they could send any.
    """
    if origin is None or origin in listed:
        return True
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(host) and parts.netloc.lower() == host.lower()


def _result_of(ack: dict[str, Any]) -> str:
    return "ok" if ack["ok"] else str(ack["error"]["code"])


def _how_joined(ack: dict[str, Any]) -> str:
    if "redirect" in ack["result"]:
        return "redirected"
    return "resumed" if ack["result"]["resumed"] else "new"


def _refusal(error: SignalingError) -> dict[str, Any]:
    return Ack(ok=False, error=error.wire()).model_dump(mode="json", exclude={"result"})
