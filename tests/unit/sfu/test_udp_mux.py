"""The shared port: who may be behind an address, and what strangers can do."""

import socket
import struct
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from sfu.errors import DropReason
from sfu.net import stun
from sfu.net.srtp import PacketBuffer
from sfu.net.udp_mux import ADDRESSES_PER_PEER_MAX, UdpMux
from tests.until import until


class Agent:
    """Notes STUN messages."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.messages.append(data)


class Peer:
    """Notes media and DTLS."""

    def __init__(self) -> None:
        self.media = 0
        self.arrival_ns = 0
        self.records: list[bytes] = []
        self.remote_address: tuple[str, int] | None = None

    def media_received(self, size: int, arrival_ns: int) -> None:
        self.media += 1
        self.arrival_ns = arrival_ns

    def dtls_received(self, data: bytes) -> None:
        self.records.append(data)


@pytest_asyncio.fixture
async def mux() -> AsyncIterator[UdpMux]:
    mux = UdpMux("127.0.0.1", 0, PacketBuffer().view)
    mux.start()
    yield mux
    mux.close()
    mux.close()


@pytest.fixture
def client() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock


def binding_request(name: str, transaction: bytes = b"t" * 12) -> bytes:
    value = name.encode()
    attribute = struct.pack("!HH", stun.USERNAME, len(value)) + value + bytes(-len(value) % 4)
    return struct.pack("!HHI12s", 1, len(attribute), stun.MAGIC_COOKIE, transaction) + attribute


async def test_media_from_an_unbound_address_is_dropped(mux: UdpMux, client: socket.socket) -> None:
    with client:
        agent, peer = Agent(), Peer()
        mux.add_agent("ours", agent)
        client.sendto(binding_request("ours:theirs"), mux.address)
        client.sendto(b"\x80" + bytes(40), mux.address)
        client.sendto(b"\x16" + bytes(40), mux.address)
        await until(lambda: "" if mux.drops[DropReason.UNKNOWN_ADDRESS] == 2 else "two drops")
        assert len(agent.messages) == 1  # it was asked, but nothing is bound before integrity was checked
        mux.bind(client.getsockname(), peer)
        client.sendto(b"\x80" + bytes(40), mux.address)
        client.sendto(b"\x16" + bytes(40), mux.address)
        await until(lambda: "" if peer.media and peer.records else "media and a DTLS record")
        mux.unbind(peer)
        client.sendto(b"\x80" + bytes(40), mux.address)
        await until(lambda: "" if mux.drops[DropReason.UNKNOWN_ADDRESS] == 3 else "a third drop")


async def test_the_time_of_arrival_is_not_that_of_reading(mux: UdpMux, client: socket.socket) -> None:
    with client:
        peer = Peer()
        mux.bind(client.getsockname(), peer)
        client.sendto(b"\x80" + bytes(40), mux.address)
        sent_ns = time.monotonic_ns()
        while time.monotonic_ns() - sent_ns < 50_000_000:
            pass  # the event loop has no turn: nobody can read
        await until(lambda: "" if peer.media else "media")
        assert abs(peer.arrival_ns - sent_ns) < 40_000_000


async def test_answers_find_the_agent_that_asked(mux: UdpMux, client: socket.socket) -> None:
    with client:
        agent = Agent()
        mux.add_agent("ours", agent)
        mux.send_stun(binding_request("theirs:ours", b"a" * 12), client.getsockname(), agent)
        client.sendto(struct.pack("!HHI12s", 0x101, 0, stun.MAGIC_COOKIE, b"b" * 12), mux.address)
        client.sendto(struct.pack("!HHI12s", 0x101, 0, stun.MAGIC_COOKIE, b"a" * 12), mux.address)
        await until(lambda: "" if agent.messages else "the answer")
        assert mux.drops[DropReason.UNKNOWN_UFRAG] == 1
        mux.remove_agent("ours")
        client.sendto(binding_request("ours:theirs"), mux.address)
        await until(lambda: "" if mux.drops[DropReason.UNKNOWN_UFRAG] == 2 else "a drop")


async def test_malformed_stun_is_counted(mux: UdpMux, client: socket.socket) -> None:
    with client:
        for message in (b"\x00\x01", binding_request("x")[:-1], b"\x00\x01" + bytes(18), b"\x00\x01\x00\x00"):
            client.sendto(message, mux.address)
        await until(lambda: "" if mux.drops[DropReason.MALFORMED_STUN] == 4 else "four drops")


async def test_a_peer_cannot_hold_every_address(mux: UdpMux) -> None:
    greedy, other = Peer(), Peer()
    mux.bind(("127.0.0.1", 1), other)
    for port in range(1000, 1000 + 3 * ADDRESSES_PER_PEER_MAX):
        mux.bind(("127.0.0.1", port), greedy)
    assert len(mux._bound[greedy]) == ADDRESSES_PER_PEER_MAX
    assert mux.bind(("127.0.0.1", 1), greedy)  # it proved that it is there now (a NAT gave it the other's old address)
    assert mux._bound[other] == []
    mux.unbind(greedy)
    mux.unbind(other)
    assert mux._peers == {}


async def test_nobody_takes_the_address_that_media_goes_to(mux: UdpMux, client: socket.socket) -> None:
    with client:
        address = client.getsockname()
        victim, other = Peer(), Peer()
        assert mux.bind(address, victim)
        victim.remote_address = address
        assert mux.bind(address, victim)
        assert not mux.bind(address, other)
        assert mux.drops[DropReason.ADDRESS_TAKEN] == 1
        client.sendto(b"\x80" + bytes(40), mux.address)
        await until(lambda: "" if victim.media else "the packet, at the one whose address it is")
        victim.remote_address = None  # consent is lost
        assert mux.bind(address, other)
        client.sendto(b"\x80" + bytes(40), mux.address)
        await until(lambda: "" if other.media else "the packet, at the new owner")


@given(st.binary(max_size=120))
def test_username_never_raises_anything_but_value_error(data: bytes) -> None:
    try:
        assert isinstance(stun.username(data), str)
    except ValueError:
        return


def test_username_is_found_behind_other_attributes() -> None:
    request = binding_request("a:b")
    other = struct.pack("!HH", 0x24, 3) + b"abc\x00"
    message = request[:2] + struct.pack("!H", len(request) - 20 + len(other)) + request[4:20] + other + request[20:]
    assert stun.username(message) == "a:b"
