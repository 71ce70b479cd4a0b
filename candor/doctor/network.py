"""Addresses and ports of this machine: free, in use by a server of ours, or taken by somebody else."""

import errno
import socket

import aiohttp

from candor.doctor.line import Line
from candor.settings import Settings
from candor.supervisor import worker_count
from sfu.net.udp_mux import RECEIVE_BUFFER_BYTES
from signaling.settings import ANY_HOST, LOOPBACK_HOST, is_loopback, prepared

ASK_TIMEOUT_S = 5.0
LIVE_PATHS = ("/api/v1/health/live", "/health/live")
"""Of the page's port, and of the operator's."""


def configuration(settings: Settings) -> list[Line]:
    """What `serve` would refuse, and media addresses that nobody else can reach."""
    try:
        signaling = prepared(settings.signaling)
    except ValueError as error:
        return [Line("fix", "configuration", str(error))]
    lines = [Line("ok", "configuration", "can be served")]
    announced = settings.sfu.announced_host or settings.sfu.host
    if not signaling.loopback and not signaling.lan and is_loopback(announced):
        remedy = "set sfu.host to an address of this machine, and sfu.announced_host to what clients reach it by"
        lines.append(Line("fix", "media address", f"clients are told {announced}, which is themselves", remedy))
    return lines


async def ports(settings: Settings) -> list[Line]:
    """Every port that `serve` listens on."""
    signaling, operator, sfu = settings.signaling, settings.operator, settings.sfu
    page = await _tcp("page and signaling", signaling.host, signaling.port, signaling.scheme, "signaling.port")
    lines = [page]
    if isinstance(operator.port, int):
        lines.append(await _tcp("operator's port", operator.host, operator.port, "http", "operator.port"))
    if not sfu.port:
        found = "any free one, others at every start"
        return [*lines, Line("note", "UDP ports", found, "behind a firewall or in a container, set sfu.port")]
    ours = page.level == "ok" and "answers" in page.found
    return [*lines, *(_udp(sfu.host, sfu.port + index, ours) for index in range(worker_count(settings)))]


async def _tcp(what: str, host: str, port: int, scheme: str, setting: str) -> Line:
    if not port:
        return Line("ok", what, "any free port")
    error = _why_not(socket.SOCK_STREAM, host, port)
    if error is None:
        return Line("ok", what, f"{host}:{port} is free")
    reached = LOOPBACK_HOST if host == ANY_HOST else host
    if error.errno == errno.EADDRINUSE and await _lives(f"{scheme}://{reached}:{port}"):
        return Line("ok", what, f"a server of ours answers at {host}:{port}")
    return Line("fix", what, f"{host}:{port}: {error.strerror}", f"choose another {setting}")


def _udp(host: str, port: int, ours: bool) -> Line:
    error = _why_not(socket.SOCK_DGRAM, host, port)
    if error is None:
        return Line("ok", "UDP port", f"{host}:{port} is free")
    if ours and error.errno == errno.EADDRINUSE:
        return Line("ok", "UDP port", f"{host}:{port} is in use, as it should be by the server that answers")
    return Line("fix", "UDP port", f"{host}:{port}: {error.strerror}", "choose another sfu.port or sfu.host")


def _why_not(kind: socket.SocketKind, host: str, port: int) -> OSError | None:
    """Why a port cannot be bound."""
    with socket.socket(socket.AF_INET, kind) as sock:
        if kind is socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError as error:
            return error
    return None


async def _lives(url: str) -> bool:
    """Whether a server of ours answers there; its certificate may be anybody's, nothing is told to it."""
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ASK_TIMEOUT_S)) as http:
            for path in LIVE_PATHS:
                async with http.get(url + path, ssl=False) as response:
                    if response.status == 200:
                        return True
    except (aiohttp.ClientError, TimeoutError):
        return False
    return False


def buffers() -> Line:
    """What the kernel really grants a worker's UDP socket: it counts twice what it grants (socket(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        granted = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
    if granted >= RECEIVE_BUFFER_BYTES:
        return Line("ok", "socket buffers", f"{granted >> 10} KiB")
    found = f"{granted >> 10} KiB of {RECEIVE_BUFFER_BYTES >> 10}: bursts of packets may be lost"
    remedy = f"sysctl -w net.core.rmem_max={RECEIVE_BUFFER_BYTES} net.core.wmem_max={RECEIVE_BUFFER_BYTES}"
    return Line("fix", "socket buffers", found, remedy)
