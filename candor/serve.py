"""`candor serve` and `candor demo`: one node, from nothing to a link that can be opened."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

from candor.demo_report import PathStats
from candor.node import Node, node
from candor.settings import Settings
from candor.talkers import talk
from signaling import auth

DEMO_ROOM = "demo"
LAN_HINT = """  The certificate is this computer's own, so each browser asks once whether to trust it:
  choose "Advanced" and then "Proceed" (Safari: "Show Details", "visit this website").
  Whoever has the link above is host; invite others with "Copy invite link" in the room.

"""


async def serve(settings: Settings) -> int:
    """Run a node until interrupted."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with node(settings) as running:
        _say_where(running)
        room = running.settings.signaling.demo_room
        talking = None
        if room:
            talking = asyncio.create_task(talk(running.url, room, lambda: _token(running.settings, room, host=False)))
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
        await running.hosts_attached()

        async def stats() -> PathStats:
            return path_stats(await running.worker_stats(), await running.path_host_stats())

        return await run_demo(running.url, DEMO_ROOM, seconds, out_dir, stats)


def path_stats(workers: list[dict[str, Any]], path_host: dict[str, Any]) -> PathStats:
    """The media path over all workers and tracks; of the times, those of the slowest track."""
    tracks = [track for worker in workers for track in worker["taps"]["tracks"].values()]
    times = [track["tap_to_inject_ms"] for track in tracks if track["tap_to_inject_ms"]["p50"] is not None]
    return PathStats(
        processed=sum(track["processed"] for track in tracks),
        bypassed=sum(track["bypassed"] for track in tracks),
        dropped=sum(track["dropped"] for track in tracks),
        guards=path_host.get("guard_trips", 0),
        tap_to_inject_ms_p50=max((t["p50"] for t in times), default=None),
        tap_to_inject_ms_p99=max((t["p99"] for t in times), default=None),
    )
