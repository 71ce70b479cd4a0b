"""The guard: a transform that loses a speaker is not heard; one that removes noise is."""

import numpy as np
import pytest

from media_processors.audio.rnnoise import Rnnoise
from media_processors.audio.vad import SileroVad
from media_processors.base import Samples
from media_processors.codec import OpusDecoder
from media_processors.guard import RETRY_MS, STRETCH_MS, Guard, GuardState
from media_processors.streams import PathCounters, PathStream
from tests.unit.processors.sounds import (
    MEDIA,
    PACKET,
    level_db,
    load,
    noise,
    opened,
    packet,
    pieces,
    publish,
    speech,
    voice,
)

PACKET_MS = 20


def wideband(seconds: float) -> Samples:
    """A vowel with breath: energy above 4 kHz."""
    return voice(140, seconds) + noise(round(seconds * 48_000), rms=0.02)


def feed(guard: Guard, raw: Samples, gain: float, speech: float) -> list[bool]:
    """The guard's answers while a transform applies `gain`."""
    return [guard.allows(piece, piece * np.float32(gain), speech, speech > 0.5) for piece in pieces(raw)]


def in_use() -> Guard:
    """A guard that found the transform good."""
    guard = Guard()
    feed(guard, noise(24_000, rms=0.001), 0.1, speech=0.0)
    feed(guard, wideband(0.5), 1.0, speech=1.0)
    assert guard.state is GuardState.WET
    return guard


def test_pauses_are_wet_and_the_first_words_dry_until_they_are_judged() -> None:
    guard = Guard()
    assert all(feed(guard, noise(24_000, rms=0.001), 0.1, speech=0.0))
    answers = feed(guard, wideband(0.5), 1.0, speech=1.0)
    judged = STRETCH_MS // PACKET_MS
    assert not any(answers[: judged - 1])
    assert all(answers[judged:])


def test_speech_that_the_transform_would_mute_is_never_wet() -> None:
    guard = Guard()
    feed(guard, noise(24_000, rms=0.001), 0.1, speech=0.0)
    assert not any(feed(guard, wideband(3.0), 0.01, speech=1.0))
    assert (guard.state, guard.reason, guard.trips) == (GuardState.DRY, "loses_speech", 1)


def test_a_transform_that_begins_to_lose_speech_is_found_within_a_stretch() -> None:
    guard = in_use()
    answers = feed(guard, wideband(1.0), 0.1, speech=1.0)
    assert answers.index(False) <= STRETCH_MS // PACKET_MS
    assert not any(answers[answers.index(False) :])
    assert guard.trips == 1


def test_it_is_heard_again_after_enough_speech_that_it_does_not_harm() -> None:
    guard = in_use()
    feed(guard, wideband(1.0), 0.01, speech=1.0)
    assert guard.state is GuardState.DRY
    seconds = RETRY_MS / 1000
    assert not any(feed(guard, wideband(seconds), 0.01, speech=1.0))  # still harmful: the count starts again
    answers = feed(guard, wideband(2 * seconds), 1.0, speech=1.0)
    assert not any(answers[: round(0.8 * RETRY_MS / PACKET_MS)])
    assert answers[-1]


def test_removing_noise_between_words_is_not_losing_speech() -> None:
    """At 5 dB SNR the transform takes 30 dB off the noise, also where the VAD still says speech."""
    guard = in_use()
    background = noise(48_000, rms=0.08)
    feed(guard, background, 0.03, speech=0.0)
    word = voice(140, 0.4) + noise(19_200, rms=0.08, seed=2)
    gap = noise(9_600, rms=0.08, seed=3)
    for _ in range(10):
        feed(guard, word, 0.85, speech=1.0)
        feed(guard, gap, 0.03, speech=0.9)
    assert (guard.state, guard.trips) == (GuardState.WET, 0)


def test_a_muted_microphone_does_not_make_the_room_quiet() -> None:
    """The noise under the end of a word, right after being unmuted, is not speech that the transform loses."""
    guard = Guard()
    room = noise(24_000, rms=0.02)
    feed(guard, room, 0.01, speech=0.0)
    feed(guard, wideband(0.5), 1.0, speech=1.0)
    assert guard.state is GuardState.WET
    feed(guard, np.zeros(5 * 48_000, np.float32), 1.0, speech=0.0)
    feed(guard, room, 0.01, speech=1.0)
    assert (guard.state, guard.trips) == (GuardState.WET, 0)


