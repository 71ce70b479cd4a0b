"""Prosody: how somebody speaks. Level, pitch and rate over stretches of speech, by signal processing alone.

Pitch: the peak of the normalised autocorrelation (Boersma, "Accurate short-term analysis of the fundamental frequency",
1993, without its path search), median over voiced windows. Rate: syllable nuclei as peaks of the intensity of voiced
speech, 2 dB above the dips around them (de Jong & Wempe, "Praat script to detect syllable nuclei", 2009).
"""

from typing import ClassVar, Literal

import numpy as np

from media_processors.base import Emit, Samples
from media_processors.findings import Finding, ProcessorInfo, Prosody
from media_processors.frames import AudioFrame, TrackRef, VideoFrame

RATE_HZ = 16_000
MODEL = "prosody-autocorrelation@1"
REPORT_MS = 2_000
"""A finding per so much speech."""
MIN_SPEECH_MS = 500
"""Less speech than this before a pause of `PAUSE_MS` is not worth a finding."""
PAUSE_MS = 800
MIN_VOICED_MS = 200
"""Without this much voiced sound there is no pitch and no rate."""
SPEECH = 0.5
_WINDOW = 640
_HOP = 160
_LOWEST_HZ = 60.0
_HIGHEST_HZ = 500.0
_VOICED = 0.5
_SILENT_DB = -25.0
_DIP_DB = 2.0
_FLOOR_DBFS = -100.0
_OCTAVE_COST = 0.02


