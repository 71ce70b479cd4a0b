"""The guard: a transform may never lose a speaker.

RNNoise behind Opus can mute a real voice whose sound has little above 4 kHz (phone bridges, hands-free sets, old
recordings), sometimes from the first word. So the transform runs in the shadow first: what it would do to speech is
measured before anybody hears it, and goes on being measured while it is heard.

Its loss over a stretch of speech is `wet / (raw - noise)` in power, where the noise is what the raw sound has in pauses.
Measured through Opus at 32 kb/s over 300 ms stretches: clean and noisy wideband speech never lost more than 2.7 dB; speech
that RNNoise mutes lost 9 to 89 dB. Without the noise term the two overlap: in a pause within a sentence at 5 dB SNR,
losing 20 dB is what a denoiser is for.
"""

from collections import deque
from enum import Enum

import numpy as np

from media_processors.base import Samples

DIGITAL_SILENCE = 1.5 / 32_768
"""Opus decodes silence to at most the last bit of 16-bit sound."""
STRETCH_MS = 300
"""How much speech a verdict rests on."""
TRIP_DB = -6.0
APPROVE_DB = -4.0
"""The transform is heard only if it lost less than this over all stretches so far, and until it loses more than `TRIP_DB`."""
RETRY_MS = 5_000
"""How much speech the transform must do no harm to, unheard, after it did harm."""
WIDEBAND_RETRY_MS = 1_000
"""The same, where the only objection was "narrowband" and it is withdrawn."""
NARROWBAND_DB = -40.0
"""Energy of speech in 4.5 to 8 kHz relative to below 3.4 kHz: jfk.wav -47, wideband speakers -30 to -13."""
_LOW_HZ = (100.0, 3_400.0)
_HIGH_HZ = (4_500.0, 8_000.0)
_SPECTRUM_SAMPLES = 960
_RATE_HZ = 48_000
_LIKELY = 0.5
_UNLIKELY = 0.2
_NOISE_MS = 400.0
_SPECTRUM_MS = 5_000.0
_SPECTRUM_EVERY_MS = 40.0
_HOLD_MS = 60.0
_TINY = 1e-12


class GuardState(Enum):
    """What the guard thinks of the transform on this track."""

    LISTENING = "listening"
    WET = "wet"
    DRY = "dry"


