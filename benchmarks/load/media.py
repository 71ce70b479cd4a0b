"""What the load publishes: a moving picture and a voice-like sound, encoded once, as payloads with their times."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import av
import numpy as np
from aiortc.codecs.vpx import Vp8Encoder
from numpy.typing import NDArray

Kind = Literal["audio", "video"]

WIDTH, HEIGHT, FRAMES_PER_S = 640, 360, 30
VIDEO_BPS = 1_000_000
VIDEO_CLOCK_HZ = 90_000
AUDIO_BPS = 32_000
AUDIO_CLOCK_HZ = 48_000
AUDIO_FRAME = 960
KEYFRAME_EVERY_S = 2
PACING_NS = 250_000
"""Between the packets of one picture, as a client's pacer would do."""


@dataclass(frozen=True, slots=True)
class Payload:
    """An RTP payload. `at_ns` counts from the start of the recording, `timestamp` in the clock of its kind."""

    kind: Kind
    at_ns: int
    timestamp: int
    marker: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class Recording:
    """Payloads in the order of sending; played over and over, each round `seconds` long and beginning with a key frame."""

    seconds: int
    payloads: tuple[Payload, ...]


def record(seconds: int) -> Recording:
    """Encode `seconds` (a multiple of the key frame interval) of VP8 640x360 at about 1 Mb/s and Opus at 32 kb/s."""
    payloads = sorted([*_video(seconds), *_audio(seconds)], key=lambda payload: payload.at_ns)
    return Recording(seconds, tuple(payloads))


def _video(seconds: int) -> Iterator[Payload]:
    yield from vp8_payloads(_pictures(seconds * FRAMES_PER_S), FRAMES_PER_S, VIDEO_BPS)


def vp8_payloads(frames: Iterable[av.VideoFrame], frames_per_s: int, bps: int) -> Iterator[Payload]:
    """Pictures as VP8, with a key frame every two seconds; their times are set here."""
    encoder = Vp8Encoder()
    encoder.target_bitrate = bps
    for number, frame in enumerate(frames):
        frame.pts = number * VIDEO_CLOCK_HZ // frames_per_s
        frame.time_base = Fraction(1, VIDEO_CLOCK_HZ)
        parts, timestamp = encoder.encode(frame, force_keyframe=number % (KEYFRAME_EVERY_S * frames_per_s) == 0)
        at_ns = number * 1_000_000_000 // frames_per_s
        for index, part in enumerate(parts):
            yield Payload("video", at_ns + index * PACING_NS, timestamp, index == len(parts) - 1, part)


def _pictures(count: int) -> Iterator[av.VideoFrame]:
    """A smooth texture that drifts, with a square that moves against it."""
    noise = np.random.default_rng(1).integers(0, 255, (HEIGHT // 4 + 40, WIDTH // 4 + 160), dtype=np.uint8)
    texture = noise.repeat(4, axis=0).repeat(4, axis=1)
    for number in range(count):
        y, x = number % 150, 2 * number % 500
        luma = texture[y : y + HEIGHT, x : x + WIDTH].copy()
        left = 5 * number % (WIDTH - 80)
        luma[100:180, left : left + 80] = 3 * number % 255
        planes = np.vstack([luma, np.full((HEIGHT // 2, WIDTH), 128, np.uint8)])
        yield av.VideoFrame.from_ndarray(planes, format="yuv420p")


def _audio(seconds: int) -> Iterator[Payload]:
    rng = np.random.default_rng(2)
    time_s = np.arange(AUDIO_FRAME) / AUDIO_CLOCK_HZ
    blocks = []
    for number in range(seconds * AUDIO_CLOCK_HZ // AUDIO_FRAME):
        pitch_hz = 150 + 50 * np.sin(number / 10)
        tone = sum(np.sin(2 * np.pi * pitch_hz * harmonic * time_s) / harmonic for harmonic in range(1, 6))
        blocks.append((4000 * tone + rng.normal(0, 300, AUDIO_FRAME)).astype(np.int16))
    yield from opus_payloads(blocks)


def opus_payloads(blocks: Iterable[NDArray[np.int16]]) -> Iterator[Payload]:
    """Blocks of 20 ms, shape (960,) each, as Opus at 32 kb/s."""
    encoder = av.CodecContext.create("libopus", "w")
    assert isinstance(encoder, av.AudioCodecContext)
    encoder.bit_rate = AUDIO_BPS
    encoder.sample_rate = AUDIO_CLOCK_HZ
    encoder.format = "s16"
    encoder.layout = "mono"
    encoder.options = {"application": "voip"}
    for number, block in enumerate(blocks):
        frame = av.AudioFrame.from_ndarray(block.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = AUDIO_CLOCK_HZ
        frame.pts = timestamp = number * AUDIO_FRAME
        for packet in encoder.encode(frame):
            yield Payload("audio", timestamp * 1_000_000_000 // AUDIO_CLOCK_HZ, timestamp, False, bytes(packet))
