"""Whether the newer arm of a split is worse than the other: figures of each arm, compared in blocks that do not overlap.

Comparing after every answer would sooner or later find something between two equal arms; so each block is compared once, when both
arms have enough in it, and forgotten. Answers about one track are no independent draws: for drift a track counts once per block.
There is no clock in here: who asks measures how long an answer took.
"""

import math
import statistics
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from models.traffic import Limits, Reason

REMEMBERED = 512
"""Newest answers of an arm that its percentiles are of."""
MOST_UNITS = 10_000
"""Of an arm in a block; tracks beyond it are not counted."""
FREE_S = 0.02
"""A slower 95th percentile within this is nobody's concern, whatever the ratio."""
ERRORS_Z = 3.0
FLAGGED = "flagged"
"""What is said of an answer whose likelihood of being synthetic is above one half."""
CLEAR = "clear"
NOTHING = ""
"""What is said of an answer that has no label."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why the newer arm shall be asked no more."""

    reason: Reason
    message: str


@dataclass(slots=True)
class ArmFigures:
    """Of one arm since its route was made, or the engine began."""

    answered: int = 0
    failed: int = 0
    agreed: int = 0
    """Of a shadow, with the answer that was given; as `differed` only where answers can be compared."""
    differed: int = 0
    shed: int = 0
    """Of a shadow: questions that it was not asked, because there was other work."""
    said: Counter[str] = field(default_factory=Counter)
    newest_s: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def answer(self, seconds: float, said: str) -> None:
        """One more."""
        self.answered += 1
        self.newest_s.append(seconds)
        self.said[said] += 1

    @property
    def flag_rate(self) -> float | None:
        """Share of answers that were flagged; None for models without a calibration."""
        judged = self.said[FLAGGED] + self.said[CLEAR]
        return self.said[FLAGGED] / judged if judged else None

    @property
    def p50_s(self) -> float | None:
        """Of the newest answers."""
        return statistics.median(self.newest_s) if self.newest_s else None

    @property
    def p95_s(self) -> float | None:
        """Of the newest answers."""
        return p95(self.newest_s) if self.newest_s else None


def p95(seconds: Sequence[float] | deque[float]) -> float:
    """The 95th percentile (nearest rank)."""
    return sorted(seconds)[math.ceil(0.95 * len(seconds)) - 1]


def z_of(count: int, total: int, other_count: int, other_total: int) -> float:
    """By how many standard errors the first share is above the second (two proportions, pooled)."""
    share = (count + other_count) / (total + other_total)
    spread = math.sqrt(share * (1 - share) * (1 / total + 1 / other_total))
    return (count / total - other_count / other_total) / spread if spread else 0.0


@dataclass(slots=True)
class _Block:
    """What one arm did since both were compared last."""

    seconds: list[float] = field(default_factory=list)
    failed: int = 0

    @property
    def asked(self) -> int:
        return len(self.seconds) + self.failed


class CanaryGuard:
    """Compares `canary` with `stable`."""

    def __init__(self, stable: str, canary: str, limits: Limits) -> None:
        self._stable, self._canary, self._limits = stable, canary, limits
        self._blocks = {arm: _Block() for arm in (stable, canary)}
        self._units: dict[str, dict[str, str]] = {arm: {} for arm in (stable, canary)}

    def answered(self, arm: str, seconds: float, unit: str, said: str) -> Verdict | None:
        """An arm answered about a unit, after so long; `said`: in one word, or `NOTHING`."""
        self._blocks[arm].seconds.append(seconds)
        units = self._units[arm]
        if said != NOTHING and len(units) < MOST_UNITS:
            units.setdefault(unit, said)
        return self._compared() or self._drifted()

    def failed(self, arm: str) -> Verdict | None:
        """An arm did not answer a question that it should have."""
        self._blocks[arm].failed += 1
        return self._compared()

    def _compared(self) -> Verdict | None:
        stable, canary = self._blocks[self._stable], self._blocks[self._canary]
        if min(stable.asked, canary.asked) < self._limits.min_answers:
            return None
        self._blocks = {arm: _Block() for arm in self._blocks}
        return self._erred(stable, canary) or self._slowed(stable, canary)

    def _erred(self, stable: _Block, canary: _Block) -> Verdict | None:
        rate, other = canary.failed / canary.asked, stable.failed / stable.asked
        surely = z_of(canary.failed, canary.asked, stable.failed, stable.asked) >= ERRORS_Z
        if rate - other <= self._limits.error_rate or not surely:
            return None
        return Verdict("errors", f"{rate:.0%} of {canary.asked} questions failed, {other:.0%} at {self._stable}")

    def _slowed(self, stable: _Block, canary: _Block) -> Verdict | None:
        if not stable.seconds or not canary.seconds:
            return None
        slow_s, other_s = p95(canary.seconds), p95(stable.seconds)
        if slow_s <= self._limits.p95_ratio * other_s or slow_s - other_s <= FREE_S:
            return None
        return Verdict("latency", f"p95 {slow_s * 1000:.0f} ms, {other_s * 1000:.0f} ms at {self._stable}")

    def _drifted(self) -> Verdict | None:
        stable, canary = self._units[self._stable], self._units[self._canary]
        if min(len(stable), len(canary)) < self._limits.min_units:
            return None
        self._units = {arm: {} for arm in self._units}
        counts, others = Counter(canary.values()), Counter(stable.values())
        for said in sorted(counts | others):
            z = z_of(counts[said], len(canary), others[said], len(stable))
            if abs(z) > self._limits.drift_z:
                share, other = counts[said] / len(canary), others[said] / len(stable)
                return Verdict("drift", f"{share:.0%} are {said!r}, {other:.0%} at {self._stable} ({abs(z):.1f} sigma)")
        return None
