"""A real Redis, and machines of a cluster in one process: signaling servers with a worker each that is scripted."""

import asyncio
import contextlib
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from signaling.cluster.membership import Membership
from signaling.cluster.settings import ClusterSettings, prepared_cluster
from signaling.server import SignalingServer
from tests.integration.signaling_kit import ROOM, Client, Meeting
from tests.until import until

PASSWORD = "redis-password"
LEASE_S = 2.0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class RedisServer:
    """Debian's redis-server, with a password and without a disk: killed, it has forgotten everything.

    On a Unix socket: whoever asks a free port of loopback again and again may one day be connected to itself.
    """

    def __init__(self, directory: Path) -> None:
        self.url = f"unix://:{PASSWORD}@{directory}/redis.sock"
        self._directory = directory
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        socket_path = str(self._directory / "redis.sock")
        options = {"port": 0, "unixsocket": socket_path, "save": "", "appendonly": "no", "requirepass": PASSWORD}
        arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        self._process = await asyncio.create_subprocess_exec(
            "redis-server", *arguments, "--dir", self._directory, stdout=asyncio.subprocess.DEVNULL
        )
        await until(self._missing)

    async def kill(self) -> None:
        """kill -9."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await process.wait()

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Redis]:
        """To look into it, or to spoil it."""
        redis = Redis.from_url(self.url, decode_responses=True)
        try:
            yield redis
        finally:
            await redis.aclose()

    async def _missing(self) -> str:
        try:
            async with self.client() as redis:
                await redis.ping()
        except RedisError as error:
            return f"redis: {error}"
        return ""


@contextlib.asynccontextmanager
async def redis_server() -> AsyncIterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="redis-") as directory:
        server = RedisServer(Path(directory))
        await server.start()
        try:
            yield server
        finally:
            await server.kill()


class Machine(Meeting):
    """One machine of a cluster: its lease, its signaling, its worker."""

    def __init__(self, run_dir: Path, redis: RedisServer, node_id: str, **settings: Any) -> None:
        run_dir.mkdir()
        port = free_port()
        self.node_id = node_id
        self.url = f"http://127.0.0.1:{port}"
        self._redis = redis
        super().__init__(run_dir, port=port, public_url=self.url, **settings)
        self.membership = Membership(self.cluster, self.url)

    def _new_server(self) -> SignalingServer:
        wanted = {"redis_url": self._redis.url, "node_id": self.node_id, "lease_s": LEASE_S}
        self.cluster = prepared_cluster(ClusterSettings.model_validate(wanted), self.settings)
        return SignalingServer(self.settings, self.run_dir, 1, self.run_dir / "web", cluster=self.cluster)

    async def start(self) -> None:
        self.membership.start()
        await super().start()

    async def close(self) -> None:
        await super().close()
        await self.membership.close()

    async def die(self) -> None:
        """As if the machine lost its power, but that its clients notice at once: nothing is said, nothing given back."""
        cluster = self.server.cluster
        assert cluster is not None and cluster._beating is not None and self.membership._task is not None
        for task in (self.membership._task, cluster._beating):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await cluster._keeper.close()
        for connection in list(self.server.gateway._connections.values()):
            connection.cut("test")
        cluster._keeper.fences.clear()
        cluster._nodes.clear()
        await self.server._runner.cleanup()
        await self.worker.close()

    def seats(self, room_id: str = ROOM) -> set[str]:
        room = self.server.rooms.find(room_id)
        return set(room.participants) if room else set()


@contextlib.asynccontextmanager
async def machines(
    directory: Path, redis: RedisServer, count: int = 2, **settings: Any
) -> AsyncIterator[list[Machine]]:
    """Machines that know each other."""
    async with contextlib.AsyncExitStack() as stack:
        cluster = [Machine(directory / f"m{index}", redis, f"m{index}", **settings) for index in range(count)]
        for machine in cluster:
            stack.push_async_callback(machine.close)
            await machine.start()
        for machine in cluster:
            await knows(machine, count - 1)
        yield cluster


async def knows(machine: Machine, others: int) -> None:
    """Wait until a machine knows so many others."""
    cluster = machine.server.cluster
    assert cluster is not None
    await until(lambda: "" if len(cluster.others) == others else f"{others} others, are {cluster.others}")


async def came_back(machine: Machine, before: Client, **fields: Any) -> tuple[Client, dict[str, Any]]:
    """Resume on a machine; asks again while it says that it is too early, or that the room is elsewhere."""
    answers: list[Any] = []

    async def missing() -> str:
        client = await machine.client()
        asked = {"room_id": ROOM, "name": "x", "session_key": before.key, "hops": 1, "fresh_transports": True, **fields}
        answer = await client.ask("join", asked)
        if not answer["ok"] or "redirect" in answer["result"]:
            await client.close()
            return f"a seat, got {answer}"
        client.me, client.key = answer["result"]["participant_id"], answer["result"]["session_key"]
        answers[:] = [client, answer["result"]]
        return ""

    await until(missing)
    client, result = answers
    return client, result
