"""What one viewer gets of one track: one unbroken numbering, whatever it is fed from.

A simulcast switch, a new publisher on a reused m-line and a denoised packet are invisible to the viewer: `rebase`
continues the outgoing sequence numbers, timestamps and VP8 picture ids from the first packet of the new source.

A viewer is a subscriber (`Consumer`) or the watch host (`WatchConsumer`).
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from sfu.rtp.header import seq_delta, timestamp_delta

if TYPE_CHECKING:
    from sfu.downlink import Downlink
    from sfu.fanout import Fanout, VideoPacket
    from sfu.producer import Producer, Source
    from sfu.rtp.vp8 import Vp8Descriptor

FEEDS_KEPT = 4
"""Switches across which a NACK is still answered."""


class Numbers(NamedTuple):
    """Where an outgoing stream stands, without what fed it."""

    ssrc: int
    rtx_ssrc: int
    last_seq: int
    """Unwrapped."""
    rtx_seq: int
    last_timestamp: int
    last_sent_ns: int
    """0: nothing was sent yet."""
    picture_id: int
    tl0: int


class Feed(NamedTuple):
    """A stretch of the outgoing stream that comes from one source: its numbers are the source's plus these offsets."""

    fanout: Fanout
    first_ext: int
    """The source's unwrapped sequence number with which it begins."""
    seq_offset: int
    timestamp_offset: int
    picture_id_offset: int
    tl0_offset: int
    packets: int
    """What the fan-out had sent when this began."""
    octets: int


class OutgoingStream:
    """What all viewers have in common: where a stream stands, and what feeds it."""

    __slots__ = (
        "_feeds",
        "_octets",
        "_packets",
        "_settled",
        "current",
        "feed",
        "keyframe_asked_ns",
        "kind",
        "producer",
        "rtx_seq",
        "rtx_ssrc",
        "ssrc",
        "switches",
        "target",
    )

    def __init__(self, producer: Producer, ssrc: int, rtx_ssrc: int) -> None:
        self.producer = producer
        self.kind = producer.kind
        self.ssrc = ssrc
        self.rtx_ssrc = rtx_ssrc
        # RFC 3550 section 5.1 wants random starts; below 2^15 so that losing the first packets cannot fake a wrap (RFC 3711)
        seq, self.rtx_seq = random.randrange(1 << 14), random.randrange(1 << 14)  # nosec B311  # numbering, not a secret
        timestamp = random.randrange(1 << 32)  # nosec B311
        self._settled = Numbers(ssrc, rtx_ssrc, seq, self.rtx_seq, timestamp, 0, 0, 0)
        """As of the end of the last feed."""
        self._feeds: deque[Feed] = deque(maxlen=FEEDS_KEPT)
        self.feed: Feed | None = None
        """None: the next packet begins another."""
        self.current: Source | None = None
        """What it is fed from now, or was before its source began to number anew."""
        self.target: Source | None = None
        """Video: what it should be fed from, at the next key frame; None pauses."""
        self.keyframe_asked_ns = 0
        self._packets = 0
        self._octets = 0
        self.switches = 0

    @property
    def packets(self) -> int:
        """Sent so far, without retransmissions."""
        feed = self.feed
        return self._packets + (feed.fanout.packets - feed.packets if feed is not None else 0)

    @property
    def octets(self) -> int:
        """Sent so far, without retransmissions."""
        feed = self.feed
        return self._octets + (feed.fanout.octets - feed.octets if feed is not None else 0)

    def numbers(self) -> Numbers:
        """Where the outgoing stream stands."""
        settled, feed = self._settled, self.feed
        if feed is None or feed.fanout.packets == feed.packets:
            return settled._replace(rtx_seq=self.rtx_seq)
        fanout = feed.fanout
        return Numbers(
            self.ssrc,
            self.rtx_ssrc,
            fanout.newest_ext + feed.seq_offset,
            self.rtx_seq,
            (fanout.newest_timestamp + feed.timestamp_offset) & 0xFFFFFFFF,
            fanout.newest_ns,
            (fanout.newest_picture_id + feed.picture_id_offset) & 0x7FFF,
            (fanout.newest_tl0 + feed.tl0_offset) & 0xFF,
        )

    def go_on_from(self, numbers: Numbers) -> None:
        """Go on where another consumer stopped: a client that keeps SSRCs must see one numbering (and SRTP as well)."""
        self._settled = numbers
        self.rtx_seq = numbers.rtx_seq

    def settle(self) -> None:
        """The feed ends here; its fan-out does not know us any more, or is about to forget us."""
        self._packets, self._octets, self._settled = self.packets, self.octets, self.numbers()
        self.feed = None

    def leave(self) -> None:
        """Be fed no more, until the next `rebase`; idempotent."""
        feed = self.feed
        if feed is not None:
            self.settle()
            feed.fanout.leave(self)

    def rebase(self, source: Source, seq_ext: int, timestamp: int, now_ns: int, vp8: Vp8Descriptor | None) -> None:
        """From this packet of `source` on, continue the outgoing numbering. The fan-out of `source` has to let us join."""
        last = self.numbers()
        advance = max(1, self._timestamp_advance(last, source, timestamp, now_ns))
        self.leave()
        fanout = source.fanout
        self.feed = Feed(
            fanout,
            seq_ext,
            last.last_seq + 1 - seq_ext,
            last.last_timestamp + advance - timestamp,
            last.picture_id + 1 - vp8.picture_id if vp8 is not None else 0,
            last.tl0 + 1 - vp8.tl0 if vp8 is not None else 0,
            fanout.packets,
            fanout.octets,
        )
        self._feeds.append(self.feed)
        self.switches += self.current is not None
        self.current = source

    def _timestamp_advance(self, last: Numbers, source: Source, timestamp: int, now_ns: int) -> int:
        """Ticks between the last packet sent and this one.

        By our own clock; between layers of one track exactly, by the publisher's clock, if both sender reports are known.
        """
        if not last.last_sent_ns:
            return 1
        elapsed = (now_ns - last.last_sent_ns) * source.clock_hz // 1_000_000_000
        old, feed = self.current, self.feed
        if feed is None or old is None or old is source or old.producer is not source.producer:
            return elapsed
        then, now = old.sender_clock, source.sender_clock
        if then is None or now is None:
            return elapsed
        ntp_ticks = (now.ntp - then.ntp) * source.clock_hz >> 32
        same_instant = then.timestamp + feed.timestamp_offset + ntp_ticks + timestamp - now.timestamp
        exact = timestamp_delta(same_instant & 0xFFFFFFFF, last.last_timestamp)
        return exact if 0 < exact < elapsed + source.clock_hz else elapsed


