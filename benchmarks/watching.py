"""What seeing a camera costs the watch host: RTP packets to whole frames, decoding, two pictures a second as RGB.

`python -m benchmarks.watching [--seconds 10] [--runs 5]` prints a table and writes build/bench/watching.json. CPU time of the one
thread that does it, without sockets and observers; the best run counts, since other work on the machine only adds.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
from aiortc.codecs.h264 import H264Encoder
from aiortc.codecs.vpx import Vp8Encoder

from media_processors.video.depacketize import FrameAssembler, SightCounters
from media_processors.video.watching import Seeing
from sfu.tap import OpenTrack, Sound, TapPacket

CLOCK_HZ = 90_000
FRAMES_PER_S = 30
VIDEO_BPS = 800_000
SIZES = ((320, 180), (640, 360), (1280, 720))
Codec = Literal["vp8", "h264"]


@dataclass(frozen=True, slots=True)
class Row:
    """One stream."""

    codec: Codec
    size: str
    kb_per_s: int
    packets_per_frame: float
    cpu_ms_per_frame: float
    of_that_assembling_ms: float
    core_percent: float
    """Of one core, for one track at 30 frames a second."""


def pictures(width: int, height: int, count: int) -> Iterator[av.VideoFrame]:
    """A smooth texture that drifts under a little noise, as a camera's picture has."""
    chance = np.random.default_rng(1)
    texture = chance.integers(0, 255, (height // 8 + 40, width // 8 + 40)).astype(np.float32)
    texture = texture.repeat(8, axis=0).repeat(8, axis=1)
    for number in range(count):
        at = number % 300
        luma = texture[at : at + height, at : at + width] + chance.normal(0, 2, (height, width))
        planes = np.vstack([np.clip(luma, 0, 255).astype(np.uint8), np.full((height // 2, width), 128, np.uint8)])
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts = number * CLOCK_HZ // FRAMES_PER_S
        frame.time_base = Fraction(1, CLOCK_HZ)
        yield frame


def packets(codec: Codec, width: int, height: int, seconds: int) -> list[TapPacket]:
    """The stream as it comes over the tap; its first frame is its only key frame."""
    encoder = Vp8Encoder() if codec == "vp8" else H264Encoder()
    encoder.target_bitrate = VIDEO_BPS
    made: list[TapPacket] = []
    for frame in pictures(width, height, seconds * FRAMES_PER_S):
        payloads, timestamp = encoder.encode(frame)
        arrival_ns = timestamp * 1_000_000_000 // CLOCK_HZ
        for index, payload in enumerate(payloads):
            marker = int(index == len(payloads) - 1)
            seq = len(made) & 0xFFFF
            made.append(TapPacket(1, Sound.RAW, marker, seq, timestamp & 0xFFFFFFFF, arrival_ns, 0, 0, 0, payload))
    return made


def seeing_s(codec: Codec, stream: list[TapPacket], frames: int) -> float:
    """CPU seconds for the whole stream. Raises RuntimeError if not every frame was decoded: then the figure means nothing."""
    counters = SightCounters()
    opened = OpenTrack(
        handle=1,
        track_id="track",
        room_id="room",
        participant_id="participant",
        kind="video",
        source="camera",
        codec=codec,
        clock_hz=CLOCK_HZ,
        processors={},
        epoch=0,
    )
    seeing = Seeing(opened, counters, lambda wish: None)
    began_s = time.thread_time()
    for packet in stream:
        for _ in seeing.push(packet):
            raise RuntimeError("nobody is attached")
    passed_s = time.thread_time() - began_s
    if counters.frames != frames or counters.undecodable or counters.pictures < frames // FRAMES_PER_S:
        raise RuntimeError(f"not every frame was seen: {counters}")
    return passed_s


def assembling_s(codec: Codec, stream: list[TapPacket]) -> float:
    """CPU seconds of what comes before decoding."""
    assembler = FrameAssembler(codec, SightCounters())
    began_s = time.thread_time()
    for packet in stream:
        assembler.push(packet)
    return time.thread_time() - began_s


def measure(codec: Codec, width: int, height: int, seconds: int, runs: int) -> Row:
    """One row of the table."""
    stream = packets(codec, width, height, seconds)
    frames = seconds * FRAMES_PER_S
    cpu_ms = min(seeing_s(codec, stream, frames) for _ in range(runs)) * 1000 / frames
    return Row(
        codec,
        f"{width}x{height}",
        sum(len(packet.payload) for packet in stream) * 8 // 1000 // seconds,
        round(len(stream) / frames, 1),
        round(cpu_ms, 2),
        round(min(assembling_s(codec, stream) for _ in range(runs)) * 1000 / frames, 3),
        round(cpu_ms * FRAMES_PER_S / 10, 1),
    )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    codecs: tuple[Codec, ...] = ("vp8", "h264")
    rows = [asdict(measure(codec, *size, options.seconds, options.runs)) for codec in codecs for size in SIZES]
    print(f"| {' | '.join(rows[0])} |\n|{'---|' * len(rows[0])}")
    for row in rows:
        print(f"| {' | '.join(str(value) for value in row.values())} |")
    out = Path("build/bench/watching.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
