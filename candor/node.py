"""A node: all processes of one machine, from nothing to the moment when joins succeed, and to the end."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from candor import lan
from candor.metrics import NodeMetrics
from candor.operator_site import OperatorSite
from candor.run_dir import run_directory
from candor.settings import ConfigurationError, OperatorSettings, Settings
from candor.supervisor import Supervisor, worker_count
from candor.tracing import checked_telemetry
from sfu.channel import ChannelError, connect
from signaling.cluster.settings import prepared_cluster
from signaling.settings import LOOPBACK_HOST, prepared

START_TIMEOUT_S = 60.0
HOSTS_TIMEOUT_S = 15.0
POLL_S = 0.05


class Node:
    """A running node: its supervisor, and where to reach it."""

    def __init__(self, settings: Settings, run_dir: Path) -> None:
        self.settings = settings
        self.run_dir = run_dir
        self.supervisor = Supervisor(settings, run_dir)
        self.metrics = NodeMetrics(self.supervisor, run_dir)
        self._operator: OperatorSite | None = None

    @property
    def url(self) -> str:
        """Where this computer reaches it."""
        signaling = self.settings.signaling
        host = LOOPBACK_HOST if signaling.host == lan.ANY_ADDRESS else signaling.host
        return f"{signaling.scheme}://{host}:{signaling.port}"

    @property
    def operator_url(self) -> str | None:
        """Where this computer reaches the operator's port; None without one."""
        if self._operator is None:
            return None
        host = self.settings.operator.host
        return f"http://{LOOPBACK_HOST if host == lan.ANY_ADDRESS else host}:{self._operator.port}"

    async def start(self) -> None:
        """Start the processes, and listen on the operator's port if there is one. Raises ConfigurationError."""
        host, port = self.settings.operator.host, self.settings.operator.port
        if port != "off":
            self._operator = OperatorSite(host, port, self.metrics, self.run_dir)
            try:
                await self._operator.start()
            except OSError as error:
                remedy = "choose another with --operator-port"
                raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror}; {remedy}") from error
        await self.supervisor.start()

    async def stop(self) -> None:
        """End all of it; idempotent."""
        if self._operator is not None:
            await self._operator.close()
        await self.supervisor.stop()

    async def ready(self) -> None:
        """Wait until joins succeed. Raises ConfigurationError if that takes too long."""
        async with aiohttp.ClientSession() as http:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(START_TIMEOUT_S):
                    while not await self._answers(http):  # noqa: ASYNC110  # the condition is in another process
                        await asyncio.sleep(POLL_S)
                    return
        raise ConfigurationError(f"the server did not come up within {START_TIMEOUT_S:.0f} s; its log says why")

    async def _answers(self, http: aiohttp.ClientSession) -> bool:
        try:
            async with http.get(f"{self.url}/api/v1/health/ready", ssl=False) as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def hosts_attached(self) -> None:
        """Wait until path host and watch host are attached to every worker, or for 15 s: without a usable transform the
        path host stays away, and a meeting goes on without it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HOSTS_TIMEOUT_S):
                while not await self._hosts_are_there():  # noqa: ASYNC110  # the condition is in other processes
                    await asyncio.sleep(POLL_S)

    async def _hosts_are_there(self) -> bool:
        stats = await self.worker_stats()
        attached = [{"path", "watch"} <= set(worker["taps"]["hosts"]) for worker in stats]
        return len(attached) == worker_count(self.settings) and all(attached)

    async def worker_stats(self) -> list[dict[str, Any]]:
        """What every media worker counts; one that is just being restarted is left out."""
        names = (f"worker-{index}" for index in range(worker_count(self.settings)))
        return [stats for name in names if (stats := await self._stats(name)) is not None]

    async def path_host_stats(self) -> dict[str, Any]:
        """What the path host counts since its start; empty while it is away."""
        return await self._stats("path") or {}

    async def _stats(self, name: str) -> dict[str, Any] | None:
        try:
            channel = await connect(self.run_dir / f"{name}.sock")
        except OSError:
            return None
        channel.start()
        try:
            stats: dict[str, Any] = await channel.request("stats")
        except ChannelError:
            return None
        finally:
            await channel.close()
        return stats


@contextlib.asynccontextmanager
async def node(settings: Settings) -> AsyncIterator[Node]:
    """A node that runs inside the block. Raises ConfigurationError."""
    if settings.signaling.lan:
        settings = _for_lan(settings)
    try:
        signaling = prepared(settings.signaling)
        cluster = prepared_cluster(settings.cluster, signaling)
        checked_telemetry(settings.telemetry)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    if signaling.port == 0:
        signaling = signaling.model_copy(update={"port": _free_port(signaling.host)})
    else:
        _check_port(signaling.host, signaling.port)
    with run_directory() as run_dir:
        operator = _operator_beside(settings)
        parts = {"signaling": signaling, "operator": operator, "cluster": cluster}
        running = Node(settings.model_copy(update=parts), run_dir)
        async with _member(running.settings):
            try:
                await running.start()
                await running.ready()
                yield running
            finally:
                await running.stop()


@contextlib.asynccontextmanager
async def _member(settings: Settings) -> AsyncIterator[None]:
    """A member of the cluster inside the block, if there is one. Raises ConfigurationError."""
    if settings.cluster.redis_url is None or settings.signaling.public_url is None:
        yield
        return
    from signaling.cluster.membership import Membership  # redis is not loaded for nothing

    try:
        membership = Membership(settings.cluster, settings.signaling.public_url)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    membership.start()
    try:
        yield
    finally:
        await membership.close()


def _operator_beside(settings: Settings) -> OperatorSettings:
    """A node on any free port has an operator's port that is free, too, unless it was told which."""
    operator = settings.operator
    if settings.signaling.port == 0 and "port" not in operator.model_fields_set:
        return operator.model_copy(update={"port": 0})
    return operator


def _for_lan(settings: Settings) -> Settings:
    """Listen on the local network, with a certificate, and announce this computer's address in it."""
    try:
        address = lan.local_address()
    except OSError as error:
        raise ConfigurationError("this computer has no address on a network; --lan needs one") from error
    signaling, sfu = settings.signaling, settings.sfu
    changes: dict[str, Any] = {}
    if signaling.tls_cert is None:
        cert, key = lan.certificate(lan.CERTIFICATES.expanduser(), address)
        changes = {"tls_cert": cert, "tls_key": key}
    if signaling.public_url is None:
        changes["public_url"] = f"https://{address}:{signaling.port}"
    media = {"host": lan.ANY_ADDRESS, "announced_host": sfu.announced_host or address}
    return settings.model_copy(
        update={"signaling": signaling.model_copy(update=changes), "sfu": sfu.model_copy(update=media)}
    )


def _free_port(host: str) -> int:
    with socket.socket() as sock:
        sock.bind((host, 0))
        return int(sock.getsockname()[1])


def _check_port(host: str, port: int) -> None:
    """Say so now if the port is taken, rather than in the log of a child that is restarted for ever."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port"
            ) from error
