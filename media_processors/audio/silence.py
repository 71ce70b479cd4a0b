"""Digital silence: a muted microphone that goes on sending. Nobody needs to listen closely to it."""

import numpy as np

from media_processors.base import Samples

SILENT_PEAK = 1.5 / 32_768
"""Opus decodes silence to at most the last bit of 16-bit sound."""
REST_AFTER_SAMPLES = 48_000 * 200 // 1000
"""So much silence is processed like any sound: longer than what any transform holds, warms up and fades in."""


class Rest:
    """Tells when a track has been silent for long enough to leave it alone. Sound at 48 kHz."""

    def __init__(self) -> None:
        self._silent_samples = 0

    def push(self, sound: Samples) -> bool:
        """Whether this piece, shape (n,), n > 0, may be taken for silence without a closer look."""
        if float(np.max(np.abs(sound))) > SILENT_PEAK:
            self._silent_samples = 0
            return False
        self._silent_samples += len(sound)
        return self._silent_samples > REST_AFTER_SAMPLES

    def end(self) -> None:
        """Something changed that the next silence must be processed for."""
        self._silent_samples = 0
