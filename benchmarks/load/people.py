"""People as RTP: real speech, two of them at a time, and a real face before a camera. Encoded once, moved in time for each."""

import math
from dataclasses import dataclass, replace
from fractions import Fraction

import av
import numpy as np
from aiortc.codecs.vpx import Vp8Encoder

from benchmarks.load.media import AUDIO_CLOCK_HZ, AUDIO_FRAME, VIDEO_CLOCK_HZ, Payload, Recording
from candor.astronaut import Astronaut
from candor.speech import CLEAN, RATE_HZ, Script

TURN_S = 4
PEOPLE_PER_ROUND = 8
"""Who speaks 4 of 32 s: of sixteen people two speak at any time."""
ROOM_NOISE = 3e-4
"""Of who is silent: -70 dB. Digital silence would cost nothing, and no microphone gives it."""
AUDIO_BPS = 32_000
VIDEO_BPS = 600_000
FRAMES_PER_S = 15
VIDEO_ROUND_S = 8


@dataclass(frozen=True, slots=True)
class Cast:
    """What one person sends, before it is moved in time."""

    audio: tuple[Payload, ...]
    video: tuple[Payload, ...]
    seconds: int

    def person(self, number: int, *, camera: bool) -> Recording:
        """Person `number`: speaks half a turn after the one before."""
        shift_ns = number * TURN_S * 1_000_000_000 // 2
        moved = [*_moved(self.audio, shift_ns, self.seconds, AUDIO_CLOCK_HZ)]
        if camera:
            moved += self.video
        return Recording(self.seconds, tuple(sorted(moved, key=lambda payload: payload.at_ns)))


def cast(script: Script) -> Cast:
    """Encode them; takes a few seconds."""
    seconds = TURN_S * PEOPLE_PER_ROUND
    once = _video()
    rounds = seconds // VIDEO_ROUND_S
    video = [
        replace(
            payload,
            at_ns=payload.at_ns + number * VIDEO_ROUND_S * 1_000_000_000,
            timestamp=payload.timestamp + number * VIDEO_ROUND_S * VIDEO_CLOCK_HZ,
        )
        for number in range(rounds)
        for payload in once
    ]
    return Cast(tuple(_audio(script, seconds)), tuple(video), seconds)


def _moved(payloads: tuple[Payload, ...], shift_ns: int, seconds: int, clock_hz: int) -> list[Payload]:
    """The same round, begun elsewhere; its times stay those of a round."""
    round_ns = seconds * 1_000_000_000
    cut = next((index for index, payload in enumerate(payloads) if payload.at_ns >= shift_ns % round_ns), 0)
    turned = payloads[cut:] + payloads[:cut]
    return [
        replace(payload, at_ns=place.at_ns, timestamp=place.timestamp)
        for payload, place in zip(turned, payloads, strict=True)
    ]


def _audio(script: Script, seconds: int) -> list[Payload]:
    spoken = np.concatenate([line.sound for line in script.turns if line.name == CLEAN])[: TURN_S * RATE_HZ]
    sound = np.random.default_rng(5).normal(0, ROOM_NOISE, seconds * RATE_HZ).astype(np.float32)
    sound[: len(spoken)] += spoken
    encoder = av.CodecContext.create("libopus", "w")
    assert isinstance(encoder, av.AudioCodecContext)
    encoder.bit_rate = AUDIO_BPS
    encoder.sample_rate = AUDIO_CLOCK_HZ
    encoder.format = "s16"
    encoder.layout = "mono"
    encoder.options = {"application": "voip"}
    payloads = []
    for number, block in enumerate(
        np.split(np.clip(sound * 32_767, -32_768, 32_767).astype(np.int16), len(sound) // 960)
    ):
        frame = av.AudioFrame.from_ndarray(block.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = AUDIO_CLOCK_HZ
        frame.pts = number * AUDIO_FRAME
        timestamp = number * AUDIO_FRAME
        at_ns = timestamp * 1_000_000_000 // AUDIO_CLOCK_HZ
        payloads += [Payload("audio", at_ns, timestamp, False, bytes(packet)) for packet in encoder.encode(frame)]
    return payloads


def _video() -> list[Payload]:
    encoder, source = Vp8Encoder(), Astronaut()
    encoder.target_bitrate = VIDEO_BPS
    payloads = []
    for number in range(VIDEO_ROUND_S * FRAMES_PER_S):
        picture = source.picture(math.remainder(number / FRAMES_PER_S, VIDEO_ROUND_S))
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
        frame.pts = number * VIDEO_CLOCK_HZ // FRAMES_PER_S
        frame.time_base = Fraction(1, VIDEO_CLOCK_HZ)
        parts, timestamp = encoder.encode(frame, force_keyframe=number % (2 * FRAMES_PER_S) == 0)
        at_ns = number * 1_000_000_000 // FRAMES_PER_S
        payloads += [
            Payload("video", at_ns + index * 250_000, timestamp, index == len(parts) - 1, part)
            for index, part in enumerate(parts)
        ]
    return payloads
