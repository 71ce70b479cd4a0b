"""The demo's speech: the committed lines, with the noise that belongs to them.

Needs nothing beyond the base installation: the demo room of `candor serve` plays it too. Sound is float32 in [-1, 1], mono,
48 kHz, shape (n,).
"""

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bots import PcmSource, play_file, read_pcm

RATE_HZ = 48_000
FRAME_SAMPLES = 960
SPEECH_BELOW_PEAK_DB = 35.0

CLEAN, NOISY, PASSAGE = "Anna", "Robert", "Passage"
VOICES = {"slt": CLEAN, "rms": NOISY}
SNR_DB = {NOISY: 15.0, PASSAGE: 5.0}
SEED = {NOISY: 15, PASSAGE: 5}

Sound = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the script: who says it, its text, and its sound as it is played."""

    name: str
    text: str
    sound: Sound

    def source(self) -> PcmSource:
        """The line, to be played."""
        return PcmSource(np.clip(np.round(self.sound * 32767), -32768, 32767).astype(np.int16))


@dataclass(frozen=True, slots=True)
class Script:
    """What is said, in order, and the passage with and without its noise."""

    turns: list[Line]
    passage: Line
    passage_clean: Sound


async def load_script() -> Script:
    """Read the committed speech and add its noise, the same noise every time."""
    assets = Path(str(resources.files("candor"))) / "assets"
    lines = json.loads((assets / "lines.json").read_text())
    turns = []
    for entry in lines["turns"]:
        name = VOICES[entry["voice"]]
        sound = await _read(assets / entry["file"])
        turns.append(Line(name, entry["text"], _with_noise(sound, name)))
    clean = await _read(assets / lines["passage"]["file"])
    passage = Line(PASSAGE, lines["passage"]["text"], _with_noise(clean, PASSAGE))
    return Script(turns, passage, clean)


async def _read(path: Path) -> Sound:
    source = play_file(path).audio
    if source is None:
        raise ValueError(f"{path.name}: holds no audio")
    return np.asarray(await read_pcm(source), np.float32) / np.float32(32768)


def _with_noise(sound: Sound, name: str) -> Sound:
    return add_noise(sound, SNR_DB[name], SEED[name]) if name in SNR_DB else sound


def pink_noise(samples: int, seed: int) -> Sound:
    """Pink noise (power falls with 1/f, 3 dB per octave) of unit RMS; the same seed gives the same noise."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(samples))
    frequency = np.arange(len(spectrum), dtype=np.float64)
    frequency[0] = np.inf  # no direct current
    noise = np.fft.irfft(spectrum / np.sqrt(frequency), samples)
    return np.asarray(noise / np.sqrt(np.mean(noise**2)), np.float32)


def add_noise(speech: Sound, snr_db: float, seed: int) -> Sound:
    """Speech with pink noise over its whole length, `snr_db` below the level of the parts in which somebody speaks."""
    level = rms(speech[per_sample(frames_of_speech(speech), len(speech))])
    return np.asarray(speech + pink_noise(len(speech), seed) * level * 10 ** (-snr_db / 20), np.float32)


def frame_levels_db(sound: Sound) -> npt.NDArray[np.float64]:
    """The level of each whole frame of 20 ms, in dB below full scale; at least -100."""
    frames = sound[: len(sound) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    levels = np.sqrt(np.mean(frames.astype(np.float64) ** 2, axis=1))
    return np.asarray(20 * np.log10(np.maximum(levels, 1e-5)), np.float64)


def frames_of_speech(sound: Sound) -> npt.NDArray[np.bool_]:
    """Which frames are less than 35 dB below the loudest."""
    levels = frame_levels_db(sound)
    return np.asarray(levels > levels.max() - SPEECH_BELOW_PEAK_DB)


def per_sample(frames: npt.NDArray[np.bool_], samples: int) -> npt.NDArray[np.bool_]:
    """A mask per frame as a mask per sample."""
    mask = np.repeat(frames, FRAME_SAMPLES)
    return np.pad(mask, (0, samples - len(mask)))


def rms(sound: Sound) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(sound.astype(np.float64) ** 2)))
