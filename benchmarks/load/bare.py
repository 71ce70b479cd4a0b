"""The yardstick: datagrams of the same sizes through bare `sendto`, nothing else, on the server's core."""

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
PACKETS_PER_SINK = 96
"""Sent at once to each sink; more could overflow a receive buffer of the kernel's default size."""
DRAIN_TIMEOUT_S = 10.0


class BareCost(NamedTuple):
    """CPU of a number of calls."""

    packets: int
    cpu_us: float


class BareSender:
    """Sends to as many sinks as the server has subscribers; they are drained here, on the load's core."""

    def __init__(self, core: int, recording: Recording) -> None:
        self._core = core
        self._sizes = [
            len(p.data) + (AUDIO_OVERHEAD_BYTES if p.kind == "audio" else VIDEO_OVERHEAD_BYTES)
            for p in recording.payloads
        ]
        self._ours, self._theirs = multiprocessing.get_context("spawn").Pipe()
        self._process = multiprocessing.get_context("spawn").Process(
            target=_send, args=(self._theirs, self._sizes), daemon=True
        )
        self._sinks: list[socket.socket] = []
        self._expected = 0
        self._drained = asyncio.Event()

    def start(self) -> None:
        """Start its process."""
        with started_on(self._core):
            self._process.start()

    async def measure(self, sinks: int, packets: int) -> BareCost:
        """Send about `packets` in all to `sinks` sinks. Raises TimeoutError if some never arrive."""
        self._open(sinks)
        done, cpu_us = 0, 0.0
        while done < packets:
            self._expected = PACKETS_PER_SINK * sinks
            self._drained.clear()
            self._ours.send([sink.getsockname() for sink in self._sinks[:sinks]])
            cpu_us += await asyncio.to_thread(self._ours.recv) / 1000
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                await self._drained.wait()
            done += PACKETS_PER_SINK * sinks
        return BareCost(done, cpu_us)

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
            self._expected -= 1
            if not self._expected:
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


def _send(pipe: Connection, sizes: list[int]) -> None:
    """The process: for each list of addresses, `PACKETS_PER_SINK` datagrams to everyone; answers the CPU time in ns."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams = [bytes(size) for size in sizes]
    position = 0
    while True:
        addresses = pipe.recv()
        chosen = [datagrams[(position + index) % len(datagrams)] for index in range(PACKETS_PER_SINK)]
        position += PACKETS_PER_SINK
        sendto = sock.sendto
        before_ns = time.thread_time_ns()
        for datagram in chosen:
            for address in addresses:
                sendto(datagram, address)
        pipe.send(time.thread_time_ns() - before_ns)
