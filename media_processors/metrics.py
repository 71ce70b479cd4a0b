"""What hosts of processors tell Prometheus.

Read when somebody asks, from what the hosts count anyway. Labels are names of processors, kinds of findings and words from
here: no ids, and nothing that was heard or seen.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import get_args

import prometheus_client
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from media_processors.findings import FindingKind, ProcessorInfo, ProcessorStatus
from media_processors.ladder import RUNGS
from media_processors.observing import WatchCounters
from media_processors.streams import PathCounters
from media_processors.video.depacketize import SightCounters
from media_processors.video.deriving import DeriveCounters

STATES = ("on", "off", "guard", "bypass", "unavailable")
LAG_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class HostMetrics(Collector):
    """What every host tells: its processors, and what they do on tracks."""

    def __init__(
        self,
        registry: CollectorRegistry,
        infos: Callable[[], Iterable[ProcessorInfo]],
        statuses: Callable[[], Iterable[ProcessorStatus]],
    ) -> None:
        self._registry = registry
        self._infos = infos
        self._statuses = statuses

    def page(self) -> str:
        """The text for Prometheus (text format 0.0.4)."""
        return generate_latest(self._registry).decode()

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        names = {info.name: info.available for info in self._infos()}
        available = "1: the processor can run on this host; 0: it cannot, its status says why"
        yield _gauge("candor_processor_available", available, "processor", names)
        doing: Counter[tuple[str, str]] = Counter((status.processor, status.state) for status in self._statuses())
        tracks = GaugeMetricFamily(
            "candor_processor_tracks", "Tracks by what a processor does on them now", labels=("processor", "state")
        )
        for name in names:
            for state in STATES:
                tracks.add_metric((name, state), doing[name, state])
        yield tracks


class PathMetrics(HostMetrics):
    """Of the path host. Its event loop serves nobody but who asks, so it has no lag to tell."""

    def __init__(
        self,
        registry: CollectorRegistry,
        counters: PathCounters,
        infos: Callable[[], Iterable[ProcessorInfo]],
        statuses: Callable[[], Iterable[ProcessorStatus]],
    ) -> None:
        super().__init__(registry, infos, statuses)
        self._counters = counters
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        yield from super().collect()
        c = self._counters
        worked = {"processed": c.processed, "dry": c.dry, "late": c.late}
        text = "Packets of sound: processed; dry, sent as they were; late, decoded only since nobody waited any more"
        yield _counter("candor_transform_packets", text, "outcome", worked)
        repaired = {"fec": c.repaired_fec, "concealed": c.repaired_plc, "silenced": c.silenced}
        text = "Lost packets of sound in the path, by what took their place"
        yield _counter("candor_transform_repaired_packets", text, "how", repaired)
        text = "How often the guard found that a transform loses speech"
        yield CounterMetricFamily("candor_guard_trips", text, c.guard_trips)
        yield _dropped(
            {
                ("audio", "old"): c.old,
                ("audio", "damaged"): c.damaged,
                ("audio", "malformed"): c.malformed,
                ("audio", "unwanted"): c.unknown,
                ("audio", "tap_full"): c.refused,
            }
        )
        yield _failures(c.failed)


class WatchMetrics(HostMetrics):
    """Of the watch host. `missed`: how many questions models did not answer in time."""

    def __init__(
        self,
        registry: CollectorRegistry,
        counters: WatchCounters,
        infos: Callable[[], Iterable[ProcessorInfo]],
        statuses: Callable[[], Iterable[ProcessorStatus]],
        missed: Callable[[], int],
    ) -> None:
        super().__init__(registry, infos, statuses)
        self._counters = counters
        self._missed = missed
        self.lag = _lag(registry)
        self.findings = prometheus_client.Counter(
            "candor_findings",
            "Findings of observers, before consent and audience are looked at",
            ("kind",),
            registry=registry,
        )
        for kind in get_args(FindingKind):
            self.findings.labels(kind)
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        yield from super().collect()
        c = self._counters
        text = "Sounds of one packet, and pictures, that a processor was given"
        yield _counter("candor_processor_frames", text, "processor", c.frames)
        text = "From a packet's arrival at the worker to its turn in the host, smoothed"
        yield _gauge(
            "candor_watch_lag_seconds", text, "medium", {"audio": c.lag_ms / 1e3, "video": c.video_lag_ms / 1e3}
        )
        text = "1: this rung of the ladder is shed, because this machine cannot keep up"
        yield _gauge("candor_ladder_shed", text, "rung", {rung: at < c.shed_rungs for at, rung in enumerate(RUNGS)})
        yield CounterMetricFamily("candor_ladder_sheds", "How often a rung was shed", c.sheds)
        text = "Questions to models that were not answered in time, or refused because others were before them"
        yield CounterMetricFamily("candor_missed_answers", text, self._missed())
        yield _dropped(
            {
                ("any", "queue_full"): c.dropped,
                ("any", "old_epoch"): c.stale,
                ("any", "unwanted"): c.unwanted,
                ("any", "malformed"): c.malformed,
                ("audio", "old"): c.listening.old,
                ("audio", "damaged"): c.listening.damaged,
                ("audio", "lost"): c.listening.skipped,
                **_unseen(c.seeing),
            }
        )
        yield from _seen(c.seeing)
        yield _failures(c.broken + c.deaf)


class VideoMetrics(HostMetrics):
    """Of the video host."""

    def __init__(
        self,
        registry: CollectorRegistry,
        counters: DeriveCounters,
        infos: Callable[[], Iterable[ProcessorInfo]],
        statuses: Callable[[], Iterable[ProcessorStatus]],
    ) -> None:
        super().__init__(registry, infos, statuses)
        self._counters = counters
        self.lag = _lag(registry)
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        yield from super().collect()
        c = self._counters
        pictures = {"made": c.made, "replaced": c.replaced, "left_out": c.left_out, "refused": c.refused}
        text = "Pictures of transforms: made; replaced by a newer one; left out by the encoder; refused by the worker's tap"
        yield _counter("candor_derived_pictures", text, "outcome", pictures)
        text = "How often a track was given up, because pictures came too late"
        yield CounterMetricFamily("candor_derived_given_up", text, c.given_up)
        yield _dropped(
            {
                ("any", "queue_full"): c.dropped,
                ("any", "unwanted"): c.unwanted,
                ("any", "malformed"): c.malformed,
                **_unseen(c.seeing),
            }
        )
        yield from _seen(c.seeing)
        yield _failures(c.failed)


def _lag(registry: CollectorRegistry) -> Histogram:
    text = "How much later than it should a timer of the event loop ran"
    return Histogram("candor_event_loop_lag_seconds", text, buckets=LAG_S, registry=registry)


def _counter(name: str, text: str, label: str, values: Mapping[str, float]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=(label,))
    for value, count in values.items():
        family.add_metric((value,), count)
    return family


def _gauge(name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=(label,))
    for value, count in values.items():
        family.add_metric((value,), count)
    return family


def _dropped(counts: Mapping[tuple[str, str], int]) -> CounterMetricFamily:
    """By medium (`any`: not told apart) and reason."""
    text = "Packets that a host was given and did not use (medium any: not told apart)"
    family = CounterMetricFamily("candor_host_dropped_packets", text, labels=("medium", "reason"))
    for labels, count in counts.items():
        family.add_metric(labels, count)
    return family


def _unseen(c: SightCounters) -> dict[tuple[str, str], int]:
    return {
        ("video", "old"): c.old,
        ("video", "lost"): c.lost,
        ("video", "no_keyframe"): c.skipped,
        ("video", "damaged"): c.malformed,
    }


def _seen(c: SightCounters) -> Iterator[Metric]:
    frames = {"decoded": c.frames - c.undecodable, "undecodable": c.undecodable}
    yield _counter("candor_host_frames", "Video frames that a host's decoders were given", "outcome", frames)
    text = "Key frames that a host asked workers for"
    yield CounterMetricFamily("candor_host_keyframe_requests", text, c.keyframes_asked)


def _failures(count: int) -> CounterMetricFamily:
    text = "How often the use of a processor, or the handling of a track, ended because something raised"
    return CounterMetricFamily("candor_processor_failures", text, count)
