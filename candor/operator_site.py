"""The operator's port: `/metrics` and `/health/{live,ready,detailed}` of a node, over plain HTTP.

It is the supervisor that serves it. Signaling's event loop is busy with people and dies with them; the supervisor does next to
nothing, knows of every restart and outlives everybody, so it can say of each process that it does not answer. It is another
port, never a route of the public one, so no mistake in a proxy opens it. It asks for no key: keep it on loopback, or in a
network of one's own.
"""

from pathlib import Path

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from candor.metrics import CONTENT_TYPE, NodeMetrics, channel_request
from sfu.channel import ChannelError
from signaling.app import host_name
from signaling.settings import is_loopback

SHUTDOWN_S = 1.0

log = structlog.get_logger()


class OperatorSite:
    """Serves one address; port 0 is any that is free."""

    def __init__(self, host: str, port: int, metrics: NodeMetrics, run_dir: Path) -> None:
        self._host = host
        self._port = port
        self._metrics = metrics
        self._run_dir = run_dir
        app = web.Application(middlewares=[self._check_host])
        app.router.add_get("/metrics", self._serve_metrics)
        app.router.add_get("/health/live", self._live)
        app.router.add_get("/health/ready", self._ready)
        app.router.add_get("/health/detailed", self._detailed)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)

    @property
    def port(self) -> int:
        """Where it listens, once started."""
        return int(self._runner.addresses[0][1])

    async def start(self) -> None:
        """Listen. Raises OSError if the port is taken."""
        self._metrics.start()
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()
        log.info("operator_port_open", port=self.port)

    async def close(self) -> None:
        """Stop; idempotent."""
        await self._runner.cleanup()
        await self._metrics.close()

    @web.middleware
    async def _check_host(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """On loopback, no page of a browser here may read it under a name of its own (DNS rebinding)."""
        if is_loopback(self._host) and not is_loopback(host_name(request.host)):
            raise web.HTTPMisdirectedRequest(text="unknown host name\n")
        return await handler(request)

    async def _serve_metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=(await self._metrics.page()).encode(), headers={"Content-Type": CONTENT_TYPE})

    async def _live(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _ready(self, _: web.Request) -> web.Response:
        workers = await self._ready_workers()
        status = {"status": "ok" if workers else "starting", "ready_workers": workers}
        return web.json_response(status, status=200 if workers else 503)

    async def _detailed(self, _: web.Request) -> web.Response:
        """200 as long as people can join; what is not well is in the body."""
        workers = await self._ready_workers()
        processes = await self._metrics.processes()
        well = bool(workers) and all(process["up"] for process in processes.values())
        status = "ok" if well else "degraded" if workers else "starting"
        body = {"status": status, "ready_workers": workers, "processes": processes}
        return web.json_response(body, status=200 if workers else 503)

    async def _ready_workers(self) -> int:
        """Media workers that take rooms; 0 if signaling does not answer."""
        try:
            answer = await channel_request(self._run_dir, "signaling", "health")
        except (OSError, ChannelError):
            return 0
        return int(answer.get("ready_workers", 0)) if isinstance(answer, dict) else 0
