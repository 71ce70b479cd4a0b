"""Where a bot's sound and picture come from: anything that yields PyAV frames.

A source is an async iterable of frames, so an async generator is one. Sources say nothing about time except by the frames'
own `pts`; pacing is the publication's work. Audio may have any rate, format and layout.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol, TypeVar

import av
import numpy as np
import numpy.typing as npt
from av import AudioFrame, AudioResampler, VideoFrame

RATE_HZ = 48_000
FRAME_SAMPLES = 960
CHANNELS = {"mono": 1, "stereo": 2}
VIDEO_TIME_BASE = Fraction(1, 90_000)

AUDIO_BATCH = 50
VIDEO_BATCH = 4

Pcm = npt.NDArray[np.int16]
T = TypeVar("T")


class AudioSource(Protocol):
    """Yields audio until it ends."""

    def __aiter__(self) -> AsyncIterator[AudioFrame]: ...


class VideoSource(Protocol):
    """Yields pictures until it ends. Frames with `pts` are shown at that time, others at the publication's rate."""

    def __aiter__(self) -> AsyncIterator[VideoFrame]: ...


def audio_frame(samples: Pcm, layout: str = "mono") -> AudioFrame:
    """int16 at 48 kHz, shape (n,), interleaved if stereo, as a frame."""
    frame = AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout=layout)
    frame.sample_rate = RATE_HZ
    return frame


async def pcm_blocks(source: AudioSource, layout: str = "mono") -> AsyncIterator[Pcm]:
    """A source as blocks of 20 ms: int16 at 48 kHz, 960 values per channel, interleaved; the last is filled with silence."""
    resampler = AudioResampler(format="s16", layout=layout, rate=RATE_HZ, frame_size=FRAME_SAMPLES)
    async for frame in source:
        frame.pts = None  # the resampler would take a jump in a source's clock for lost sound
        for piece in resampler.resample(frame):
            yield piece.to_ndarray()[0]
    for piece in resampler.resample(None):
        samples = piece.to_ndarray()[0]
        yield np.pad(samples, (0, FRAME_SAMPLES * CHANNELS[layout] - len(samples)))


async def read_pcm(source: AudioSource) -> Pcm:
    """All of a source that ends: int16 mono at 48 kHz, shape (n,), n a multiple of 960."""
    blocks = [block async for block in pcm_blocks(source)]
    return np.concatenate(blocks) if blocks else np.zeros(0, np.int16)


class SilenceSource:
    """Digital silence without end: a microphone that is open and hears nothing."""

    async def __aiter__(self) -> AsyncIterator[AudioFrame]:
        frame = np.zeros(FRAME_SAMPLES, np.int16)
        while True:
            yield audio_frame(frame)


class PcmSource:
    """Samples in memory: int16 mono at 48 kHz, shape (n,)."""

    def __init__(self, samples: Pcm) -> None:
        if samples.ndim != 1 or samples.dtype != np.int16:
            raise ValueError("samples: must be int16 with shape (n,)")
        self._samples = samples

    async def __aiter__(self) -> AsyncIterator[AudioFrame]:
        for start in range(0, len(self._samples), FRAME_SAMPLES):
            yield audio_frame(self._samples[start : start + FRAME_SAMPLES])


