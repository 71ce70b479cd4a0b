"""The signaling process: everything put together, started and stopped in the right order."""

import asyncio
import contextlib
import ipaddress
import logging
import ssl
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry

from signaling.app import create_app
from signaling.cluster.claims import Alone, Claims
from signaling.cluster.settings import ClusterSettings
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

if TYPE_CHECKING:
    from signaling.cluster.cluster import Cluster

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
        cluster: ClusterSettings | None = None,
    ) -> None:
        """`cluster` as prepared. Raises ValueError if the settings cannot be used."""
        self.settings = prepared(settings)
        self.rooms = Rooms()
        self.cluster = self._joined(cluster)
        claims: Claims = self.cluster or Alone()
        recovery = Recovery(self.rooms)
        self.media = MediaPlane(
            [run_dir / f"worker-{index}.sock" for index in range(worker_count)], recovery, claims.changed
        )
        hosts = [run_dir / name for name in (*HOSTS, *([VIDEO_HOST] if video_host else []))]
        self.insights = Insights(hosts, self.rooms, self.media, self.settings.policy)
        self.ice = IceServers(self.settings.ice_servers, self.settings.turn, self.rooms)
        self.lobby = Lobby(self.settings, self.rooms, self.media, self.insights, self.ice, claims)
        recovery.attach(self.media, self.insights, self.lobby)
        requests = Requests(self.rooms, self.media, self.insights, self.lobby)
        self.gateway = Gateway(self.settings, self.lobby, requests.handle, lambda: claims.origins)
        app = create_app(self.settings, self.gateway, self.media, self.ice, web_root, version("candor"))
        if self.cluster is not None:
            self.cluster.attach(recovery.restore, self.lobby.hand_over, app)
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
        await self._inspection.start()
        self.ice.start()
        if self.cluster is not None:
            self.cluster.start()
        logging.getLogger(HTTP_LOGGER).setLevel(logging.CRITICAL)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.settings.host, self.settings.port, ssl_context=self._tls())
        await site.start()
        log.info("signaling_started", port=self._runner.addresses[0][1], workers_ready=self.media.ready_workers)

    async def close(self) -> None:
        """Say goodbye to the clients and stop. The workers go on: whoever starts next adopts their rooms.

        In a cluster the rooms move to other machines first.
        """
        if self._closed:
            return
        self._closed = True
        if self.cluster is not None:
            await self.cluster.close()
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
        drain = self.cluster.drain if self.cluster is not None else None
        return Inspection(run_dir / SOCKET_NAME, metrics, ready_workers, drain)

    def _joined(self, settings: ClusterSettings | None) -> "Cluster | None":
        """Our part in a cluster, if there is one."""
        if settings is None or settings.redis_url is None or self.settings.public_url is None:
            return None
        from signaling.cluster.cluster import Cluster  # redis is not loaded for nothing

        return Cluster(settings, self.settings.public_url, self.rooms, lambda: self.media.ready_workers)

    def _tls(self) -> ssl.SSLContext | None:
        if self.settings.tls_cert is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.settings.tls_cert, self.settings.tls_key)
        return context


async def serve(
    settings: SignalingSettings,
    run_dir: Path,
    worker_count: int,
    web_root: Path,
    *,
    video_host: bool,
    cluster: ClusterSettings | None = None,
) -> None:
    """Run until cancelled, then stop gracefully. Raises ValueError if `settings` are not safe, OSError for the port.

    `video_host`: whether there is one. `cluster` as prepared.
    """
    server = SignalingServer(settings, run_dir, worker_count, web_root, video_host=video_host, cluster=cluster)
    try:
        await server.start()
        await asyncio.Event().wait()
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await server.close()
