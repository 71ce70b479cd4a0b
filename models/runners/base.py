"""What the engine asks of a runner: the code that runs one family of models."""

from collections.abc import Sequence
from typing import Protocol

from models.speech import Transcript, Utterance


class SpeechRunner(Protocol):
    """Speech to text. One object per model, shared by all tracks."""

    max_batch: int
    """Utterances that one call may hold."""
    max_wait_ms: float
    """How long the first of a batch may wait for company."""
    concurrency: int
    """Calls that may run at the same time."""

    async def start(self) -> None:
        """Load. Raises UnavailableError."""

    async def transcribe(self, batch: Sequence[Utterance]) -> list[Transcript]:
        """One transcript per utterance, in order. Raises InferenceError."""

    async def close(self) -> None:
        """Free everything; idempotent."""
