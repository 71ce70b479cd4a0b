"""What the service counts, for Prometheus. The label `model` only ever holds names of the catalog and of trained heads."""

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
RESOURCES = ("memory_bytes", "queued", "load_s")
"""Of what the engine tells of a loaded model."""


class Metrics:
    """One registry per service."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.deployments = Counter(
            "ai_model_deployments_total",
            "Changes of deployments; result: ok, or the code of the error",
            ("model", "action", "result"),
            registry=self._registry,
        )
        self.requests = Counter(
            "ai_model_inference_requests_total",
            "Questions to models, items of batches included; result: ok, or the code of the error",
            ("model", "task", "result"),
            registry=self._registry,
        )
        self.seconds = Histogram(
            "ai_model_inference_duration_seconds",
            "Of questions that were answered, from the decoded question to the answer",
            ("model",),
            buckets=SECONDS,
            registry=self._registry,
        )
        self.batches = Counter(
            "ai_model_batch_inference_requests_total",
            "Batches; result: ok, partial, failed",
            ("model", "result"),
            registry=self._registry,
        )
        self._resources = Gauge(
            "ai_model_resource_usage",
            "memory_bytes, queued questions and load_s of models that the engine has; waiting questions of the service",
            ("model", "resource"),
            registry=self._registry,
        )
        self._health = Gauge(
            "ai_model_health_status",
            "1: loaded and ready; 0: deployed and not",
            ("model",),
            registry=self._registry,
        )

    def page(
        self, stats: Mapping[str, Mapping[str, Any]], deployed: frozenset[str], waiting: Mapping[str, int]
    ) -> bytes:
        """The page for Prometheus. `stats`: what the engine tells of its models, nothing if it is gone."""
        self._resources.clear()
        self._health.clear()
        for model in deployed:
            self._health.labels(model).set(0)
        for model, told in stats.items():
            self._health.labels(model).set(told["state"] == "ready")
            for resource in RESOURCES:
                self._resources.labels(model, resource).set(told[resource])
        for model, count in waiting.items():
            self._resources.labels(model, "waiting").set(count)
        return generate_latest(self._registry)
