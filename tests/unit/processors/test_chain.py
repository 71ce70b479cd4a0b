"""Wet and dry: aligned, cross-faded without a click, and dry whenever the transform cannot be had."""

import time
from typing import ClassVar, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media_processors import chain
from media_processors.base import Samples
from media_processors.chain import FADE_SAMPLES, Chain, CrossFade, DelayLine, Stage
from media_processors.findings import ProcessorInfo
from media_processors.frames import TrackRef
from media_processors.laps import Laps
from tests.unit.processors.sounds import PACKET, noise, pieces, voice


class Delayed:
    """A transform that only delays, times a gain."""

    kind: ClassVar[Literal["transform"]] = "transform"
    sample_rate_hz = 48_000
    frame_samples = 480

    def __init__(self, delay_samples: int = 960, gain: float = 1.0) -> None:
        self.delay_samples = delay_samples
        self._gain = gain
        self._line = DelayLine(delay_samples)
        self.heard = 0

    def info(self) -> ProcessorInfo:
        return ProcessorInfo(name="denoise", kind="transform", media="audio", available=True)

    def open(self, track: TrackRef) -> "Delayed":
        return self

    def process(self, samples: Samples) -> Samples:
        self.heard += len(samples)
        return self._line.push(samples) * np.float32(self._gain)

    def reset(self) -> None:
        self._line = DelayLine(self.delay_samples)


class Broken(Delayed):
    """Raises at the third packet."""

    def process(self, samples: Samples) -> Samples:
        if self.heard >= 2 * PACKET:
            raise RuntimeError("out of luck")
        return super().process(samples)


class Slow(Delayed):
    """Takes as long as the sound lasts."""

    def process(self, samples: Samples) -> Samples:
        until_ns = time.thread_time_ns() + len(samples) * 10**9 // 48_000
        while time.thread_time_ns() < until_ns:
            pass
        return super().process(samples)


def play(stage: Stage, sound: Samples, size: int = PACKET) -> Samples:
    return np.concatenate([stage.process(piece, 0.0, False) for piece in pieces(sound, size)])


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([480, 960, 1_920]), min_size=4, max_size=12),
    switches=st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_switching_a_pure_delay_changes_nothing(sizes: list[int], switches: list[bool]) -> None:
    """So wet and dry are aligned to the sample, during the fade too."""
    sound = noise(sum(sizes), rms=0.1)
    stage = Stage("denoise", Delayed(), TrackRef("r", "p", "t", "audio", "microphone", 0))
    out, at = [], 0
    for size, on in zip(sizes, switches, strict=False):
        stage.switch(on)
        out.append(stage.process(sound[at : at + size], 0.0, False))
        at += size
    heard = np.concatenate(out)
    assert np.allclose(heard[960:], sound[:-960], atol=1e-6)
    assert not heard[:960].any()


def test_odd_packets_cost_one_frame_of_delay_and_stay_aligned(track: TrackRef) -> None:
    sound = noise(48_000, rms=0.1)
    stage = Stage("denoise", Delayed(), track)
    stage.switch(True)
    wet = play(stage, sound, 120)
    stage.switch(False)
    dry = play(stage, sound, 120)
    assert np.allclose(wet[1_440:], sound[:-1_440], atol=1e-6)
    assert np.allclose(dry[1_440:], sound[: len(dry) - 1_440], atol=1e-6)


def test_a_cross_fade_takes_20_ms_and_has_no_step() -> None:
    fade = CrossFade()
    dry, wet = np.zeros(PACKET, np.float32), np.ones(PACKET, np.float32)
    ramp = np.concatenate([fade.mix(dry, wet, to_wet=True) for _ in range(2)])
    assert np.abs(np.diff(ramp)).max() <= 1.01 / FADE_SAMPLES
    assert (fade.gain, ramp[FADE_SAMPLES - 1], ramp[-1]) == (1.0, 1.0, 1.0)
    back = np.concatenate([fade.mix(dry, wet, to_wet=False) for _ in range(2)])
    assert np.abs(np.diff(back)).max() <= 1.01 / FADE_SAMPLES
    assert (fade.gain, back[-1]) == (0.0, 0.0)


def test_switching_a_transform_makes_no_click(track: TrackRef) -> None:
    sound = voice(140, 2.0)
    stage = Stage("denoise", Delayed(gain=0.1), track)
    heard = []
    for index, piece in enumerate(pieces(sound)):
        stage.switch(index // 20 % 2 == 0)
        heard.append(stage.process(piece, 0.0, False))
    steepest = np.abs(np.diff(sound)).max()
    assert np.abs(np.diff(np.concatenate(heard))).max() <= steepest + 1 / FADE_SAMPLES


def test_off_means_that_the_transform_hears_nothing(track: TrackRef) -> None:
    transform = Delayed()
    stage = Stage("denoise", transform, track)
    stage.switch(True)
    play(stage, voice(140, 0.2))
    stage.switch(False)
    play(stage, voice(140, 0.04))  # the fade
    heard = transform.heard
    play(stage, voice(140, 1.0))
    assert transform.heard == heard
    assert (stage.state.value, stage.dry, stage.idle) == ("off", True, True)


def test_a_transform_that_raises_is_bypassed_and_says_so(track: TrackRef) -> None:
    sound = voice(140, 0.5)
    stage = Stage("denoise", Broken(gain=0.5), track)
    stage.switch(True)
    heard = play(stage, sound)
    assert np.allclose(heard[4 * PACKET :], sound[3 * PACKET : -PACKET], atol=1e-6)
    assert (stage.state.value, stage.reason) == ("bypass", "failed: RuntimeError")
    assert stage.status().state == "bypass"


class NotANumber(Delayed):
    """Breaks at the tenth packet."""

    def process(self, samples: Samples) -> Samples:
        return super().process(samples) * np.float32(1.0 if self.heard < 10 * PACKET else "nan")


def test_sound_that_is_no_number_is_never_sent(track: TrackRef) -> None:
    stage = Stage("denoise", NotANumber(), track)
    stage.switch(True)
    heard = play(stage, voice(140, 0.5))
    assert np.isfinite(heard).all()
    assert (stage.state.value, stage.reason) == ("bypass", "failed: ValueError")


def test_a_slow_transform_is_bypassed_and_tried_again(track: TrackRef, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "_SMOOTHING", 0.3)
    monkeypatch.setattr(chain, "SLOW_RETRY_SAMPLES", 10 * PACKET)
    transform = Slow()
    stage = Stage("denoise", transform, track)
    stage.switch(True)
    states = []
    for piece in pieces(voice(140, 0.5)):
        stage.process(piece, 0.0, False)
        states.append(stage.state.value)
    assert states[0] == "on"
    assert "bypass" in states
    assert "on" in states[states.index("bypass") :]


def test_stages_add_their_delays_and_report_changes_once(track: TrackRef) -> None:
    transforms = {"second": Delayed(480), "first": Delayed(960)}
    both = Chain(transforms, track, Laps())
    both.switch({"first": True, "second": False})
    sound = noise(9_600, rms=0.1)
    heard = np.concatenate([both.process(piece, 0.0, False) for piece in pieces(sound)])
    assert np.allclose(heard[1_440:], sound[:-1_440], atol=1e-6)
    assert [(status.processor, status.state) for status in both.take_changes()] == [("first", "on"), ("second", "off")]
    assert both.take_changes() == []
    both.switch({"first": False})
    assert [(status.processor, status.state) for status in both.take_changes()] == [("first", "off")]
