"""GTCRN, the denoiser by choice: better in noise, half the bandwidth.

Rong et al., "GTCRN: A Speech Enhancement Model Requiring Ultralow Computational Resources" (ICASSP 2024), the authors' own
streaming ONNX file. It hears 16 kHz, so nothing above 8 kHz is left of a voice. A frame is 32 ms with a hop of 16 ms, square
root of Hann on both sides; what the network remembers of the past are three tensors that go in and come out.
"""

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import onnxruntime

from media_processors.audio.resample import Downsampler, Upsampler
from media_processors.base import Samples
from media_processors.errors import UnavailableError
from media_processors.findings import ProcessorInfo
from media_processors.frames import TrackRef
from models import catalog
from models.store import CorruptModelError, Missing, Store

MODEL = "gtcrn"
RATE_HZ = 48_000
FACTOR = 3
"""From 48 to 16 kHz."""
HOP = 256
WINDOW = 512
FRAME_SAMPLES = HOP * FACTOR
DELAY_SAMPLES = HOP * FACTOR + 95
"""A hop until the windows that overlap are complete, and both filters of 96 taps (measured with an impulse in tests)."""
CACHES = {"conv_cache": (2, 1, 16, 16, 33), "tra_cache": (2, 3, 1, 1, 16), "inter_cache": (2, 1, 33, 16)}
_COMMAND = f"candor models pull {MODEL}"
_WHEN = "it is looked for when Candor starts"
"""Loading it in a path host that runs would hold up everybody's sound."""
_ANALYSIS: Samples = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float32)


class GtcrnModel:
    """Weights, shared by all tracks of a process."""

    def __init__(self, path: Path) -> None:
        """Raises UnavailableError if the file is not GTCRN's streaming network."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has no public base class for its errors
            raise UnavailableError(f"{path.name} cannot be loaded: {error}", _COMMAND) from error
        shapes = {tensor.name: tuple(tensor.shape) for tensor in self.session.get_inputs()}
        if shapes != {"mix": (1, WINDOW // 2 + 1, 1, 2), **CACHES}:
            raise UnavailableError(f"{path.name} takes {shapes}: it is not GTCRN's streaming network", _COMMAND)


class GtcrnStream:
    """GTCRN on one track."""

    delay_samples = DELAY_SAMPLES

    def __init__(self, model: GtcrnModel) -> None:
        self._session = model.session
        self._outputs = [tensor.name for tensor in model.session.get_outputs()]
        self._down = Downsampler(RATE_HZ, RATE_HZ // FACTOR)
        self._up = Upsampler(FACTOR)
        self._heard: Samples = np.zeros(WINDOW, np.float32)
        self._overlap: Samples = np.zeros(HOP, np.float32)
        self._caches = _no_past()

    def process(self, samples: Samples) -> Samples:
        """Denoise, shape (n,) in and out at 48 kHz, n a multiple of 768; ValueError otherwise. Lags by `delay_samples`."""
        if len(samples) % FRAME_SAMPLES:
            raise ValueError(f"{len(samples)} samples are not a multiple of {FRAME_SAMPLES}")
        hops = self._down.push(samples).reshape(-1, HOP)
        cleaned = np.concatenate([self._hop(hop) for hop in hops])
        return np.clip(self._up.push(cleaned), -1.0, 1.0)

    def _hop(self, hop: Samples) -> Samples:
        self._heard = np.concatenate((self._heard[HOP:], hop))
        spectrum = np.fft.rfft(self._heard * _ANALYSIS).astype(np.complex64)
        mix = spectrum.view(np.float32).reshape(1, -1, 1, 2)
        enhanced, *caches = self._session.run(self._outputs, {"mix": mix, **self._caches})
        self._caches = dict(zip(self._caches, caches, strict=True))
        cleaned = np.ascontiguousarray(enhanced, np.float32).reshape(-1).view(np.complex64)
        made = np.fft.irfft(cleaned, WINDOW).astype(np.float32) * _ANALYSIS
        finished: Samples = self._overlap + made[:HOP]
        self._overlap = made[HOP:]
        return finished

    def reset(self) -> None:
        """Forget the past."""
        self._down.reset()
        self._up.reset()
        self._heard = np.zeros(WINDOW, np.float32)
        self._overlap = np.zeros(HOP, np.float32)
        self._caches = _no_past()


def _no_past() -> dict[str, Samples]:
    return {name: np.zeros(shape, np.float32) for name, shape in CACHES.items()}


class Gtcrn:
    """GTCRN as a transform, from the store."""

    kind: ClassVar[Literal["transform"]] = "transform"
    sample_rate_hz = RATE_HZ
    frame_samples = FRAME_SAMPLES

    def __init__(self, store: Store) -> None:
        self._missing: UnavailableError | None = None
        self._model: GtcrnModel | None = None
        self._version = ""
        try:
            self._model = self._load(store)
        except UnavailableError as error:
            self._missing = error

    def _load(self, store: Store) -> GtcrnModel:
        located = store.locate(catalog.load().get(MODEL))
        if isinstance(located, Missing):
            raise UnavailableError(f"{located.reason} ({_WHEN})", located.command)
        try:
            located.verify()
        except (CorruptModelError, OSError) as error:
            raise UnavailableError(f"{MODEL}: {error} ({_WHEN})", _COMMAND) from error
        self._version = located.version
        return GtcrnModel(located.file)

    def info(self) -> ProcessorInfo:
        """Available if the model is in the store, whole."""
        if self._missing is not None:
            reason, command = self._missing.reason, self._missing.command
            return ProcessorInfo(
                name="denoise", kind=self.kind, media="audio", available=False, reason=reason, command=command
            )
        return ProcessorInfo(
            name="denoise", kind=self.kind, media="audio", available=True, model=f"{MODEL}@{self._version}"
        )

    def open(self, track: TrackRef) -> GtcrnStream:
        """State for one track. Raises UnavailableError."""
        if self._model is None:
            raise self._missing or UnavailableError(f"{MODEL} is not loaded", _COMMAND)
        return GtcrnStream(self._model)
