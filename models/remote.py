"""The way to an engine on another machine, over HTTP: a Candor model service, or our application on Ray Serve.

    POST {url}/engine/v1/{ask|load|reload|unload|stats}   the maps of the engine's socket (`models.wire`), without id, op and length
    GET  {url}/engine/v1/models                           what it has (`models.inventory`): also how we see whether it is there

Both answer 200 and `{ok, result|error}`. Another status says that the question did not get so far.
"""

import asyncio
import contextlib
import io
from collections.abc import Callable
from typing import Any

import aiohttp
import structlog

from models import wire
from models.errors import EngineGoneError, FailedError, InferenceError, OverloadedError, RefusedError, UnavailableError
from models.errors import from_wire as error_from_wire
from models.inventory import Elsewhere
from models.transports import ignore

MEDIA_TYPE = "application/msgpack"
PREFIX = "/engine/v1"
MAX_CONNECTIONS = 64
"""Questions that are on their way at a time; further ones wait for a connection, as long as they are wanted."""
MAX_OUTSTANDING_BYTES = 16 << 20
"""Of all questions without an answer, 40 of the longest kind. One more is refused: the newest, for nothing that left comes back."""
CONNECT_S = 3.0
LOOK_S = 5.0
"""How often we see whether the service is there while it is; also how long it may take to say so."""
MAX_SILENT_LOOKS = 2
RETRY_S, RETRY_MOST_S = 0.25, 2.0
"""How often while it is gone: each time half as often."""
_KEY_COMMAND = "candor models key NAME --scope models:infer (there), models.backend_key (here)"

log = structlog.get_logger()


class HttpTransport:
    """See `models.transports.Transport`. `url`: without a slash at its end; `key`: an API key or token, empty for none."""

    def __init__(self, url: str, key: str = "") -> None:
        self.on_connection: Callable[[bool], None] = ignore
        self.connected = False
        self.inventory = Elsewhere()
        self._url = f"{url}{PREFIX}"
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._session: aiohttp.ClientSession | None = None
        self._gone: InferenceError = EngineGoneError("the model service has not been reached yet")
        self._outstanding_bytes = 0
        self._look_now = asyncio.Event()
        self._silent_looks = 0
        """Since anything was answered."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look for the service."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),  # who asks has a deadline
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._task = asyncio.create_task(self._watch(), name="model-service")

    async def close(self) -> None:
        """Disconnect; requests that wait raise EngineGoneError. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
        if self.connected:
            self.connected = False
            self.on_connection(False)

    async def request(self, operation: str, fields: dict[str, Any]) -> Any:
        """See `Transport`. Raises OverloadedError beyond `MAX_OUTSTANDING_BYTES`."""
        if not self.connected:
            raise error_from_wire(self._gone.to_wire())
        body = wire.encode(fields)
        if len(body) > wire.MAX_MESSAGE_BYTES:
            raise ValueError(f"a message of {len(body)} bytes")
        if self._outstanding_bytes + len(body) > MAX_OUTSTANDING_BYTES:
            raise OverloadedError("the model service does not keep up")
        self._outstanding_bytes += len(body)
        try:
            return await self._post(operation, body)
        finally:
            self._outstanding_bytes -= len(body)

    async def _post(self, operation: str, body: bytes) -> Any:
        """Twice if the service had closed a connection that was kept: a question is whole, so asking it again does no harm."""
        try:
            try:
                return await self._exchange("POST", operation, body)
            except (aiohttp.ServerDisconnectedError, ConnectionResetError):
                return await self._exchange("POST", operation, body)
        except (aiohttp.ClientError, OSError) as error:
            self._look_now.set()
            raise EngineGoneError(f"the model service is gone ({type(error).__name__})") from error

    async def _exchange(self, method: str, operation: str, body: bytes | None = None) -> Any:
        """Raises InferenceError, aiohttp.ClientError, OSError."""
        if self._session is None:
            raise EngineGoneError("the connection was closed")
        headers = {"Content-Type": MEDIA_TYPE} if body is not None else {}
        url = f"{self._url}/{operation}"
        data = io.BytesIO(body) if body is not None else None  # as bytes, a large one would hold up the event loop
        async with self._session.request(method, url, data=data, headers=headers, allow_redirects=False) as response:
            self._silent_looks = 0
            if response.status != 200:
                raise _refusal(response.status)
            try:
                return wire.result_of(wire.decode(await _content(response)))
            except ValueError as error:
                raise FailedError("malformed answer") from error

    async def _watch(self) -> None:
        retry_s = RETRY_S
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    changed = self.inventory.take(await self._exchange("GET", "models"))
            except OverloadedError:
                log.warning("model_service_busy")  # so it is there, if it was
            except TimeoutError as error:
                self._set_silent(error)
            except InferenceError as error:
                self._set_gone(error)
            except (aiohttp.ClientError, OSError, ValueError) as error:
                self._set_gone(EngineGoneError(f"the model service is gone ({type(error).__name__})"))
            else:
                self._set_here(changed)
            self._look_now.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._look_now.wait(), LOOK_S if self.connected else retry_s)
            retry_s = RETRY_S if self.connected else min(2 * retry_s, RETRY_MOST_S)

    def _set_silent(self, error: TimeoutError) -> None:
        """A machine that is busy answers late: it is gone when it has not answered anything for two looks."""
        self._silent_looks += 1
        if self._silent_looks >= MAX_SILENT_LOOKS or not self.connected:
            self._set_gone(EngineGoneError(f"the model service is gone ({type(error).__name__})"))

    def _set_here(self, changed: bool) -> None:
        if self.connected and not changed:
            return
        log.info("model_service_connected", first=not self.connected)
        self.connected = True
        self.on_connection(True)

    def _set_gone(self, error: InferenceError) -> None:
        told = (self._gone.code, self._gone.message)
        self._gone = error
        if self.connected or told != (error.code, error.message):
            log.warning("model_service_gone", code=error.code, reason=error.message)
        if self.connected:
            self.connected = False
            self.on_connection(False)


async def _content(response: aiohttp.ClientResponse) -> bytes:
    """The body. Raises ValueError if it is larger than a message may be."""
    content = bytearray()
    async for part in response.content.iter_any():
        content += part
        if len(content) > wire.MAX_MESSAGE_BYTES:
            raise ValueError("a message that is too large")
    return bytes(content)


def _refusal(status: int) -> InferenceError:
    """What a status other than 200 means: of a key, a bound, something in between, or of another service at this address."""
    match status:
        case 401 | 403:
            return UnavailableError("the model service does not take the key, or not for this", _KEY_COMMAND)
        case 413 | 415 | 422:
            return RefusedError(f"the model service does not take the question ({status})")
        case 429:
            return OverloadedError("more than this key may ask of the model service")
        case _ if status >= 500:
            return EngineGoneError(f"the model service is gone ({status})")
        case _:
            return UnavailableError(f"no model service at this address ({status})", "candor config check")
