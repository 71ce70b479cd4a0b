"""What observers stop first when this machine cannot keep up: what matters least (DESIGN: media never waits for AI).

Faces go first, then the authenticity of voices, then how something was said, captions last. Denoising and forwarding are not
observers: the path host bypasses a transform that is too slow, and the worker forwards whatever happens here.
"""

from collections import deque

import structlog

from media_processors.findings import ProcessorInfo

RUNGS = ("face", "authenticity", "emotion", "captions")
"""In the order of sacrifice."""
LATE_MS = 1_000.0
"""Sound or pictures that wait longer for their turn are too late."""
CALM_MS = 200.0
MISSED_MAX, MISSED_S = 3, 5.0
"""So many questions in so many seconds that models did not answer in time are too many."""
SHED_AFTER_S = 2.0
"""Of trouble, for each rung."""
PATIENCE_S, PATIENCE_MAX_S = 10.0, 160.0
"""Of calm before a rung comes back; twice as long whenever trouble came again within a minute of a return."""
HICCUP_S = 2.0
"""Of calm that a moment which is neither calm nor trouble costs."""
RELAPSE_S = 60.0

log = structlog.get_logger()


def rung_of(info: ProcessorInfo) -> str:
    """Where an observer stands, other people's included."""
    if info.media == "video":
        return "face"
    if info.about == "biometric":
        return "authenticity"
    return "captions" if info.name == "captions" else "emotion"


class Ladder:
    """Measured lag in, rungs out. `level` is how many rungs are gone."""

    def __init__(self) -> None:
        self.level = 0
        self.sheds = 0
        """How often a rung went."""
        self._missed: deque[float] = deque(maxlen=MISSED_MAX)
        self._trouble_since_s: float | None = None
        self._calm_since_s: float | None = None
        self._patience_s = PATIENCE_S
        self._returned_s = float("-inf")

    def sheds_now(self, info: ProcessorInfo) -> bool:
        """Whether this observer has to wait for better times."""
        return RUNGS.index(rung_of(info)) < self.level

    def measure(self, lag_ms: float, missed: int, now_s: float) -> bool:
        """How long the oldest packet waits, and how many answers did not come in time since the last call; True if `level` changed.

        At any pace; `now_s` on one clock.
        """
        self._missed.extend([now_s] * min(missed, MISSED_MAX))
        many_missed = len(self._missed) == MISSED_MAX and now_s - self._missed[0] < MISSED_S
        if lag_ms > LATE_MS or many_missed:
            self._calm_since_s = None
            return self._trouble(now_s)
        self._trouble_since_s = None
        if lag_ms < CALM_MS and self.level:
            return self._calm(now_s)
        if self._calm_since_s is not None:
            self._calm_since_s = min(now_s, self._calm_since_s + HICCUP_S)
        return False

    def _trouble(self, now_s: float) -> bool:
        if self._trouble_since_s is None:
            self._trouble_since_s = now_s
        if self.level == len(RUNGS) or now_s - self._trouble_since_s < SHED_AFTER_S:
            return False
        if now_s - self._returned_s < RELAPSE_S:
            self._patience_s = min(PATIENCE_MAX_S, 2 * self._patience_s)
            self._returned_s = float("-inf")  # once for a descent, however deep
        elif not self.level:
            self._patience_s = PATIENCE_S
        self._trouble_since_s = now_s
        self._missed.clear()
        log.warning("rung_shed", rung=RUNGS[self.level])
        self.level += 1
        self.sheds += 1
        return True

    def _calm(self, now_s: float) -> bool:
        if self._calm_since_s is None:
            self._calm_since_s = now_s
        if now_s - self._calm_since_s < self._patience_s:
            return False
        self._calm_since_s = self._returned_s = now_s
        self.level -= 1
        log.info("rung_returned", rung=RUNGS[self.level])
        return True
