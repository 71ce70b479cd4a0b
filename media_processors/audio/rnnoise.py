"""RNNoise, the denoiser that is built in.

Valin, "A Hybrid DSP/Deep Learning Approach to Real-Time Full-Band Speech Enhancement" (2018), with its weights compiled in:
the library that the package `pyrnnoise` bundles, loaded through ctypes without importing the package (whose import needs
matplotlib and whose int16 conversion wraps where it should clip).

That build carries its weights twice, as float and as int8, and uses the floats: four times the memory to read for every
frame. Its public `rnnoise_model_from_buffer` takes a model without them; measured, the output differs by -51 dB and the
time halves.
"""

import ctypes
import importlib.metadata
import importlib.util
import struct
import weakref
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from media_processors.base import Samples
from media_processors.errors import UnavailableError
from media_processors.findings import ProcessorInfo
from media_processors.frames import TrackRef

FRAME_SAMPLES = 480
DELAY_SAMPLES = 960
"""Measured with an impulse (tests): one frame of overlap-add and one of look-ahead."""
_WEIGHT_HEAD = struct.Struct("4siiii44s")
_FULL_SCALE = 32_768.0
_PACKAGE = "pyrnnoise"
_COMMAND = "pip install --force-reinstall --no-deps pyrnnoise==0.4.5"


def find_library() -> Path:
    """Where the package keeps librnnoise. Raises UnavailableError if the package or its library is missing."""
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in spec.submodule_search_locations or [] if spec else []:
        for name in ("librnnoise.so", "librnnoise.dylib"):
            path = Path(folder) / name
            if path.exists():
                return path
    raise UnavailableError(f"librnnoise is missing (package {_PACKAGE})", _COMMAND)


def load_library() -> ctypes.CDLL:
    """librnnoise with its signatures declared. Raises UnavailableError if it cannot be loaded."""
    path = find_library()
    try:
        lib = ctypes.CDLL(str(path))
        lib.rnnoise_create.restype, lib.rnnoise_create.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
        lib.rnnoise_destroy.restype, lib.rnnoise_destroy.argtypes = None, [ctypes.c_void_p]
        lib.rnnoise_model_from_buffer.restype = ctypes.c_void_p
        lib.rnnoise_model_from_buffer.argtypes = [ctypes.c_char_p, ctypes.c_int]
        lib.rnnoise_process_frame.restype = ctypes.c_float
        lib.rnnoise_process_frame.argtypes = [ctypes.c_void_p] * 3
        frame_samples = lib.rnnoise_get_frame_size()
    except (OSError, AttributeError) as error:
        raise UnavailableError(f"librnnoise cannot be loaded: {error}", _COMMAND) from error
    if frame_samples != FRAME_SAMPLES:
        raise UnavailableError(f"librnnoise has frames of {frame_samples} samples, expected {FRAME_SAMPLES}", _COMMAND)
    return lib


class _WeightArray(ctypes.Structure):
    """An entry of `rnnoise_arrays`, ended by one without a name (nnet.h of RNNoise 0.2)."""

    _fields_: ClassVar = [
        ("name", ctypes.c_char_p),
        ("type", ctypes.c_int),
        ("size_bytes", ctypes.c_int),
        ("data", ctypes.c_void_p),
    ]


def _arrays(lib: ctypes.CDLL) -> list[_WeightArray]:
    """The compiled-in weights. Raises ValueError if the library does not export them."""
    first = ctypes.addressof(_WeightArray.in_dll(lib, "rnnoise_arrays"))
    found: list[_WeightArray] = []
    while True:
        array = _WeightArray.from_address(first + len(found) * ctypes.sizeof(_WeightArray))
        if not array.name:
            return found
        found.append(array)


def int8_model(lib: ctypes.CDLL) -> bytes:
    """The compiled-in weights as a model file, without the floats of layers that have int8. Raises ValueError."""
    arrays = _arrays(lib)
    names = {array.name for array in arrays}
    model = bytearray()
    for array in arrays:
        if array.name.endswith(b"_weights_float") and array.name.replace(b"_float", b"_int8") in names:
            continue
        padded_bytes = -(-array.size_bytes // 64) * 64
        model += _WEIGHT_HEAD.pack(b"DNNw", 0, array.type, array.size_bytes, padded_bytes, array.name)
        model += ctypes.string_at(array.data, array.size_bytes).ljust(padded_bytes, b"\0")
    return bytes(model)


class RnnoiseModel:
    """Weights that the library reads as long as anybody uses them; without any, it takes its own."""

    def __init__(self, lib: ctypes.CDLL, weights: bytes = b"") -> None:
        self.lib = lib
        self._weights = weights
        self.handle: int | None = lib.rnnoise_model_from_buffer(weights, len(weights)) if weights else None

    @classmethod
    def int8(cls, lib: ctypes.CDLL) -> "RnnoiseModel":
        """The quick one; of another build than the pinned one, its own choice of weights, with the same answers."""
        try:
            return cls(lib, int8_model(lib))
        except ValueError:
            return cls(lib)


class RnnoiseStream:
    """RNNoise on one track."""

    delay_samples = DELAY_SAMPLES

    def __init__(self, model: RnnoiseModel) -> None:
        self._lib = model.lib
        self._model = model
        self._state = 0
        self._finalizer: weakref.finalize[..., RnnoiseStream] | None = None
        self.reset()

    def process(self, samples: Samples) -> Samples:
        """Denoise, shape (n,) in and out at 48 kHz, n a multiple of 480; ValueError otherwise. Lags by `delay_samples`."""
        if len(samples) % FRAME_SAMPLES:
            raise ValueError(f"{len(samples)} samples are not a multiple of {FRAME_SAMPLES}")
        pcm = np.multiply(samples, _FULL_SCALE, dtype=np.float32)
        address = pcm.ctypes.data
        for at in range(address, address + pcm.nbytes, FRAME_SAMPLES * pcm.itemsize):
            self._lib.rnnoise_process_frame(self._state, at, at)
        pcm /= _FULL_SCALE
        return np.clip(pcm, -1.0, 1.0, out=pcm)

    def reset(self) -> None:
        """Forget the past."""
        if self._finalizer is not None:
            self._finalizer()
        self._state = self._lib.rnnoise_create(self._model.handle)
        self._finalizer = weakref.finalize(self, self._lib.rnnoise_destroy, self._state)


class Rnnoise:
    """RNNoise as a transform."""

    kind: ClassVar[Literal["transform"]] = "transform"
    sample_rate_hz = 48_000
    frame_samples = FRAME_SAMPLES

    def __init__(self) -> None:
        self._missing: UnavailableError | None = None
        self._model: RnnoiseModel | None = None
        try:
            self._model = RnnoiseModel.int8(load_library())
        except UnavailableError as error:
            self._missing = error

    def info(self) -> ProcessorInfo:
        """Available if the library was loaded."""
        if self._missing is not None:
            return ProcessorInfo(
                name="denoise",
                kind=self.kind,
                media="audio",
                available=False,
                reason=self._missing.reason,
                command=self._missing.command,
            )
        version = importlib.metadata.version(_PACKAGE)
        return ProcessorInfo(
            name="denoise", kind=self.kind, media="audio", available=True, model=f"rnnoise@{_PACKAGE}-{version}"
        )

    def open(self, track: TrackRef) -> RnnoiseStream:
        """State for one track. Raises UnavailableError."""
        if self._model is None:
            raise self._missing or UnavailableError("librnnoise is not loaded", _COMMAND)
        return RnnoiseStream(self._model)
