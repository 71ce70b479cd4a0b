"""The measures, on sounds and packets whose answer is known."""

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candor.measure import (
    OpusPacket,
    align,
    assess,
    count_packets,
    decode,
    si_sdr_db,
    unwrap,
)
from candor.speech import RATE_HZ, add_noise, pink_noise


def speech_like(seconds: float = 6.0) -> np.ndarray:
    """Bursts of noise-excited harmonics with half a second of silence between them: enough structure for STOI."""
    generator = np.random.default_rng(7)
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    voice = sum(np.sin(2 * np.pi * 140 * k * time + k) / k for k in range(1, 30))
    syllables = np.repeat(generator.uniform(0.2, 1.0, len(time) // 4800), 4800)
    syllables = np.pad(syllables, (0, len(time) - len(syllables)))
    spoken = (time % 1.5) > 0.5
    return (0.05 * voice * syllables * spoken).astype(np.float32)


def packets(sound: np.ndarray, first_sequence: int = 65530, first_timestamp: int = 2**32 - 5000) -> list[OpusPacket]:
    """Encoded as one Opus stream of 20 ms packets whose counters wrap."""
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format, encoder.bit_rate = RATE_HZ, "mono", "flt", 64_000
    encoded = []
    for start in range(0, len(sound) - 959, 960):
        frame = av.AudioFrame.from_ndarray(sound[start : start + 960].reshape(1, -1), format="flt", layout="mono")
        frame.sample_rate, frame.pts = RATE_HZ, start
        encoded += [bytes(packet) for packet in encoder.encode(frame)]
    return [
        OpusPacket((first_sequence + i) % 65536, (first_timestamp + 960 * i) % 2**32, payload, i * 20_000_000)
        for i, payload in enumerate(encoded)
    ]


@given(st.integers(0, 65535), st.lists(st.integers(-300, 300), max_size=60))
def test_unwrap_gives_back_what_was_wrapped(first: int, steps: list[int]) -> None:
    values = np.cumsum([first, *steps])
    wrapped = [int(value) % 65536 for value in values]
    assert np.array_equal(unwrap(wrapped, 16), values)


def test_losses_and_duplicates_are_counted_across_the_wrap() -> None:
    stream = packets(speech_like(1.0))
    kept = [*stream[:10], stream[9], *stream[13:]]
    kept[4], kept[5] = kept[5], kept[4]
    count = count_packets(kept)
    assert (count.lost, count.duplicates, count.received) == (3, 1, len(stream) - 3)
    assert count_packets([]).received == 0


def test_decoding_keeps_time_under_loss_and_reordering() -> None:
    sound = speech_like()
    stream = packets(sound)
    whole = decode(stream)
    holes = [packet for i, packet in enumerate(stream) if i % 10]
    holes[20], holes[21] = holes[21], holes[20]
    with_loss = decode(holes)
    assert abs(len(whole) - len(with_loss)) <= 960
    _, delay_ms = align(sound, whole)
    _, delay_with_loss_ms = align(sound, with_loss)
    assert delay_ms == pytest.approx(6.5, abs=0.5), "libopus looks ahead 6.5 ms (312 samples)"
    assert delay_with_loss_ms == pytest.approx(delay_ms, abs=20.5), "the first packet itself is lost"
    assert not with_loss[960 * 9 + 1 : 960 * 10 - 1].any(), "a lost packet is silence at its place"


def test_what_is_no_opus_is_silence_and_no_error() -> None:
    stream = packets(speech_like(0.5))
    broken = [*stream[:3], OpusPacket(stream[3].sequence_number, stream[3].timestamp, b"\xff\xff", 0), *stream[4:]]
    assert len(decode(broken)) == len(decode(stream))
    assert len(decode([])) == 0


def test_timestamps_that_jump_are_refused() -> None:
    stream = packets(speech_like(0.5))
    far = OpusPacket(stream[-1].sequence_number + 1, (stream[-1].timestamp + 2**30) % 2**32, b"\x00", 10**9)
    with pytest.raises(ValueError, match="timestamp"):
        decode([*stream, far])


@pytest.mark.parametrize("delay", [-4800, 0, 12_345])
def test_alignment_finds_a_known_delay_in_noise(delay: int) -> None:
    sound = speech_like()
    received = np.concatenate([np.zeros(delay, np.float32), sound]) if delay >= 0 else sound[-delay:]
    aligned, delay_ms = align(sound, add_noise(received, 5, seed=3))
    assert delay_ms == pytest.approx(1000 * delay / RATE_HZ, abs=0.1)
    assert len(aligned) == len(sound)


def test_silence_cannot_be_aligned() -> None:
    with pytest.raises(ValueError, match="silent"):
        align(speech_like(2.0), np.zeros(1000, np.float32))


def test_quality_orders_less_noise_above_more() -> None:
    sound = speech_like()
    noisy = {snr: assess(sound, add_noise(sound, snr, seed=5)) for snr in (5, 15, 30)}
    under_speech_db = 10 * np.log10((1 + 10**-0.5) / (1 + 10**-1.5))
    assert noisy[5].pause_noise_db - noisy[15].pause_noise_db == pytest.approx(10 - under_speech_db, abs=0.3)
    assert noisy[5].pause_noise_db == pytest.approx(-5, abs=2.0)
    assert noisy[5].stoi < noisy[15].stoi < noisy[30].stoi <= 1
    assert noisy[5].si_sdr_db < noisy[15].si_sdr_db < noisy[30].si_sdr_db


def test_turning_everything_down_does_not_count_as_less_noise() -> None:
    sound = speech_like()
    noisy = add_noise(sound, 5, seed=5)
    assert assess(sound, noisy * 0.1).pause_noise_db == pytest.approx(assess(sound, noisy).pause_noise_db, abs=0.01)


def test_a_reference_without_a_pause_is_refused() -> None:
    hum = np.sin(2 * np.pi * 200 * np.arange(RATE_HZ) / RATE_HZ).astype(np.float32)
    with pytest.raises(ValueError, match="pause"):
        assess(hum, hum)


def test_pink_noise_repeats_and_falls_by_three_decibels_per_octave() -> None:
    noise = pink_noise(2**17, seed=1)
    assert np.array_equal(noise, pink_noise(2**17, seed=1))
    assert np.sqrt(np.mean(noise**2)) == pytest.approx(1, abs=1e-3)
    power = np.abs(np.fft.rfft(noise)) ** 2
    octaves = [10 * np.log10(np.mean(power[2**k : 2 ** (k + 1)])) for k in range(8, 16)]
    assert np.diff(octaves) == pytest.approx(-3, abs=0.7)


def test_si_sdr_of_a_scaled_copy_is_limited_only_by_arithmetic() -> None:
    sound = speech_like(2.0)
    assert si_sdr_db(sound, sound * 0.3) > 60
