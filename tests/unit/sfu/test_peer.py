"""A connection against a client of ours on the loopback: real STUN, real ICE, and what a client may not do."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aioice import Candidate, ice, stun

from sfu.errors import DropReason
from sfu.net.peer import REMOTE_ADDRESSES_MAX, Certificate, Peer, PeerState
from sfu.net.srtp import PacketBuffer
from sfu.net.udp_mux import UdpMux
from tests.until import until

PASSWORD = "p" * 22
FINGERPRINT = ":".join(["AB"] * 32)


class Sink:
    """Gets no packets here."""

    def rtp_received(self, peer: Peer, packet: bytes, arrival_ns: int) -> None:
        raise AssertionError("no keys were agreed")

    def rtcp_received(self, peer: Peer, packet: bytes) -> None:
        raise AssertionError("no keys were agreed")


class Client:
    """The other end's ICE, on one socket: controlling, it checks and answers checks when told to."""

    def __init__(self, mux: UdpMux) -> None:
        self._mux = mux
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))
        self._sock.setblocking(False)
        self.address: tuple[str, int] = self._sock.getsockname()

    def check(self, peer: Peer, **attributes: Any) -> None:
        """Send a connectivity check with a valid MESSAGE-INTEGRITY."""
        request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        request.attributes = {"USERNAME": f"{peer.ufrag}:remo", "ICE-CONTROLLING": 1}
        request.attributes |= {name.replace("_", "-"): value for name, value in attributes.items()}
        request.add_message_integrity(peer.password.encode())
        self._sock.sendto(bytes(request), self._mux.address)

    def answer(self) -> int:
        """Answer the checks that have come; how many."""
        answered = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                data = self._sock.recv(2048)
                if data[:2] != b"\x00\x01":
                    continue
                request = stun.parse_message(data)
                response = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, request.transaction_id)
                response.attributes["XOR-MAPPED-ADDRESS"] = self._mux.address
                response.add_message_integrity(PASSWORD.encode())
                self._sock.sendto(bytes(response), self._mux.address)
                answered += 1
        return answered

    async def nominate(self, peer: Peer) -> None:
        """Become the address that the peer sends to."""
        self.check(peer, PRIORITY=1, USE_CANDIDATE=None)

        def missing() -> str:
            self.answer()
            return "" if peer.remote_address == self.address else "the nomination"

        await until(missing)

    def close(self) -> None:
        self._sock.close()


class Setup:
    """A mux and what was made on it."""

    def __init__(self) -> None:
        self.buffer = PacketBuffer()
        self.mux = UdpMux("127.0.0.1", 0, self.buffer.view)
        self.mux.start()
        self.states: list[PeerState] = []
        self._peers: list[Peer] = []
        self._clients: list[Client] = []
        self._connecting: list[asyncio.Task[None]] = []

    def client(self) -> Client:
        self._clients.append(Client(self.mux))
        return self._clients[-1]

    async def peer(self, for_relays: tuple[str, int] | None = None) -> Peer:
        """A peer that waits for its client's checks."""
        peer = Peer(
            self.mux,
            Certificate.generateCertificate(),
            Sink(),
            announced=self.mux.address,
            for_relays=for_relays,
            receive=self.buffer,
            send=PacketBuffer(),
            controlling=False,
            on_state=lambda peer: self.states.append(peer.state),
        )
        self._peers.append(peer)
        await peer.gather()
        connect = peer.connect("remo", PASSWORD, "sha-256", FINGERPRINT, remote_is_passive=False)
        self._connecting.append(asyncio.create_task(connect))
        await until(lambda: "" if peer.state is PeerState.CONNECTING else "the beginning")
        return peer

    async def close(self) -> None:
        for task in self._connecting:
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        for peer in self._peers:
            await peer.close()
        for client in self._clients:
            client.close()
        self.mux.close()


class Ends:
    """Two peers connected to each other, each on its own port: `ours`, and `theirs`, which is told where we are."""

    def __init__(self) -> None:
        self.ours = self._peer(controlling=False)
        self.theirs = self._peer(controlling=True)

    def _peer(self, *, controlling: bool) -> Peer:
        buffer = PacketBuffer()
        mux = UdpMux("127.0.0.1", 0, buffer.view)
        mux.start()
        return Peer(
            mux,
            Certificate.generateCertificate(),
            Sink(),
            announced=mux.address,
            receive=buffer,
            send=PacketBuffer(),
            controlling=controlling,
            on_state=lambda peer: None,
        )

    async def connect(self) -> None:
        ours, theirs = self.ours, self.theirs
        await asyncio.gather(ours.gather(), theirs.gather())
        await theirs._agent.add_remote_candidate(Candidate.from_sdp(ours.candidates[0]))
        await asyncio.gather(
            ours.connect(theirs.ufrag, theirs.password, "sha-256", theirs.fingerprint, remote_is_passive=False),
            theirs.connect(ours.ufrag, ours.password, "sha-256", ours.fingerprint, remote_is_passive=True),
        )

    async def restart(self) -> None:
        ours, theirs = self.ours, self.theirs
        await asyncio.gather(ours.prepare_restart(), theirs.prepare_restart())
        assert theirs._next_agent is not None
        await theirs._next_agent.add_remote_candidate(Candidate.from_sdp(ours.candidates[0]))
        ours_of, theirs_of = (ours.ufrag, ours.password), (theirs.ufrag, theirs.password)
        await asyncio.gather(ours.complete_restart(*theirs_of), theirs.complete_restart(*ours_of))

    async def close(self) -> None:
        for peer in (self.ours, self.theirs):
            await peer.close()
            peer.mux.close()


