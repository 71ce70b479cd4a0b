"""Bad networks without root: a UDP relay on loopback that loses packets and has a rate, in front of a media worker.

The worker announces the relay's port, so every client sends there. Each client address is a flow with a socket of its own
towards the worker, under the `Conditions` that were current when it first sent; they can be changed while it flows.
`tc netem` does the same with root and a kernel that has it; this runs everywhere, and what it adds is its own event loop's delay.
"""

import asyncio
import contextlib
import random
import socket
from dataclasses import dataclass

QUEUE_S = 0.25
"""A packet that would wait longer in front of a full link is dropped, as in a router's tail-drop queue."""
READS_PER_TURN = 64
SOCKET_BUFFER_BYTES = 1 << 20

Address = tuple[str, int]


@dataclass(slots=True)
class Conditions:
    """Of one client's link. `down` is towards the client."""

    loss_up: float = 0.0
    loss_down: float = 0.0
    """Fraction of packets lost at random, 0 to 1."""
    rate_down_bps: int | None = None
    lost: int = 0
    overflowed: int = 0
    busy_until_s: float = 0.0
    """When the last packet in the queue will have left."""


class Relay:
    """Create, give `port` to the worker as `announced_port`, `start()`, `close()`."""

    def __init__(self, worker: Address, seed: int = 1) -> None:
        self.joining = Conditions()
        """The conditions of clients that come from now on."""
        self.worker = worker
        self._chance = random.Random(seed)  # nosec B311  # which packets are lost is no secret
        self._front = _udp_socket()
        self._flows: dict[Address, _Flow] = {}

    @property
    def port(self) -> int:
        """Where clients send."""
        return int(self._front.getsockname()[1])

    def start(self) -> None:
        """Begin to pass packets on."""
        asyncio.get_running_loop().add_reader(self._front.fileno(), self._from_clients)

    def close(self) -> None:
        """Stop; idempotent."""
        loop = asyncio.get_running_loop()
        for sock in (self._front, *(flow.sock for flow in self._flows.values())):
            if sock.fileno() >= 0:
                loop.remove_reader(sock.fileno())
                sock.close()

    def _from_clients(self) -> None:
        for _ in range(READS_PER_TURN):
            try:
                data, address = self._front.recvfrom(2048)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error of an earlier send
                continue
            flow = self._flows.get(address) or self._open(address)
            if self._lost(flow.conditions, flow.conditions.loss_up):
                continue
            with contextlib.suppress(OSError):
                flow.sock.send(data)

    def _open(self, address: Address) -> "_Flow":
        flow = self._flows[address] = _Flow(address, self.joining, _udp_socket())
        flow.sock.connect(self.worker)
        asyncio.get_running_loop().add_reader(flow.sock.fileno(), self._from_worker, flow)
        return flow

    def _from_worker(self, flow: "_Flow") -> None:
        for _ in range(READS_PER_TURN):
            try:
                data = flow.sock.recv(2048)
            except BlockingIOError:
                return
            except OSError:
                continue
            if not self._lost(flow.conditions, flow.conditions.loss_down):
                self._queue(flow, data)

    def _lost(self, conditions: Conditions, fraction: float) -> bool:
        lost = self._chance.random() < fraction
        conditions.lost += lost
        return lost

    def _queue(self, flow: "_Flow", data: bytes) -> None:
        conditions = flow.conditions
        if conditions.rate_down_bps is None:
            self._deliver(flow.address, data)
            return
        loop = asyncio.get_running_loop()
        leaves_s = max(loop.time(), conditions.busy_until_s) + len(data) * 8 / conditions.rate_down_bps
        if leaves_s - loop.time() > QUEUE_S:
            conditions.overflowed += 1
            return
        conditions.busy_until_s = leaves_s
        loop.call_at(leaves_s, self._deliver, flow.address, data)

    def _deliver(self, address: Address, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self._front.sendto(data, address)


@dataclass(frozen=True, slots=True)
class _Flow:
    address: Address
    conditions: Conditions
    sock: socket.socket


def _udp_socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


def free_port() -> int:
    """A UDP port of loopback that is free now."""
    with _udp_socket() as sock:
        return int(sock.getsockname()[1])
