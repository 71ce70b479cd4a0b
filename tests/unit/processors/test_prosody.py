"""Prosody against sounds whose pitch, rate and level are known."""

import numpy as np
import pytest

from media_processors.audio.prosody import RATE_HZ, ProsodyMeter, ProsodyStream, pitch_track, syllables
from media_processors.base import Samples
from media_processors.findings import Finding, Prosody
from media_processors.frames import AudioFrame, TrackRef
from tests.unit.processors.sounds import noise, voice

FRAME = 320


def pulses(f0_hz: float, seconds: float) -> Samples:
    """A pulse train without aliasing: all harmonics, equally strong."""
    at = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    harmonics = np.arange(1, int(0.45 * RATE_HZ / f0_hz) + 1)
    sound = np.cos(2 * np.pi * f0_hz * harmonics[:, None] * at).sum(0)
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def median_hz(sound: Samples) -> float:
    pitch = pitch_track(sound)
    return float(np.median(pitch[pitch > 0]))


@pytest.mark.parametrize("f0_hz", [70.0, 85.3, 110.0, 146.8, 200.0, 261.6, 333.3])
def test_pitch_of_pulse_trains_and_vowels_is_within_1_percent(f0_hz: float) -> None:
    for sound in (pulses(f0_hz, 1.0), voice(f0_hz, 1.0, RATE_HZ)):
        assert median_hz(sound) == pytest.approx(f0_hz, rel=0.01)


@pytest.mark.parametrize("f0_hz", [70.0, 130.0, 220.0, 450.0])
def test_pitch_of_tones_is_within_1_percent(f0_hz: float) -> None:
    tone = np.sin(2 * np.pi * f0_hz * np.arange(RATE_HZ) / RATE_HZ).astype(np.float32)
    assert median_hz(tone) == pytest.approx(f0_hz, rel=0.01)


def test_pitch_follows_a_glide() -> None:
    f0_hz = np.linspace(120, 180, 2 * RATE_HZ)
    phase = 2 * np.pi * np.cumsum(f0_hz) / RATE_HZ
    sound = sum(np.cos(harmonic * phase) / harmonic for harmonic in range(1, 20)).astype(np.float32) * 0.1
    pitch = pitch_track(sound)
    truth = f0_hz[320 :: RATE_HZ // 100][: len(pitch)]
    assert np.all(np.abs(pitch / truth - 1) < 0.02)


def test_pitch_survives_noise_and_noise_has_none() -> None:
    assert median_hz(voice(130, 1.0, RATE_HZ) + noise(RATE_HZ, rms=0.01)) == pytest.approx(130, rel=0.01)
    assert np.mean(pitch_track(noise(RATE_HZ, rms=0.1)) > 0) < 0.1


def test_too_little_sound_has_no_pitch() -> None:
    assert len(pitch_track(np.zeros(100, np.float32))) == 0
    assert not pitch_track(np.zeros(RATE_HZ, np.float32)).any()
    assert syllables(np.zeros(100, np.float32), np.zeros(0, np.float32)) == 0


@pytest.mark.parametrize("per_second", [2, 4, 6])
def test_syllables_are_counted(per_second: int) -> None:
    seconds = 4
    envelope = 0.5 - 0.5 * np.cos(2 * np.pi * per_second * np.arange(seconds * RATE_HZ) / RATE_HZ)
    sound = (voice(140, seconds, RATE_HZ) * (0.05 + 0.95 * envelope)).astype(np.float32)
    assert syllables(sound, pitch_track(sound)) == pytest.approx(per_second * seconds, abs=1)


def frames(sound: Samples, speech: float, start_ms: int = 0) -> list[AudioFrame]:
    return [
        AudioFrame(sound[at : at + FRAME], RATE_HZ, start_ms + at * 1000 // RATE_HZ, 0, speech, False)
        for at in range(0, len(sound) - FRAME + 1, FRAME)
    ]


def pushed(stream: ProsodyStream, given: list[AudioFrame]) -> list[Finding]:
    return [finding for frame in given for finding in stream.push(frame)]


def test_a_finding_per_two_seconds_of_speech(track: TrackRef) -> None:
    stream = ProsodyMeter().open(track, print)
    found = pushed(stream, frames(voice(140, 5.0, RATE_HZ), speech=0.9, start_ms=1_000))
    assert [(each.start_ms, each.end_ms) for each in found] == [(1_000, 3_000), (3_000, 5_000)]
    first = found[0]
    assert isinstance(first, Prosody)
    level = 20 * np.log10(np.sqrt(np.mean(np.square(voice(140, 2.0, RATE_HZ)))))
    assert first.level_dbfs == pytest.approx(level, abs=0.5)
    assert first.pitch_hz == pytest.approx(140, rel=0.01)
    assert (first.epoch, first.track_id, first.speech_ms) == (7, "t", 2_000)
    assert [each.speech_ms for each in stream.flush() if isinstance(each, Prosody)] == [1_000]
    assert stream.flush() == []


def test_a_pause_ends_a_stretch_and_a_word_is_not_enough(track: TrackRef) -> None:
    stream = ProsodyMeter().open(track, print)
    silence = frames(np.zeros(RATE_HZ, np.float32), speech=0.0)
    assert pushed(stream, frames(voice(140, 0.7, RATE_HZ), speech=0.9)) == []
    assert len(pushed(stream, silence)) == 1
    assert pushed(stream, frames(voice(140, 0.3, RATE_HZ), speech=0.9)) == []
    assert pushed(stream, silence) == []


def test_whispering_has_no_pitch(track: TrackRef) -> None:
    found = pushed(ProsodyMeter().open(track, print), frames(noise(2 * RATE_HZ, rms=0.05), speech=0.9))
    assert [each.pitch_hz for each in found if isinstance(each, Prosody)] == [None]