class Consumer(OutgoingStream):
    """The outgoing stream of one m-line of a subscriber, under its own SSRC."""

    __slots__ = (
        "downlink",
        "peer",
        "remote_loss",
        "report_ntp",
        "report_sent_ns",
        "retransmitted",
        "share_bps",
    )

    def __init__(self, producer: Producer, downlink: Downlink, ssrc: int, rtx_ssrc: int) -> None:
        super().__init__(producer, ssrc, rtx_ssrc)
        self.downlink = downlink
        self.peer = downlink.peer
        self.retransmitted = 0
        self.report_ntp = 0
        """Middle 32 bits of the NTP time in the last sender report, by which a receiver report names it."""
        self.report_sent_ns = 0
        self.remote_loss = 0.0
        """Fraction that the subscriber reports lost."""
        self.share_bps: int | None = None
        """Of derived video, what the subscriber's downlink has room for; None: no limit is known."""

    def sent_as(self, seq: int) -> tuple[Feed, VideoPacket] | None:
        """The packet that went out under this number (16 bits), if its source still has it."""
        last = self.numbers().last_seq
        unwrapped = last + seq_delta(seq, last & 0xFFFF)
        if unwrapped > last:
            return None
        for feed in reversed(self._feeds):
            seq_ext = unwrapped - feed.seq_offset
            if seq_ext >= feed.first_ext:
                packet = feed.fanout.find(seq_ext)
                return (feed, packet) if packet is not None else None
        return None


class WatchedPacket(NamedTuple):
    """A video packet on its way to the watch host, under the numbers of its `WatchConsumer`."""

    seq: int
    """16 bits."""
    timestamp: int
    """32 bits."""
    marker: int
    """1 on the last packet of a frame."""
    payload: bytes
    arrival_ns: int


class WatchConsumer(OutgoingStream):
    """The stream of a video track to the watch host. No SSRC, no SRTP, no retransmissions: what is lost is lost."""

    __slots__ = ("_send",)

    def __init__(self, producer: Producer, send: Callable[[WatchedPacket], None]) -> None:
        super().__init__(producer, 0, 0)
        self._send = send

    def take(self, packet: VideoPacket, now_ns: int) -> bool:
        """Pass a packet on, after its fan-out has counted it; False if it is from before the switch to this source."""
        feed = self.feed
        if feed is None or packet.seq_ext < feed.first_ext:
            return False
        seq = (packet.seq_ext + feed.seq_offset) & 0xFFFF
        timestamp = (packet.timestamp + feed.timestamp_offset) & 0xFFFFFFFF
        self._send(WatchedPacket(seq, timestamp, packet.marker >> 7, packet.payload, now_ns))
        return True
