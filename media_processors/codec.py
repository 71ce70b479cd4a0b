"""libopus through ctypes: what PyAV's wrapper cannot do (loss concealment, in-band FEC, encoder controls).

The library is the one inside the PyAV wheel, else the system's. Every call releases the GIL. API: opus_decoder.h and
opus_encoder.h of libopus 1.3 or newer; the format: RFC 6716.
"""

import ctypes
import ctypes.util
import functools
import importlib.util
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from media_processors.errors import CodecError, UnavailableError

Samples = NDArray[np.float32]

RATE_HZ = 48_000
MAX_PACKET_MS = 120
PACKET_SAMPLES = frozenset(RATE_HZ * tenths // 10_000 for tenths in (25, 50, 100, *range(200, 1201, 200)))
"""Lengths that an encoder makes at 48 kHz: 2.5, 5, 10, 20, 40, 60, 80, 100, 120 ms."""
MAX_PAYLOAD_BYTES = 1200
"""An encoded packet never exceeds this, so that with headers it fits a path MTU of 1280 bytes (RFC 8200, Section 5)."""

_OK = 0
_APPLICATIONS = {"voip": 2048, "audio": 2049}
_SET_BITRATE = 4002
_SET_COMPLEXITY = 4010
_SET_INBAND_FEC = 4012
_SET_PACKET_LOSS_PERC = 4014
_SET_DTX = 4016
_RESET_STATE = 4028
_SET_PREDICTION_DISABLED = 4042


def _candidates() -> list[str]:
    """Paths of libopus, the best first: PyAV's (Linux, macOS), then the system's."""
    found: list[str] = []
    spec = importlib.util.find_spec("av")
    for folder in spec.submodule_search_locations or [] if spec else []:
        package = Path(folder)
        found += sorted(str(path) for path in package.with_name("av.libs").glob("libopus-*.so*"))
        found += sorted(str(path) for path in (package / ".dylibs").glob("libopus*.dylib"))
    system = ctypes.util.find_library("opus")
    return [*found, system] if system else found


@functools.cache
def load_library() -> ctypes.CDLL:
    """libopus, with its signatures declared. Raises UnavailableError if there is none that loads."""
    errors: list[str] = []
    for path in _candidates():
        try:
            return _declare(ctypes.CDLL(path))
        except (OSError, AttributeError) as error:
            errors.append(str(error))
    reason = "; ".join(errors) or "no libopus in the package `av` or on the system"
    raise UnavailableError(reason, "pip install --force-reinstall --no-deps av")


def _declare(lib: ctypes.CDLL) -> ctypes.CDLL:
    state, number, data, pointer = ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p, ctypes.c_void_p
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "opus_strerror": (ctypes.c_char_p, [number]),
        "opus_decoder_create": (state, [number, number, ctypes.POINTER(number)]),
        "opus_decoder_destroy": (None, [state]),
        "opus_decoder_ctl": (number, [state, number]),
        "opus_decode_float": (number, [state, data, number, pointer, number, number]),
        "opus_encoder_create": (state, [number, number, number, ctypes.POINTER(number)]),
        "opus_encoder_destroy": (None, [state]),
        "opus_encoder_ctl": (number, [state, number]),
        "opus_encode_float": (number, [state, pointer, number, pointer, number]),
        "opus_packet_get_nb_samples": (number, [data, number, number]),
    }
    for name, (restype, argtypes) in signatures.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = restype, argtypes
    return lib


def _check(code: int, what: str) -> int:
    if code < _OK:
        text = load_library().opus_strerror(code).decode()
        raise CodecError(f"{what}: {text}")
    return code


def packet_samples(payload: bytes, rate_hz: int = RATE_HZ) -> int:
    """Duration of a packet in samples (RFC 6716, Section 3). Raises CodecError if it is malformed."""
    count = _check(load_library().opus_packet_get_nb_samples(payload, len(payload), rate_hz), "packet")
    if count == 0:  # code 3 may announce no frame at all, and libopus counts them without a word
        raise CodecError("packet: no frames")
    if count > rate_hz * MAX_PACKET_MS // 1000:
        raise CodecError(f"packet of {count} samples is longer than {MAX_PACKET_MS} ms")
    return count


def packet_has_fec(payload: bytes) -> bool:
    """Whether a packet carries a copy of the one before it: the LBRR flag of its first frame (RFC 6716, Section 4.2.4)."""
    if len(payload) < 2:
        return False
    config = payload[0] >> 3
    if config > 15:  # CELT only: there is no LBRR
        return False
    start = _first_frame(payload)
    if start is None or start >= len(payload):
        return False
    frames_20ms = {2: 2, 3: 3}.get(config & 3, 1) if config < 12 else 1
    # The header bits of the first channel: one VAD flag per 20 ms, then the LBRR flag, from the top bit down.
    return bool(payload[start] >> (7 - frames_20ms) & 1)


def _first_frame(payload: bytes) -> int | None:
    """Where the first frame of a packet begins (RFC 6716, Section 3.2)."""
    code = payload[0] & 3
    if code in (0, 1):
        return 1
    if code == 2:
        return 2 if payload[1] < 252 else 3
    count, at = payload[1], 2
    if count & 0x40:  # padding: its length comes first
        while at < len(payload) and payload[at] == 255:
            at += 1
        at += 1
    if count & 0x80:  # variable bitrate: all lengths but the last
        for _ in range((count & 0x3F) - 1):
            if at >= len(payload):
                return None
            at += 1 if payload[at] < 252 else 2
    return at


