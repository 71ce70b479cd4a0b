"""What the runners of hub models have in common: loading on a thread, a first answer before any is asked for, release."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from models.catalog import ModelEntry
from models.errors import FailedError, UnavailableError
from models.precision import Device, Precision
from models.questions import Answer, Question, Sound
from models.runners.loader import Placement, give_back, place, put, quiet

Q = TypeVar("Q", bound=Question)
A = TypeVar("A", bound=Answer)
Numbers = NDArray[np.float32]


class HubRunner(ABC, Generic[Q, A]):
    """`Runner` on a thread; torch frees the GIL."""

    takes: type[Q]
    max_batch = 1
    max_wait_ms = 10.0
    isolated = False
    concurrency = 1

    def __init__(self, entry: ModelEntry, path: Path, tuned: Mapping[Device, Precision]) -> None:
        self.entry = entry
        self.path = path
        self.placement: Placement | None = None
        """Where it computes, once it is loaded."""
        self._tuned = tuned
        self._model: Any = None

    async def start(self) -> None:
        """Load, and answer once: a model that cannot is not ready. Raises UnavailableError."""
        await asyncio.to_thread(self._start)

    def _start(self) -> None:
        quiet()
        architecture, model = self.load()
        self.placement = place(architecture, self._tuned)
        self._model = put(model, self.placement)
        try:
            self._answer([self.example()])
        except FailedError as error:
            raise UnavailableError(error.message) from error
        give_back()

    @abstractmethod
    def load(self) -> tuple[str, Any]:
        """The architecture and the model, in fp32 on the CPU. Raises UnavailableError."""

    @abstractmethod
    def example(self) -> Q:
        """A question of the usual size."""

    @abstractmethod
    def check(self, question: Q) -> None:
        """Raises ValueError for a question that the model does not take."""

    @abstractmethod
    def answer(self, batch: Sequence[Q]) -> list[A]:
        """One answer per question. Raises FailedError if one is not a number."""

    async def run(self, batch: Sequence[Q]) -> list[A]:
        """One answer per question, in order. Raises FailedError."""
        if self._model is None:
            raise FailedError("the model is not loaded")
        return await asyncio.to_thread(self._answer, batch)

    def _answer(self, batch: Sequence[Q]) -> list[A]:
        with torch.inference_mode():
            return self.answer(batch)

    def forward(self, **inputs: torch.Tensor) -> Any:
        """The model's own answer to tensors from the CPU."""
        assert self.placement is not None  # nosec B101  # set with the model, which `run` has looked at
        return self._model(**{name: self.placement.send(tensor) for name, tensor in inputs.items()})

    async def close(self) -> None:
        """Let the weights go."""
        self._model = None
        give_back()


def numbers(tensor: torch.Tensor) -> Numbers:
    """On the CPU, in fp32. Raises FailedError if one is not a number."""
    array: Numbers = tensor.float().cpu().numpy()
    if not np.isfinite(array).all():
        raise FailedError("the model's answer is not a number")
    return array


def samples(sound: Sound) -> Numbers:
    """Shape (n,), -1..1."""
    return sound.pcm.astype(np.float32) / np.float32(32_768)


def noise(seconds: float, rate_hz: int) -> Sound:
    """Quiet noise, the same each time: a sound as good as any to measure with."""
    pcm = np.random.default_rng(1).normal(0, 1_000, round(seconds * rate_hz))
    return Sound(pcm.astype(np.int16))
