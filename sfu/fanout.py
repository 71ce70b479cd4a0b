"""One source and everybody who is fed from it.

A packet goes to all of them in one run, and between two packets a busy machine has evicted everything from its caches. So what
differs between consumers lies in one block of memory, and what does not is kept once: the newest numbers, the counts, and the ring
that answers NACKs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import compress
from typing import TYPE_CHECKING, NamedTuple

from sfu.consumer import Consumer, OutgoingStream, WatchConsumer
from sfu.rtp.vp8 import Vp8Descriptor

if TYPE_CHECKING:
    from sfu.downlink import Downlink

RING_PACKETS = 512
"""Video packets kept for retransmission; a power of two."""
ROW = struct.Struct("=IIHHH")
"""A consumer's SSRC and what to add to a source's timestamp, sequence number, picture id and tl0, each modulo its field's size."""


class VideoPacket(NamedTuple):
    """A packet as its publisher numbered it."""

    seq_ext: int
    """Unwrapped sequence number."""
    marker: int
    """0x80 or 0."""
    timestamp: int
    payload: bytes
    vp8: Vp8Descriptor | None


class Fanout:
    """The consumers of one source. Members and their rows change together and are replaced, never changed."""

    __slots__ = (
        "consumers",
        "downlinks",
        "first_ext",
        "newest_ext",
        "newest_ns",
        "newest_picture_id",
        "newest_timestamp",
        "newest_tl0",
        "octets",
        "packets",
        "ring",
        "rows",
        "watchers",
    )

    def __init__(self, ring_packets: int) -> None:
        self.consumers: tuple[Consumer, ...] = ()
        self.rows = b""
        """One `ROW` per consumer."""
        self.downlinks: tuple[Downlink, ...] = ()
        self.watchers: tuple[WatchConsumer, ...] = ()
        """Those towards the watch host, which have no row: nothing is rewritten for them."""
        self.first_ext = 0
        """From this packet on, everybody gets everything."""
        self.newest_ext = 0
        self.newest_timestamp = 0
        self.newest_ns = 0
        """When it was sent."""
        self.newest_picture_id = 0
        self.newest_tl0 = 0
        self.packets = 0
        """So many went to every consumer that was there all the time, or would have if its connection had taken them."""
        self.octets = 0
        self.ring: list[VideoPacket | None] = [None] * ring_packets

    def join(self, streams: Iterable[OutgoingStream]) -> None:
        """From the next packet on, also to these, each by its `OutgoingStream.feed`."""
        joining = list(streams)
        self.watchers = (*self.watchers, *(stream for stream in joining if isinstance(stream, WatchConsumer)))
        self._set((*self.consumers, *(stream for stream in joining if isinstance(stream, Consumer))))

    def leave(self, consumer: OutgoingStream) -> None:
        """No longer to `consumer`; idempotent. A row is cut out, for a whole meeting may leave one after the other.

        `first_ext` stays: where it is higher than need be, `who_takes` is asked for nothing.
        """
        if not isinstance(consumer, Consumer):
            self.watchers = tuple(watcher for watcher in self.watchers if watcher is not consumer)
            return
        if consumer not in self.consumers:
            return
        at = self.consumers.index(consumer)
        self.consumers = self.consumers[:at] + self.consumers[at + 1 :]
        self.downlinks = self.downlinks[:at] + self.downlinks[at + 1 :]
        self.rows = self.rows[: at * ROW.size] + self.rows[(at + 1) * ROW.size :]

    def release(self) -> tuple[OutgoingStream, ...]:
        """Feed nobody any more: the numbers that follow are unrelated. Returns who was fed; NACKs are answered still."""
        released = (*self.consumers, *self.watchers)
        for consumer in released:
            consumer.settle()
        self._set(())
        self.watchers = ()
        return released

    def forget(self) -> None:
        """The source is gone: free what was kept for retransmissions."""
        self.ring = [None] * len(self.ring)

    def _set(self, consumers: tuple[Consumer, ...]) -> None:
        feeds = [consumer.feed for consumer in consumers if consumer.feed is not None]
        self.consumers = consumers
        self.rows = b"".join(
            ROW.pack(
                consumer.ssrc,
                feed.timestamp_offset & 0xFFFFFFFF,
                feed.seq_offset & 0xFFFF,
                feed.picture_id_offset & 0x7FFF,
                feed.tl0_offset & 0xFF,
            )
            for consumer, feed in zip(consumers, feeds, strict=True)
        )
        self.downlinks = tuple(consumer.downlink for consumer in consumers)
        self.first_ext = max((feed.first_ext for feed in feeds), default=0)

    def who_takes(self, seq_ext: int) -> tuple[bytes, tuple[Downlink, ...]]:
        """(rows, downlinks) of those whom this late packet concerns: what is from before a switch belongs to the old layer."""
        takes = [c.feed is not None and c.feed.first_ext <= seq_ext for c in self.consumers]
        rows = (ROW.pack(*row) for row in compress(ROW.iter_unpack(self.rows), takes))
        return b"".join(rows), tuple(compress(self.downlinks, takes))

    def sent(self, seq_ext: int, timestamp: int, size_bytes: int, now_ns: int, vp8: Vp8Descriptor | None) -> None:
        """A packet went out; a late one does not move the newest numbers back."""
        self.packets += 1
        self.octets += size_bytes
        if seq_ext <= self.newest_ext and self.newest_ns:
            return
        self.newest_ext = seq_ext
        self.newest_timestamp = timestamp
        self.newest_ns = now_ns
        if vp8 is not None:
            self.newest_picture_id = vp8.picture_id
            self.newest_tl0 = vp8.tl0

    def keep(self, packet: VideoPacket) -> None:
        """For a retransmission."""
        self.ring[packet.seq_ext & (len(self.ring) - 1)] = packet

    def find(self, seq_ext: int) -> VideoPacket | None:
        """A packet that was kept."""
        packet = self.ring[seq_ext & (len(self.ring) - 1)] if self.ring else None
        return packet if packet is not None and packet.seq_ext == seq_ext else None
