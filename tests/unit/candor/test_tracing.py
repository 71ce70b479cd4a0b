"""Where traces go, and what happens when nobody takes them."""

import importlib.util
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from candor import spans, tracing
from candor.config_check import problems
from candor.settings import ConfigurationError, TelemetrySettings, load
from candor.spans import SpanQueue, provider_of
from tests.until import until

SENT = TelemetrySettings(endpoint="http://127.0.0.1:4318/v1/traces")


class Collector(SpanExporter):
    """Takes spans, refuses them, or takes its time."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.batches: list[int] = []
        self.refuses = False
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.closed = False

    def export(self, batch: Sequence[ReadableSpan]) -> SpanExportResult:
        self.may_answer.wait(20)
        self.batches.append(len(batch))
        if self.refuses:
            return SpanExportResult.FAILURE
        self.taken += [span.name for span in batch]
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.closed = True


class Scene:
    """A queue before a collector, and who makes spans."""

    def __init__(self) -> None:
        self.collector = Collector()
        self.queue = SpanQueue(self.collector)
        self.queue.start()
        self._tracer = provider_of(self.queue, 1.0, "worker", 0).get_tracer("candor")

    def make(self, count: int) -> None:
        for _ in range(count):
            self._tracer.start_span("frame").end()


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(spans, "EXPORT_EVERY_S", 0.01)
    scene = Scene()
    yield scene
    scene.collector.may_answer.set()
    scene.queue.shutdown()


async def test_spans_leave_in_small_batches(scene: Scene) -> None:
    scene.collector.may_answer.clear()
    scene.make(150)
    scene.collector.may_answer.set()
    await until(lambda: "" if len(scene.collector.taken) == 150 else f"{scene.collector.taken}")
    assert max(scene.collector.batches) <= spans.BATCH_SPANS
    assert not scene.queue.dropped.total()


async def test_a_collector_that_does_not_answer_costs_spans_and_nobody_waits(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spans, "END_S", 0.1)
    scene.collector.may_answer.clear()
    scene.make(spans.QUEUE_SPANS + 500)
    assert 500 - spans.BATCH_SPANS <= scene.queue.dropped["full"] <= 500
    waiting = spans.QUEUE_SPANS + 500 - scene.queue.dropped["full"]
    scene.queue.shutdown()
    assert scene.collector.closed
    assert scene.queue.dropped["ended"] >= waiting - spans.BATCH_SPANS
    scene.make(1)  # whoever is late is not waited for, either
    assert scene.queue.dropped["ended"] >= waiting - spans.BATCH_SPANS + 1


async def test_what_the_collector_refuses_is_counted_and_the_next_is_tried(scene: Scene) -> None:
    scene.collector.refuses = True
    scene.make(3)
    await until(lambda: "" if scene.queue.dropped["refused"] == 3 else "three refusals")
    scene.collector.refuses = False
    scene.make(2)
    await until(lambda: "" if len(scene.collector.taken) == 2 else "two spans")


def test_what_waits_at_the_end_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "EXPORT_EVERY_S", 100.0)
    scene = Scene()
    scene.make(5)
    scene.queue.shutdown()
    assert len(scene.collector.taken) == 5
    assert not scene.queue.dropped.total()


def test_nobody_at_the_other_end_holds_up_the_end_of_a_process() -> None:
    """The real exporter, towards a port on which nobody listens."""
    queue = spans.SpanQueue(spans.OTLPSpanExporter("http://127.0.0.1:9/v1/traces", timeout=spans.TIMEOUT_S))
    queue.start()
    provider_of(queue, 1.0, "worker", 0).get_tracer("candor").start_span("frame").end()
    began_s = time.monotonic()
    queue.shutdown()
    assert time.monotonic() - began_s < spans.END_S + spans.TIMEOUT_S + 5  # a hang, on a machine however busy
    assert queue.dropped.total() == 1


@pytest.mark.parametrize(("share", "infers"), [(0.0, 0), (1.0, 50)])
def test_only_questions_are_thinned(share: float, infers: int) -> None:
    exporter = InMemorySpanExporter()
    tracer = provider_of(SimpleSpanProcessor(exporter), share, "engine", 0).get_tracer("candor")
    for name in ("model.infer", "model.load"):
        for _ in range(50):
            tracer.start_span(name).end()
    names = [span.name for span in exporter.get_finished_spans()]
    assert (names.count("model.infer"), names.count("model.load")) == (infers, 50)


def test_a_process_is_told_from_others() -> None:
    resource = provider_of(SimpleSpanProcessor(InMemorySpanExporter()), 1.0, "worker", 3).resource.attributes
    assert resource["service.name"] == "candor-worker"
    assert resource["service.instance.id"] == "worker-3"


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://collector.test:4318/v1/traces",
        "https://user:password@collector.test/v1/traces",
        "ftp://127.0.0.1/",
        "https:///v1/traces",
        "https://collector.test/v1/traces?key=1",
    ],
)
def test_an_endpoint_that_is_not_safe_is_refused(endpoint: str) -> None:
    with pytest.raises(ConfigurationError, match="endpoint"):
        load(arguments={"telemetry": {"endpoint": endpoint}})


@pytest.mark.parametrize(
    "telemetry",
    [
        {"endpoint": "https://collector.test/v1/traces"},
        {"endpoint": "http://[::1]:4318/v1/traces"},
        {"endpoint": "http://jaeger:4318/v1/traces", "trusted_network": True},
    ],
)
def test_one_that_is_safe_is_taken(telemetry: dict[str, object]) -> None:
    assert load(arguments={"telemetry": telemetry}).telemetry.endpoint == telemetry["endpoint"]


def test_without_the_extra_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(arguments={"telemetry": {"endpoint": SENT.endpoint}})
    tracing.checked_telemetry(settings.telemetry)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="make telemetry"):
        tracing.checked_telemetry(settings.telemetry)
    assert [line for line in problems(settings) if line.startswith("telemetry")]
    tracing.checked_telemetry(TelemetrySettings())  # nobody wants traces: nothing is missing


def test_how_many_packets_one_that_is_followed_stands_for() -> None:
    assert tracing.frames_between(SENT) == 5000
    assert tracing.frames_between(TelemetrySettings(endpoint=SENT.endpoint, frame_sample=1.0)) == 1
    assert tracing.frames_between(TelemetrySettings(endpoint=SENT.endpoint, frame_sample=0.0)) == 0
    assert tracing.frames_between(TelemetrySettings()) == 0
