"""One ICE + DTLS-SRTP connection to a client, over the shared port. The only importer of aiortc and aioice.

Public parts used: aioice `Connection` (subclassed: its only socket is the shared port), `Candidate`; aiortc
`RTCDtlsTransport`, `RTCCertificate`, `RTCDtlsParameters`, `RTCDtlsFingerprint`.

Private parts, each with its reason, pinned by exact versions and by tests/contract/test_aiortc_seams.py:

- aioice opens a socket per connection and has no hook for a shared one: `Connection._protocols`, `_nominated`, and its methods
  `get_component_candidates`, `check_incoming`, `check_complete`, `data_received`; `aioice.ice.StunProtocol` carries its STUN.
- The DTLS role follows the SDP, not the ICE role: `RTCDtlsTransport._role`, `_set_role`.
- Order of SRTP profiles, and sessions that refuse to repeat a packet: `RTCDtlsTransport._srtp_profiles`, `_ssl`, `_setup_srtp`.
- Peers with RSA certificates need ECDHE-RSA suites, aiortc offers ECDSA only: `RTCCertificate._create_ssl_context`.
- One DTLS association outlives ICE restarts: what DTLS uses of its ICE transport is `_recv` and `_send`, which `Peer` has.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol

import aioice.ice
import structlog
from aioice.candidate import Candidate, candidate_foundation, candidate_priority
from aiortc import RTCCertificate, RTCDtlsFingerprint, RTCDtlsParameters, RTCDtlsTransport
from aiortc.rtcdtlstransport import SRTP_AEAD_AES_128_GCM, SRTP_AES128_CM_SHA1_80

from sfu.errors import DropReason, TransportError
from sfu.net.srtp import InboundSrtp, OutboundSrtp, PacketBuffer
from sfu.net.udp_mux import Address, UdpMux

CONNECT_TIMEOUT_S = 30.0
DTLS_QUEUE_MAX = 64
FIRST_CHOICE, SECOND_CHOICE = 65535, 65534
"""Local preferences of the candidates (RFC 8445 section 5.1.2.1)."""
REMOTE_ADDRESSES_MAX = 32
"""Addresses from which one ICE agent takes checks: it checks each of them in turn, and forgets none."""
CIPHERS = b":".join(
    (
        b"ECDHE-ECDSA-AES128-GCM-SHA256",
        b"ECDHE-RSA-AES128-GCM-SHA256",
        b"ECDHE-ECDSA-CHACHA20-POLY1305",
        b"ECDHE-RSA-CHACHA20-POLY1305",
    )
)

log = structlog.get_logger()


class PeerState(Enum):
    """Life of a connection. DISCONNECTED: consent was lost, nothing is sent, an ICE restart can bring it back."""

    NEW = "new"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    FAILED = "failed"
    CLOSED = "closed"


class PacketSink(Protocol):
    """Gets decrypted packets, synchronously. Must not raise."""

    def rtp_received(self, peer: "Peer", packet: bytes, arrival_ns: int) -> None:
        """A clear RTP packet; when it arrived, on the monotonic clock."""

    def rtcp_received(self, peer: "Peer", packet: bytes) -> None:
        """A clear compound RTCP packet."""


class Certificate(RTCCertificate):
    """A self-signed ECDSA certificate whose context also speaks to peers with RSA certificates."""

    def _create_ssl_context(self, srtp_profiles: list[Any]) -> Any:
        context = super()._create_ssl_context(srtp_profiles)
        context.set_cipher_list(CIPHERS)
        return context


class _MuxTransport(asyncio.DatagramTransport):
    """What a StunProtocol believes to be its own socket."""

    def __init__(self, mux: UdpMux, protocol: aioice.ice.StunProtocol) -> None:
        super().__init__()
        self._mux = mux
        self._protocol = protocol

    def sendto(self, data: Any, addr: Any = None) -> None:
        self._mux.send_stun(bytes(data), (addr[0], addr[1]), self._protocol)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._mux.address if name == "sockname" else default

    def close(self) -> None:
        asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)


def _host_candidate(component: int, address: Address, preference: int = FIRST_CHOICE) -> Candidate:
    host, port = address
    return Candidate(
        foundation=candidate_foundation("host", "udp", host),
        component=component,
        transport="udp",
        priority=candidate_priority(component, "host", preference),
        host=host,
        port=port,
        type="host",
    )


class _MuxConnection(aioice.ice.Connection):
    """An ICE agent whose only socket is the shared port, announced under one address or two."""

    def __init__(self, peer: "Peer", controlling: bool) -> None:
        super().__init__(ice_controlling=controlling, local_username=secrets.token_hex(6), use_ipv6=False)
        self._peer = peer
        self._remote_addresses: set[Address] = set()

    @property
    def nominated_address(self) -> Address | None:
        """Where ICE chose to send; None before, and after consent is lost."""
        pair = self._nominated.get(1)
        return pair.remote_addr if pair is not None else None

    async def get_component_candidates(self, component: int, addresses: list[str], timeout: int = 5) -> list[Candidate]:  # noqa: ASYNC109  # aioice's signature
        if self._peer.state is PeerState.CLOSED:  # while we waited for our turn
            return []
        protocol = aioice.ice.StunProtocol(self)
        protocol.connection_made(_MuxTransport(self._peer.mux, protocol))
        protocol.local_candidate = _host_candidate(component, self._peer.announced)
        self._protocols.append(protocol)
        self._peer.mux.add_agent(self.local_username, protocol)
        for_relays = self._peer.for_relays
        second = [_host_candidate(component, for_relays, SECOND_CHOICE)] if for_relays is not None else []
        return [protocol.local_candidate, *second]

    def check_incoming(self, message: Any, addr: Address, protocol: Any) -> None:
        # aioice calls this only after checking MESSAGE-INTEGRITY
        mux = self._peer.mux
        if "PRIORITY" not in message.attributes:  # RFC 8445 section 7.1.1; aioice reads it unasked
            mux.drops[DropReason.MALFORMED_STUN] += 1
        elif addr not in self._remote_addresses and len(self._remote_addresses) >= REMOTE_ADDRESSES_MAX:
            mux.drops[DropReason.ADDRESS_LIMIT] += 1
        elif mux.bind(addr, self._peer):
            self._remote_addresses.add(addr)
            super().check_incoming(message, addr, protocol)

    def check_complete(self, pair: Any) -> None:
        super().check_complete(pair)
        if self.nominated_address is not None:
            self._peer.nominated(self, self.nominated_address)

    def data_received(self, data: bytes, component: int) -> None:
        """Not STUN after all: the mux delivers only STUN here, so it is malformed."""
        self._peer.mux.drops[DropReason.MALFORMED_STUN] += 1

    async def dispose(self) -> None:
        self._peer.mux.remove_agent(self.local_username)
        await self.close()


class _Dtls(RTCDtlsTransport):
    """DTLS whose SRTP sessions are ours."""

    def __init__(self, ice: "Peer", certificate: RTCCertificate) -> None:
        super().__init__(ice, [certificate])  # type: ignore[arg-type]  # Peer has the three names that DTLS uses of ICE
        self._srtp_profiles = [SRTP_AEAD_AES_128_GCM, SRTP_AES128_CM_SHA1_80]
        self.inbound: InboundSrtp | None = None
        self.outbound: OutboundSrtp | None = None
        self.profile = ""

    def _setup_srtp(self) -> None:
        """RFC 5764 section 4.2, as aiortc does it, but with sessions that refuse to protect a packet twice."""
        if self._ssl is None:
            raise TransportError("DTLS has no connection to take keys from")
        name = self._ssl.get_selected_srtp_profile()
        profile = next((p for p in self._srtp_profiles if p.openssl_profile == name), None)
        if profile is None:
            raise TransportError("DTLS negotiated no SRTP profile")
        material = self._ssl.export_keying_material(
            b"EXTRACTOR-dtls_srtp", 2 * (profile.key_length + profile.salt_length)
        )
        ours = 1 if self._role == "server" else 0
        self.outbound = OutboundSrtp(profile.libsrtp_profile, profile.get_key_and_salt(material, ours))
        self.inbound = InboundSrtp(profile.libsrtp_profile, profile.get_key_and_salt(material, 1 - ours))
        self.profile = name.decode()


class Peer:
    """The connection. Create, `gather()`, hand out `local_*`, `connect()` with the remote's parameters, `close()`."""

    role = "controlled"  # read by DTLS only when its role is "auto", which it never is

    def __init__(
        self,
        mux: UdpMux,
        certificate: RTCCertificate,
        sink: PacketSink,
        *,
        announced: Address,
        for_relays: Address | None = None,
        receive: PacketBuffer,
        send: PacketBuffer,
        controlling: bool,
        on_state: Callable[["Peer"], None],
    ) -> None:
        self.mux = mux
        self.announced = announced
        self.for_relays = for_relays
        self.state = PeerState.NEW
        self.outbound: OutboundSrtp | None = None
        self.route: tuple[Any, Address] | None = None
        """For the packet loop: with which SRTP handle and whereto; None while nothing can be sent."""
        self.srtp_profile = ""
        self._sink = sink
        self._receive = receive
        self._send_buffer = send
        self._controlling = controlling
        self._on_state = on_state
        self._remote_address: Address | None = None
        self._inbound: InboundSrtp | None = None
        self._records: asyncio.Queue[bytes | None] = asyncio.Queue(DTLS_QUEUE_MAX)
        self._agent = _MuxConnection(self, controlling)
        self._next_agent: _MuxConnection | None = None
        self._dtls = _Dtls(self, certificate)
        self._dtls.on("statechange", self._dtls_changed)
        self._watch: asyncio.Task[None] | None = None

    @property
    def remote_address(self) -> Address | None:
        """Where media goes, by consent of the other end (RFC 7675); None without."""
        return self._remote_address

    def _send_to(self, address: Address | None) -> None:
        self._remote_address = address
        outbound = self.outbound
        self.route = (outbound.handle, address) if outbound is not None and address is not None else None

    # --- setting up

    @property
    def ufrag(self) -> str:
        """Our ICE user name fragment; the new one while a restart is prepared."""
        return str((self._next_agent or self._agent).local_username)

    @property
    def password(self) -> str:
        """Our ICE password; the new one while a restart is prepared."""
        return str((self._next_agent or self._agent).local_password)

    @property
    def candidates(self) -> tuple[str, ...]:
        """Our candidates as values of `a=candidate`."""
        return tuple(c.to_sdp() for c in (self._next_agent or self._agent).local_candidates)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of our certificate."""
        return next(f.value for f in self._dtls.getLocalParameters().fingerprints if f.algorithm == "sha-256")

    async def gather(self) -> None:
        """Make the local candidate."""
        await self._agent.gather_candidates()

    async def connect(
        self, ufrag: str, password: str, algorithm: str, fingerprint: str, *, remote_is_passive: bool
    ) -> None:
        """ICE, then DTLS, then SRTP. Raises TransportError.

        The client's candidates are not needed: it can reach us, and we learn it as peer-reflexive.
        """
        self._set_state(PeerState.CONNECTING)
        self._dtls._set_role("client" if remote_is_passive else "server")
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._run_agent(self._agent, ufrag, password)
                parameters = RTCDtlsParameters(
                    fingerprints=[RTCDtlsFingerprint(algorithm=algorithm, value=fingerprint)]
                )
                await self._dtls.start(parameters)
        except (TimeoutError, ConnectionError, TransportError) as error:
            self._set_state(PeerState.FAILED)
            raise TransportError(f"the connection did not come up: {type(error).__name__}") from error
        if self._dtls.state != "connected" or self._dtls.inbound is None:
            self._set_state(PeerState.FAILED)
            raise TransportError(f"DTLS {self._dtls.state}")
        self._inbound, self.outbound = self._dtls.inbound, self._dtls.outbound
        self._send_to(self._remote_address)
        self.srtp_profile = self._dtls.profile
        self._set_state(PeerState.CONNECTED)

    async def _run_agent(self, agent: _MuxConnection, ufrag: str, password: str) -> None:
        agent.remote_username = ufrag
        agent.remote_password = password
        await agent.connect()
        self._watch = asyncio.create_task(self._watch_consent(agent))

    async def _watch_consent(self, agent: _MuxConnection) -> None:
        await agent.get_event()  # its only event: closed, here by lost consent (RFC 7675)
        self.mux.remove_agent(agent.local_username)
        if agent is self._agent and self.state is PeerState.CONNECTED:
            self._set_state(PeerState.DISCONNECTED)

    # --- ICE restart (RFC 8445 section 9): media goes on over the old path until the new one is nominated

    async def prepare_restart(self) -> None:
        """Make new credentials; `ufrag`, `password` and `candidates` are the new ones from here on."""
        if self._next_agent is not None:
            await self._next_agent.dispose()
        self._next_agent = _MuxConnection(self, self._controlling)
        await self._next_agent.gather_candidates()

    async def complete_restart(self, ufrag: str, password: str) -> None:
        """Connect with the remote's new credentials and move over. Raises TransportError; the old path then stays."""
        agent = self._next_agent
        if agent is None:
            raise TransportError("no ICE restart was prepared")
        old_watch = self._watch
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._run_agent(agent, ufrag, password)
        except (TimeoutError, ConnectionError) as error:
            if self._next_agent is agent:
                self._next_agent = None
            await agent.dispose()
            raise TransportError("the ICE restart failed") from error
        old, self._agent, self._next_agent = self._agent, agent, None
        if old_watch is not None:
            old_watch.cancel()
        await old.dispose()
        self._send_to(agent.nominated_address)  # the old path may have had its say after the nomination
        if self.state is PeerState.DISCONNECTED:
            self._set_state(PeerState.CONNECTED)

    def nominated(self, agent: _MuxConnection, address: Address) -> None:
        """ICE chose where to send."""
        if agent in (self._next_agent, self._agent) and self.state not in (PeerState.FAILED, PeerState.CLOSED):
            self._send_to(address)

    # --- packets in: called by the mux

    def media_received(self, size: int, arrival_ns: int) -> None:
        """Decrypt in the receive buffer and hand on. Never raises."""
        if self._inbound is None:
            self.mux.drops[DropReason.NOT_READY] += 1
            return
        rtcp = 192 <= self._receive.view[1] <= 223
        packet = self._inbound.unprotect(self._receive, size, rtcp)
        if isinstance(packet, DropReason):
            self.mux.drops[packet] += 1
        elif rtcp:
            self._sink.rtcp_received(self, packet)
        else:
            self._sink.rtp_received(self, packet, arrival_ns)

    def dtls_received(self, data: bytes) -> None:
        """Queue a DTLS record; a full queue drops it (DTLS retransmits)."""
        try:
            self._records.put_nowait(data)
        except asyncio.QueueFull:
            self.mux.drops[DropReason.DTLS_QUEUE_FULL] += 1

    # --- packets out

    def send_rtcp(self, packet: bytes) -> None:
        """Protect and send; quietly nothing before the connection is up."""
        if self.outbound is None or self.remote_address is None:
            return
        protected = self.outbound.protect_rtcp(self._send_buffer, packet)
        if protected is None:
            self.mux.drops[DropReason.PROTECT_REFUSED] += 1
        else:
            self.mux.send(protected, self.remote_address)

    # --- what aiortc's DTLS transport uses of its ICE transport

    async def _recv(self) -> bytes:
        record = await self._records.get()
        if record is None:
            raise ConnectionError("closed")
        return record

    async def _send(self, data: bytes) -> None:
        if self.remote_address is None:
            self.mux.drops[DropReason.NOT_READY] += 1  # as if lost on the way: DTLS retransmits
        else:
            self.mux.send(data, self.remote_address)

    def _dtls_changed(self) -> None:
        if self._dtls.state == "closed" and self.state in (PeerState.CONNECTED, PeerState.DISCONNECTED):
            self._set_state(PeerState.FAILED)  # the client said goodbye; its owner closes us

    # --- the end

    async def close(self) -> None:
        """Say goodbye and free the addresses; idempotent."""
        if self.state is PeerState.CLOSED:
            return
        self._set_state(PeerState.CLOSED)
        self._inbound = self.outbound = None
        self._send_to(self._remote_address)
        if self._watch is not None:
            self._watch.cancel()
        agents = [agent for agent in (self._agent, self._next_agent) if agent is not None]
        for agent in agents:  # all of them before we wait or unbind: from here on no check can bind an address
            self.mux.remove_agent(agent.local_username)
        await self._dtls.stop()
        self.mux.unbind(self)
        with contextlib.suppress(asyncio.QueueFull):
            self._records.put_nowait(None)
        for agent in agents:
            await agent.dispose()

    def _set_state(self, state: PeerState) -> None:
        if state is self.state or self.state is PeerState.CLOSED:
            return
        log.debug("peer_state", old=self.state.value, new=state.value)
        self.state = state
        if state in (PeerState.DISCONNECTED, PeerState.FAILED):
            self._send_to(None)  # RFC 7675 section 5.1: without consent, nothing is sent
        self._on_state(self)
