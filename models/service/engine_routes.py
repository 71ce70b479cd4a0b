"""The engine's wire as a part of the service: `engine_port` in aiohttp, before the service's own engine."""

import asyncio
from typing import Any

from aiohttp import web

from models.catalog import ModelEntry
from models.client import InferenceClient
from models.errors import EngineGoneError, RefusedError, UnavailableError
from models.inventory import described
from models.remote import MEDIA_TYPE, PREFIX
from models.service.auth import Authority
from models.service.deployments import Deployments
from models.service.engine_port import EnginePort, Request
from models.service.errors import ServiceError
from models.store import Store


class EngineBehind:
    """`engine_port.Answering`: the engine behind the service, by the rules of the service."""

    def __init__(self, client: InferenceClient, store: Store, deployments: Deployments) -> None:
        self._client = client
        self._store = store
        self._deployments = deployments

    async def request(self, operation: str, fields: dict[str, Any], timeout_ms: float) -> Any:
        """The engine's own answer."""
        entry = await asyncio.to_thread(self._store.find, str(fields.get("model")))
        if entry is None or operation == "stats":
            return await self._passed_on(operation, fields, timeout_ms)
        if operation in ("reload", "unload") or fields.get("precision") is not None:
            self._check_change(entry)
            return await self._passed_on(operation, fields, timeout_ms)
        try:
            versions = await self._deployments.admit(entry)
            result = await self._passed_on(operation, fields, timeout_ms)
            if operation == "ask":
                self._deployments.answered(entry.name, versions, str(result["model"]))
        except ServiceError as error:
            raise UnavailableError(str(error), error.command) from error
        return result

    def _check_change(self, entry: ModelEntry) -> None:
        """What was deployed stays as it was deployed until that is changed. Raises RefusedError."""
        if entry.name in self._deployments.deployed:
            deploy = f"candor models deploy {entry.name}"
            raise RefusedError(f"{entry.name} is deployed at the model service: change it there", deploy)

    async def _passed_on(self, operation: str, fields: dict[str, Any], timeout_ms: float) -> Any:
        try:
            return await self._client.request(operation, fields, timeout_ms)
        except ValueError as error:
            raise RefusedError(str(error)) from error

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
