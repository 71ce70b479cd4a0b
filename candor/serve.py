"""`candor serve` and `candor demo`: one node, from nothing to a link that can be opened."""

import asyncio
import contextlib
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import structlog

from candor import lan
from candor.demo_report import PathStats
from candor.settings import ConfigurationError, Settings
from candor.supervisor import Supervisor, worker_count
from candor.talkers import talk
from sfu.channel import ChannelError, connect
from signaling import auth
from signaling.settings import prepared

log = structlog.get_logger()

DEMO_ROOM = "demo"
CERTIFICATES = Path("~/.local/share/candor/tls")
LAN_HINT = """  The certificate is this computer's own, so each browser asks once whether to trust it:
  choose "Advanced" and then "Proceed" (Safari: "Show Details", "visit this website").
  Whoever has the link above is host; invite others with "Copy invite link" in the room.

"""
START_TIMEOUT_S = 60.0
POLL_S = 0.05


class Node:
    """A running node: its supervisor, and where to reach it."""

    def __init__(self, settings: Settings, run_dir: Path) -> None:
        self.settings = settings
        self.run_dir = run_dir
        self.supervisor = Supervisor(settings, run_dir)

    @property
    def url(self) -> str:
        """Where this computer reaches it."""
        signaling = self.settings.signaling
        return f"{signaling.scheme}://127.0.0.1:{signaling.port}"

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

    async def worker_stats(self) -> list[dict[str, Any]]:
        """What every media worker counts; one that is just being restarted is left out."""
        gathered = []
        for index in range(worker_count(self.settings)):
            with contextlib.suppress(ChannelError, OSError):
                channel = await connect(self.run_dir / f"worker-{index}.sock")
                channel.start()
                try:
                    gathered.append(await channel.request("stats"))
                finally:
                    await channel.close()
        return gathered


@contextlib.asynccontextmanager
async def node(settings: Settings) -> AsyncIterator[Node]:
    """A node that runs inside the block. Raises ConfigurationError."""
    if settings.signaling.lan:
        settings = _for_lan(settings)
    try:
        signaling = prepared(settings.signaling)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    if signaling.port == 0:
        signaling = signaling.model_copy(update={"port": _free_port(signaling.host)})
    else:
        _check_port(signaling.host, signaling.port)
    run_dir = Path(tempfile.mkdtemp(prefix="candor-"))  # mode 0700: the sockets in it are ours alone
    running = Node(settings.model_copy(update={"signaling": signaling}), run_dir)
    try:
        await running.supervisor.start()
        await running.ready()
        yield running
    finally:
        await running.supervisor.stop()
        shutil.rmtree(run_dir, ignore_errors=True)


def _for_lan(settings: Settings) -> Settings:
    """Listen on the local network, with a certificate, and announce this computer's address in it."""
    try:
        address = lan.local_address()
    except OSError as error:
        raise ConfigurationError("this computer has no address on a network; --lan needs one") from error
    signaling, sfu = settings.signaling, settings.sfu
    changes: dict[str, Any] = {}
    if signaling.tls_cert is None:
        cert, key = lan.certificate(CERTIFICATES.expanduser(), address)
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


async def serve(settings: Settings) -> int:
    """Run a node until interrupted."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with node(settings) as running:
        _say_where(running)
        room = running.settings.signaling.demo_room
        talking = (
            asyncio.create_task(talk(running.url, room, _token(running.settings, room, host=False))) if room else None
        )
        await stop.wait()
        if talking is not None:
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)
    return 0


def _token(settings: Settings, room: str, *, host: bool) -> str | None:
    """A token for a room that needs one."""
    secret = settings.signaling.secret
    if settings.signaling.open_rooms or secret is None:
        return None
    return auth.mint(secret.get_secret_value(), room, host=host, ttl_s=settings.signaling.invite_ttl_s)


def _say_where(running: Node) -> None:
    """The link to open, and on a local network what the browser will ask."""
    signaling = running.settings.signaling
    if signaling.lan:
        room = signaling.demo_room or DEMO_ROOM
        token = _token(running.settings, room, host=True)
        sys.stdout.write(f"\n  Candor is ready: {signaling.public_url}/r/{room}?token={token}\n\n")
        sys.stdout.write(LAN_HINT)
    else:
        sys.stdout.write(f"\n  Candor is ready: {running.url}/\n\n")
    sys.stdout.flush()


async def demo(settings: Settings, seconds: float, out_dir: Path) -> int:
    """Start a node on a free port, hold the measured meeting in it, and stop it. Exit status of the demo."""
    from candor.demo import run_demo  # needs the extra `demo`, which a plain server does not have

    async with node(settings) as running:

        async def stats() -> PathStats:
            return path_stats(await running.worker_stats())

        return await run_demo(running.url, DEMO_ROOM, seconds, out_dir, stats)


def path_stats(workers: list[dict[str, Any]]) -> PathStats:
    """The media path over all workers and tracks; of the times, those of the slowest track."""
    tracks = [track for worker in workers for track in worker["taps"]["tracks"].values()]
    times = [track["tap_to_inject_ms"] for track in tracks if track["tap_to_inject_ms"]["p50"] is not None]
    return PathStats(
        processed=sum(track["processed"] for track in tracks),
        bypassed=sum(track["bypassed"] for track in tracks),
        dropped=sum(track["dropped"] for track in tracks),
        guards=0,
        tap_to_inject_ms_p50=max((t["p50"] for t in times), default=None),
        tap_to_inject_ms_p99=max((t["p99"] for t in times), default=None),
    )
