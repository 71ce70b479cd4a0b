"""Windows of speech for models that take a few seconds of it."""

from collections import deque

import numpy as np
from numpy.typing import NDArray

from media_processors.frames import AudioFrame

RATE_HZ = 16_000
STEP_MS = 5_000
"""Speech between two windows."""
SPEECH = 0.5
SPOKEN_SHARE = 0.5
"""A window in which less is speech is not worth a question."""
GAP_MS = 5.0
"""Times of frames are whole milliseconds."""

Pcm = NDArray[np.int16]


class WindowCollector:
    """Sound of somebody who speaks, in windows of a fixed length: the newest, whenever another `STEP_MS` were spoken.

    A window is what was heard, pauses included: nothing is cut out of it or put together. Where sound is missing in the middle of
    speech it begins anew, a pause that was not sent is silence, and what the decoder concealed stays in. Measured with AASIST on
    flite's voice: -10 to -15 as it is; -13 to +3 with pauses over 0.6 s cut out; -9 with every hundredth packet cut out, -14 with
    it concealed.
    """

    def __init__(self, window_samples: int) -> None:
        self._sound: Pcm = np.zeros(0, np.int16)
        self._spoken: deque[tuple[int, float]] = deque()
        """For each piece in `_sound`: its samples, and how many ms of them were speech."""
        self._window_samples = window_samples
        self._since_ms = 0.0
        self._spoke = False
        self._next_ms: float | None = None
        """Where the next frame begins if nothing is missing."""

    def push(self, frame: AudioFrame) -> tuple[Pcm, int] | None:
        """A window, shape (window_samples,), and the speech in it in ms, if one is due."""
        duration_ms = len(frame.samples) * 1000 / RATE_HZ
        self._bridge(frame)
        self._next_ms = frame.start_ms + duration_ms
        self._spoke = frame.speech >= SPEECH
        speech_ms = duration_ms if self._spoke and not frame.concealed else 0.0
        self._since_ms += speech_ms
        self._append(np.clip(frame.samples * 32_768, -32_768, 32_767).astype(np.int16), speech_ms)
        spoken_ms = sum(speech for _, speech in self._spoken)
        enough_ms = SPOKEN_SHARE * self._window_samples * 1000 / RATE_HZ
        if len(self._sound) < self._window_samples or self._since_ms < STEP_MS or spoken_ms < enough_ms:
            return None
        self._since_ms = 0.0
        return self._sound.copy(), round(spoken_ms)

    def _bridge(self, frame: AudioFrame) -> None:
        missing_ms = 0.0 if self._next_ms is None else frame.start_ms - self._next_ms
        if missing_ms <= GAP_MS:
            return
        if self._spoke:
            self._sound = self._sound[:0]
            self._spoken.clear()
        else:
            self._append(np.zeros(min(self._window_samples, round(missing_ms * RATE_HZ / 1000)), np.int16), 0.0)

    def _append(self, piece: Pcm, speech_ms: float) -> None:
        self._sound = np.concatenate([self._sound, piece])[-self._window_samples :]
        self._spoken.append((len(piece), speech_ms))
        while sum(samples for samples, _ in self._spoken) - self._spoken[0][0] >= self._window_samples:
            self._spoken.popleft()
