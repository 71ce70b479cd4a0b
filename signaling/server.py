"""The signaling process: everything put together, started and stopped in the right order."""

import asyncio
import contextlib
import ipaddress
import logging
import ssl
from importlib.metadata import version
from pathlib import Path

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry

from signaling.app import create_app
from signaling.gateway import Gateway
from signaling.insights import Insights
from signaling.lobby import Lobby
from signaling.media import MediaPlane
from signaling.metrics import SOCKET_NAME, Inspection, SignalingMetrics
from signaling.recovery import Recovery
from signaling.requests import Requests
from signaling.rooms import Rooms
from signaling.settings import SignalingSettings, prepared
from signaling.turn import IceServers

HOSTS = ("path.sock", "watch.sock")
VIDEO_HOST = "video.sock"
SHUTDOWN_S = 2.0
HTTP_LOGGER = "aiohttp.server"  # names addresses and repeats headers; what is our own mistake `app` logs itself

log = structlog.get_logger()


class SignalingServer:
    """Signaling for the workers and hosts whose sockets lie in `run_dir`."""

    def __init__(
        self,
        settings: SignalingSettings,
        run_dir: Path,
        worker_count: int,
        web_root: Path,
        *,
        video_host: bool = False,
    ) -> None:
        self.settings = prepared(settings)
        self.rooms = Rooms()
        recovery = Recovery(self.rooms)
        self.media = MediaPlane([run_dir / f"worker-{index}.sock" for index in range(worker_count)], recovery)
        hosts = [run_dir / name for name in (*HOSTS, *([VIDEO_HOST] if video_host else []))]
        self.insights = Insights(hosts, self.rooms, self.media, self.settings.policy)
        self.ice = IceServers(self.settings.ice_servers, self.settings.turn, self.rooms)
        self.lobby = Lobby(self.settings, self.rooms, self.media, self.insights, self.ice)
        recovery.attach(self.media, self.insights, self.lobby)
        requests = Requests(self.rooms, self.media, self.insights, self.lobby)
        self.gateway = Gateway(self.settings, self.lobby, requests.handle)
        app = create_app(self.settings, self.gateway, self.media, self.ice, web_root, version("candor"))
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)  # an access log names addresses
        self._inspection = self._inspected(run_dir)
        self._closed = False

    @property
    def url(self) -> str:
        """Where this computer reaches us, once started."""
        host, port = self._runner.addresses[0][:2]
        shown = "127.0.0.1" if ipaddress.ip_address(host).is_unspecified else host
        return f"{self.settings.scheme}://{f'[{shown}]' if ':' in shown else shown}:{port}"

    async def start(self) -> None:
        """Connect to workers and hosts, then listen. Raises OSError if the port is taken."""
        self.media.start()
        self.insights.start()
        self.ice.start()
        await self._inspection.start()
        logging.getLogger(HTTP_LOGGER).setLevel(logging.CRITICAL)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.settings.host, self.settings.port, ssl_context=self._tls())
        await site.start()
        log.info("signaling_started", port=self._runner.addresses[0][1], workers_ready=self.media.ready_workers)

    async def close(self) -> None:
        """Say goodbye to the clients and stop. The workers go on: whoever starts next adopts their rooms."""
        if self._closed:
            return
        self._closed = True
        await self.gateway.close()
        await self.ice.close()
        await self.insights.close()
        await self.media.close()
        self.lobby.close()
        await self._inspection.close()
        await self._runner.cleanup()
        log.info("signaling_stopped")

    def _inspected(self, run_dir: Path) -> Inspection:
        def ready_workers() -> int:
            return self.media.ready_workers

        gateway, dropped = self.gateway, self.insights.dropped
        metrics = SignalingMetrics(
            CollectorRegistry(), gateway.counters, self.rooms, lambda: gateway.sockets, ready_workers, dropped
        )
        return Inspection(run_dir / SOCKET_NAME, metrics, ready_workers)

    def _tls(self) -> ssl.SSLContext | None:
        if self.settings.tls_cert is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.settings.tls_cert, self.settings.tls_key)
        return context


async def serve(
    settings: SignalingSettings, run_dir: Path, worker_count: int, web_root: Path, *, video_host: bool
) -> None:
    """Run until cancelled, then stop gracefully. Raises ValueError if `settings` are not safe, OSError for the port.

    `video_host`: whether there is one.
    """
    server = SignalingServer(settings, run_dir, worker_count, web_root, video_host=video_host)
    try:
        await server.start()
        await asyncio.Event().wait()
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await server.close()
