"""Spans on their way to a collector: kept for a moment, then sent by OTLP over HTTP, from a thread of their own.

Whatever becomes of the collector, nobody waits for it. At most `QUEUE_SPANS` wait; what comes beyond is dropped, and so is a
batch that was not taken within `TIMEOUT_S`. Both are counted, and said in the log once a minute. Batches are small, because a
media worker encodes them beside its packets. Needs the extra `telemetry`.
"""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from importlib.metadata import version

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

INFERENCE = "model.infer"
"""The span of which only a share is made: the others are rare, or chosen by who makes them."""
QUEUE_SPANS = 2048
BATCH_SPANS = 64
EXPORT_EVERY_S = 1.0
TIMEOUT_S = 1.0
END_S = 1.5
"""For what waits when the process ends; a request that is on its way then is left to the end of the process."""
REPORT_EVERY_S = 60.0

log = structlog.get_logger()


class SpanQueue(SpanProcessor):
    """Between who ends a span and the exporter. `on_end` never waits; the exporter runs in a thread."""

    def __init__(self, exporter: SpanExporter) -> None:
        self.dropped: Counter[str] = Counter()
        """Spans: `full`, there was no room; `refused`, the collector did not take them; `ended`, the process did."""
        self._exporter = exporter
        self._waiting: deque[ReadableSpan] = deque()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._reported, self._report_s = 0, 0.0

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def on_end(self, span: ReadableSpan) -> None:
        """Keep it for the next batch."""
        if span.context is None or not span.context.trace_flags.sampled:
            return
        if self._ending.is_set() or len(self._waiting) >= QUEUE_SPANS:
            self.dropped["ended" if self._ending.is_set() else "full"] += 1
            return
        self._waiting.append(span)

    def shutdown(self) -> None:
        """Send what waits, for `END_S` at most; idempotent."""
        if self._ending.is_set():
            return
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(END_S)
        self.dropped["ended"] += len(self._waiting)
        self._waiting.clear()
        self._exporter.shutdown()
        self._report()

    def _run(self) -> None:
        while not self._ending.wait(EXPORT_EVERY_S):
            self._export()
            if time.monotonic() >= self._report_s:
                self._report()
        self._export()

    def _export(self) -> None:
        """All that waits; after a batch that was not taken the others are kept for the next time."""
        taken = True
        while taken and self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH_SPANS, len(self._waiting)))]
            taken = self._exporter.export(batch) is SpanExportResult.SUCCESS
            if not taken:
                self.dropped["refused"] += len(batch)

    def _report(self) -> None:
        if self.dropped.total() > self._reported:
            self._reported, self._report_s = self.dropped.total(), time.monotonic() + REPORT_EVERY_S
            log.warning("spans_dropped", **self.dropped)


class InferenceRatio(Sampler):
    """A share of the spans `model.infer`, and every other."""

    def __init__(self, share: float) -> None:
        self._share = TraceIdRatioBased(share)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """See `Sampler`."""
        sampler = self._share if name == INFERENCE else ALWAYS_ON
        return sampler.should_sample(parent_context, trace_id, name, kind, attributes, links)

    def get_description(self) -> str:
        """See `Sampler`."""
        return f"{INFERENCE}: {self._share.rate:g}"


def provider_of(queue: SpanProcessor, inference_sample: float, role: str, index: int) -> TracerProvider:
    """What makes the spans of a process and puts them into `queue`."""
    resource = Resource.create(
        {
            "service.name": f"candor-{role}",
            "service.namespace": "candor",
            "service.instance.id": f"{role}-{index}",
            "service.version": version("candor"),
        }
    )
    provider = TracerProvider(
        sampler=ParentBased(InferenceRatio(inference_sample)), resource=resource, shutdown_on_exit=False
    )
    provider.add_span_processor(queue)
    return provider


def start(endpoint: str, inference_sample: float, role: str, index: int) -> SpanQueue:
    """From now on the spans of this process are sent to `endpoint`. Once per process."""
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # it repeats itself, with addresses; we count
    queue = SpanQueue(OTLPSpanExporter(endpoint, timeout=TIMEOUT_S))
    queue.start()
    trace.set_tracer_provider(provider_of(queue, inference_sample, role, index))
    return queue
