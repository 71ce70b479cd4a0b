"""What the engine asks of a runner: the code that runs one family of models."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from models.questions import Answer, Question

Q = TypeVar("Q", bound=Question)
A = TypeVar("A", bound=Answer)


class Runner(Protocol[Q, A]):
    """One object per model, shared by all tracks and rooms."""

    takes: type[Q]
    """The kind of question."""
    max_batch: int
    """Questions that one call may hold."""
    max_wait_ms: float
    """How long the first of a batch may wait for company."""
    concurrency: int
    """Calls that may run at the same time."""
    isolated: bool
    """Whether it computes in processes of its own, so that it cannot end the engine's."""

    async def start(self) -> None:
        """Load. Raises UnavailableError."""

    def check(self, question: Q) -> None:
        """Raises ValueError for a question that would fail those that it shares a batch with."""

    async def run(self, batch: Sequence[Q]) -> list[A]:
        """One answer per question, in order. Raises InferenceError."""

    async def close(self) -> None:
        """Free everything; idempotent."""
