"""How well scores tell genuine from synthetic media. Scores are high for genuine media; both kinds must be there.

Two errors: a *false alarm* calls genuine media synthetic, a *miss* calls synthetic media genuine. Where a figure could depend on
how much there is of each kind, both count half.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.calibration import Calibration

Numbers = NDArray[np.float64]
BINS = 10
STEPS = 100
"""Of Newton's method; it needs about ten."""


@dataclass(frozen=True, slots=True)
class Errors:
    """Both error rates at every threshold that makes a difference, from the most lenient to the strictest."""

    thresholds: Numbers
    """Media that scores below is called synthetic; shape (n,), ascending, the last is infinite."""
    false_alarms: Numbers
    """Shares, shape (n,), ascending from 0 to 1."""
    misses: Numbers
    """Shares, shape (n,), descending from 1 to 0."""


def errors(genuine: Numbers, synthetic: Numbers) -> Errors:
    """Error rates of scores, each of shape (any,). Raises ValueError if a kind is missing or a score is not a number."""
    if not len(genuine) or not len(synthetic):
        raise ValueError("scores of both kinds are needed")
    if not (np.isfinite(genuine).all() and np.isfinite(synthetic).all()):
        raise ValueError("a score is not a number")
    thresholds = np.append(np.unique(np.concatenate([genuine, synthetic])), np.inf)
    false_alarms = np.searchsorted(np.sort(genuine), thresholds) / len(genuine)
    misses = 1 - np.searchsorted(np.sort(synthetic), thresholds) / len(synthetic)
    return Errors(thresholds, false_alarms, misses)


@dataclass(frozen=True, slots=True)
class EqualError:
    """Where both error rates are the same."""

    rate: float
    threshold: float
    """The lowest at which there are no fewer false alarms than misses; if there is none among the scores, the highest score."""


def equal_error(genuine: Numbers, synthetic: Numbers) -> EqualError:
    """The equal error rate: where the line through the errors of all thresholds crosses that of equal errors. Raises ValueError."""
    found = errors(genuine, synthetic)
    apart = found.false_alarms - found.misses  # from -1 at the first threshold to 1 at the last
    over = int(np.argmax(apart >= 0))
    part = -apart[over - 1] / (apart[over] - apart[over - 1])
    rate = found.false_alarms[over - 1] + part * (found.false_alarms[over] - found.false_alarms[over - 1])
    return EqualError(float(rate), float(found.thresholds[min(over, len(found.thresholds) - 2)]))


def auc(genuine: Numbers, synthetic: Numbers) -> float:
    """The chance that genuine media scores higher than synthetic, ties half (Mann and Whitney, 1947). Raises ValueError."""
    errors(genuine, synthetic)
    ordered = np.sort(synthetic)
    below = np.searchsorted(ordered, genuine, "left") + np.searchsorted(ordered, genuine, "right")
    return float(below.mean() / 2 / len(synthetic))


def fit_calibration(genuine: Numbers, synthetic: Numbers, doubt: float) -> Calibration:
    """The logistic curve of highest likelihood, both kinds counting half (Platt, 1999, with his targets short of 0 and 1).

    Raises ValueError if scores of genuine media are not the higher ones: then there is nothing to calibrate.
    """
    errors(genuine, synthetic)
    scores = np.concatenate([genuine, synthetic])
    middle, size = float(scores.mean()), float(scores.std())
    if size == 0:
        raise ValueError("all scores are the same")
    sizes = (len(genuine), len(synthetic))
    targets = np.repeat([1 / (sizes[0] + 2), (sizes[1] + 1) / (sizes[1] + 2)], sizes)
    halves = np.repeat([0.5 / sizes[0], 0.5 / sizes[1]], sizes)
    slope, offset = _logistic((scores - middle) / size, targets, halves)
    if slope >= -1e-6:
        raise ValueError("genuine media does not score higher than synthetic")
    return Calibration(slope=-slope / size, centre=middle - size * offset / slope, doubt=doubt)


def _logistic(at: Numbers, targets: Numbers, weights: Numbers) -> tuple[float, float]:
    """Slope and offset of the curve through `targets`, by Newton's method with halved steps."""
    columns = np.stack([at, np.ones_like(at)])
    line = np.zeros(2)
    for _ in range(STEPS):
        shares = 1 / (1 + np.exp(-np.clip(line @ columns, -60, 60)))
        slope = columns @ (weights * (shares - targets))
        curvature = (columns * (weights * shares * (1 - shares))) @ columns.T + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, slope)
        while _cross_entropy(line - step, columns, targets, weights) > _cross_entropy(line, columns, targets, weights):
            step /= 2
        line = line - step
        if np.abs(step).max() < 1e-9:
            break
    return float(line[0]), float(line[1])


def _cross_entropy(line: Numbers, columns: Numbers, targets: Numbers, weights: Numbers) -> float:
    logits = line @ columns
    return float(weights @ (np.logaddexp(0, logits) - targets * logits))


@dataclass(frozen=True, slots=True)
class Bin:
    """Media to which about the same likelihood was given."""

    low: float
    high: float
    share: float
    """Of all media, both kinds counting half."""
    likelihood: float
    """The mean that was given."""
    synthetic: float
    """The share that was."""


@dataclass(frozen=True, slots=True)
class Reliability:
    """Whether likelihoods mean what they say."""

    bins: list[Bin]
    ece: float
    """Expected calibration error: by how much likelihood and share differ, on average (Naeini et al., AAAI 2015)."""
    brier: float
    """Mean square of what was given to genuine media, and of what was missing for synthetic (Brier, 1950)."""


def reliability(genuine: Sequence[float], synthetic: Sequence[float]) -> Reliability:
    """Of likelihoods of being synthetic, 0 to 1. Raises ValueError if a kind is missing."""
    errors(np.array(genuine), np.array(synthetic))
    given = np.concatenate([genuine, synthetic])
    truth = np.repeat([0.0, 1.0], [len(genuine), len(synthetic)])
    halves = np.repeat([0.5 / len(genuine), 0.5 / len(synthetic)], [len(genuine), len(synthetic)])
    places = np.minimum((given * BINS).astype(int), BINS - 1)
    bins = []
    for place in range(BINS):
        here = places == place
        share = float(halves[here].sum())
        if share:
            mean, found = (float(halves[here] @ of[here] / share) for of in (given, truth))
            bins.append(Bin(place / BINS, (place + 1) / BINS, share, mean, found))
    ece = sum(one.share * abs(one.likelihood - one.synthetic) for one in bins)
    return Reliability(bins, ece, float(halves @ (given - truth) ** 2))