def test_what_a_room_became_is_learned_also_when_it_is_quiet() -> None:
    """A fan at -35 dB stops, then the room is at -52 dB. Who speaks at -36 dB must not be taken for the fan."""
    guard = in_use()
    for rms, seconds in ((0.018, 8), (0.0025, 40)):
        feed(guard, noise(seconds * 48_000, rms=rms), 0.1, speech=0.0)
    spoken = wideband(6)
    spoken *= 10 ** (-36 / 20) / np.sqrt(np.mean(np.square(spoken)))
    feed(guard, spoken, 0.03, speech=0.9)
    assert guard.state is GuardState.DRY


def test_narrowband_speech_starts_dry_and_wideband_speech_ends_that() -> None:
    guard = Guard()
    feed(guard, noise(24_000, rms=0.0001), 0.1, speech=0.0)
    narrow = voice(140, 1.0)
    spectrum = np.fft.rfft(narrow)
    spectrum[3_400:] = 0  # one second: a bin per hertz
    narrow = np.fft.irfft(spectrum, len(narrow)).astype(np.float32)
    assert not any(feed(guard, narrow, 1.0, speech=1.0))
    assert (guard.reason, guard.trips) == ("narrowband", 0)
    answers = feed(guard, wideband(2.0), 1.0, speech=1.0)
    assert answers[-1]


def heard_through(
    sound: Samples, bitrate_bps: int, on: bool, vad: SileroVad, rnnoise: Rnnoise
) -> tuple[Samples, PathStream]:
    stream = PathStream(
        opened(processors={"denoise": on}, bitrate_bps=bitrate_bps), {"denoise": rnnoise}, vad.open(), PathCounters()
    )
    decoder = OpusDecoder()
    payloads = publish(sound, bitrate_bps)
    results = [stream.push(packet(i, payload), late=False) for i, payload in enumerate(payloads)]
    return np.concatenate([decoder.decode(result.payload) for result in results]), stream


@pytest.mark.parametrize(("bitrate_bps", "level"), [(24_000, 0.1), (32_000, 0.7), (48_000, 0.3), (64_000, 0.7)])
def test_no_half_second_of_a_real_narrowband_speaker_is_lost(
    bitrate_bps: int, level: float, vad: SileroVad, rnnoise: Rnnoise
) -> None:
    path = MEDIA / "jfk.wav"
    if not path.exists():
        pytest.skip("needs ../shared/media/jfk.wav: a real speaker whom RNNoise mutes")
    sound = load(path)
    sound = sound * np.float32(level / np.abs(sound).max())
    off, _ = heard_through(sound, bitrate_bps, False, vad, rnnoise)
    on, _ = heard_through(sound, bitrate_bps, True, vad, rnnoise)
    loudest = max(level_db(piece) for piece in pieces(off, 24_000))
    losses = [
        level_db(off[at : at + 24_000]) - level_db(on[at : at + 24_000])
        for at in range(0, len(off) - 24_000, 4_800)
        if level_db(off[at : at + 24_000]) > loudest - 20
    ]
    assert len(losses) > 50
    assert max(losses) < 12


def test_a_wideband_speaker_in_noise_is_denoised(vad: SileroVad, rnnoise: Rnnoise) -> None:
    sound = speech() + noise(len(speech()), rms=0.02)
    off, _ = heard_through(sound, 32_000, False, vad, rnnoise)
    on, stream = heard_through(sound, 32_000, True, vad, rnnoise)
    guard = stream.chain.stages[0].guard
    assert (guard.state, guard.trips) == (GuardState.WET, 0)
    count = min(len(off), len(speech()) // PACKET * PACKET) // PACKET
    clean = np.array([level_db(piece) for piece in pieces(speech())[:count]])
    pause = np.convolve(clean > clean.max() - 60, np.ones(15), mode="same") == 0
    at = np.repeat(pause, PACKET)
    assert pause.sum() > 20
    assert level_db(off[: len(at)][at]) - level_db(on[: len(at)][at]) > 15
