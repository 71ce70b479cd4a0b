"""What the data plane counts and measures, since the start of the worker.

The packet loop only ever adds to plain integers, of one kind of media; latency is measured on one packet in `SAMPLE_EVERY`, the
rest when reports come and go, once a second. `sfu.metrics` reads all of it when somebody asks.
"""

from collections import Counter, defaultdict

from prometheus_client import Histogram

from sfu.errors import DropReason
from sfu.path import PathCounters

SAMPLE_EVERY = 64
"""A power of two."""
SAMPLE_MASK = SAMPLE_EVERY - 1
LATENCY_S = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
JITTER_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
ROUND_TRIP_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0)
LOSS_RATIO = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


class KindCounters:
    """Totals of one kind of media."""

    __slots__ = ("forwarded", "forwarded_bytes", "received", "received_bytes")

    def __init__(self) -> None:
        self.received = 0
        """Packets of publishers, without duplicates and probes."""
        self.received_bytes = 0
        """Of these, with their RTP headers."""
        self.forwarded = 0
        """Packets to subscribers, each one counted, without retransmissions."""
        self.forwarded_bytes = 0
        """Of these, with their RTP headers."""


class PlaneCounters:
    """Totals of a worker."""

    def __init__(self) -> None:
        self.audio = KindCounters()
        self.video = KindCounters()
        self.retransmitted = 0
        self.nacks_sent = 0
        self.nacks_received = 0
        self.keyframe_requests_sent = 0
        self.keyframe_requests_received = 0
        self.drops: Counter[DropReason] = Counter()
        self.measured = PlaneHistograms()

    def of(self, kind: str) -> KindCounters:
        """Those of `audio` or `video`."""
        return self.audio if kind == "audio" else self.video

    @property
    def received(self) -> int:
        """Of both kinds."""
        return self.audio.received + self.video.received

    @property
    def forwarded(self) -> int:
        """Of both kinds."""
        return self.audio.forwarded + self.video.forwarded

    @property
    def forwarded_bytes(self) -> int:
        """Of both kinds."""
        return self.audio.forwarded_bytes + self.video.forwarded_bytes


class PlaneHistograms:
    """What is measured, not counted. In no registry yet: `sfu.metrics` puts it into the worker's."""

    def __init__(self) -> None:
        self.latency = Histogram(
            "candor_forward_latency_seconds",
            "From a packet's arrival (by the kernel, where it tells; of processed sound, from when the worker read it) until it "
            f"was sent to its last viewer; one packet in {SAMPLE_EVERY}",
            ("kind", "path"),
            buckets=LATENCY_S,
            registry=None,
        )
        self.jitter = Histogram(
            "candor_jitter_seconds",
            "Interarrival jitter of what publishers send (RFC 3550), each second of each source",
            ("kind",),
            buckets=JITTER_S,
            registry=None,
        )
        self.loss = Histogram(
            "candor_loss_ratio",
            "Share of packets lost since the last report: in, from publishers, each second of each source; out, as subscribers "
            "report",
            ("direction", "kind"),
            buckets=LOSS_RATIO,
            registry=None,
        )
        self.round_trip = Histogram(
            "candor_round_trip_seconds",
            "To subscribers and back, from each of their receiver reports",
            buckets=ROUND_TRIP_S,
            registry=None,
        )
        self.latency_of = {
            (kind, path): self.latency.labels(kind, path)
            for kind, path in (("audio", "raw"), ("audio", "processed"), ("video", "raw"))
        }

    @property
    def all(self) -> tuple[Histogram, ...]:
        """For a registry."""
        return self.latency, self.jitter, self.loss, self.round_trip


class TapTotals:
    """What became of sound in the path of a transform, and how long tracks went around one."""

    def __init__(self) -> None:
        self.packets: Counter[str] = Counter()
        """Of tracks that are gone, by what became of them."""
        self.hard_bypasses = 0
        """Of tracks that are gone."""
        self.bypass_s: defaultdict[tuple[str, str], float] = defaultdict(float)
        """By kind and reason: in which a transform was on and the track went around it."""

    def add(self, counters: PathCounters) -> None:
        """Those of a track."""
        self.packets["processed"] += counters.processed - counters.dry
        self.packets["dry"] += counters.dry
        self.packets["bypassed"] += counters.bypassed
        self.packets["dropped"] += counters.dropped
        self.hard_bypasses += counters.switches

    def copy(self) -> "TapTotals":
        """To add more to."""
        copy = TapTotals()
        copy.packets, copy.hard_bypasses, copy.bypass_s = self.packets.copy(), self.hard_bypasses, self.bypass_s.copy()
        return copy
