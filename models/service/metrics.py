"""What the service counts, for Prometheus. The label `model` only ever holds names of the catalog and of trained heads."""

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from models.metrics import arms_of_models, duration_histogram, loaded_models, requests_counter

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics(Collector):
    """One registry per service."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._registry = registry or CollectorRegistry()
        self.deployments = Counter(
            "ai_model_deployments_total",
            "Changes of deployments; result: ok, or the code of the error",
            ("model", "action", "result"),
            registry=self._registry,
        )
        self.requests = requests_counter(self._registry)
        self.seconds = duration_histogram(self._registry)
        self.batches = Counter(
            "ai_model_batch_inference_requests_total",
            "Batches; result: ok, partial, failed",
            ("model", "result"),
            registry=self._registry,
        )
        self._stats: Mapping[str, Mapping[str, Any]] = {}
        self._deployed: frozenset[str] = frozenset()
        self._waiting: Mapping[str, int] = {}
        self._registry.register(self)

    def page(
        self, stats: Mapping[str, Mapping[str, Any]], deployed: frozenset[str], waiting: Mapping[str, int]
    ) -> bytes:
        """The page for Prometheus. `stats`: what the engine tells of its models, nothing if it is gone."""
        self._stats, self._deployed, self._waiting = stats, deployed, waiting
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        resources, health = loaded_models(self._stats, self._deployed)
        for model, count in self._waiting.items():
            resources.add_metric((model, "waiting"), count)
        yield from (resources, health)
        yield from arms_of_models(self._stats)
