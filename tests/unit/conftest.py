"""What unit tests share: spans that can be looked at, and a log that is not left behind."""

from collections.abc import Iterator

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from candor.spans import provider_of


@pytest.fixture(autouse=True)
def log_of_its_own() -> Iterator[None]:
    """A test that runs a command sets up the log, towards its own standard error, which is closed after it."""
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Every span that ends during the test, as the processes of a node make them."""
    exporter = InMemorySpanExporter()
    provider = provider_of(SimpleSpanProcessor(exporter), 1.0, "test", 0)
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    return exporter
