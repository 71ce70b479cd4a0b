"""The yardstick: datagrams of the same sizes through bare `sendto`, nothing else, on the server's core.

Two ways. *Flood*: as fast as it goes, everything in the caches, which is the limit of a core. *Paced*: at the times at which the
publisher sends, each datagram to all sinks at once, as the server has to; then the caches are as cold as the server finds them.
Only the loop of calls is counted, not the waking up.
"""

import asyncio
import multiprocessing
import socket
import time
from multiprocessing.connection import Connection
from typing import NamedTuple

from benchmarks.load.link import timed_socket
from benchmarks.load.media import Recording
from benchmarks.load.processes import started_on

VIDEO_OVERHEAD_BYTES, AUDIO_OVERHEAD_BYTES = 24 + 16, 28 + 16
"""RTP header with the extensions that the worker writes, and the tag of AES-128-GCM."""
FLOOD_PER_SINK = 96
"""Sent at once to each sink; more could overflow a receive buffer of the kernel's default size."""
DRAIN_TIMEOUT_S = 10.0

Address = tuple[str, int]
Schedule = list[tuple[int, int]]
"""(time in ns from the start, size in bytes) of each datagram."""


class _Order(NamedTuple):
    """What the process shall do: send to `addresses`, paced for `paced_s`, or a flood if that is 0."""

    addresses: list[Address]
    paced_s: float


class BareSender:
    """Sends to as many sinks as the server has subscribers; they are drained here, on the load's core."""

    def __init__(self, core: int, recording: Recording) -> None:
        self._core = core
        schedule = [
            (p.at_ns, len(p.data) + (AUDIO_OVERHEAD_BYTES if p.kind == "audio" else VIDEO_OVERHEAD_BYTES))
            for p in recording.payloads
        ]
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, schedule), daemon=True)
        self._sinks: list[socket.socket] = []
        self._arrived = 0
        self._expected: int | None = None
        self._drained = asyncio.Event()

    def start(self) -> None:
        """Start its process."""
        with started_on(self._core):
            self._process.start()

    async def flood_us(self, sinks: int, packets: int) -> float:
        """CPU microseconds of a call, over at least `packets` of them. Raises TimeoutError if some never arrive."""
        done, cpu_ns = 0, 0
        while done < packets:
            sent, spent_ns = await self._send(sinks, 0.0)
            done += sent
            cpu_ns += spent_ns
        return cpu_ns / done / 1000

    async def paced_us(self, sinks: int, seconds: float) -> float:
        """CPU microseconds of a call, over `seconds` of the recording. Raises TimeoutError if some never arrive."""
        sent, cpu_ns = await self._send(sinks, seconds)
        return cpu_ns / sent / 1000

    async def _send(self, sinks: int, paced_s: float) -> tuple[int, int]:
        """(datagrams, CPU time in ns)."""
        self._open(sinks)
        self._arrived, self._expected = 0, None
        self._drained.clear()
        self._ours.send(_Order([sink.getsockname() for sink in self._sinks[:sinks]], paced_s))
        sent, cpu_ns = await asyncio.to_thread(self._ours.recv)
        self._expected = sent
        if self._arrived < sent:
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                await self._drained.wait()
        return sent, cpu_ns

    def _open(self, sinks: int) -> None:
        loop = asyncio.get_running_loop()
        while len(self._sinks) < sinks:
            sock = timed_socket()
            sock.bind(("127.0.0.1", 0))
            loop.add_reader(sock.fileno(), self._drain, sock, bytearray(2048))
            self._sinks.append(sock)

    def _drain(self, sock: socket.socket, buffer: bytearray) -> None:
        while True:
            try:
                sock.recv_into(buffer)
            except BlockingIOError:
                return
            self._arrived += 1
            if self._arrived == self._expected:
                self._drained.set()

    async def close(self) -> None:
        """Stop; idempotent."""
        loop = asyncio.get_running_loop()
        for sock in self._sinks:
            loop.remove_reader(sock.fileno())
            sock.close()
        self._sinks = []
        if self._process.pid is not None:
            self._process.terminate()
            await asyncio.to_thread(self._process.join, 10)


def _serve(pipe: Connection, schedule: Schedule) -> None:
    """The process: orders in, (datagrams, CPU time in ns) out."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    flood = [bytes(schedule[index % len(schedule)][1]) for index in range(FLOOD_PER_SINK)]
    while True:
        order: _Order = pipe.recv()
        if order.paced_s:
            pipe.send(_paced(sock, order.addresses, schedule, order.paced_s))
        else:
            pipe.send((len(flood) * len(order.addresses), _burst(sock, order.addresses, flood)))


def _paced(sock: socket.socket, addresses: list[Address], schedule: Schedule, seconds: float) -> tuple[int, int]:
    sent = cpu_ns = 0
    start_ns = time.monotonic_ns()
    for at_ns, size in schedule:
        if at_ns > seconds * 1e9:
            break
        time.sleep(max(0.0, (start_ns + at_ns - time.monotonic_ns()) / 1e9))
        cpu_ns += _burst(sock, addresses, [bytes(size)])
        sent += len(addresses)
    return sent, cpu_ns


def _burst(sock: socket.socket, addresses: list[Address], datagrams: list[bytes]) -> int:
    """CPU time in ns of sending every datagram to every address."""
    sendto = sock.sendto
    before_ns = time.thread_time_ns()
    for datagram in datagrams:
        for address in addresses:
            sendto(datagram, address)
    return time.thread_time_ns() - before_ns
