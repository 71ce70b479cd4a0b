"""Bad input against a running node: refused with a code or dropped and counted, and nobody else's media notices.

What is sent is random but always the same (seeded), so that a failure can be repeated.
"""

import asyncio
import contextlib
import json
import random
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from pylibsrtp import Policy
from pylibsrtp._binding import ffi

from bots import BotState, MeetingBot, PatternSource
from bots.client import SignalingClient
from candor.node import Node
from sfu.errors import DropReason
from sfu.net.srtp import PROTECT, OutboundSrtp, PacketBuffer
from sfu.net.udp_mux import MEDIA_MAX_BYTES
from signaling.protocol import messages as wire
from signaling.protocol.codes import ErrorCode
from tests.e2e.meeting_kit import Ear, logged_node, mistakes, speech
from tests.integration.intruder import VIDEO_FIRST_BYTES, Intruder, check
from tests.until import until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

SDP = Path(__file__).parents[1] / "data" / "sdp"
UNLIMITED = {"port": 0, "messages_per_s": 1e6, "message_burst": 1_000_000}
BATCH = 100


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("hostile") / "node.log"
    return path


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(log: Path) -> AsyncIterator[Node]:
    async with logged_node(log, signaling=UNLIMITED) as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def quiet(running: Node) -> AsyncIterator[Ear]:
    """Two who only talk to each other, all the time."""
    async with MeetingBot(running.url, "quiet", "Ann", subscribe=False) as ann, Ear(running.url, "quiet") as ear:
        await ann.publish_audio(await speech(), "music")
        await ann.publish_video(PatternSource(), rate_hz=20)
        await until(lambda: "" if len(ear.packets) == 2 else "sound and pictures")
        yield ear


@pytest_asyncio.fixture(loop_scope="module")
async def bystanders(running: Node, quiet: Ear, log: Path) -> AsyncIterator[None]:
    """Those two, from before a test to after it: nothing of their media is missing, no process died, nothing raised."""
    for track_id in quiet.packets:
        await quiet.hears(track_id, 5)
    yield
    for track_id in quiet.packets:
        await quiet.hears(track_id, 10)
        assert quiet.missing(track_id) == []
    assert [child.restarts for child in running.supervisor.children.values()] == [0] * 5
    assert mistakes(log) == []


async def drops(running: Node) -> dict[str, int]:
    """The worker's drops by reason."""
    counted: dict[str, int] = (await running.worker_stats())[0]["drops"]
    return counted


async def counts(running: Node, before: dict[str, int], *reasons: DropReason) -> None:
    """Wait until drops for each of these reasons have been counted."""

    async def missing() -> str:
        now = await drops(running)
        return ", ".join(reason for reason in reasons if now.get(reason, 0) <= before.get(reason, 0))

    await until(missing)


async def udp_address(running: Node) -> tuple[str, int]:
    return "127.0.0.1", (await running.worker_stats())[0]["udp_port"]


def datagrams(chance: random.Random) -> list[bytes]:
    """What a stranger may send: STUN, DTLS and SRTP that look right at first, and nothing of the kind."""
    ufrag = f"{chance.randbytes(4).hex()}:{chance.randbytes(4).hex()}"
    stun = check(ufrag, "guessed")
    cut = stun[: chance.randrange(len(stun))]
    swollen = stun[:2] + chance.randbytes(2) + stun[4:]
    record = struct.pack("!BHHHIH", chance.randrange(20, 64), 0xFEFD, 0, 0, chance.randrange(99), 40)
    packet = bytes([0x80 | chance.randrange(64), chance.randrange(256)]) + chance.randbytes(chance.randrange(1900))
    noise = chance.randbytes(chance.choice([1, 2, 19, 20, 21, 1500, 9000]))
    return [stun, cut, swollen, record + chance.randbytes(40), packet, noise]


async def test_datagrams_of_strangers(running: Node, bystanders: None) -> None:
    chance = random.Random(1)
    before = await drops(running)
    address = await udp_address(running)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for _ in range(BATCH):
            for datagram in datagrams(chance):
                stranger.sendto(datagram, address)
            await asyncio.sleep(0)
        await counts(running, before, DropReason.UNKNOWN_ADDRESS, DropReason.UNKNOWN_UFRAG, DropReason.MALFORMED_STUN)


