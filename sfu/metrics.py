"""What a media worker tells Prometheus.

Almost everything is read when somebody asks, from what the worker counts anyway (`sfu.counters`). No label names a room, a
participant or a track, or holds what a client sent.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sfu.consumer import Consumer
from sfu.counters import PlaneCounters, TapTotals
from sfu.errors import DropReason
from sfu.net.peer import PeerState
from sfu.router import Router

KINDS = ("audio", "video")
HOSTS = ("path", "watch", "watch_video", "video")
PATH_OUTCOMES = ("processed", "dry", "bypassed", "dropped")
LAG_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Taps(Protocol):
    """What the tap knows (`sfu.tap_server.TapServer`)."""

    @property
    def attached(self) -> Sequence[str]:
        """The roles of the hosts that are connected."""

    def path_totals(self) -> TapTotals:
        """Of all tracks so far."""


class WorkerMetrics(Collector):
    """The metrics of one worker; `registry` is where they are declared."""

    def __init__(
        self,
        registry: CollectorRegistry,
        counters: PlaneCounters,
        socket_drops: Mapping[DropReason, int],
        routers: Mapping[str, Router],
        taps: Taps,
    ) -> None:
        self.lag = Histogram(
            "candor_event_loop_lag_seconds",
            "How much later than it should a timer of the event loop ran",
            buckets=LAG_S,
            registry=registry,
        )
        self._registry = registry
        self._counters = counters
        self._socket_drops = socket_drops
        self._routers = routers
        self._taps = taps
        for histogram in counters.measured.all:
            registry.register(histogram)
        registry.register(self)

    def page(self) -> str:
        """The text for Prometheus (text format 0.0.4)."""
        return generate_latest(self._registry).decode()

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        yield from self._traffic()
        yield from self._feedback()
        yield self._dropped()
        yield from self._held()
        yield from self._tapped()

    def _traffic(self) -> Iterator[Metric]:
        packets = CounterMetricFamily(
            "candor_packets",
            "RTP packets: in, from publishers, without duplicates and probes; out, to subscribers, without retransmissions",
            labels=("direction", "kind"),
        )
        size = CounterMetricFamily(
            "candor_packet_bytes",
            "Bytes of these packets, with RTP headers, without SRTP, UDP and IP",
            labels=("direction", "kind"),
        )
        for kind in KINDS:
            counters = self._counters.of(kind)
            packets.add_metric(("in", kind), counters.received)
            packets.add_metric(("out", kind), counters.forwarded)
            size.add_metric(("in", kind), counters.received_bytes)
            size.add_metric(("out", kind), counters.forwarded_bytes)
        yield from (packets, size)

    def _feedback(self) -> Iterator[Metric]:
        counters = self._counters
        nacks = CounterMetricFamily(
            "candor_nacks",
            "Lost packets that were asked for again: in, by subscribers; out, of publishers",
            labels=("direction",),
        )
        nacks.add_metric(("in",), counters.nacks_received)
        nacks.add_metric(("out",), counters.nacks_sent)
        keyframes = CounterMetricFamily(
            "candor_keyframe_requests",
            "Key frames asked for: in, by subscribers and hosts (PLI, FIR); out, of publishers and the video host (PLI)",
            labels=("direction",),
        )
        keyframes.add_metric(("in",), counters.keyframe_requests_received)
        keyframes.add_metric(("out",), counters.keyframe_requests_sent)
        again = "Packets sent to subscribers again, because they asked"
        yield from (nacks, keyframes, CounterMetricFamily("candor_retransmissions", again, counters.retransmitted))

    def _dropped(self) -> Metric:
        dropped = CounterMetricFamily(
            "candor_dropped_packets", "What was not passed on, and why (sfu.errors.DropReason)", labels=("reason",)
        )
        counted: Counter[DropReason] = self._counters.drops + Counter(self._socket_drops)
        for reason in DropReason:
            dropped.add_metric((reason.value,), counted[reason])
        return dropped

    def _held(self) -> Iterator[Metric]:
        """What there is now."""
        transports: Counter[tuple[str, str]] = Counter()
        producers: Counter[str] = Counter()
        consumers: Counter[str] = Counter()
        for router in self._routers.values():
            for participant in router.participants.values():
                if participant.publish is not None:
                    transports["publish", participant.publish.peer.state.value] += 1
                if participant.subscribe is not None:
                    transports["subscribe", participant.subscribe.peer.state.value] += 1
            for producer in router.tracks.values():
                producers[producer.kind] += 1
                consumers[producer.kind] += sum(isinstance(consumer, Consumer) for consumer in producer.consumers)
        yield GaugeMetricFamily("candor_routers", "Rooms on this worker", len(self._routers))
        family = GaugeMetricFamily("candor_transports", "Connections of clients", labels=("direction", "state"))
        for direction in ("publish", "subscribe"):
            for state in PeerState:
                family.add_metric((direction, state.value), transports[direction, state.value])
        yield family
        for name, text, counted in (
            ("candor_producers", "Tracks that are published", producers),
            ("candor_consumers", "Tracks times those who receive them", consumers),
        ):
            by_kind = GaugeMetricFamily(name, text, labels=("kind",))
            for kind in KINDS:
                by_kind.add_metric((kind,), counted[kind])
            yield by_kind

    def _tapped(self) -> Iterator[Metric]:
        totals, attached = self._taps.path_totals(), self._taps.attached
        hosts = GaugeMetricFamily("candor_tap_attached", "1: a host of this role is connected", labels=("host",))
        for role in HOSTS:
            hosts.add_metric((role,), role in attached)
        packets = CounterMetricFamily(
            "candor_path_packets",
            "Sound of tracks in the path of a transform: processed; dry, by the host; bypassed, raw; dropped, too late",
            labels=("outcome",),
        )
        for outcome in PATH_OUTCOMES:
            packets.add_metric((outcome,), totals.packets[outcome])
        seconds = CounterMetricFamily(
            "candor_bypass_seconds",
            "Track seconds in which a transform was on and the track went around it, in steps of 250 ms",
            labels=("kind", "reason"),
        )
        for kind in KINDS:
            for reason in ("starting", "late", "host is gone"):
                seconds.add_metric((kind, reason.replace(" ", "_")), totals.bypass_s[kind, reason])
        yield from (hosts, packets, seconds)
        text = "How often a track in the path was sent raw from one moment on: host gone or late"
        yield CounterMetricFamily("candor_hard_bypasses", text, totals.hard_bypasses)
