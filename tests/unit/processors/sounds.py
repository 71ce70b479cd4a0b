"""Sounds for tests: made here, or taken from the demo's committed speech."""

from functools import cache
from pathlib import Path

import av
import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from candor import assets
from media_processors.codec import OpusEncoder
from sfu.tap import OpenTrack, TapPacket

Samples = NDArray[np.float32]

RATE_HZ = 48_000
PACKET = 960
MEDIA = Path(__file__).parents[4] / "shared" / "media"

HOSTILE = st.one_of(
    st.binary(max_size=40),
    st.builds(
        lambda toc, count, rest: bytes([toc | 3, count]) + rest, *[st.integers(0, 255)] * 2, st.binary(max_size=40)
    ),
)
"""Any bytes, often such as announce any number of frames (RFC 6716, code 3)."""


def load(path: Path) -> Samples:
    """A file as float32 mono at 48 kHz."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE_HZ)
    with av.open(str(path)) as container:
        frames = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
    return np.concatenate([frame.to_ndarray()[0] for frame in [*frames, *resampler.resample(None)]]).astype(np.float32)


@cache
def speech() -> Samples:
    """About 8 s of a flite voice with pauses: the demo's passage."""
    return load(Path(assets.__file__).parent / "passage.opus")[: 8 * RATE_HZ]


def voice(f0_hz: int, seconds: float, rate_hz: int = RATE_HZ) -> Samples:
    """A steady vowel: a pulse train through two resonances, peak 0.5. It repeats every second, and so is made for one."""
    samples = round(seconds * rate_hz)
    at = np.arange(min(samples, rate_hz)) / rate_hz
    sound = np.zeros(len(at))
    for harmonic in range(1, int(0.45 * rate_hz / f0_hz)):
        hz = harmonic * f0_hz
        gain = 1 / (1 + ((hz - 700) / 150) ** 2) + 0.4 / (1 + ((hz - 1_200) / 200) ** 2) + 0.01
        sound += gain * np.cos(2 * np.pi * hz * at)
    return np.resize(0.5 * sound / np.abs(sound).max(), samples).astype(np.float32)


def noise(samples: int, rms: float, seed: int = 1) -> Samples:
    """White noise."""
    return np.random.default_rng(seed).normal(0, rms, samples).astype(np.float32)


def pieces(sound: Samples, samples: int = PACKET) -> list[Samples]:
    """Whole pieces of a sound."""
    return [sound[at : at + samples] for at in range(0, len(sound) - samples + 1, samples)]


def publish(sound: Samples, bitrate_bps: int = 32_000, samples: int = PACKET, loss_percent: int = 0) -> list[bytes]:
    """What a publisher sends."""
    encoder = OpusEncoder(bitrate_bps=bitrate_bps)
    encoder.set_fec(loss_percent > 0, loss_percent)
    return [encoder.encode(piece) for piece in pieces(sound, samples)]


def packet(index: int, payload: bytes, timestamp: int | None = None, restart: int = 0) -> TapPacket:
    """The packet `index` of a track of 20 ms packets."""
    at = index * PACKET if timestamp is None else timestamp
    return TapPacket(1, 0, 0, index & 0xFFFF, at & 0xFFFFFFFF, 0, 7, 30, restart, payload)


def opened(**changes: object) -> OpenTrack:
    """A track that wants to be denoised."""
    wanted = {
        "handle": 1,
        "track_id": "t",
        "room_id": "r",
        "participant_id": "p",
        "kind": "audio",
        "source": "microphone",
        "codec": "opus",
        "clock_hz": RATE_HZ,
        "processors": {"denoise": True},
        "epoch": 7,
    }
    return OpenTrack.model_validate(wanted | changes)


def level_db(sound: Samples) -> float:
    """RMS in dBFS."""
    return 10 * float(np.log10(np.mean(np.square(sound)) + 1e-12))