async def test_a_stranger_with_a_known_name_but_no_password_gets_no_address(running: Node, bystanders: None) -> None:
    address = await udp_address(running)
    async with Intruder(running.url, "stun") as intruder:
        assert intruder.remote is not None
        name = f"{intruder.remote.ufrag}:{intruder.publish.local.ufrag}"
        before = await drops(running)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for password in ("guessed", ""):
                stranger.sendto(check(name, password), address)
            unsigned = check(name, "")[:-32]
            stranger.sendto(unsigned[:2] + struct.pack("!H", len(unsigned) - 20) + unsigned[4:], address)
            stranger.sendto(intruder.audio(b"\x78" * 40), address)
            await counts(running, before, DropReason.UNKNOWN_ADDRESS)
        before = await drops(running)
        for kind in (0x0003, 0x0009, 0x0020, 0x0024, 0x8029, 0x802A):  # attributes of fixed length, with another
            for size in (0, 1, 3, 5, 7, 13):
                attribute = struct.pack("!HH", kind, size) + bytes(size + -size % 4)
                intruder.publish.sock.send(check(name, intruder.remote.password, attribute))
        await counts(running, before, DropReason.MALFORMED_STUN)


async def test_a_guest_who_sends_nonsense(running: Node, bystanders: None) -> None:
    chance = random.Random(2)
    async with Ear(running.url, "nonsense") as victim, Intruder(running.url, "nonsense") as intruder:
        listener = MeetingBot(running.url, "nonsense", "Voice", subscribe=False)
        async with listener as voice:
            track = await voice.publish_audio(await speech(), "music")
            await victim.hears(track.track_id, 5)
            before = await drops(running)
            sock = intruder.publish.sock
            packet = intruder.audio(b"\x78" * 40)
            for datagram in (packet, packet, packet[:-1] + bytes([packet[-1] ^ 1]), packet[:20], packet * 60):
                sock.send(datagram)
            for _ in range(BATCH):
                intruder.nonsense_rtp(chance)
                intruder.nonsense_rtcp(chance)
                for datagram in datagrams(chance):
                    sock.send(datagram)
                await asyncio.sleep(0)
            await counts(
                running,
                before,
                *(DropReason.SRTP_REJECTED, DropReason.MALFORMED_RTP, DropReason.MALFORMED_RTCP, DropReason.UNROUTABLE),
            )
            await victim.hears(track.track_id, 10)
            assert victim.missing(track.track_id) == []


async def test_packets_as_long_as_a_datagram_may_be(running: Node, bystanders: None) -> None:
    async with Ear(running.url, "long") as victim, Intruder(running.url, "long") as intruder:
        await until(lambda: "" if len(victim.bot.tracks) == 2 else "the intruder's tracks")

        def flowing() -> str:
            intruder.publish.sock.send(intruder.audio(b"\x78" * 40))
            intruder.publish.sock.send(intruder.video(VIDEO_FIRST_BYTES))
            return "" if len(victim.packets) == 2 else "something of both tracks"

        await until(flowing)
        before = await drops(running)
        largest = MEDIA_MAX_BYTES - len(intruder.audio(b""))
        for size in [*range(largest - 32, largest + 32), *range(1900, 2040)]:
            intruder.publish.sock.send(intruder.audio(bytes(size)))
            intruder.publish.sock.send(intruder.video(VIDEO_FIRST_BYTES + bytes(size - len(VIDEO_FIRST_BYTES))))
            await asyncio.sleep(0)

        def missing() -> str:
            longest = [max((len(one.payload) for one in packets), default=0) for packets in victim.packets.values()]
            return "" if longest == [largest, largest] else f"two packets of {largest} bytes, the longest are {longest}"

        await until(missing)
        await counts(running, before, DropReason.OVERSIZED)
        assert victim.bot.state is BotState.JOINED


async def test_protection_stays_inside_its_buffer() -> None:
    """libsrtp writes behind the packet without asking how long the memory is."""
    buffer = PacketBuffer()
    session = OutboundSrtp(Policy.SRTP_PROFILE_AEAD_AES_128_GCM, bytes(28))
    buffer.view[:12] = struct.pack("!BBHII", 0x80, 96, 1, 1, 1)
    buffer.length[0] = len(buffer.view)
    assert PROTECT(session.handle, buffer.cdata, buffer.length) == 0
    assert buffer.length[0] <= ffi.sizeof(buffer.cdata)


# --- signaling

JUNK: list[Any] = [None, 0, -1, 1e308, "", "\x00", "x" * 5000, [], [[]], {}, {"a": {}}, True, "🦜" * 70, "__proto__"]
FIELDS = sorted({name for request, _ in wire.REQUESTS.values() for name in request.model_fields} | {"surprise"})


