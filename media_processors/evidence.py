"""Evidence about authenticity: scores of windows into a likelihood, and a likelihood into what may be said.

A single window is never a verdict. What counts is the mean score of the valid windows so far, a logistic calibration of it, how
much media they cover, and hysteresis, so that a verdict does not flicker.
"""

import math
from collections import Counter, deque
from dataclasses import dataclass
from typing import Literal, TypedDict

from models.calibration import Calibration

Verdict = Literal["insufficient_evidence", "likely_genuine", "inconclusive", "likely_synthetic"]
ALERT = 0.9
"""At this likelihood, twice in a row, it is called likely synthetic ..."""
CLEAR = 0.6
"""... and below this one no longer."""
GENUINE = 0.2
ALERTS = 2


class Told(TypedDict):
    """The part of a finding about authenticity that is the same for voices and faces."""

    verdict: Verdict
    reason: str
    likelihood: float | None
    score: float | None
    evidence_ms: int
    windows: int


@dataclass(frozen=True, slots=True)
class Assessment:
    """What may be said now."""

    verdict: Verdict
    reason: str
    """Why the evidence does not suffice; empty if it does."""
    likelihood: float | None
    """Of being synthetic, calibrated; None before there is enough evidence."""
    score: float | None
    """The mean of the model's raw scores; None if there are none."""
    evidence_ms: int
    windows: int

    def told(self) -> Told:
        """As findings carry it: no more digits than mean something."""
        return Told(
            verdict=self.verdict,
            reason=self.reason,
            likelihood=None if self.likelihood is None else round(self.likelihood, 3),
            score=None if self.score is None else round(self.score, 2),
            evidence_ms=self.evidence_ms,
            windows=self.windows,
        )


class Evidence:
    """The windows of one track, the newest `kept`; older ones no longer count."""

    def __init__(self, calibration: Calibration, enough_ms: int, kept: int) -> None:
        self._calibration = calibration
        self._enough_ms = enough_ms
        self._scores: deque[tuple[float, int]] = deque(maxlen=kept)
        self._refusals: deque[str] = deque(maxlen=kept)
        self._alerts = 0
        self._flagged = False

    def add(self, score: float, media_ms: int) -> Assessment:
        """A valid window's score, and how much speech or face it covers. Raises ValueError for a score that is not a number."""
        if not math.isfinite(score):
            raise ValueError("the score is not a number")
        self._scores.append((score, media_ms))
        self._remember("")
        found = self._assess()
        if found.likelihood is not None:
            self._alerts = self._alerts + 1 if found.likelihood >= ALERT else 0
            self._flagged = self._alerts >= ALERTS or (self._flagged and found.likelihood >= CLEAR)
            found = self._assess()
        return found

    def refuse(self, reason: str) -> Assessment:
        """A window that is not valid for the model, and why. Evidence older than all windows kept is gone."""
        self._remember(reason)
        return self._assess()

    def _remember(self, refusal: str) -> None:
        """Whether the newest window was refused. The scores of windows that are too old to be remembered go."""
        self._refusals.append(refusal)
        while len(self._scores) > self._refusals.count(""):
            self._scores.popleft()

    def _assess(self) -> Assessment:
        evidence_ms = sum(media_ms for _, media_ms in self._scores)
        windows = len(self._scores)
        score = sum(score for score, _ in self._scores) / windows if windows else None
        if score is None or evidence_ms < self._enough_ms:
            self._alerts, self._flagged = 0, False
            return Assessment("insufficient_evidence", self._reason(), None, score, evidence_ms, windows)
        likelihood = self._calibration.likelihood(score)
        return Assessment(self._verdict(likelihood), "", likelihood, score, evidence_ms, windows)

    def _reason(self) -> str:
        """What most windows were refused for, if most were; else there is just too little yet."""
        refused = Counter(reason for reason in self._refusals if reason)
        if refused.total() * 2 > len(self._refusals):
            return refused.most_common(1)[0][0]
        return "duration"

    def _verdict(self, likelihood: float) -> Verdict:
        if self._flagged:
            return "likely_synthetic"
        return "likely_genuine" if likelihood <= GENUINE else "inconclusive"