def pitch_track(samples: Samples) -> Samples:
    """Fundamental frequency of each 10 ms in Hz, 0 where unvoiced. `samples`: shape (n,), 16 kHz; result (m,)."""
    count = max(0, (len(samples) - _WINDOW) // _HOP + 1)
    if not count:
        return np.zeros(0, np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(samples, _WINDOW)[::_HOP][:count]
    window = np.hanning(_WINDOW).astype(np.float32)
    shape = _autocorrelation(window[None])[0]
    rows = _autocorrelation((windows - windows.mean(1, keepdims=True)) * window)
    energy = np.maximum(rows[:, :1], 1e-9)
    strength = rows / energy / np.maximum(shape / shape[0], 1e-3)
    lags = np.arange(int(RATE_HZ / _HIGHEST_HZ), int(RATE_HZ / _LOWEST_HZ) + 1)
    offset, top = _vertices(strength[:, lags - 1], strength[:, lags], strength[:, lags + 1])
    # A longer lag must be clearly better: a periodic sound correlates as well at twice its period.
    scores = top - _OCTAVE_COST * np.log2(lags / lags[0])
    best = scores.argmax(1)
    at = np.arange(count)
    audible = energy[:, 0] > energy.max() * 10 ** (_SILENT_DB / 10)
    voiced = (top[at, best] > _VOICED) & audible
    return np.where(voiced, RATE_HZ / (lags[best] + offset[at, best]), 0.0).astype(np.float32)


def syllables(samples: Samples, pitch: Samples) -> int:
    """Syllable nuclei in `samples`, shape (n,), 16 kHz, with its `pitch_track`."""
    count = len(pitch)
    if not count:
        return 0
    windows = np.lib.stride_tricks.sliding_window_view(samples, _WINDOW)[::_HOP][:count]
    level_db = 10 * np.log10(np.square(windows).mean(1) + 1e-10)
    level_db = np.convolve(level_db, np.ones(3) / 3, mode="same")
    threshold_db = float(np.percentile(level_db, 95)) + _SILENT_DB
    found, dip_db = 0, -np.inf
    peak_db, peak_at = -np.inf, 0
    for index, db in enumerate(level_db):
        if db > peak_db:
            peak_db, peak_at = float(db), index
        if peak_db - db >= _DIP_DB:
            if peak_db > threshold_db and peak_db - dip_db >= _DIP_DB and pitch[peak_at] > 0:
                found += 1
            dip_db, peak_db = float(db), float(db)
        dip_db = min(dip_db, float(db)) if db < peak_db else dip_db
    return found


def _autocorrelation(rows: Samples) -> Samples:
    size = 1 << (2 * rows.shape[1] - 1).bit_length()
    spectrum = np.abs(np.fft.rfft(rows, size)) ** 2
    return np.asarray(np.fft.irfft(spectrum, size)[:, : rows.shape[1]], np.float32)


def _vertices(before: Samples, at: Samples, after: Samples) -> tuple[Samples, Samples]:
    """The tops of parabolas through three points each: where, between -1/2 and 1/2, and how high; -inf where there is no peak."""
    peak = (at > before) & (at >= after)
    bend = np.where(peak, before - 2 * at + after, -1.0)
    offset = 0.5 * (before - after) / bend
    top = np.where(peak, at - 0.25 * (before - after) * offset, -np.inf)
    return np.asarray(offset, np.float32), np.asarray(top, np.float32)


class ProsodyStream:
    """Prosody of one track. Holds at most `REPORT_MS` and a frame of sound."""

    def __init__(self, track: TrackRef) -> None:
        self._track = track
        self._speech: list[Samples] = []
        self._speech_ms = 0.0
        self._pause_ms = 0.0
        self._start_ms = 0
        self._end_ms = 0

    def push(self, frame: AudioFrame | VideoFrame) -> list[Finding]:
        """A finding whenever enough was said, or at the pause after it."""
        if not isinstance(frame, AudioFrame):
            return []
        duration_ms = len(frame.samples) * 1000 / frame.sample_rate_hz
        if frame.speech < SPEECH or frame.concealed:
            self._pause_ms += duration_ms
            return self.flush() if self._speech and self._pause_ms >= PAUSE_MS else []
        if not self._speech:
            self._start_ms = frame.start_ms
        self._pause_ms = 0.0
        self._speech.append(frame.samples)
        self._speech_ms += duration_ms
        self._end_ms = frame.start_ms + round(duration_ms)
        return self.flush() if self._speech_ms >= REPORT_MS else []

    def flush(self) -> list[Finding]:
        """What was said since the last finding, if it is enough."""
        speech, speech_ms = self._speech, round(self._speech_ms)
        self._speech, self._speech_ms, self._pause_ms = [], 0.0, 0.0
        return [self._describe(np.concatenate(speech), speech_ms)] if speech_ms >= MIN_SPEECH_MS else []

    async def aclose(self) -> None:
        """Forget everything."""
        self._speech.clear()

    def _describe(self, samples: Samples, speech_ms: int) -> Prosody:
        pitch = pitch_track(samples)
        voiced = pitch[pitch > 0]
        enough = len(voiced) * _HOP * 1000 // RATE_HZ >= MIN_VOICED_MS
        level_dbfs = max(_FLOOR_DBFS, 10 * float(np.log10(np.square(samples).mean() + 1e-12)))
        return Prosody(
            room_id=self._track.room_id,
            participant_id=self._track.participant_id,
            track_id=self._track.track_id,
            epoch=self._track.epoch,
            start_ms=self._start_ms,
            end_ms=self._end_ms,
            model=MODEL,
            level_dbfs=min(0.0, round(level_dbfs, 1)),
            pitch_hz=round(float(np.median(voiced)), 1) if enough else None,
            syllables_per_s=round(syllables(samples, pitch) * 1000 / speech_ms, 1) if enough else None,
            speech_ms=speech_ms,
        )


class ProsodyMeter:
    """The observer `prosody`."""

    kind: ClassVar[Literal["observer"]] = "observer"
    media: Literal["audio", "video"] = "audio"
    sound: Literal["raw", "processed"] = "raw"
    sample_rate_hz = RATE_HZ

    def info(self) -> ProcessorInfo:
        """Always available: there is no model."""
        return ProcessorInfo(name="prosody", kind=self.kind, media=self.media, available=True, model=MODEL)

    def open(self, track: TrackRef, emit: Emit) -> ProsodyStream:
        """State for one track. All that it finds it returns at once; nothing comes later through `emit`."""
        return ProsodyStream(track)
