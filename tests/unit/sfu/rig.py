"""A data plane with real SRTP and real loopback sockets, but without ICE and DTLS: keys are simply agreed."""

import secrets
import socket
import struct
import time
from typing import Any, cast

from pylibsrtp import Policy

from sfu.consumer import Consumer
from sfu.dataplane.python import PythonPlane
from sfu.downlink import Downlink
from sfu.errors import DropReason
from sfu.negotiation.sections import PublishedMedia
from sfu.net.peer import Peer
from sfu.net.srtp import InboundSrtp, OutboundSrtp, PacketBuffer
from sfu.path import AudioPacket
from sfu.producer import Producer, Source
from sfu.rtp import header
from sfu.tap import Sound

PROFILE = Policy.SRTP_PROFILE_AEAD_AES_128_GCM
EXTENSION_IDS = {"mid": 4, "rid": 10, "repaired-rid": 11, "transport-cc": 3, "audio-level": 1}
VIDEO_PT, RTX_PT, AUDIO_PT = 120, 121, 109


class RigPeer:
    """What the plane needs of a peer; packets sent to it can be read and decrypted."""

    def __init__(self) -> None:
        key = secrets.token_bytes(28)
        self.outbound = OutboundSrtp(PROFILE, key)
        self._inbound = InboundSrtp(PROFILE, key)
        self._buffer = PacketBuffer()
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))
        self._sock.setblocking(False)
        self.route = (self.outbound.handle, self._sock.getsockname())
        self.rtcp: list[bytes] = []

    def send_rtcp(self, packet: bytes) -> None:
        self.rtcp.append(packet)

    def received(self) -> list[tuple[header.RtpHeader, bytes]]:
        """(header, payload) of every RTP packet since the last call, decrypted."""
        packets = []
        while True:
            try:
                size = self._sock.recv_into(self._buffer.view)
            except BlockingIOError:
                return packets
            clear = self._inbound.unprotect(self._buffer, size, rtcp=False)
            assert isinstance(clear, bytes), "a packet that does not decrypt, or comes twice"
            head = header.parse(clear)
            packets.append((head, clear[head.payload_start : head.payload_end]))

    def close(self) -> None:
        self._sock.close()


class Observer:
    """Notes what the plane says about a subscriber's downlink."""

    def __init__(self) -> None:
        self.sent_packets = 0
        self.losses: list[float] = []
        self.rembs: list[int] = []
        self.feedbacks: list[list[tuple[int, int | None]]] = []

    def sent(self, seq: int, now_ns: int, size: int) -> None:
        self.sent_packets += 1

    def feedback(self, packets: list[tuple[int, int | None]], now_ns: int) -> None:
        self.feedbacks.append(packets)

    def remb(self, bitrate_bps: int, ssrcs: list[int], now_ns: int) -> None:
        self.rembs.append(bitrate_bps)

    def loss(self, fraction: float, rtt_ms: float | None, now_ns: int) -> None:
        self.losses.append(fraction)

    def tick(self, now_ns: int) -> None:
        """Layers are chosen by the tests themselves."""


class Events:
    """The plane's events, noted."""

    def __init__(self) -> None:
        self.levels: list[int] = []
        self.heard: list[Sound] = []

    def audio_level(self, producer: Producer, level: int, now_ns: int) -> None:
        self.levels.append(level)

    def audio_heard(self, producer: Producer, packet: AudioPacket, payload: bytes, level: int, sound: Sound) -> None:
        self.heard.append(sound)


class Rig:
    """A plane with a publisher and as many subscribers as wanted."""

    def __init__(self) -> None:
        self.events = Events()
        self._out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.plane = PythonPlane(self._out, PacketBuffer(), self.events)
        self.publisher = RigPeer()
        self._peers = [self.publisher]

    def producer(self, kind: str, rids: tuple[str, ...] = (), codec: str = "vp8") -> Producer:
        audio = kind == "audio"
        media = PublishedMedia(
            mid="0" if audio else "1",
            kind=cast(Any, kind),
            codec=cast(Any, "opus" if audio else codec),
            clock_hz=48_000 if audio else 90_000,
            payload_type=AUDIO_PT if audio else VIDEO_PT,
            rtx_payload_type=None if audio else RTX_PT,
            extension_ids=dict(EXTENSION_IDS),
            rids=rids,
            ssrcs=(),
            rtx_ssrcs={},
            stereo=False,
            fmtp="",
        )
        producer = Producer(f"track-{kind}", "alice", "microphone", cast(Peer, self.publisher), media)
        self.plane.add_producer(producer)
        return producer

    def consumer(self, producer: Producer, ssrc: int = 0x1234) -> tuple[Consumer, RigPeer, Observer]:
        peer, observer = RigPeer(), Observer()
        self._peers.append(peer)
        downlink = Downlink(cast(Peer, peer), observer)
        downlink.transport_wide = True
        consumer = Consumer(producer, downlink, ssrc, ssrc + 1)
        self.plane.add_consumer(consumer)
        return consumer, peer, observer

    def publish(self, packet: bytes) -> None:
        self.plane.rtp_received(cast(Peer, self.publisher), packet, time.monotonic_ns())

    def rtcp(self, peer: RigPeer, packet: bytes) -> None:
        self.plane.rtcp_received(cast(Peer, peer), packet)

    def drops(self, reason: DropReason) -> int:
        return self.plane.counters.drops[reason]

    def target(self, consumer: Consumer, source: Source | None) -> None:
        self.plane.set_target(consumer, source, 1)

    def close(self) -> None:
        for peer in self._peers:
            peer.close()
        self._out.close()


def rtp(
    kind: str,
    seq: int,
    timestamp: int,
    payload: bytes,
    *,
    ssrc: int = 77,
    rid: str = "",
    repaired: str = "",
    rtx: bool = False,
    level: int = 20,
    marker: bool = False,
) -> bytes:
    """A packet as a browser sends it: mid, rid and level in one-byte header extensions."""
    audio = kind == "audio"
    elements = bytes([EXTENSION_IDS["mid"] << 4]) + (b"0" if audio else b"1")
    if rid:
        elements += bytes([EXTENSION_IDS["rid"] << 4 | len(rid) - 1]) + rid.encode()
    if repaired:
        elements += bytes([EXTENSION_IDS["repaired-rid"] << 4 | len(repaired) - 1]) + repaired.encode()
    if audio:
        elements += bytes([EXTENSION_IDS["audio-level"] << 4, level])
    elements += bytes(-len(elements) % 4)
    payload_type = AUDIO_PT if audio else RTX_PT if rtx else VIDEO_PT
    second = (0x80 if marker else 0) | payload_type
    head = struct.pack("!BBHIIHH", 0x90, second, seq & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc, 0xBEDE, len(elements) // 4)
    return head + elements + payload


def vp8(picture_id: int, tl0: int, *, keyframe: bool = False, start: bool = True, size: int = 30) -> bytes:
    """A VP8 payload with a 15-bit picture id and tl0picidx; key frames are 640x360."""
    descriptor = bytes([0x80 | (0x10 if start else 0), 0xC0]) + struct.pack("!HB", 0x8000 | picture_id, tl0)
    frame = b"\x10\x00\x00\x9d\x01\x2a" + struct.pack("<HH", 640, 360) if keyframe else b"\x11\x00\x00"
    return descriptor + frame + bytes(size)
