"""A published track as the worker receives it: one incoming SSRC, or one per simulcast layer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sfu.counters import KindCounters
from sfu.fanout import RING_PACKETS, Fanout
from sfu.negotiation.sections import PublishedMedia
from sfu.rtp import rtcp
from sfu.rtp.nack import NackTracker
from sfu.rtp.reception import ClockReading, Reception

if TYPE_CHECKING:
    from sfu.consumer import OutgoingStream
    from sfu.net.peer import Peer
    from sfu.path import TrackPath

AUDIO_MS_PER_S = 1_500.0
AUDIO_BURST_MS = 4_000.0
AUDIO_PACKET_MIN_MS = 8.0
"""What a packet costs at least: so short ones are limited to 187 a second."""
VIDEO_BYTES_PER_S = 2_500_000.0
"""20 Mb/s for one layer."""
LIVE_WITHIN_NS = 1_000_000_000
"""A layer without packets for this long is not offered to consumers."""


class RateMeter:
    """Bits per second over windows of about half a second."""

    __slots__ = ("_since_ns", "bps", "window_bytes")

    def __init__(self) -> None:
        self.bps = 0
        self.window_bytes = 0
        """Add to it what comes."""
        self._since_ns = 0

    def tick(self, now_ns: int) -> None:
        """Close the window if it is long enough."""
        elapsed_ns = now_ns - self._since_ns
        if elapsed_ns >= 500_000_000:
            rate = self.window_bytes * 8_000_000_000 // elapsed_ns if self._since_ns else 0
            self.bps = rate if not self.bps or not rate else (self.bps + rate) // 2
            self.window_bytes = 0
            self._since_ns = now_ns


class RateGuard:
    """A token bucket: what one source may send, in a unit of its owner's choice per second, with a burst."""

    __slots__ = ("_burst", "_filled_ns", "_per_s", "_tokens")

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._tokens = burst
        self._filled_ns = 0

    @classmethod
    def audio(cls) -> RateGuard:
        """Milliseconds of sound: half as fast again as time passes, so that nobody can flood the path host."""
        return cls(AUDIO_MS_PER_S, AUDIO_BURST_MS)

    @classmethod
    def video(cls) -> RateGuard:
        """Bytes."""
        return cls(VIDEO_BYTES_PER_S, 2 * VIDEO_BYTES_PER_S)

    def take(self, amount: float, now_ns: int) -> bool:
        """Whether so much more is within the limit; if so it is paid for."""
        elapsed_s = (now_ns - self._filled_ns) / 1e9
        self._filled_ns = now_ns
        self._tokens = min(self._burst, self._tokens + elapsed_s * self._per_s)
        if self._tokens < amount:
            return False
        self._tokens -= amount
        return True


class Source:
    """Receive state of one SSRC."""

    __slots__ = (
        "_restarts",
        "clock_hz",
        "fanout",
        "height",
        "last_arrival_ns",
        "nacks",
        "producer",
        "rate",
        "rate_guard",
        "reception",
        "rid",
        "sized_ns",
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
        self.fanout = Fanout(RING_PACKETS if producer.kind == "video" else 0)
        """Who is fed from it."""
        self._restarts = 0
        self.rate = RateMeter()
        self.rate_guard = RateGuard.audio() if producer.kind == "audio" else RateGuard.video()
        self.last_arrival_ns = 0
        self.width = 0
        self.height = 0
        self.sized_ns = 0
        """When the size was read, where that costs something."""

    def follow_numbering(self) -> None:
        """The publisher may have begun to number anew (RFC 3550 appendix A.1)."""
        if self._restarts != self.reception.restarts:
            self._restarts = self.reception.restarts
            self.renumber()

    def renumber(self) -> None:
        """What comes now is not the continuation of what came before: nothing between them is missing."""
        self.release()
        if self.nacks is not None:
            self.nacks = NackTracker()
        if self.producer.path is not None:
            self.producer.path.renumber()

    def release(self) -> None:
        """Whoever is fed from it has to begin anew, from whatever source."""
        self.producer.await_feed(self.fanout.release())

    def live(self, now_ns: int) -> bool:
        """Whether packets came within the last second."""
        return now_ns - self.last_arrival_ns < LIVE_WITHIN_NS

    @property
    def sender_clock(self) -> ClockReading | None:
        """The publisher's wall clock against the timestamps of this source; None until its first sender report."""
        return self.reception.sender_clock

    def ask_for_keyframe(self, sender_ssrc: int) -> None:
        """Tell whoever encodes it that a key frame is wanted."""
        self.producer.peer.send_rtcp(rtcp.build_pli(sender_ssrc, self.ssrc))


class Producer:
    """A track. `sources` is ordered low to high as its layers were negotiated, filled as they are first heard."""

    def __init__(self, track_id: str, participant_id: str, source: str, peer: Peer, media: PublishedMedia) -> None:
        self.track_id = track_id
        self.participant_id = participant_id
        self.source = source
        self.peer = peer
        self.media = media
        self.kind = media.kind
        self.counters = KindCounters()
        """The plane's own, of all tracks of this kind, once it expects this one."""
        self.codec = media.codec
        self.rids = media.rids or ("",)
        self.sources: dict[str, Source] = {}
        self.derived: Source | None = None
        """Video that a transform makes of one of them (`sfu.derived`); while it is live, it is all that viewers are offered."""
        self.consumers: tuple[OutgoingStream, ...] = ()
        """Replaced, never changed, so that whoever runs over it is undisturbed."""
        self.waiting: dict[OutgoingStream, None] = {}
        """Of these, in order, who waits for a packet to begin with: of video, for a key frame of the target."""
        self.muted = False
        self.path: TrackPath | None = None
        self.level_extension = media.extension_ids.get("audio-level", 0)
        self.transport_cc_extension = media.extension_ids.get("transport-cc", 0)

    def set_muted(self, muted: bool) -> None:
        """While muted nothing goes out; afterwards numbering goes on where it stopped, without a gap."""
        if self.muted and not muted:
            for source in self.sources.values():
                source.renumber()
        self.muted = muted

    def layers(self, now_ns: int) -> list[Source]:
        """The live sources, low to high."""
        return [s for rid in self.rids if (s := self.sources.get(rid)) is not None and s.live(now_ns)]

    def rank(self, source: Source) -> int:
        """Where a layer stands among what is offered, from 0, the lowest. A derived one is alone."""
        return self.rids.index(source.rid) if source.rid in self.rids else 0

    def add_consumer(self, consumer: OutgoingStream) -> None:
        """From the next packet on, also to `consumer`; of video, once it has a target."""
        self.consumers = (*self.consumers, consumer)
        if consumer.kind == "audio":
            self.await_feed([consumer])

    def remove_consumer(self, consumer: OutgoingStream) -> None:
        """No longer to `consumer`; idempotent."""
        self.consumers = tuple(c for c in self.consumers if c is not consumer)
        self.stop_waiting([consumer])
        consumer.leave()

    def close(self) -> None:
        """Nobody gets it any more, and nothing of it is kept; idempotent."""
        for source in self.sources.values():
            source.fanout.release()
            source.fanout.forget()
        self.consumers = ()
        self.waiting.clear()

    def await_feed(self, consumers: Iterable[OutgoingStream]) -> None:
        """Let them begin with the next packet that they can begin with; idempotent."""
        self.waiting.update(dict.fromkeys(consumers))

    def stop_waiting(self, consumers: Iterable[OutgoingStream]) -> None:
        """They have begun, or shall not; idempotent."""
        for consumer in consumers:
            self.waiting.pop(consumer, None)
