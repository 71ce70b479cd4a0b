"""Cuts a track into segments of speech and says when a window of one is worth decoding."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from media_processors.audio.vad import SpeechGate
from media_processors.frames import AudioFrame

RATE_HZ = 16_000
PRE_ROLL_MS = 400
"""Sound before the gate opened: its own delay (64 ms), the soft beginning of a word, and a moment of quiet before it."""
STEP_MS = 700
"""New speech between two windows."""
END_SILENCE_MS = 500
ENDING_SILENCE_MS = 160
"""After so much silence only the end is worth decoding: the last words of a half-heard sentence would become stable wrongly."""
MAX_SEGMENT_MS = 12_000
CUT_SEARCH_MS = 3_000
"""A segment that is too long is cut at its quietest place in so much of its end."""
CUT_WINDOW_MS = 200
_PER_MS = RATE_HZ // 1000

Pcm = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Window:
    """A segment from its start to now."""

    segment: int
    start_ms: int
    end_ms: int
    """Where its speech ends, so far."""
    end_arrival_ns: int
    """When the worker received that end."""
    pcm: Pcm
    final: bool


class Segmenter:
    """Speech of one track. Frames in, windows out."""

    def __init__(self) -> None:
        self._gate = SpeechGate(min_silence_ms=END_SILENCE_MS)
        self._before: Pcm = np.zeros(0, np.int16)
        """What was heard last while nobody spoke, at most `PRE_ROLL_MS`."""
        self._pieces: list[Pcm] = []
        self._samples = 0
        self._asked_samples = 0
        self._segment = 0
        self._start_ms = 0
        self._next_ms = 0
        self._speech_end_ms = 0
        self._speech_end_ns = 0

    def push(self, frame: AudioFrame) -> list[Window]:
        """Windows that became due: at most the end of one segment and a step of the next."""
        windows = self._pass_gap(frame.start_ms - self._next_ms)
        piece = np.clip(frame.samples * 32_768, -32_768, 32_767).astype(np.int16)
        duration_ms = len(piece) / _PER_MS
        self._next_ms = frame.start_ms + round(duration_ms)
        was_speaking = self._gate.speaking
        speaking = self._gate.update(frame.speech, duration_ms)
        if frame.speech >= self._gate.offset:
            self._speech_end_ms, self._speech_end_ns = self._next_ms, frame.arrival_ns
        if not was_speaking:
            self._remember(piece)
            if speaking:
                self._begin()
            return windows
        self._append(piece)
        if not speaking:
            return [*windows, self._end()]
        if self._samples >= MAX_SEGMENT_MS * _PER_MS:
            return [*windows, self._cut()]
        ending = self._next_ms - self._speech_end_ms >= ENDING_SILENCE_MS
        if not ending and self._samples - self._asked_samples >= STEP_MS * _PER_MS:
            windows.append(self._window(final=False))
        return windows

    def flush(self) -> list[Window]:
        """The sound stopped: the end of the segment, if there is one."""
        speaking = self._gate.speaking
        self._gate.reset()
        self._forget()
        return [self._end()] if speaking else []

    def _pass_gap(self, gap_ms: int) -> list[Window]:
        """Nothing came for `gap_ms` (a pause of the sender): silence of that length."""
        if gap_ms <= 0:
            return []
        was_speaking = self._gate.speaking
        if self._gate.update(0.0, gap_ms):
            self._append(np.zeros(gap_ms * _PER_MS, np.int16))
            return []
        ended = [self._end()] if was_speaking else []
        self._remember(np.zeros(min(gap_ms, PRE_ROLL_MS) * _PER_MS, np.int16))
        return ended

    def _remember(self, piece: Pcm) -> None:
        self._before = np.concatenate((self._before, piece))[-PRE_ROLL_MS * _PER_MS :]

    def _forget(self) -> None:
        self._before = self._before[:0]

    def _begin(self) -> None:
        self._segment += 1
        self._start_ms = max(0, self._next_ms - len(self._before) // _PER_MS)
        self._pieces = [self._before]
        self._samples = len(self._before)
        self._asked_samples = 0
        self._forget()

    def _append(self, piece: Pcm) -> None:
        self._pieces.append(piece)
        self._samples += len(piece)

    def _window(self, final: bool) -> Window:
        self._asked_samples = self._samples
        end_ms = max(self._start_ms, self._speech_end_ms)
        return Window(self._segment, self._start_ms, end_ms, self._speech_end_ns, self._pcm(), final)

    def _pcm(self) -> Pcm:
        joined = np.concatenate(self._pieces)
        self._pieces = [joined]
        return joined

    def _end(self) -> Window:
        window = self._window(final=True)
        self._pieces, self._samples = [], 0
        return window

    def _cut(self) -> Window:
        """End the segment at its quietest place near its end; what is behind it begins the next."""
        pcm = self._pcm()
        search = CUT_SEARCH_MS * _PER_MS
        width = CUT_WINDOW_MS * _PER_MS
        power = np.square(pcm[-search:].astype(np.float64)).cumsum()
        quietest = int(np.argmin(power[width:] - power[:-width])) + width // 2
        at = len(pcm) - search + quietest
        behind_ms = (len(pcm) - at) // _PER_MS
        end_ms = self._next_ms - behind_ms
        arrival_ns = self._speech_end_ns - behind_ms * 1_000_000
        window = Window(self._segment, self._start_ms, end_ms, arrival_ns, pcm[:at], final=True)
        self._segment += 1
        self._start_ms = end_ms
        self._pieces, self._samples, self._asked_samples = [pcm[at:]], len(pcm) - at, 0
        return window
