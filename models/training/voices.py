"""Recordings of voices as windows of speech, and what Opus leaves of them (RFC 6716)."""

from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from models.questions import Picture, Sound
from models.trained import VOICE_WINDOW_SAMPLES
from models.training.media import MediaError, Question

RATE_HZ = 16_000
FRAME = 512
"""32 ms."""
PEAK_BELOW_DB = 30.0
"""A frame is speech if it is at most so much below the loudest twentieth of its recording ..."""
SILENT_DBFS = -60.0
"""... and not below this. Energy alone: a meeting has a better gate, which also knows noise."""
PAUSE_FRAMES = 9
"""About 0.3 s: so much before and after speech stays with it; the rest of a pause goes, as in a meeting."""
MOST_WINDOWS = 12
"""Of one recording: a minute of speech is enough of one person in one room."""
LONGEST_S = 300
"""Of a recording nothing further is read."""
OPUS_DELAY = 104
"""Samples by which 6.5 ms of lookahead (section 2.1.4) move the sound at 16 kHz."""

Pcm = NDArray[np.int16]


class Voices:
    """The medium of voice authenticity."""

    suffixes = frozenset({".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a"})
    codec = "Opus"
    training_kbps = (24, 48)
    rows_kbps: tuple[int, ...] = (16, 24, 32, 48)
    meeting_kbps = 32

    def windows(self, path: Path) -> list[Question]:
        """Each 64,600 samples at 16 kHz. Raises MediaError."""
        sound = speech(read(path))
        count = min(MOST_WINDOWS, len(sound) // VOICE_WINDOW_SAMPLES)
        return [Sound(sound[at * VOICE_WINDOW_SAMPLES :][:VOICE_WINDOW_SAMPLES]) for at in range(count)]

    def coded(self, question: Question, kbps: int) -> Question:
        """The sound after an encoder and a decoder, in its place. Raises ValueError for a picture."""
        if isinstance(question, Picture):
            raise ValueError("a picture cannot be heard")
        return Sound(opus(question.pcm, kbps))


def read(path: Path) -> Pcm:
    """The first sound of a file, mono at 16 kHz, at most `LONGEST_S`. Raises MediaError."""
    resampler = av.AudioResampler("s16", "mono", RATE_HZ)
    pieces: list[Pcm] = []
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(audio=0):
                pieces += [_pcm(part) for part in resampler.resample(frame)]
                if sum(map(len, pieces)) >= LONGEST_S * RATE_HZ:
                    break
            pieces += [_pcm(part) for part in resampler.resample(None)]
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise MediaError(f"{path} cannot be read: {error}") from error
    if not pieces:
        raise MediaError(f"{path} holds no sound")
    return np.concatenate(pieces)[: LONGEST_S * RATE_HZ]


def speech(pcm: Pcm) -> Pcm:
    """Without long pauses; whole frames."""
    frames = pcm[: len(pcm) // FRAME * FRAME].reshape(-1, FRAME)
    if not len(frames):
        return pcm[:0]
    power = np.square(frames.astype(np.float32) / 32_768).mean(axis=1)
    levels_db = 10 * np.log10(power + 1e-12)
    spoken = levels_db > max(SILENT_DBFS, float(np.percentile(levels_db, 95)) - PEAK_BELOW_DB)
    near = np.convolve(spoken, np.ones(2 * PAUSE_FRAMES + 1), "same") > 0
    return frames[near[: len(frames)]].reshape(-1)


def opus(pcm: Pcm, kbps: int) -> Pcm:
    """Sound after one encoder and one decoder, as long as it was."""
    encoder = av.AudioCodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = 48_000, "mono", "s16"
    encoder.bit_rate = kbps * 1000
    encoder.options = {"application": "voip"}
    padded = np.concatenate([pcm, np.zeros(RATE_HZ // 10, np.int16)])
    frame = av.AudioFrame.from_ndarray(padded[None], format="s16", layout="mono")
    frame.sample_rate = RATE_HZ
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    decoder = av.AudioCodecContext.create("libopus", "r")
    decoder.sample_rate, decoder.layout = 48_000, "mono"
    resampler = av.AudioResampler("s16", "mono", RATE_HZ)
    heard = [_pcm(part) for packet in packets for frame in decoder.decode(packet) for part in resampler.resample(frame)]
    heard += [_pcm(part) for part in resampler.resample(None)]
    return np.concatenate(heard)[OPUS_DELAY:][: len(pcm)]


def _pcm(frame: av.AudioFrame) -> Pcm:
    return np.asarray(frame.to_ndarray(), np.int16).reshape(-1)
