"""Whether a voice may be judged at all: wide enough, and clean enough, for models that learned from clean wide speech.

Measured (AASIST, bona fide minus spoof logit): real wideband speech +4.6 to +6.1, synthetic voices -7 to -17; but real noisy speech
-2.8 to -4.0 and real speech from 1961 without anything above 4 kHz -3.9 to -7.8. Outside its domain a model is not wrong now
and then, it is wrong; so it is not asked. Figures per clip: models/README.md.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]

RATE_HZ = 16_000
FRAME = 512
"""32 ms."""
SPEECH = 0.5
NARROW_DB = -20.0
"""If not even in 5 % of speech the energy above 4.3 kHz comes within so much of that below 4 kHz, there is none (a telephone)."""
LOUD_ENOUGH_DB = 20.0
"""Speech must be so much above what is heard when nobody speaks."""
HISTORY_FRAMES = 940
"""30 s: pauses may be far apart."""
SPEECH_DB = 25.0
"""Of a recording: what is within so much of its loudest 5 % is taken for speech, where nobody tells."""
_FLOOR = 1e-12
_WINDOW = np.hanning(FRAME).astype(np.float32)
_HZ = np.fft.rfftfreq(FRAME, 1 / RATE_HZ)
_LOW = (_HZ >= 100) & (_HZ < 4_000)
_HIGH = (_HZ >= 4_300) & (_HZ < 7_800)


@dataclass(frozen=True, slots=True)
class Quality:
    """How a voice sounds, over the last 30 s."""

    bandwidth_db: float
    """The 95th percentile over frames of speech of the energy above 4.3 kHz against that below 4 kHz."""
    snr_db: float
    """The 75th percentile of speech against the 10th of everything."""

    @property
    def refusal(self) -> str:
        """Why such a voice may not be judged; empty if it may."""
        if self.bandwidth_db < NARROW_DB:
            return "narrowband"
        return "noisy" if self.snr_db < LOUD_ENOUGH_DB else ""


class QualityMeter:
    """Listens to one track. Holds three numbers for each 32 ms of the last 30 s."""

    def __init__(self) -> None:
        self._left = np.zeros(0, np.float32)
        self._levels_db: deque[float] = deque(maxlen=HISTORY_FRAMES)
        self._bandwidths_db: deque[float] = deque(maxlen=HISTORY_FRAMES)
        self._speech: deque[bool] = deque(maxlen=HISTORY_FRAMES)

    def push(self, samples: Samples, speech: float) -> None:
        """16 kHz sound, and the probability that somebody speaks in it."""
        samples = np.concatenate([self._left, samples])
        whole = len(samples) // FRAME * FRAME
        frames = samples[:whole].reshape(-1, FRAME)
        self._left = samples[whole:]
        power = np.abs(np.fft.rfft(frames * _WINDOW, axis=1)) ** 2
        ratio = (power[:, _HIGH].sum(1) + _FLOOR) / (power[:, _LOW].sum(1) + _FLOOR)
        self._levels_db.extend((10 * np.log10(np.square(frames).mean(1) + _FLOOR)).tolist())
        self._bandwidths_db.extend((10 * np.log10(ratio)).tolist())
        self._speech.extend([speech >= SPEECH] * len(frames))

    def quality(self) -> Quality | None:
        """None if nobody has spoken."""
        speech = np.array(self._speech, bool)
        if not speech.any():
            return None
        levels_db, bandwidths_db = np.array(self._levels_db), np.array(self._bandwidths_db)
        return Quality(
            bandwidth_db=float(np.percentile(bandwidths_db[speech], 95)),
            snr_db=float(np.percentile(levels_db[speech], 75) - np.percentile(levels_db, 10)),
        )


def speech_frames(samples: Samples) -> NDArray[np.bool_]:
    """For each whole `FRAME` of a recording (16 kHz), whether it is loud enough to be taken for speech; shape (frames,)."""
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    if not len(frames):
        return np.zeros(0, np.bool_)
    levels_db = 10 * np.log10(np.square(frames).mean(1) + _FLOOR)
    return np.asarray(levels_db > np.percentile(levels_db, 95) - SPEECH_DB)


def recording_refusal(samples: Samples) -> str:
    """Why the voice in a recording (16 kHz, at most a minute) may not be judged; empty if it may.

    Its first and its last half minute must both be fit. What is loud is taken for speech: that finds the same of the three clips
    that `models/README.md` names as a voice activity detector does.
    """
    span = HISTORY_FRAMES * FRAME
    for part in (samples[:span], samples[-span:]):
        frames = part[: len(part) // FRAME * FRAME].reshape(-1, FRAME)
        if not len(frames):
            return "short"
        meter = QualityMeter()
        for frame, loud in zip(frames, speech_frames(part), strict=True):
            meter.push(frame, float(loud))
        quality = meter.quality()
        refusal = quality.refusal if quality else "silent"
        if refusal:
            return refusal
    return ""
