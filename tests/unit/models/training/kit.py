"""Media that tests make: tones with pauses that stand for speech, pictures of noise, and folders of them."""

import wave
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.questions import Sound
from models.training.media import Recording, Window

RATE_HZ = 16_000
Pcm = NDArray[np.int16]


def speech(seconds: float, hz: float = 300.0) -> Pcm:
    """Harmonics of a pitch, which come and go like syllables, four a second."""
    at = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    voice = sum(np.sin(2 * np.pi * hz * harmonic * at) / harmonic for harmonic in range(1, 12))
    return (6_000 * voice * np.abs(np.sin(4 * np.pi * at))).astype(np.int16)


def silence(seconds: float) -> Pcm:
    """Hardly anything."""
    return np.random.default_rng(1).integers(-3, 4, round(seconds * RATE_HZ)).astype(np.int16)


def save(path: Path, pcm: Pcm, rate_hz: int = RATE_HZ) -> Path:
    """A mono WAV; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(pcm.tobytes())
    return path


def picture(path: Path, size_px: int = 320, seed: int = 1) -> Path:
    """Smooth noise; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    cv2.imwrite(str(path), cv2.resize(noise, (size_px, size_px), interpolation=cv2.INTER_CUBIC))
    return path


def window(person: str, generator: str = "", mark: int = 0) -> Window:
    """One that can be told from others by its only sample."""
    path = Path(f"{generator or 'genuine'}/{person}/{mark}.wav")
    return Window(Recording(path, person, generator), Sound(np.array([mark], np.int16)))
