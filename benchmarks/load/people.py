"""People as RTP: real speech, two of them at a time, and a real face before a camera. Encoded once, moved in time for each."""

import math
from dataclasses import dataclass, replace

import av
import numpy as np

from benchmarks.load.media import (
    AUDIO_CLOCK_HZ,
    AUDIO_FRAME,
    VIDEO_CLOCK_HZ,
    Payload,
    Recording,
    opus_payloads,
    vp8_payloads,
)
from candor.astronaut import Astronaut
from candor.speech import CLEAN, RATE_HZ, Script

TURN_S = 4
PEOPLE_PER_ROUND = 8
"""Who speaks 4 of 32 s: of sixteen people two speak at any time."""
ROOM_NOISE = 3e-4
"""Of who is silent: -70 dB. Digital silence would cost nothing, and no microphone gives it."""
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
    pcm = np.clip(sound * 32_767, -32_768, 32_767).astype(np.int16)
    return list(opus_payloads(pcm.reshape(-1, AUDIO_FRAME)))


def _video() -> list[Payload]:
    source = Astronaut()
    pictures = (
        source.picture(math.remainder(number / FRAMES_PER_S, VIDEO_ROUND_S))
        for number in range(VIDEO_ROUND_S * FRAMES_PER_S)
    )
    frames = (av.VideoFrame.from_ndarray(one, format="rgb24").reformat(format="yuv420p") for one in pictures)
    return list(vp8_payloads(frames, FRAMES_PER_S, VIDEO_BPS))
