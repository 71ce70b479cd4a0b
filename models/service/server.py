"""The service put together, started and stopped in the right order. It asks an engine whose socket is somewhere else."""

import logging
from pathlib import Path

import structlog
from aiohttp import web

from models.client import InferenceClient
from models.service import engine_routes
from models.service.app import create_app
from models.service.asking import Desk
from models.service.auth import Authority
from models.service.changes import Changes
from models.service.deployments import Deployments
from models.service.engine_routes import EngineBehind
from models.service.handlers import Handlers
from models.service.metrics import Metrics
from models.service.settings import checked
from models.settings import ModelSettings
from models.store import Store

SHUTDOWN_S = 5.0
HTTP_LOGGER = "aiohttp.server"  # names addresses and repeats headers; what is our own mistake `app` logs itself

log = structlog.get_logger()


class ModelService:
    """Models over HTTP. `engine`: the engine's socket, which need not be there yet; `shared` if others ask it too.

    Raises ValueError if it would not be safe.
    """

    def __init__(
        self, settings: ModelSettings, engine: Path, store: Store | None = None, *, shared: bool = False
    ) -> None:
        self._settings = checked(settings.service)
        store = store or Store(settings.store_dir)
        self._client = InferenceClient(engine)
        metrics = Metrics()
        authority = Authority(self._settings)
        self._changes = Changes()
        self._deployments = Deployments(store, self._client, metrics, self._changes, shared=shared)
        self._desk = Desk(self._client, store, self._deployments, self._settings, metrics)
        handlers = Handlers(store, self._client, self._desk, self._deployments, self._changes, authority, metrics)
        app = create_app(self._settings, authority, handlers)
        engine_routes.mount(app, authority, EngineBehind(self._client, store, self._deployments))
        # No access log: it names addresses.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S, handler_cancellation=True)
        self._closed = False

    @property
    def url(self) -> str:
        """Where it listens, once started."""
        host, port = self._runner.addresses[0][:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    async def start(self) -> None:
        """Connect to the engine, and listen. Raises OSError for the port, ValueError for the file of deployments.

        ValueError also if another service has the store.
        """
        self._deployments.start()
        self._client.start()
        logging.getLogger(HTTP_LOGGER).setLevel(logging.CRITICAL)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._settings.host, self._settings.port).start()
        log.info("model_service_started", port=self._runner.addresses[0][1], keys=len(self._settings.api_keys))

    async def close(self) -> None:
        """Let calls end for a while, and the change that is being made in its own time, then stop; idempotent."""
        if self._closed:
            return
        self._closed = True
        self._changes.refuse()
        await self._runner.cleanup()
        await self._changes.close()
        self._desk.close()
        await self._client.close()
        await self._deployments.close()
        log.info("model_service_stopped")
