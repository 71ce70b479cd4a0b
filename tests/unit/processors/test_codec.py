"""libopus through ctypes: round trips, loss, controls, malformed packets."""

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media_processors import codec
from media_processors.codec import (
    MAX_PAYLOAD_BYTES,
    PACKET_SAMPLES,
    OpusDecoder,
    OpusEncoder,
    packet_has_fec,
    packet_samples,
)
from media_processors.errors import CodecError, UnavailableError
from tests.unit.processors.sounds import level_db, noise, pieces, publish, speech, voice


@pytest.mark.parametrize("samples", sorted(PACKET_SAMPLES))
def test_every_packet_length_survives_a_round_trip(samples: int) -> None:
    sound = voice(140, 0.6)
    payloads = publish(sound, bitrate_bps=64_000, samples=samples)
    decoder = OpusDecoder()
    heard = [decoder.decode(payload) for payload in payloads]
    assert all(packet_samples(payload) == samples for payload in payloads)
    assert all(len(piece) == samples and piece.dtype == np.float32 for piece in heard)
    assert level_db(np.concatenate(heard)[9_600:]) == pytest.approx(level_db(sound[9_600:]), abs=1.5)


def test_a_decoder_delays_by_6_5_ms_and_keeps_the_waveform_at_a_high_bitrate() -> None:
    sound = voice(140, 1.0)
    encoder, decoder = OpusEncoder(bitrate_bps=256_000, application="audio"), OpusDecoder()
    heard = np.concatenate([decoder.decode(encoder.encode(piece)) for piece in pieces(sound)])
    error = heard[312 + 9_600 :] - sound[9_600 : len(heard) - 312]
    assert level_db(sound) - level_db(error) > 20


def test_fec_restores_a_lost_packet_better_than_concealment() -> None:
    sound = speech()
    payloads = publish(sound, loss_percent=20)
    whole = OpusDecoder()
    truth = [whole.decode(payload) for payload in payloads]
    errors: dict[str, list[float]] = {"fec": [], "plc": []}
    for kind, found in errors.items():
        decoder = OpusDecoder()
        for index, payload in enumerate(payloads[:-1]):
            lost = index % 7 == 3 and packet_has_fec(payloads[index + 1])
            if not lost:
                decoder.decode(payload)
                continue
            heard = decoder.decode_fec(payloads[index + 1], 960) if kind == "fec" else decoder.conceal(960)
            found.append(abs(level_db(heard) - level_db(truth[index])))
    assert len(errors["fec"]) > 10
    assert np.mean(errors["fec"]) < 0.7 * np.mean(errors["plc"])


def test_fec_is_seen_only_where_it_is() -> None:
    without = publish(speech())
    with_fec = publish(speech(), loss_percent=20)
    assert not any(packet_has_fec(payload) for payload in without)
    assert sum(packet_has_fec(payload) for payload in with_fec) > len(with_fec) / 3


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=80))
def test_hostile_bytes_are_refused_or_decoded_and_never_anything_else(payload: bytes) -> None:
    decoder = OpusDecoder()
    packet_has_fec(payload)
    try:
        samples = packet_samples(payload)
        heard = decoder.decode(payload)
    except CodecError:
        return
    assert 0 < len(heard) == samples <= 5_760


@pytest.mark.parametrize("count", [0x00, 0x40, 0x80, 0xC0])
def test_a_packet_without_frames_is_malformed(count: int) -> None:
    """Code 3 with a count of zero (RFC 6716, Section 3.2.5, R5): libopus itself answers 0 samples."""
    for config in range(32):
        with pytest.raises(CodecError, match="no frames"):
            packet_samples(bytes([config << 3 | 3, count]))


def test_stereo_packets_decode_to_mono() -> None:
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = 48_000, "stereo", "flt"
    left_only = np.stack((voice(200, 0.02), np.zeros(960, np.float32)), axis=1).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(left_only, format="flt", layout="stereo")
    frame.sample_rate = 48_000
    payloads = [bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)]]
    assert payloads[0][0] & 4  # the stereo bit of the TOC byte
    assert OpusDecoder().decode(payloads[0]).shape == (960,)


def test_concealment_is_bounded_and_fades() -> None:
    decoder = OpusDecoder()
    for payload in publish(voice(140, 0.4)):
        decoder.decode(payload)
    first = level_db(decoder.conceal(960))
    for _ in range(20):
        last = level_db(decoder.conceal(960))
    assert first > -30
    assert last < first - 20
    with pytest.raises(CodecError):
        decoder.conceal(0)
    with pytest.raises(CodecError):
        decoder.conceal(5_761)


def test_dtx_says_silence_in_a_byte_or_two() -> None:
    encoder = OpusEncoder(bitrate_bps=24_000)
    encoder.set_dtx(True)
    sizes = [len(encoder.encode(np.zeros(960, np.float32))) for _ in range(40)]
    assert min(sizes[20:]) <= 2


def test_bitrate_is_followed() -> None:
    sizes = {rate: sum(map(len, publish(speech(), rate))) for rate in (16_000, 64_000)}
    assert sizes[64_000] > 2.5 * sizes[16_000]


def test_a_stranger_can_start_at_independent_packets() -> None:
    """After a reset with prediction disabled, a decoder with another past hears what a fresh one hears."""
    sound = pieces(speech()[48_000:])
    encoder = OpusEncoder()
    for piece in sound[:50]:
        encoder.encode(piece)
    encoder.reset()
    encoder.set_prediction_disabled(True)
    payloads = [encoder.encode(piece) for piece in sound[50:60]]
    fresh, other = OpusDecoder(), OpusDecoder()
    for payload in publish(voice(300, 0.5)):
        other.decode(payload)
    heard = [np.concatenate([decoder.decode(payload) for payload in payloads]) for decoder in (fresh, other)]
    settled = slice(3 * 960, None)
    assert level_db(heard[0][settled] - heard[1][settled]) < level_db(heard[0][settled]) - 15


def test_settings_that_opus_does_not_have_are_refused() -> None:
    encoder = OpusEncoder()
    with pytest.raises(CodecError, match="bitrate"):
        encoder.set_bitrate(0)
    with pytest.raises(CodecError, match="loss_percent"):
        encoder.set_fec(True, 101)
    with pytest.raises(CodecError, match="complexity"):
        encoder.set_complexity(11)
    with pytest.raises(CodecError, match="application"):
        OpusEncoder(application="music")
    with pytest.raises(CodecError):
        OpusEncoder(rate_hz=44_100)
    with pytest.raises(CodecError):
        encoder.encode(np.zeros(961, np.float32))
    with pytest.raises(CodecError):
        encoder.encode(np.zeros((2, 480), np.float32))


def test_loud_noise_at_the_highest_bitrate_stays_within_a_datagram() -> None:
    encoder = OpusEncoder(bitrate_bps=510_000, application="audio")
    loud = noise(5_760, rms=2.0)  # far beyond full scale: clipped, not wrapped
    payload = encoder.encode(loud)
    assert len(payload) <= MAX_PAYLOAD_BYTES
    assert payload == OpusEncoder(bitrate_bps=510_000, application="audio").encode(np.clip(loud, -1, 1))


def test_without_a_library_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    codec.load_library.cache_clear()
    monkeypatch.setattr(codec, "_candidates", lambda: ["/nonexistent/libopus.so"])
    try:
        with pytest.raises(UnavailableError) as caught:
            OpusDecoder()
        assert "libopus" in caught.value.reason
        assert "pip install" in caught.value.command
    finally:
        codec.load_library.cache_clear()
