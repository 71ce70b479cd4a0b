"""One UDP port for everybody (RFC 7983: first byte 0-3 STUN, 20-63 DTLS, 128-191 SRTP and SRTCP).

An address belongs to a peer only after a STUN check from it has passed MESSAGE-INTEGRITY (`bind`), so nobody can claim a
stranger's media by guessing a user name; and as long as a peer's media goes to an address, nobody else can have it, whatever
check comes from it (sources of datagrams can be forged, answers to them cannot be read). Whatever arrives from an unbound
address and is not STUN is dropped and counted.

Media is read into one shared buffer, decrypted there in place by the peer and handed on synchronously: nothing awaits. It comes
with the kernel's time of arrival, so that how long it waited for us to read it is not taken for a property of the network.
"""

import asyncio
import contextlib
import socket
import struct
import time
from collections import Counter
from typing import Protocol

from sfu.errors import DropReason
from sfu.net.stun import username

Address = tuple[str, int]
DATAGRAM_MAX_BYTES = 2048
"""What is longer is cut off, and then does not authenticate."""
MEDIA_MAX_BYTES = 1472
"""What Ethernet carries in one piece. With our header it stays below the 1500 at which aiortc clients lose the connection."""
RECEIVE_BUFFER_BYTES = 4 << 20
READS_PER_TURN = 128
"""Datagrams read before the event loop gets a turn for its other work."""
PENDING_CHECKS_MAX = 4096
ADDRESSES_PER_PEER_MAX = 16
_SO_TIMESTAMPNS = 35  # Linux, asm-generic/socket.h; Python's socket module has no name for it
_TIMESPEC = struct.Struct("@qq")
_ANCILLARY_BYTES = socket.CMSG_SPACE(_TIMESPEC.size)


class StunAgent(Protocol):
    """An ICE agent that shares the port."""

    def datagram_received(self, data: bytes, addr: Address) -> None:
        """A STUN message for this agent."""


class MediaPeer(Protocol):
    """Whoever owns a bound address."""

    @property
    def remote_address(self) -> Address | None:
        """Where its media goes, by consent of the other end (RFC 7675); None without."""

    def media_received(self, size: int, arrival_ns: int) -> None:
        """An SRTP or SRTCP packet of `size` bytes lies in the mux's receive buffer. `arrival_ns` on the monotonic clock, by the
        kernel where it tells. Must not raise."""

    def dtls_received(self, data: bytes) -> None:
        """A DTLS record. Must not raise."""