@pytest_asyncio.fixture
async def ends() -> AsyncIterator[Ends]:
    ends = Ends()
    await ends.connect()
    yield ends
    await ends.close()


@pytest_asyncio.fixture
async def setup() -> AsyncIterator[Setup]:
    setup = Setup()
    yield setup
    await setup.close()


@pytest.fixture
def raised() -> list[str]:
    """What reached the event loop as an exception of nobody."""
    return []


@pytest_asyncio.fixture(autouse=True)
async def _watch(raised: list[str]) -> AsyncIterator[None]:
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(repr(context.get("exception"))))
    yield
    assert raised == []


async def test_a_check_without_priority_is_counted_and_binds_nothing(setup: Setup) -> None:
    peer, client = await setup.peer(), setup.client()
    client.check(peer)
    await until(lambda: "" if setup.mux.drops[DropReason.MALFORMED_STUN] == 1 else "a counted drop")
    assert setup.mux._peers == {}
    await client.nominate(peer)
    assert setup.mux._peers == {client.address: peer}


async def test_an_agent_takes_checks_from_so_many_addresses_only(setup: Setup) -> None:
    peer, first = await setup.peer(), setup.client()
    await first.nominate(peer)
    for _ in range(REMOTE_ADDRESSES_MAX + 4):
        setup.client().check(peer, PRIORITY=1)
    await until(lambda: "" if setup.mux.drops[DropReason.ADDRESS_LIMIT] == 5 else "five counted drops")
    assert len(peer._agent.remote_candidates) <= REMOTE_ADDRESSES_MAX
    first.check(peer, PRIORITY=1)  # who is known may check again
    await until(lambda: "" if first.address in setup.mux._peers else "the first address bound again")


async def test_a_second_address_is_told_for_relays_and_comes_after_the_first(setup: Setup) -> None:
    one = await setup.peer()
    assert [Candidate.from_sdp(text).host for text in one.candidates] == ["127.0.0.1"]
    two = await setup.peer(for_relays=("10.0.0.9", 4000))
    first, second = (Candidate.from_sdp(text) for text in two.candidates)
    assert ((first.host, first.port), (second.host, second.port)) == (setup.mux.address, ("10.0.0.9", 4000))
    assert first.priority > second.priority
    assert first.foundation != second.foundation


async def test_an_address_that_media_goes_to_is_not_given_to_another_peer(setup: Setup) -> None:
    victim, other, client = await setup.peer(), await setup.peer(), setup.client()
    await client.nominate(victim)
    client.check(other, PRIORITY=1, USE_CANDIDATE=None)
    await until(lambda: "" if setup.mux.drops[DropReason.ADDRESS_TAKEN] == 1 else "a counted drop")
    assert setup.mux._peers[client.address] is victim
    assert other.remote_address is None


def destination(peer: Peer) -> tuple[str, int] | None:
    """Where its media goes now."""
    return peer.remote_address


async def test_nothing_is_sent_without_consent_until_a_restart(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = ends.ours, ends.theirs
    assert destination(ours) == theirs.mux.address
    with monkeypatch.context() as impatient:
        impatient.setattr(ice, "CONSENT_INTERVAL", 0.01)
        impatient.setattr(stun, "RETRY_RTO", 0.01)
        await ends.restart()  # the next agents are impatient
        theirs.mux.remove_agent(theirs.ufrag)  # they no longer answer
        await until(lambda: "" if ours.state is PeerState.DISCONNECTED else "the loss of consent")
    assert destination(ours) is None
    await ours._send(b"\x16 a DTLS record")
    assert ours.mux.drops[DropReason.NOT_READY] == 1
    await ends.restart()
    assert ours.state is PeerState.CONNECTED
    assert destination(ours) == theirs.mux.address


async def test_consent_lost_on_the_old_path_does_not_touch_the_new(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, nominated = ends.ours, ends.ours.nominated

    def then_lost(*arguments: Any) -> None:
        nominated(*arguments)
        ours._set_state(PeerState.DISCONNECTED)

    monkeypatch.setattr(ours, "nominated", then_lost)
    await ends.restart()
    assert ours.state is PeerState.CONNECTED
    assert ours.remote_address == ends.theirs.mux.address


@pytest.mark.parametrize("restarting", [False, True])
async def test_a_check_while_a_peer_closes_binds_nothing(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, restarting: bool
) -> None:
    peer, client = await setup.peer(), setup.client()
    await client.nominate(peer)
    if restarting:
        await peer.prepare_restart()
    wait_for_dtls, dispose = peer._dtls.stop, peer._agent.dispose

    async def check() -> None:
        before = setup.mux.drops[DropReason.UNKNOWN_UFRAG]
        client.check(peer, PRIORITY=1)
        await until(lambda: "" if setup.mux.drops[DropReason.UNKNOWN_UFRAG] > before else "a check that finds nobody")

    async def stop_slowly() -> None:
        await check()
        await wait_for_dtls()

    async def dispose_slowly() -> None:
        await dispose()
        await check()

    monkeypatch.setattr(peer._dtls, "stop", stop_slowly)
    monkeypatch.setattr(peer._agent, "dispose", dispose_slowly)
    await peer.close()
    assert (setup.mux._peers, setup.mux._bound, setup.mux._agents) == ({}, {}, {})


async def test_a_restart_that_is_prepared_while_a_peer_closes_leaves_nothing(setup: Setup) -> None:
    peer = await setup.peer()
    await peer.prepare_restart()  # the next one waits until this one's agent is gone
    await asyncio.gather(peer.prepare_restart(), peer.close())
    assert setup.mux._agents == {}
