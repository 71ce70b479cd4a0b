"""What is told to Prometheus about models: by the engine of a node, and by the model service (`models.service.metrics`).

The families that both have are declared here, once, so that they mean the same. The label `model` only ever holds names of the
catalog and of trained heads, or `other`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
WAIT_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
BATCH_SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
RESOURCES = ("memory_bytes", "queued", "load_s")
"""Of what the engine tells of a loaded model."""


def requests_counter(registry: CollectorRegistry) -> Counter:
    """Questions, by model, task and result."""
    return Counter(
        "ai_model_inference_requests_total",
        "Questions to models, items of batches included; result: ok, or the code of the error",
        ("model", "task", "result"),
        registry=registry,
    )


def duration_histogram(registry: CollectorRegistry) -> Histogram:
    """Of answers, by model."""
    return Histogram(
        "ai_model_inference_duration_seconds",
        "Of questions that were answered, from the decoded question to the answer",
        ("model",),
        buckets=SECONDS,
        registry=registry,
    )


def resource_gauge() -> GaugeMetricFamily:
    """By model and resource."""
    return GaugeMetricFamily(
        "ai_model_resource_usage",
        "memory_bytes, queued questions and load_s of models that the engine has; waiting questions of the service",
        labels=("model", "resource"),
    )


def health_gauge() -> GaugeMetricFamily:
    """By model."""
    return GaugeMetricFamily(
        "ai_model_health_status",
        "1: loaded and ready; 0: deployed, or being loaded or let go, and not",
        labels=("model",),
    )


def loaded_models(
    stats: Mapping[str, Mapping[str, Any]], wanted: frozenset[str]
) -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
    """Resources and health. `stats`: what the engine tells of its models; `wanted`: those that should be there."""
    resources, health = resource_gauge(), health_gauge()
    for model in sorted(wanted - set(stats)):
        health.add_metric((model,), 0)
    for model, told in stats.items():
        health.add_metric((model,), told["state"] == "ready")
        for resource in RESOURCES:
            resources.add_metric((model, resource), told[resource])
    return resources, health


ARM_RESULTS = ("answered", "failed")
SHADOW_RESULTS = ("agreed", "differed", "failed", "shed")


def arms_of_models(stats: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    """Of models that have a route (`models.traffic`), by version. Counters begin anew with each route."""
    arms = CounterMetricFamily(
        "ai_model_arm_requests",
        "Of versions that answer beside another, by result",
        labels=("model", "version", "result"),
    )
    shadows = CounterMetricFamily(
        "ai_model_shadow_requests",
        "Of versions whose answers are shown nobody; shed: not asked, because there was other work",
        labels=("model", "version", "result"),
    )
    latency = GaugeMetricFamily(
        "ai_model_arm_latency_seconds", "Of the newest 512 answers", labels=("model", "version", "quantile")
    )
    flagged = GaugeMetricFamily(
        "ai_model_arm_flag_ratio", "Of models with a calibration: share of flagged answers", labels=("model", "version")
    )
    rollbacks = CounterMetricFamily(
        "ai_model_rollbacks", "Splits that were ended because one version was worse", labels=("model", "reason")
    )
    for model, told in stats.items():
        traffic = told.get("traffic") or {"arms": [], "rollbacks": {}}
        for arm in traffic["arms"]:
            names = model, arm["arm"]
            shadow = arm["role"] == "shadow"
            family, results = (shadows, SHADOW_RESULTS) if shadow else (arms, ARM_RESULTS)
            for result in results:
                family.add_metric((*names, result), arm[result])
            for quantile, milliseconds in (("0.5", arm["p50_ms"]), ("0.95", arm["p95_ms"])):
                if milliseconds is not None:
                    latency.add_metric((*names, quantile), milliseconds / 1000)
            if arm["flag_rate"] is not None:
                flagged.add_metric(names, arm["flag_rate"])
        for reason, count in traffic["rollbacks"].items():
            rollbacks.add_metric((model, reason), count)
    return iter((arms, shadows, latency, flagged, rollbacks))


class EngineMetrics(Collector):
    """Of one engine. `stats`: of its loaded models; `loading`: those that are on their way."""

    def __init__(
        self,
        registry: CollectorRegistry,
        stats: Callable[[], Mapping[str, Mapping[str, Any]]],
        loading: Callable[[], frozenset[str]],
    ) -> None:
        self._registry = registry
        self._stats = stats
        self._loading = loading
        self.requests = requests_counter(registry)
        self.seconds = duration_histogram(registry)
        self._batch_size = Histogram(
            "ai_model_batch_size", "Questions in a batch", ("model",), buckets=BATCH_SIZES, registry=registry
        )
        self._queue_wait = Histogram(
            "ai_model_queue_wait_seconds",
            "From a question's arrival in the engine to the start of its batch",
            ("model",),
            buckets=WAIT_S,
            registry=registry,
        )
        registry.register(self)

    def page(self) -> str:
        """The text for Prometheus (text format 0.0.4)."""
        return generate_latest(self._registry).decode()

    def batch(self, model: str, waited_s: Sequence[float]) -> None:
        """A batch begins; how long each of its questions waited."""
        self._batch_size.labels(model).observe(len(waited_s))
        wait = self._queue_wait.labels(model)
        for seconds in waited_s:
            wait.observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        stats = self._stats()
        yield from loaded_models(stats, self._loading())
        yield from arms_of_models(stats)