class UdpMux:
    """The socket and who is behind which address."""

    def __init__(self, host: str, port: int, receive_buffer: memoryview) -> None:
        self.drops: Counter[DropReason] = Counter()
        self.receive_buffer = receive_buffer
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            self.sock.setsockopt(socket.SOL_SOCKET, option, RECEIVE_BUFFER_BYTES)
        with contextlib.suppress(OSError):  # not Linux: then arrivals are when we read
            self.sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self.sock.bind((host, port))
        self.sock.setblocking(False)
        self.address: Address = self.sock.getsockname()
        self._peers: dict[Address, MediaPeer] = {}
        self._bound: dict[MediaPeer, list[Address]] = {}
        self._agents: dict[str, StunAgent] = {}
        self._checks: dict[bytes, StunAgent] = {}

    def start(self) -> None:
        """Begin to read."""
        asyncio.get_running_loop().add_reader(self.sock.fileno(), self._readable)

    def close(self) -> None:
        """Stop reading and close the port; idempotent."""
        if self.sock.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self.sock.fileno())
            self.sock.close()

    # --- who is behind which address

    def add_agent(self, ufrag: str, agent: StunAgent) -> None:
        """Deliver STUN requests for `ufrag` to `agent`."""
        self._agents[ufrag] = agent

    def remove_agent(self, ufrag: str) -> None:
        """Forget an agent and the checks it waits for; idempotent."""
        agent = self._agents.pop(ufrag, None)
        for transaction in [t for t, waiting in self._checks.items() if waiting is agent]:
            del self._checks[transaction]

    def bind(self, address: Address, peer: MediaPeer) -> bool:
        """`address` passed an integrity check as `peer`: whether it may have it. No if another peer's media goes there, counted.

        At most 16 addresses a peer; the oldest gives way.
        """
        previous = self._peers.get(address)
        if previous is peer:
            return True
        if previous is not None:
            if previous.remote_address == address:
                self.drops[DropReason.ADDRESS_TAKEN] += 1
                return False
            self._bound[previous].remove(address)
        self._peers[address] = peer
        addresses = self._bound.setdefault(peer, [])
        addresses.append(address)
        if len(addresses) > ADDRESSES_PER_PEER_MAX:
            del self._peers[addresses.pop(0)]
        return True

    def unbind(self, peer: MediaPeer) -> None:
        """Forget all addresses of a peer; idempotent."""
        for address in self._bound.pop(peer, []):
            del self._peers[address]

    # --- in and out

    def send_stun(self, data: bytes, address: Address, agent: StunAgent) -> None:
        """Send for an agent, and remember which agent asked so that the answer finds it."""
        if data[0] == 0 and data[1] == 1:  # a binding request of our own
            self._checks[data[8:20]] = agent
            if len(self._checks) > PENDING_CHECKS_MAX:
                del self._checks[next(iter(self._checks))]
        self.send(data, address)

    def send(self, data: bytes | memoryview, address: Address) -> None:
        """Send a datagram; a full or failing socket is a counted drop."""
        try:
            self.sock.sendto(data, address)
        except OSError:
            self.drops[DropReason.SEND_FAILED] += 1

    def _readable(self) -> None:
        view = self.receive_buffer
        buffers = [view[:DATAGRAM_MAX_BYTES]]
        receive = self.sock.recvmsg_into
        peers = self._peers
        now_ns = time.monotonic_ns()
        clock_offset_ns = now_ns - time.time_ns()
        for _ in range(READS_PER_TURN):
            try:
                size, ancillary, _, address = receive(buffers, _ANCILLARY_BYTES)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error of an earlier send
                continue
            if not size:
                continue
            first = view[0]
            if 127 < first < 192:
                peer = peers.get(address)
                if peer is None:
                    self.drops[DropReason.UNKNOWN_ADDRESS] += 1
                elif size > MEDIA_MAX_BYTES:
                    self.drops[DropReason.OVERSIZED] += 1
                else:
                    peer.media_received(size, _arrival_ns(ancillary, clock_offset_ns) or now_ns)
            else:
                self._control(bytes(view[:size]), address)

    def _control(self, data: bytes, address: Address) -> None:
        if data[0] < 4:
            self._stun(data, address)
        elif 19 < data[0] < 64 and (peer := self._peers.get(address)) is not None:
            peer.dtls_received(data)
        else:
            self.drops[DropReason.UNKNOWN_ADDRESS] += 1

    def _stun(self, data: bytes, address: Address) -> None:
        try:
            answer = data[0] == 1  # a response or an error: to the agent that asked
            agent = self._checks.pop(data[8:20], None) if answer else self._agents.get(username(data).partition(":")[0])
            if agent is None:
                self.drops[DropReason.UNKNOWN_UFRAG] += 1
            else:
                agent.datagram_received(data, address)
        except (ValueError, struct.error):  # aioice unpacks attributes without looking at their length
            self.drops[DropReason.MALFORMED_STUN] += 1


def _arrival_ns(ancillary: list[tuple[int, int, bytes]], clock_offset_ns: int) -> int:
    """When the kernel took a datagram, on the monotonic clock; 0 if it did not say."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(data) >= _TIMESPEC.size:
            seconds, nanoseconds = _TIMESPEC.unpack_from(data)
            return int(seconds * 1_000_000_000 + nanoseconds + clock_offset_ns)
    return 0
