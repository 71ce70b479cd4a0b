"""A published track as the worker receives it: one incoming SSRC, or one per simulcast layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sfu.negotiation.sections import PublishedMedia
from sfu.rtp.nack import NackTracker
from sfu.rtp.reception import Reception

if TYPE_CHECKING:
    from sfu.consumer import Consumer
    from sfu.net.peer import Peer
    from sfu.path import TrackPath

LIVE_WITHIN_NS = 1_000_000_000
"""A layer without packets for this long is not offered to consumers."""


class RateMeter:
    """Bits per second over windows of about half a second."""

    __slots__ = ("_bytes", "_since_ns", "bps")

    def __init__(self) -> None:
        self.bps = 0
        self._bytes = 0
        self._since_ns = 0

    def add(self, size_bytes: int) -> None:
        """Count a packet."""
        self._bytes += size_bytes

    def tick(self, now_ns: int) -> None:
        """Close the window if it is long enough."""
        elapsed_ns = now_ns - self._since_ns
        if elapsed_ns >= 500_000_000:
            rate = self._bytes * 8_000_000_000 // elapsed_ns if self._since_ns else 0
            self.bps = rate if not self.bps or not rate else (self.bps + rate) // 2
            self._bytes = 0
            self._since_ns = now_ns


class Source:
    """Receive state of one SSRC."""

    __slots__ = (
        "clock_hz",
        "height",
        "last_arrival_ns",
        "nacks",
        "numbering",
        "producer",
        "rate",
        "reception",
        "rid",
        "ssrc",
        "width",
    )

    def __init__(self, producer: Producer, ssrc: int, rid: str) -> None:
        self.producer = producer
        self.ssrc = ssrc
        self.rid = rid
        self.clock_hz = producer.media.clock_hz
        self.reception = Reception(ssrc, self.clock_hz)
        self.nacks = NackTracker() if producer.kind == "video" else None
        self.numbering = 0
        """Value of `reception.restarts` that `nacks` belongs to."""
        self.rate = RateMeter()
        self.last_arrival_ns = 0
        self.width = 0
        self.height = 0

    def note_for_repair(self, seq_ext: int, now_ns: int) -> None:
        """A video packet came: gaps before it will be asked for. What was missing of an older numbering never comes."""
        if self.numbering != self.reception.restarts:
            self.numbering = self.reception.restarts
            self.nacks = NackTracker()
        if self.nacks is not None:
            self.nacks.note(seq_ext, now_ns)

    def live(self, now_ns: int) -> bool:
        """Whether packets came within the last second."""
        return now_ns - self.last_arrival_ns < LIVE_WITHIN_NS


class Producer:
    """A track. `sources` is ordered low to high as its layers were negotiated, filled as they are first heard."""

    def __init__(self, track_id: str, participant_id: str, source: str, peer: Peer, media: PublishedMedia) -> None:
        self.track_id = track_id
        self.participant_id = participant_id
        self.source = source
        self.peer = peer
        self.media = media
        self.kind = media.kind
        self.codec = media.codec
        self.rids = media.rids or ("",)
        self.sources: dict[str, Source] = {}
        self.consumers: tuple[Consumer, ...] = ()
        """Replaced, never changed, so that the packet loop can run over it undisturbed."""
        self.muted = False
        self.path: TrackPath | None = None
        self.level_extension = media.extension_ids.get("audio-level", 0)
        self.transport_cc_extension = media.extension_ids.get("transport-cc", 0)

    def layers(self, now_ns: int) -> list[Source]:
        """The live sources, low to high."""
        return [s for rid in self.rids if (s := self.sources.get(rid)) is not None and s.live(now_ns)]

    def add_consumer(self, consumer: Consumer) -> None:
        """From the next packet on, also to `consumer`."""
        self.consumers = (*self.consumers, consumer)

    def remove_consumer(self, consumer: Consumer) -> None:
        """No longer to `consumer`; idempotent."""
        self.consumers = tuple(c for c in self.consumers if c is not consumer)
