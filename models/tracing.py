"""Spans of the engine: `model.load` and `model.infer`. Without an SDK (`candor.tracing`) they cost a call and go nowhere.

Attributes are names, counts and codes; nothing of a question or an answer, and no text of an error, which may hold either.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span

from models.errors import InferenceError


@contextmanager
def span(name: str, model: str) -> Iterator[Span]:
    """A span of its own around the block, about `model`; what ends it other than well is in `candor.outcome`."""
    with trace.get_tracer("candor").start_as_current_span(
        name, Context(), attributes={"candor.model": model}, record_exception=False, set_status_on_exception=False
    ) as running:
        try:
            yield running
            running.set_attribute("candor.outcome", "ok")
        except BaseException as error:
            running.set_attribute(
                "candor.outcome", error.code if isinstance(error, InferenceError) else type(error).__name__
            )
            raise


def note_batch(waited_s: float, size: int) -> None:
    """On the span that we are in: how long the question waited for its batch, and how many were in it."""
    trace.get_current_span().set_attributes({"candor.queue_wait_ms": 1000 * waited_s, "candor.batch_size": size})