async def ask(client: SignalingClient, event: str, body: Any) -> ErrorCode | None:
    """The code with which something was refused; None if it was accepted."""
    answer = wire.Ack.model_validate(await client._socket.call(event, body, timeout=30))
    assert answer.ok == (answer.error is None)
    return answer.error.code if answer.error else None


async def test_requests_at_random_are_refused_with_a_code(running: Node, bystanders: None) -> None:
    chance = random.Random(3)
    client = SignalingClient(running.url)
    await client.connect()
    try:
        for joined in (False, True):
            if joined:
                await client.request(wire.Join(room_id="random", name="Mallory"), wire.JoinResult)
            for event in [*wire.REQUESTS, "no_such_request"]:
                if event == "leave":
                    continue
                for _ in range(10):
                    body = {name: chance.choice(JUNK) for name in chance.sample(FIELDS, chance.randrange(1, 5))}
                    code = await ask(client, event, chance.choice([body, body, *JUNK]))
                    assert code is not ErrorCode.INTERNAL
                    assert code is not None or event in ("restart_subscribe", "subscribe", "join")
    finally:
        await client.close()


def broken_sdps(chance: random.Random) -> list[str]:
    """Real offers with lines lost, doubled, swapped and spoilt."""
    offers = [path.read_text() for path in sorted(SDP.glob("*.sdp"))]
    broken = ["v=0\r\n", "m=audio\r\n", "\x00", "a=group:BUNDLE " + "0 " * 9000, offers[0] * 3]
    for offer in offers:
        for _ in range(6):
            lines = offer.splitlines()
            at = chance.randrange(len(lines))
            lines[at] = chance.choice(["", lines[at][: chance.randrange(9)], lines[at] * 2, lines[at - 1], "m=x 9 y z"])
            del lines[chance.randrange(len(lines))]
            broken.append("\r\n".join(lines) + "\r\n")
    return broken


async def test_broken_session_descriptions_are_refused_or_answered(running: Node, bystanders: None) -> None:
    chance = random.Random(4)
    codes = set()
    client = SignalingClient(running.url)
    await client.connect()
    try:
        await client.request(wire.Join(room_id="sdp", name="Mallory"), wire.JoinResult)
        for sdp in broken_sdps(chance):
            tracks = [{"mid": mid, "source": source} for mid, source in (("0", "microphone"), ("1", "camera"))]
            codes.add(await ask(client, "publish", {"sdp": sdp, "tracks": tracks}))
            codes.add(await ask(client, "subscribe_answer", {"sdp": sdp, "version": 1}))
    finally:
        await client.close()
    assert ErrorCode.BAD_SDP in codes
    assert codes <= {None, ErrorCode.BAD_SDP, ErrorCode.BAD_MESSAGE}


def packets(chance: random.Random) -> list[str | bytes]:
    """Engine.IO and Socket.IO frames, from nearly right to not at all."""
    deep = "[" * 3000 + "]" * 3000
    return [
        *("", "4", "40/elsewhere,", "41", "44", "49", "5", "6", "3probe", "x", "4" * 100, "43[]", "42", "42{}"),
        *('42["chat"', '42["chat",1]', '42["connect"]', '42["disconnect"]', "42[1]", "42[null,{}]", '42["*",{}]'),
        *(f'42["chat",{deep}]', '451-["chat",{"_placeholder":true,"num":0}]', '4599999-["chat"]', f"42{'9' * 5000}[]"),
        *('42["chat",{"text":"\\ud800"}]', "461-0[]", b"", b"\x04", chance.randbytes(300), "\x00\x01"),
    ]


async def test_frames_at_random_cost_at_most_the_connection(running: Node, bystanders: None) -> None:
    url = f"{running.url}/socket.io/?EIO=4&transport=websocket"
    async with aiohttp.ClientSession() as http:
        for packet in packets(random.Random(5)):
            async with http.ws_connect(url) as connection:
                await connection.receive()
                for frame in ("40", packet, '420["join",{}]'):
                    with contextlib.suppress(ConnectionError):  # it may have been closed by the one before
                        await (connection.send_bytes(frame) if isinstance(frame, bytes) else connection.send_str(frame))


async def test_a_message_that_is_too_long_ends_the_connection(running: Node, bystanders: None) -> None:
    url = f"{running.url}/socket.io/?EIO=4&transport=websocket"
    async with aiohttp.ClientSession() as http, http.ws_connect(url) as connection:
        await connection.receive()
        await connection.send_str("40")
        await connection.send_str("42" + json.dumps(["chat", {"text": "x" * (2 << 20)}]))
        async with asyncio.timeout(20):
            while (await connection.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
        assert connection.closed