class OpusDecoder:
    """One stream of Opus packets to float samples, full scale 1 (peaks may pass it). Stereo packets decode to `channels`, too."""

    def __init__(self, rate_hz: int = RATE_HZ, channels: int = 1) -> None:
        """Raises UnavailableError without libopus, CodecError for a rate it does not know."""
        self.rate_hz = rate_hz
        self.channels = channels
        self._lib = load_library()
        error = ctypes.c_int32(_OK)
        self._state = self._lib.opus_decoder_create(rate_hz, channels, ctypes.byref(error))
        _check(error.value, "decoder")
        weakref.finalize(self, self._lib.opus_decoder_destroy, self._state)
        self._most = rate_hz * MAX_PACKET_MS // 1000
        self._pcm: Samples = np.zeros(self._most * channels, np.float32)
        self._address = self._pcm.ctypes.data

    def decode(self, payload: bytes) -> Samples:
        """The samples of a packet, shape (n,) or (n, channels). Raises CodecError if it is malformed."""
        if not payload:
            raise CodecError("packet: empty")
        packet_samples(payload, self.rate_hz)
        return self._run(payload, self._most, fec=False)

    def decode_fec(self, payload: bytes, samples: int) -> Samples:
        """The packet *before* `payload`, from the copy in `payload` if it has one, else concealed. Raises CodecError."""
        if not payload:
            raise CodecError("packet: empty")
        return self._run(payload, self._bounded(samples), fec=True)

    def conceal(self, samples: int) -> Samples:
        """What a lost packet may have sounded like (PLC). `samples` is a multiple of 2.5 ms. Raises CodecError."""
        return self._run(None, self._bounded(samples), fec=False)

    def reset(self) -> None:
        """Forget the past."""
        _check(self._lib.opus_decoder_ctl(self._state, _RESET_STATE), "reset")

    def _bounded(self, samples: int) -> int:
        if not 0 < samples <= self._most:
            raise CodecError(f"{samples} samples are not between 1 and {self._most}")
        return samples

    def _run(self, payload: bytes | None, samples: int, fec: bool) -> Samples:
        length = len(payload) if payload else 0
        count = self._lib.opus_decode_float(self._state, payload, length, self._address, samples, int(fec))
        pcm = self._pcm[: _check(count, "decode") * self.channels].copy()
        return pcm if self.channels == 1 else pcm.reshape(-1, self.channels)


class OpusEncoder:
    """Mono float samples to one stream of Opus packets."""

    def __init__(self, rate_hz: int = RATE_HZ, bitrate_bps: int = 32_000, application: str = "voip") -> None:
        """Raises UnavailableError without libopus, CodecError for a rate, bitrate or application it does not know."""
        if application not in _APPLICATIONS:
            raise CodecError(f"application {application!r} is not one of {', '.join(_APPLICATIONS)}")
        self.rate_hz = rate_hz
        self._lib = load_library()
        error = ctypes.c_int32(_OK)
        self._state = self._lib.opus_encoder_create(rate_hz, 1, _APPLICATIONS[application], ctypes.byref(error))
        _check(error.value, "encoder")
        weakref.finalize(self, self._lib.opus_encoder_destroy, self._state)
        self._payload = ctypes.create_string_buffer(MAX_PAYLOAD_BYTES)
        self._address = ctypes.addressof(self._payload)
        self.set_bitrate(bitrate_bps)

    def encode(self, samples: Samples) -> bytes:
        """One packet; with DTX on, 1 or 2 bytes say "still silent". Raises CodecError for a length that Opus does not have.

        `samples` has shape (n,), n as in `PACKET_SAMPLES`, and is clipped to [-1, 1].
        """
        if samples.ndim != 1 or len(samples) * RATE_HZ // self.rate_hz not in PACKET_SAMPLES:
            raise CodecError(f"{samples.shape} samples are not an Opus packet")
        pcm = np.clip(samples, -1.0, 1.0, dtype=np.float32)
        count = self._lib.opus_encode_float(self._state, pcm.ctypes.data, len(pcm), self._address, MAX_PAYLOAD_BYTES)
        return self._payload.raw[: _check(count, "encode")]

    def set_bitrate(self, bitrate_bps: int) -> None:
        """Target bitrate. Raises CodecError outside 500 to 512 000."""
        if not 500 <= bitrate_bps <= 512_000:
            raise CodecError(f"bitrate {bitrate_bps} bit/s is not between 500 and 512000")
        self._set(_SET_BITRATE, bitrate_bps, "bitrate")

    def set_fec(self, on: bool, loss_percent: int) -> None:
        """In-band FEC: each packet also carries a coarse copy of the one before, as far as `loss_percent` justifies it."""
        self._set(_SET_INBAND_FEC, int(on), "fec")
        self._set(_SET_PACKET_LOSS_PERC, loss_percent, "loss_percent")

    def set_dtx(self, on: bool) -> None:
        """Discontinuous transmission: almost nothing is sent while there is silence."""
        self._set(_SET_DTX, int(on), "dtx")

    def set_complexity(self, complexity: int) -> None:
        """0 (quick) to 10 (best)."""
        self._set(_SET_COMPLEXITY, complexity, "complexity")

    def set_prediction_disabled(self, disabled: bool) -> None:
        """Make packets (almost) independent of those before, so that a decoder with another past can start here."""
        self._set(_SET_PREDICTION_DISABLED, int(disabled), "prediction_disabled")

    def reset(self) -> None:
        """Forget the past sound; the settings stay."""
        _check(self._lib.opus_encoder_ctl(self._state, _RESET_STATE), "reset")

    def _set(self, request: int, value: int, what: str) -> None:
        _check(self._lib.opus_encoder_ctl(self._state, request, ctypes.c_int32(value)), what)
