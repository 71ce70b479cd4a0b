"""What tests of traces share."""

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from candor.spans import provider_of


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Every span that ends during the test, as the processes of a node make them."""
    exporter = InMemorySpanExporter()
    provider = provider_of(SimpleSpanProcessor(exporter), 1.0, "test", 0)
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    return exporter