class PatternSource:
    """A moving test picture without end: a bar that travels, and the frame's number as 16 white or black squares.

    The squares, most significant bit first, fill the top tenth of the picture, so a receiver can tell which frame it sees
    (`read_counter`) even after lossy coding.
    """

    def __init__(self, width: int = 320, height: int = 240) -> None:
        if width % 16 or height % 10:
            raise ValueError("width, height: must be multiples of 16 and 10")
        self._width = width
        self._height = height

    async def __aiter__(self) -> AsyncIterator[VideoFrame]:
        number = 0
        while True:
            yield VideoFrame.from_ndarray(self.picture(number), format="gray")
            number += 1

    def picture(self, number: int) -> npt.NDArray[np.uint8]:
        """Picture `number` as luma, shape (height, width)."""
        image = np.full((self._height, self._width), 64, np.uint8)
        bar = self._width // 8
        left = number * 4 % (self._width - bar)
        image[:, left : left + bar] = 180
        bits = [255 if number >> (15 - bit) & 1 else 0 for bit in range(16)]
        image[: self._height // 10] = np.repeat(np.array(bits, np.uint8), self._width // 16)
        return image


def read_counter(frame: VideoFrame) -> int:
    """The number, modulo 65536, of a `PatternSource` picture; the picture may have been scaled or coded."""
    luma = frame.to_ndarray(format="gray")
    row = luma[frame.height // 20]
    cell = frame.width / 16
    bits = [row[round((bit + 0.5) * cell)] > 128 for bit in range(16)]
    return sum(1 << (15 - bit) for bit, on in enumerate(bits) if on)


@dataclass(frozen=True, slots=True)
class MediaFile:
    """What a file offers to publish; None for what it does not contain."""

    audio: AudioSource | None
    video: VideoSource | None


def play_file(path: Path | str, loop: bool = False) -> MediaFile:
    """The first audio and the first video stream of a file that PyAV can read (.wav .opus .ogg .webm .mp4 ...).

    With `loop` each stream starts again by itself when it ends, so they drift if their lengths differ. Raises OSError if
    the file cannot be opened, ValueError if it holds neither audio nor video.
    """
    path = Path(path)
    try:
        with av.open(str(path)) as container:
            has_audio, has_video = bool(container.streams.audio), bool(container.streams.video)
    except av.error.InvalidDataError as error:
        raise ValueError(f"{path.name}: not a media file") from error
    if not has_audio and not has_video:
        raise ValueError(f"{path.name}: holds neither audio nor video")
    return MediaFile(
        audio=_FileAudio(path, loop) if has_audio else None,
        video=_FileVideo(path, loop) if has_video else None,
    )


class _FileAudio:
    def __init__(self, path: Path, loop: bool) -> None:
        self._path = path
        self._loop = loop

    async def __aiter__(self) -> AsyncIterator[AudioFrame]:
        async for frame in _decode(lambda: _audio_frames(self._path), self._loop, AUDIO_BATCH):
            yield frame


class _FileVideo:
    def __init__(self, path: Path, loop: bool) -> None:
        self._path = path
        self._loop = loop

    async def __aiter__(self) -> AsyncIterator[VideoFrame]:
        offset_s = last_s = step_s = 0.0
        async for frame in _decode(lambda: _video_frames(self._path), self._loop, VIDEO_BATCH):
            time_s = float(frame.time or 0.0) + offset_s
            if time_s < last_s:  # the file began again
                offset_s += last_s + step_s - time_s
                time_s = last_s + step_s
            step_s, last_s = time_s - last_s, time_s
            frame.time_base = VIDEO_TIME_BASE
            frame.pts = round(time_s / VIDEO_TIME_BASE)
            yield frame


def _audio_frames(path: Path) -> Iterator[AudioFrame]:
    with av.open(str(path)) as container:
        yield from container.decode(audio=0)


def _video_frames(path: Path) -> Iterator[VideoFrame]:
    with av.open(str(path)) as container:
        yield from container.decode(video=0)


async def _decode(open_frames: Callable[[], Iterator[T]], loop: bool, batch: int) -> AsyncIterator[T]:
    """Decode in a thread, `batch` frames per hop; at most `batch` frames are held."""
    while True:
        frames = open_frames()
        empty = True
        while items := await asyncio.to_thread(_take, frames, batch):
            empty = False
            for item in items:
                yield item
        if not loop or empty:
            return


def _take(frames: Iterator[T], count: int) -> list[T]:
    return [frame for _, frame in zip(range(count), frames, strict=False)]
