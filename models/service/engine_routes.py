"""The engine's wire as a part of the service: `engine_port` in aiohttp, before the service's own engine."""

from collections.abc import Callable, Collection
from typing import Any

from aiohttp import web

from models.client import InferenceClient
from models.errors import EngineGoneError, UnavailableError
from models.inventory import described
from models.remote import MEDIA_TYPE, PREFIX
from models.service.auth import Authority
from models.service.engine_port import EnginePort, Request
from models.service.errors import ServiceError
from models.store import Store


class EngineBehind:
    """`engine_port.Answering`: the engine behind the service. What was stopped at the service is not asked here either."""

    def __init__(self, client: InferenceClient, store: Store, stopped: Callable[[], Collection[str]]) -> None:
        self._client = client
        self._store = store
        self._stopped = stopped

    async def request(self, operation: str, fields: dict[str, Any], timeout_ms: float) -> Any:
        """The engine's own answer."""
        model = str(fields.get("model"))
        if model in self._stopped():
            raise UnavailableError("the model was stopped at the model service", f"candor models deploy {model}")
        try:
            return await self._client.request(operation, fields, timeout_ms)
        except ValueError as error:
            raise ServiceError(413, "too_large", str(error)) from error

    async def models(self) -> dict[str, Any]:
        """What the store has, while there is an engine."""
        if not self._client.connected:
            raise EngineGoneError("the engine of the model service is being restarted")
        return await described(self._store)


def mount(app: web.Application, authority: Authority, engine: EngineBehind) -> None:
    """Add the routes to the service. They are no part of its document: nobody but Candor speaks them."""
    port = EnginePort(authority, engine)

    async def handle(request: web.Request) -> web.Response:
        headers = request.headers
        body = await port.answer(
            Request(
                request.method,
                request.match_info["operation"],
                headers.get("Authorization", ""),
                headers.get("X-API-Key", ""),
                lambda most: _read(request, most),
            )
        )
        return web.Response(body=body, content_type=MEDIA_TYPE)

    app.router.add_route("*", PREFIX + "/{operation}", handle)


async def _read(request: web.Request, most: int) -> bytes:
    content = bytearray()
    async for part in request.content.iter_any():
        content += part
        if len(content) > most:
            raise ServiceError(413, "too_large", f"more than {most} bytes")
    return bytes(content)
