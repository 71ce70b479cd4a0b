"""A client that behaves until it is let in, and then can send whatever bytes it likes: real ICE, DTLS and SRTP keys."""

import asyncio
import contextlib
import random
import struct
from types import TracebackType
from typing import Self

from aioice import stun
from pylibsrtp import Error as SrtpError

from benchmarks.load import sdp
from benchmarks.load.dtls import make_identity
from benchmarks.load.link import Link
from benchmarks.load.srtp import GCM
from bots.client import SignalingClient
from sfu.net.srtp import PROTECT, PacketBuffer
from signaling.protocol import messages as wire
from tests.until import until

VIDEO_FIRST_BYTES = b"\x90\x80\x80\x01\x10\x02\x00\x9d\x01\x2a\x40\x01\xf0\x00"
"""A VP8 descriptor with a picture id, and the start of a key frame of 320x240 (RFC 7741, RFC 6386)."""


class _Deaf:
    """Takes no notice of what comes back."""

    def rtp_received(self, packet: bytes, arrival_ns: int) -> None:
        """See `Receiver`."""

    def rtcp_received(self, packet: bytes) -> None:
        """See `Receiver`."""


class Intruder:
    """In a room, with both transports up. `publish` and `subscribe` are its links."""

    def __init__(self, url: str, room: str) -> None:
        self.client = SignalingClient(url)
        identity = make_identity()
        self.publish = Link(identity, GCM, _Deaf(), controlling=True)
        self.subscribe = Link(identity, GCM, _Deaf(), controlling=False)
        self.remote: sdp.Remote | None = None
        self._answering: asyncio.Task[None] | None = None
        self._room = room
        self._buffer = PacketBuffer()
        self._sequence = 1000

    async def __aenter__(self) -> Self:
        try:
            await self._enter()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _enter(self) -> None:
        await self.client.connect()
        await self.client.request(wire.Join(room_id=self._room, name="Intruder"), wire.JoinResult)
        self._answering = asyncio.create_task(self._answer())
        tracks = [wire.PublishedTrack(mid="0", source="music"), wire.PublishedTrack(mid="1", source="camera")]
        offer = wire.Publish(sdp=sdp.publish_offer(self.publish.local, layers=False), tracks=tracks)
        self.remote = sdp.read((await self.client.request(offer, wire.PublishResult)).sdp)
        await self.publish.connect(self.remote)
        await until(lambda: "" if self.subscribe.srtp else "the intruder's subscribe transport", 30)

    async def _answer(self) -> None:
        """Take whatever is offered."""
        while (event := await self.client.next_event()) is not None:
            if not isinstance(event, wire.SubscribeOffer):
                continue
            answer = sdp.answer(event.sdp, self.subscribe.local)
            await self.client.request(wire.SubscribeAnswer(sdp=answer, version=event.version))
            if self.subscribe.srtp is None:
                await self.subscribe.connect(sdp.read(event.sdp))

    async def _close(self) -> None:
        if self._answering is not None:
            self._answering.cancel()
            await asyncio.gather(self._answering, return_exceptions=True)
        self.publish.close()
        self.subscribe.close()
        await self.client.close()

    # --- what it sends

    def rtp(self, ssrc: int, payload_type: int, payload: bytes, mid: str) -> bytes:
        """The next packet of a stream, protected; it names its m-line as a browser's first packets do."""
        self._sequence += 1
        head = struct.pack("!BBHII", 0x90, payload_type, self._sequence & 0xFFFF, self._sequence * 960, ssrc)
        extension = struct.pack("!HHB1s2x", 0xBEDE, 1, sdp.MID << 4, mid.encode())
        return self._protect(head + extension + payload)

    def _protect(self, packet: bytes) -> bytes:
        """As pylibsrtp does it, without its limit on the length. Raises ValueError if libsrtp refuses."""
        assert self.publish.srtp is not None
        session = self.publish.srtp._out._srtp[0]
        buffer = self._buffer
        buffer.view[: len(packet)] = packet
        buffer.length[0] = len(packet)
        if PROTECT(session, buffer.cdata, buffer.length):
            raise ValueError("libsrtp refuses to protect this")
        return bytes(buffer.view[: buffer.length[0]])

    def audio(self, payload: bytes) -> bytes:
        """A packet of its sound."""
        return self.rtp(sdp.AUDIO_SSRC, sdp.OPUS, payload, "0")

    def video(self, payload: bytes) -> bytes:
        """A packet of its picture."""
        return self.rtp(sdp.VIDEO_SSRC, sdp.VP8, payload, "1")

    def nonsense_rtp(self, chance: random.Random) -> None:
        """Authentic, but with flags, lengths and payloads at random; what libsrtp will not protect is left out."""
        head = bytes([0x80 | chance.randrange(64), chance.randrange(256)]) + chance.randbytes(chance.randrange(10, 60))
        with contextlib.suppress(ValueError):
            self.publish.sock.send(self._protect(head))

    def nonsense_rtcp(self, chance: random.Random) -> None:
        """Authentic feedback and reports with bodies at random, on both transports."""
        body = chance.randbytes(4 * chance.randrange(1, 24))
        words = chance.choice([len(body) // 4, chance.randrange(1 << 16)])
        packet = struct.pack("!BBH", 0x80 | chance.randrange(64), chance.randrange(200, 208), words) + body
        for link in (self.publish, self.subscribe):
            with contextlib.suppress(SrtpError):
                link.send_rtcp(packet)


def check(username: str, password: str, rest: bytes = b"") -> bytes:
    """A STUN check as for `username`, signed with `password`; `rest` are attributes in front of the signature."""
    message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    message.attributes["USERNAME"] = username
    message.add_message_integrity(password.encode())
    data = bytes(message)
    return data[:2] + struct.pack("!H", len(data) - 20 + len(rest)) + data[4:20] + rest + data[20:]
