"""From a score to a likelihood: what a model's answer about authenticity means, and what every such answer is as one number."""

import math

from pydantic import Field
from pydantic.dataclasses import dataclass

from models.questions import Scores

SUREST = 1e-4
"""Probabilities nearer to 0 or 1 than this say no more than this."""
_REAL = ("real", "Realism")
"""What models that answer with probabilities call genuine media."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Likelihood that a score comes from synthetic media: doubt + (1 - 2 * doubt) / (1 + exp(slope * (score - centre))).

    Scores are high for genuine media (Platt, "Probabilistic Outputs for Support Vector Machines", 1999).
    """

    slope: float = Field(gt=0, allow_inf_nan=False)
    centre: float = Field(allow_inf_nan=False)
    doubt: float = Field(ge=0, le=0.5)
    """How often a model of this kind is wrong at its best: it is never surer than that, whatever its score."""

    def likelihood(self, score: float) -> float:
        """From `doubt` to 1 - `doubt`."""
        sure = 1 / (1 + math.exp(min(60.0, max(-60.0, self.slope * (score - self.centre)))))
        return self.doubt + (1 - 2 * self.doubt) * sure


def genuine_score(scores: Scores) -> float:
    """How much an answer speaks for genuine media: the log-odds of being real, or `bonafide` minus `spoof` where logits are given.

    Raises ValueError for other labels: what is not known to mean this must not be read so.
    """
    for label in set(_REAL) & set(scores.labels):
        real = min(1 - SUREST, max(SUREST, scores[label]))
        return math.log(real / (1 - real))
    if scores.labels == ("spoof", "bonafide"):
        return scores["bonafide"] - scores["spoof"]
    raise ValueError(f"the labels {scores.labels} do not say how genuine something is")