class Guard:
    """Decides, packet by packet, whether the transformed sound may be heard."""

    def __init__(self) -> None:
        self.state = GuardState.LISTENING
        self.reason = ""
        """Why the sound is dry: `narrowband` or `loses_speech`; empty otherwise."""
        self.trips = 0
        """How often the transform was found to lose speech."""
        self._noise: float | None = None
        self._stretch: deque[tuple[float, float, float, float]] = deque()
        self._stretch_ms = 0.0
        self._judged_ms = 0.0
        self._worst_db = 0.0
        self._hold_ms = 0.0
        self._low = 0.0
        self._high = 0.0
        self._spectrum_due_ms = 0.0
        self._window = np.hanning(_SPECTRUM_SAMPLES).astype(np.float32)

    def allows(self, raw: Samples, wet: Samples, speech: float, speaking: bool) -> bool:
        """Whether `wet` may be heard now.

        `raw` and `wet` have shape (n,), 48 kHz, aligned in time. `speech` is the probability of speech in [0, 1],
        `speaking` the same with hysteresis.
        """
        duration_ms = len(raw) * 1000 / _RATE_HZ
        raw_power = float(np.dot(raw, raw)) / len(raw)
        if speech < _UNLIKELY and raw_power > DIGITAL_SILENCE**2:  # a muted microphone says nothing about the room
            self._hear_noise(raw_power, duration_ms)
        if speaking and raw_power > _TINY:
            self._hear_spectrum(raw, duration_ms)
            self._hear_speech(raw_power, float(np.dot(wet, wet)) / len(wet), duration_ms)
            self._judge()
        self._hold_ms = _HOLD_MS if speech >= _LIKELY else max(0.0, self._hold_ms - duration_ms)
        if self.state is GuardState.LISTENING:
            return self._hold_ms == 0.0
        return self.state is GuardState.WET

    def restart(self) -> None:
        """The transform was off: its past says nothing now. What is known about the speaker and the noise stays."""
        self._stretch.clear()
        self._stretch_ms = self._judged_ms = self._worst_db = 0.0

    def is_narrowband(self) -> bool:
        """Whether the speech so far has (next to) nothing above 4 kHz."""
        return 10 * float(np.log10((self._high + _TINY) / (self._low + _TINY))) < NARROWBAND_DB

    def _hear_noise(self, power: float, duration_ms: float) -> None:
        if self._noise is None:
            self._noise = power
        self._noise += min(1.0, duration_ms / _NOISE_MS) * (power - self._noise)

    def _hear_spectrum(self, raw: Samples, duration_ms: float) -> None:
        self._spectrum_due_ms -= duration_ms
        if self._spectrum_due_ms > 0:
            return
        self._spectrum_due_ms += _SPECTRUM_EVERY_MS
        block = raw[:_SPECTRUM_SAMPLES]
        window = self._window if len(block) == len(self._window) else np.hanning(len(block))
        power = np.square(np.abs(np.fft.rfft(block * window)))
        per_bin_hz = _RATE_HZ / len(block)
        keep = 1.0 - _SPECTRUM_EVERY_MS / _SPECTRUM_MS
        self._low = self._low * keep + _band(power, per_bin_hz, _LOW_HZ)
        self._high = self._high * keep + _band(power, per_bin_hz, _HIGH_HZ)

    def _hear_speech(self, raw_power: float, wet_power: float, duration_ms: float) -> None:
        noise = min(self._noise or 0.0, raw_power)
        self._stretch.append((raw_power * duration_ms, noise * duration_ms, wet_power * duration_ms, duration_ms))
        self._stretch_ms += duration_ms
        self._judged_ms += duration_ms
        while self._stretch_ms - self._stretch[0][3] >= STRETCH_MS:
            self._stretch_ms -= self._stretch.popleft()[3]

    def _loss_db(self) -> float:
        """What the transform did to the speech of the last stretch; 0 while it is too short or mostly noise."""
        if self._stretch_ms < STRETCH_MS:
            return 0.0
        raw, noise, wet, _ = (sum(column) for column in zip(*self._stretch, strict=True))
        voice = raw - noise
        return 10 * float(np.log10((wet + _TINY) / voice)) if voice > raw / 2 else 0.0

    def _judge(self) -> None:
        loss_db = self._loss_db()
        self._worst_db = min(self._worst_db, loss_db)
        if self.state is GuardState.WET:
            if loss_db < TRIP_DB:
                self._object("loses_speech")
        elif self.state is GuardState.LISTENING:
            if self._judged_ms >= STRETCH_MS:
                self._first_verdict()
        elif self._judged_ms >= self._retry_ms():
            if self._worst_db >= APPROVE_DB:
                self._set_state(GuardState.WET)
            else:
                self._object("loses_speech")

    def _first_verdict(self) -> None:
        if self._worst_db < APPROVE_DB:
            self._object("loses_speech")
        elif self.is_narrowband():
            self._object("narrowband")
        else:
            self._set_state(GuardState.WET)

    def _retry_ms(self) -> int:
        withdrawn = self.reason == "narrowband" and not self.is_narrowband()
        return WIDEBAND_RETRY_MS if withdrawn else RETRY_MS

    def _object(self, reason: str) -> None:
        if reason == "loses_speech" and self.state is not GuardState.DRY:
            self.trips += 1
        self.reason = reason
        self._set_state(GuardState.DRY)

    def _set_state(self, state: GuardState) -> None:
        self.state = state
        if state is GuardState.WET:
            self.reason = ""
        self._judged_ms = self._worst_db = 0.0


def _band(power: Samples, per_bin_hz: float, band_hz: tuple[float, float]) -> float:
    low, high = (round(edge / per_bin_hz) for edge in band_hz)
    return float(power[low:high].sum())
