"""Training a network to tell genuine from synthetic media, on the CPU, bounded in epochs and in time.

What is prepared for the network is prepared by its runner, so a head learns from exactly what it will be shown in a meeting. The
lower part of a network stays as it is and looks at each window once; only what it made of them is gone over in epochs. Statistics
of normalisation layers stay those of the base, too: a batch is too small to estimate them.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.questions import Picture, Sound
from models.runners.small import RUNNERS, SmallRunner
from models.store import Located

BATCH = 8
FINE_TUNING_RATE = 1e-4
"""Of Adam, as AASIST was trained with."""
HEAD_RATE = 1e-2
"""A head alone is a logistic regression."""
WEIGHT_DECAY = 1e-4
PATIENCE = 3
"""Epochs without a lower loss on what was held out, after which it ends."""
TOLD = 40
"""Windows after which progress is told."""
MORE_TIME = "allow more with --minutes"

Tell = Callable[[str], None]
Indices = NDArray[np.int64]


class Teachable(Protocol):
    """A network with a lower part that stays, and an upper one that learns."""

    def features(self, inputs: Tensor) -> Tensor:
        """What the lower part makes of inputs [batch, ...]."""

    def genuine(self, features: Tensor) -> Tensor:
        """Log-odds [batch] of being genuine."""

    def learning(self) -> Iterator[torch.nn.Parameter]:
        """What is trained."""

    def learned(self) -> dict[str, Tensor]:
        """What its runner loads."""


class FitError(Exception):
    """Training led nowhere."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Media of both kinds."""

    questions: Sequence[Sound | Picture]
    genuine: NDArray[np.bool_]
    """Shape (n,)."""
    weights: NDArray[np.float32]
    """How much each counts, shape (n,); of mean 1."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, and from where."""

    epochs: int
    seconds: float
    """No batch begins after this."""
    seed: int


@dataclass(frozen=True, slots=True)
class Epoch:
    """Binary cross-entropy, in nats."""

    loss: float
    held_out_loss: float


@dataclass(frozen=True, slots=True)
class Fitted:
    """What training led to."""

    state: dict[str, Tensor]
    before_loss: float
    """On what was held out, before the first epoch."""
    epochs: list[Epoch]
    best: int
    """The epoch, from 0, whose weights these are: that of the lowest loss on what was held out."""

    def save(self, path: Path) -> None:
        """Write the weights, as the runner reads them."""
        torch.save(self.state, path)


def fit(
    runner: str, base: Located, labels: Sequence[str], train: Examples, held_out: Examples, plan: Plan, tell: Tell
) -> Fitted:
    """Train. The same media, plan and machine give the same weights.

    Raises FitError if the loss is no longer a number or there was no time for one epoch; ValueError, UnavailableError if the base
    cannot be loaded.
    """
    torch.manual_seed(plan.seed)
    maker, network = _begin(runner, base, labels)
    torch.set_num_threads(os.cpu_count() or 1)
    until_s = time.monotonic() + plan.seconds
    sides = [_Side.of(examples, maker, network, until_s, tell) for examples in (train, held_out)]
    rate = HEAD_RATE if runner.endswith("_head") else FINE_TUNING_RATE
    optimiser = torch.optim.Adam(network.learning(), lr=rate, weight_decay=WEIGHT_DECAY)
    return _epochs(network, sides[0], sides[1], optimiser, plan, until_s, tell)


def _begin(runner: str, base: Located, labels: Sequence[str]) -> tuple[SmallRunner[Any], Teachable]:
    """A runner and the network that it would run. Only heads need transformers."""
    maker: SmallRunner[Any]
    network: Any
    if runner.endswith("_head"):
        from models.runners.heads import HEADS

        maker = HEADS[runner](Path(), labels, base.path)
        network = maker.begin()
    else:
        maker = RUNNERS[runner](base.file, labels)
        network = maker.load(base.file)
    return maker, network


@dataclass(frozen=True, slots=True)
class _Side:
    """Examples that teach, or that examine, as the lower part saw them."""

    features: Tensor
    genuine: Tensor
    weights: Tensor

    @classmethod
    def of(cls, examples: Examples, maker: SmallRunner[Any], network: Teachable, until_s: float, tell: Tell) -> "_Side":
        """Raises FitError if the time is over."""
        count = len(examples.questions)
        features = []
        with torch.no_grad():
            for batch in _batches(np.arange(count)):
                if time.monotonic() > until_s:
                    raise FitError(f"the time was over after {batch[0]} of {count} windows: {MORE_TIME}")
                inputs = np.stack([maker.prepare(examples.questions[index]) for index in batch])
                features.append(network.features(torch.from_numpy(inputs)))
                if batch[0] % TOLD < BATCH:
                    tell(f"looked at {batch[-1] + 1} of {count} windows")
        genuine = torch.from_numpy(examples.genuine.astype(np.float32))
        return cls(torch.cat(features), genuine, torch.from_numpy(examples.weights))

    def loss(self, network: Teachable, batch: Indices) -> Tensor:
        """Mean over a batch."""
        rows = torch.from_numpy(batch)
        return functional.binary_cross_entropy_with_logits(
            network.genuine(self.features[rows]), self.genuine[rows], weight=self.weights[rows]
        )

    def whole_loss(self, network: Teachable) -> float:
        """Mean over all."""
        everything = np.arange(len(self.genuine))
        with torch.no_grad():
            total = sum(float(self.loss(network, batch)) * len(batch) for batch in _batches(everything))
        return total / len(everything)


def _epochs(
    network: Teachable, train: _Side, held_out: _Side, optimiser: Any, plan: Plan, until_s: float, tell: Tell
) -> Fitted:
    rng = np.random.default_rng(plan.seed)
    fitted = Fitted({}, held_out.whole_loss(network), [], 0)
    tell(f"before training: loss on held-out media {fitted.before_loss:.3f}")
    for number in range(plan.epochs):
        loss = _train(network, train, optimiser, rng, until_s)
        if loss is None:
            tell(f"the time is over in epoch {number + 1}, which does not count")
            break
        fitted.epochs.append(Epoch(loss, held_out.whole_loss(network)))
        tell(f"epoch {number + 1} of {plan.epochs}: loss {loss:.3f}, held out {fitted.epochs[-1].held_out_loss:.3f}")
        if fitted.epochs[-1].held_out_loss <= fitted.epochs[fitted.best].held_out_loss:
            state = {name: tensor.detach().clone() for name, tensor in network.learned().items()}
            fitted = replace(fitted, state=state, best=number)
        elif number - fitted.best >= PATIENCE:
            tell(f"no better for {PATIENCE} epochs: it ends")
            break
    if not fitted.epochs:
        raise FitError(f"there was no time for a single epoch: {MORE_TIME}")
    return fitted


def _train(network: Teachable, side: _Side, optimiser: Any, rng: np.random.Generator, until_s: float) -> float | None:
    """One epoch; its mean loss, or None if the time was over before its end. Raises FitError."""
    total = 0.0
    order = rng.permutation(len(side.genuine))
    for batch in _batches(order):
        if time.monotonic() > until_s:
            return None
        optimiser.zero_grad()
        loss = side.loss(network, batch)
        if not bool(torch.isfinite(loss)):
            raise FitError("the loss is not a number")
        loss.backward()
        optimiser.step()
        total += float(loss.detach()) * len(batch)
    return total / len(order)


def _batches(order: Indices) -> list[Indices]:
    return [order[at : at + BATCH] for at in range(0, len(order), BATCH)]
