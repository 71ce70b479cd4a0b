"""Silence: a muted microphone that goes on sending, or an open one in a quiet room. Nobody needs to listen closely to it."""

import numpy as np

from media_processors.base import Samples

SILENT_RMS, SILENT_PEAK = 5e-4, 4e-3
"""-66 dB and -48 dB: nobody hears it beside speech, and nobody speaks at it. Without it sixteen open microphones, of which two
speak, take as much as sixteen speakers: more than a core."""
REST_AFTER_SAMPLES = 48_000 * 200 // 1000
"""So much silence is processed like any sound: longer than what any transform holds, warms up and fades in."""
SETTLED_AFTER_SAMPLES = 2 * REST_AFTER_SAMPLES
"""By then the encoder has nothing but silence in its past either, and need not be asked for more of it."""


class Rest:
    """Tells when a track has been silent for long enough to leave it alone. Sound at 48 kHz."""

    def __init__(self) -> None:
        self._silent_samples = 0

    def push(self, sound: Samples) -> bool:
        """Whether this piece, shape (n,), n > 0, may be taken for silence without a closer look."""
        if float(np.dot(sound, sound)) > SILENT_RMS**2 * len(sound) or float(np.max(np.abs(sound))) > SILENT_PEAK:
            self._silent_samples = 0
            return False
        self._silent_samples += len(sound)
        return self._silent_samples > REST_AFTER_SAMPLES

    @property
    def settled(self) -> bool:
        """Whether what it sends has been silence for a while."""
        return self._silent_samples > SETTLED_AFTER_SAMPLES

    def end(self) -> None:
        """Something changed that the next silence must be processed for."""
        self._silent_samples = 0
