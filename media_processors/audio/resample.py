"""48 kHz to a rate that divides it and back, in pieces, with state."""

import numpy as np

from media_processors.base import Samples

_TAPS_PER_PHASE = 32
_KAISER_BETA = 6.0
_CUTOFF = 0.9
"""Of the lower rate's Nyquist frequency. With this many taps, what could alias below it is 60 dB down."""


class Downsampler:
    """A polyphase FIR low-pass and decimator (windowed sinc; Oppenheim & Schafer, Section 7.5). Lags by `delay_ms`."""

    def __init__(self, from_hz: int = 48_000, to_hz: int = 16_000) -> None:
        """Raises ValueError if `to_hz` does not divide `from_hz`."""
        if to_hz <= 0 or from_hz % to_hz:
            raise ValueError(f"{to_hz} Hz does not divide {from_hz} Hz")
        self.factor = from_hz // to_hz
        taps = _TAPS_PER_PHASE * self.factor if self.factor > 1 else 1
        self.delay_ms = (taps - 1) / 2 / from_hz * 1000
        self._taps = taps
        # One short filter per phase, reversed for `correlate`.
        self._phases = _low_pass(taps, self.factor).reshape(-1, self.factor).T.copy()
        self._tail: Samples = np.zeros(taps - 1, np.float32)

    def push(self, samples: Samples) -> Samples:
        """All output that `samples`, shape (n,), completes: n / factor samples, what does not divide waits for the next."""
        if self.factor == 1:
            return samples
        joined = np.concatenate((self._tail, samples))
        count = max(0, (len(joined) - self._taps) // self.factor + 1)
        self._tail = joined[count * self.factor :]
        if not count:
            return joined[:0]
        used = joined[: (count - 1) * self.factor + self._taps].reshape(-1, self.factor).T.copy()
        out = np.zeros(count, np.float32)
        for phase, taps in zip(used, self._phases, strict=True):
            out += np.correlate(phase, taps)
        return out

    def reset(self) -> None:
        """Forget the past."""
        self._tail = np.zeros(self._taps - 1, np.float32)


class Upsampler:
    """The way back: `factor` times as many samples, what would mirror above the old Nyquist frequency filtered away.

    Lags by `(32 * factor - 1) / 2` samples of its output, as the `Downsampler` of the same factor lags in its input.
    """

    def __init__(self, factor: int) -> None:
        """`factor` of 2 or more."""
        kernel = _low_pass(_TAPS_PER_PHASE * factor, factor) * factor
        # Output n of each input is the filter at every `factor`-th tap, beginning at n.
        self._phases: Samples = np.ascontiguousarray(kernel.reshape(-1, factor).T[:, ::-1], np.float32)
        self._tail: Samples = np.zeros(_TAPS_PER_PHASE - 1, np.float32)

    def push(self, samples: Samples) -> Samples:
        """Shape (n,) in, (n * factor,) out."""
        joined = np.concatenate((self._tail, samples))
        self._tail = joined[len(samples) :]
        return np.stack([np.correlate(joined, taps) for taps in self._phases], axis=1).ravel()

    def reset(self) -> None:
        """Forget the past."""
        self._tail = np.zeros_like(self._tail)


def _low_pass(taps: int, factor: int) -> Samples:
    """Windowed sinc with a sum of 1, shape (taps,)."""
    if taps == 1:
        return np.ones(1, np.float32)
    at = np.arange(taps) - (taps - 1) / 2
    kernel = np.sinc(at * _CUTOFF / factor) * np.kaiser(taps, _KAISER_BETA)
    return np.asarray(kernel / kernel.sum(), np.float32)
