"""One client connection: a socket of its own, ICE with a single candidate (RFC 8445), DTLS, SRTP.

Arrival times are the kernel's (`SO_TIMESTAMPNS`), so that a packet's time does not contain how long it waited for us to read it.
"""

import asyncio
import contextlib
import secrets
import socket
import struct
from typing import Protocol

from aioice import stun

from benchmarks.load import sdp
from benchmarks.load.dtls import DtlsClient, Identity
from benchmarks.load.srtp import Srtp, SrtpProfile

CONNECT_TIMEOUT_S = 20.0
RETRY_S = 0.1
SOCKET_BUFFER_BYTES = 4 << 20
READS_PER_TURN = 64
_SO_TIMESTAMPNS = 35  # Linux, asm-generic/socket.h; Python's socket module has no name for it
_TIMESPEC = struct.Struct("@qq")
_ANCILLARY_BYTES = socket.CMSG_SPACE(_TIMESPEC.size)


class Receiver(Protocol):
    """Who gets a link's packets."""

    def rtp_received(self, packet: bytes, arrival_ns: int) -> None:
        """A packet as it came, still protected; `arrival_ns` is Unix time by the kernel."""

    def rtcp_received(self, packet: bytes) -> None:
        """A clear compound packet."""


def timed_socket() -> socket.socket:
    """A non-blocking UDP socket whose datagrams come with their arrival times."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    sock.setblocking(False)
    return sock


class Link:
    """Create, put `local` into an SDP, `connect()`, then `srtp` and `sock` are ready to send with."""

    def __init__(self, identity: Identity, profile: SrtpProfile, receiver: Receiver, *, controlling: bool) -> None:
        self.sock = timed_socket()
        self.sock.bind(("", 0))
        ufrag, password = secrets.token_hex(4), secrets.token_hex(12)
        self.local = sdp.Local(ufrag, password, identity.fingerprint, self.sock.getsockname()[1])
        self.srtp: Srtp | None = None
        self._receiver = receiver
        self._controlling = controlling
        self._dtls = DtlsClient(identity, profile)
        self._remote: sdp.Remote | None = None
        self._tie_breaker = secrets.randbits(64)
        self._reachable = False
        self._up = asyncio.Event()
        self._failure: ConnectionError | None = None
        self._buffer = bytearray(2048)

    async def connect(self, remote: sdp.Remote) -> None:
        """ICE, then DTLS as its client. Raises ConnectionError."""
        self._remote = remote
        self.sock.connect(remote.address)
        asyncio.get_running_loop().add_reader(self.sock.fileno(), self._readable)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                while not self._up.is_set():
                    self._try()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._up.wait(), RETRY_S)
        except TimeoutError as error:
            step = "DTLS" if self._reachable else "ICE"
            raise ConnectionError(f"{step} did not come up in {CONNECT_TIMEOUT_S:g} s") from error
        if self._failure is not None:
            raise self._failure

    def join(self, address: tuple[str, int], srtp: Srtp) -> None:
        """Connect without ICE and DTLS, with keys that both ends have already."""
        self.srtp = srtp
        self.sock.connect(address)
        asyncio.get_running_loop().add_reader(self.sock.fileno(), self._readable)

    def close(self) -> None:
        """Close the socket; idempotent."""
        if self.sock.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self.sock.fileno())
            self.sock.close()

    def send_rtcp(self, packet: bytes) -> None:
        """Protect and send; quietly nothing before the connection is up."""
        if self.srtp is not None:
            self._send(self.srtp.protect_rtcp(packet))

    def _send(self, datagram: bytes) -> None:
        with contextlib.suppress(OSError):  # a full buffer, or an ICMP error of an earlier datagram
            self.sock.send(datagram)

    # --- in

    def _readable(self) -> None:
        buffer = self._buffer
        for _ in range(READS_PER_TURN):
            try:
                size, ancillary, _, _ = self.sock.recvmsg_into([buffer], _ANCILLARY_BYTES)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error of an earlier datagram
                continue
            packet = bytes(buffer[:size])
            if not packet:
                continue
            if 127 < packet[0] < 192:
                self._media(packet, _arrival_ns(ancillary))
            elif packet[0] < 4:
                self._stun(packet)
            elif 19 < packet[0] < 64 and self.srtp is None:
                self._dtls.received(packet)
                self._handshake()

    def _media(self, packet: bytes, arrival_ns: int) -> None:
        if self.srtp is None:
            return
        if not 192 <= packet[1] <= 223:
            self._receiver.rtp_received(packet, arrival_ns)
        elif (clear := self.srtp.unprotect_rtcp(packet)) is not None:
            self._receiver.rtcp_received(clear)

    # --- setting up

    def _try(self) -> None:
        """What is due: a connectivity check, or a flight of the handshake that got lost."""
        if not self._reachable:
            self._check()
        else:
            self._dtls.retransmit()
            self._flush()

    def _check(self) -> None:
        assert self._remote is not None
        request = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
        request.attributes["USERNAME"] = f"{self._remote.ufrag}:{self.local.ufrag}"
        request.attributes["PRIORITY"] = 1862270975
        if self._controlling:
            request.attributes["ICE-CONTROLLING"] = self._tie_breaker
            request.attributes["USE-CANDIDATE"] = None
        else:
            request.attributes["ICE-CONTROLLED"] = self._tie_breaker
        request.add_message_integrity(self._remote.password.encode())
        request.add_fingerprint()
        self._send(bytes(request))

    def _stun(self, data: bytes) -> None:
        try:
            message = stun.parse_message(data)
        except ValueError:
            return
        if message.message_class == stun.Class.REQUEST:
            self._answer_check(message)
        if message.message_class == stun.Class.RESPONSE and not self._reachable:
            self._reachable = True
            self._handshake()

    def _answer_check(self, request: stun.Message) -> None:
        response = stun.Message(
            message_method=stun.Method.BINDING,
            message_class=stun.Class.RESPONSE,
            transaction_id=request.transaction_id,
        )
        response.attributes["XOR-MAPPED-ADDRESS"] = self.sock.getpeername()
        response.add_message_integrity(self.local.password.encode())
        response.add_fingerprint()
        self._send(bytes(response))

    def _handshake(self) -> None:
        assert self._remote is not None
        try:
            self.srtp = self._dtls.step(self._remote.fingerprint)
        except ConnectionError as error:
            self._failure = error
        self._flush()
        if self.srtp is not None or self._failure is not None:
            self._up.set()

    def _flush(self) -> None:
        for datagram in self._dtls.pending():
            self._send(datagram)


def _arrival_ns(ancillary: list[tuple[int, int, bytes]]) -> int:
    """Unix time at which the kernel took the datagram; 0 if it did not say."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIMESPEC.unpack(data[: _TIMESPEC.size])
            return int(seconds) * 1_000_000_000 + int(nanoseconds)
    return 0
