"""What one subscriber gets of one track: its own SSRC and one unbroken numbering, whatever it is fed from.

A simulcast switch, a new publisher on a reused m-line and a denoised packet are invisible to the subscriber: `rebase`
continues the outgoing sequence numbers, timestamps and VP8 picture ids from the first packet of the new source.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

from sfu.rtp.header import timestamp_delta
from sfu.rtp.vp8 import Vp8Descriptor

if TYPE_CHECKING:
    from sfu.downlink import Downlink
    from sfu.producer import Producer, Source

RING_PACKETS = 512
"""Sent video packets kept for retransmission; a power of two."""


class VideoPacket(NamedTuple):
    """A packet as its publisher numbered it, the same object for all its consumers."""

    marker: int
    """0x80 or 0."""
    timestamp: int
    payload: bytes
    vp8: Vp8Descriptor | None


SentPacket = tuple[int, int, int, int, VideoPacket]
"""What a retransmission repeats: sequence number, timestamp, picture id and tl0 as they were sent, and the packet.

A plain tuple, since one is made for every packet and consumer: a named one costs several times as much.
"""


class Numbers(NamedTuple):
    """Where an outgoing stream stands, without what fed it."""

    ssrc: int
    rtx_ssrc: int
    last_seq: int
    rtx_seq: int
    last_timestamp: int
    last_sent_ns: int
    picture_id: int
    tl0: int


class Consumer:
    """The outgoing stream of one m-line of a subscriber."""

    __slots__ = (
        "current",
        "downlink",
        "first_ext",
        "keyframe_asked_ns",
        "kind",
        "last_sent_ns",
        "last_seq",
        "last_timestamp",
        "numbering",
        "octets",
        "packets",
        "peer",
        "picture_id",
        "picture_id_offset",
        "producer",
        "remote_loss",
        "report_ntp",
        "report_sent_ns",
        "retransmitted",
        "ring",
        "rtx_seq",
        "rtx_ssrc",
        "seq_offset",
        "ssrc",
        "switches",
        "target",
        "timestamp_offset",
        "tl0",
        "tl0_offset",
    )

    def __init__(self, producer: Producer, downlink: Downlink, ssrc: int, rtx_ssrc: int) -> None:
        self.producer = producer
        self.kind = producer.kind
        self.downlink = downlink
        self.peer = downlink.peer
        self.ssrc = ssrc
        self.rtx_ssrc = rtx_ssrc
        # RFC 3550 section 5.1 wants random starts; below 2^15 so that losing the first packets cannot fake a wrap (RFC 3711)
        self.last_seq = random.randrange(1 << 14)  # nosec B311  # numbering, not a secret
        self.rtx_seq = random.randrange(1 << 14)  # nosec B311
        self.last_timestamp = random.randrange(1 << 32)  # nosec B311
        self.last_sent_ns = 0
        self.current: Source | None = None
        """What it is fed from now."""
        self.target: Source | None = None
        """Video: what it should be fed from, at the next key frame; None pauses."""
        self.keyframe_asked_ns = 0
        self.first_ext = 0
        self.numbering = 0
        """`Source.numbering` that the offsets belong to."""
        self.seq_offset = 0
        self.timestamp_offset = 0
        self.picture_id = 0
        self.picture_id_offset = 0
        self.tl0 = 0
        self.tl0_offset = 0
        self.ring: list[SentPacket | None] = [None] * (RING_PACKETS if self.kind == "video" else 0)
        self.packets = 0
        self.octets = 0
        self.retransmitted = 0
        self.switches = 0
        self.report_ntp = 0
        """Middle 32 bits of the NTP time in the last sender report, by which a receiver report names it."""
        self.report_sent_ns = 0
        self.remote_loss = 0.0
        """Fraction that the subscriber reports lost."""

    def numbers(self) -> Numbers:
        """Where the outgoing stream stands."""
        return Numbers(
            self.ssrc,
            self.rtx_ssrc,
            self.last_seq,
            self.rtx_seq,
            self.last_timestamp,
            self.last_sent_ns,
            self.picture_id,
            self.tl0,
        )

    def go_on_from(self, numbers: Numbers) -> None:
        """Go on where another consumer stopped: a client that keeps SSRCs must see one numbering (and SRTP as well)."""
        self.last_seq = numbers.last_seq
        self.rtx_seq = numbers.rtx_seq
        self.last_timestamp = numbers.last_timestamp
        self.last_sent_ns = numbers.last_sent_ns
        self.picture_id = numbers.picture_id
        self.tl0 = numbers.tl0

    def sent(self, seq: int, timestamp: int, size_bytes: int, now_ns: int) -> bool:
        """A packet went out under these numbers; whether it is the newest: one that was late does not move the newest back."""
        newest = (seq - self.last_seq) & 0xFFFF < 0x8000
        if newest:
            self.last_seq = seq
            self.last_timestamp = timestamp
            self.last_sent_ns = now_ns
        self.packets += 1
        self.octets += size_bytes
        self.downlink.sent_bytes += size_bytes
        return newest

    def rebase(self, source: Source, seq_ext: int, timestamp: int, now_ns: int, vp8: Vp8Descriptor | None) -> None:
        """From this packet of `source` on, continue the outgoing numbering."""
        advance = max(1, self._timestamp_advance(source, timestamp, now_ns))
        self.seq_offset = self.last_seq + 1 - seq_ext
        self.timestamp_offset = self.last_timestamp + advance - timestamp
        if vp8 is not None:
            self.picture_id_offset = self.picture_id + 1 - vp8.picture_id
            self.tl0_offset = self.tl0 + 1 - vp8.tl0
        self.first_ext = seq_ext
        self.numbering = source.numbering
        self.switches += self.current is not None
        self.current = source

    def _timestamp_advance(self, source: Source, timestamp: int, now_ns: int) -> int:
        """Ticks between the last packet sent and this one.

        By our own clock; between layers of one track exactly, by the publisher's clock, if both sender reports are known.
        """
        if not self.last_sent_ns:
            return 1
        elapsed = (now_ns - self.last_sent_ns) * source.clock_hz // 1_000_000_000
        old = self.current
        if old is None or old is source or old.producer is not source.producer:
            return elapsed
        then, now = old.reception.sender_clock, source.reception.sender_clock
        if then is None or now is None:
            return elapsed
        ntp_ticks = (now.ntp - then.ntp) * source.clock_hz >> 32
        same_instant = then.timestamp + self.timestamp_offset + ntp_ticks + timestamp - now.timestamp
        exact = timestamp_delta(same_instant & 0xFFFFFFFF, self.last_timestamp)
        return exact if 0 < exact < elapsed + source.clock_hz else elapsed
