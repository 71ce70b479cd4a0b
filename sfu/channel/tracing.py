"""Spans, and how what causes one crosses a channel: as a `traceparent` (W3C Trace Context, section 3.2) beside the request.

Without an SDK (`candor.tracing`) all of it does nothing. Attributes are ids, kinds, counts and codes, never what somebody is called
or said; so the text of an exception is none, and only its type is told.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import context as current
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

HEADER = "traceparent"
_PROPAGATOR = TraceContextTextMapPropagator()


@contextmanager
def span(name: str, cause: Context | None = None, /, **attributes: str | int) -> Iterator[Span]:
    """A span around the block, under `cause` or else under the span that we are in; attributes get the prefix `candor.`."""
    named = {f"candor.{key}": value for key, value in attributes.items()}
    with trace.get_tracer("candor").start_as_current_span(
        name, cause, attributes=named, record_exception=False, set_status_on_exception=False
    ) as running:
        try:
            yield running
        except BaseException as error:
            running.set_attribute("error.type", type(error).__name__)
            raise


def cause(otherwise: Context) -> Context:
    """The span that we are in, for one that begins later, in another task; `otherwise` if we are in none."""
    running = trace.get_current_span()
    return trace.set_span_in_context(running, Context()) if running.get_span_context().is_valid else otherwise


def outgoing() -> list[str]:
    """The `traceparent` of the span that we are in; nothing if nobody makes spans."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return [carrier[HEADER]] if HEADER in carrier else []


def incoming(traceparent: str) -> None:
    """Let what this task does be under the span that the other side was in; nothing if it cannot be read."""
    current.attach(_PROPAGATOR.extract({HEADER: traceparent}))
