"""Bytes of anybody: whatever they are, they become a sound or a picture, or are refused."""

import io
import struct
import wave
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.service import media
from models.service.errors import ServiceError
from tests.unit.service.kit import png, wav


def jpeg(width: int, height: int) -> bytes:
    return cv2.imencode(".jpg", np.full((height, width, 3), 90, np.uint8))[1].tobytes()


def encoded(container: str, codec: str) -> bytes:
    """A second of noise at 48 kHz."""
    samples = np.random.default_rng(1).normal(0, 3_000, (1, 48_000)).astype(np.int16)
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=48_000, layout="mono")
        frame_size = 960 if codec == "libopus" else 1024
        resampler = av.AudioResampler(
            format=stream.codec_context.format, layout="mono", rate=48_000, frame_size=frame_size
        )
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.rate, frame.time_base = 48_000, Fraction(1, 48_000)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(part))
        output.mux(stream.encode(None))
    return file.getvalue()


@pytest.mark.parametrize(
    ("container", "codec"),
    [("ogg", "libopus"), ("webm", "libopus"), ("mp3", "libmp3lame"), ("flac", "flac"), ("adts", "aac")],
)
def test_what_browsers_and_recorders_make(container: str, codec: str) -> None:
    pcm = media.sound(encoded(container, codec), 16_000).pcm
    assert pcm.size == pytest.approx(16_000, abs=1_200)
    assert 1_000 < np.abs(pcm.astype(np.float64)).mean() < 4_000


@pytest.mark.parametrize(("container", "codec"), [("aiff", "pcm_s16be"), ("mp4", "aac")])
def test_a_container_that_is_not_meant_is_refused_though_the_library_knows_it(container: str, codec: str) -> None:
    with pytest.raises(ServiceError) as caught:
        media.sound(encoded(container, codec), 16_000)
    assert caught.value.status == 415


def at_rate(rate_hz: int, samples: int) -> bytes:
    """Digital silence, as a WAVE file that claims any rate."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate_hz)
        writer.writeframes(bytes(2 * samples))
    return file.getvalue()


@pytest.mark.parametrize(("rate_hz", "status"), [(1, 415), (3_999, 415), (400_000, 415), (4_000, 413)])
def test_few_bytes_do_not_become_hours_of_sound(rate_hz: int, status: int) -> None:
    with pytest.raises(ServiceError) as caught:
        media.sound(at_rate(rate_hz, 61 * 4_000), 16_000)
    assert caught.value.status == status


def test_a_jpeg_is_read_as_the_decoder_reads_it_or_not_at_all() -> None:
    huge = b"\xff\xc0\x00\x11\x08" + struct.pack(">HH", 20_000, 20_000)
    small = b"\xff\xc0\x00\x11\x08" + struct.pack(">HH", 64, 64)
    for alone in (b"\xff\x01", b"\xff\xd0", b"\xff\xd8"):  # markers without a length: what follows is not one
        with pytest.raises(ServiceError) as caught:
            media.picture(b"\xff\xd8" + alone + huge + bytes(65_463 - 2) + small + jpeg(64, 64)[2:])
        assert caught.value.status == 415


def test_a_sound_comes_back_as_it_was() -> None:
    pcm = media.sound(wav(0.5), 16_000).pcm
    again = media.sound(media.unpacked(media.wav_text(pcm, 16_000)), 16_000).pcm
    np.testing.assert_array_equal(pcm, again)


@pytest.mark.parametrize("make", [jpeg, png])
def test_pictures(make: object) -> None:
    assert callable(make)
    image = media.picture(make(30, 20))
    assert image.shape == (20, 30, 3)
    np.testing.assert_array_equal(media.picture(media.unpacked(media.png_text(image))), image)


def test_a_picture_is_shrunk_to_as_many_pixels_as_are_wanted() -> None:
    smaller, scale = media.shrunk(np.zeros((100, 400, 3), np.uint8), 10_000)
    assert (smaller.shape[:2], scale) == ((50, 200), 0.5)


@given(
    st.sampled_from([b"", b"\xff\xd8", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", png(3, 3)[:30]]),
    st.binary(max_size=200),
)
def test_any_bytes_are_a_picture_or_refused(head: bytes, tail: bytes) -> None:
    try:
        assert media.picture(head + tail).ndim == 3
    except ServiceError as error:
        assert error.status in (413, 415)


@settings(max_examples=40)
@given(st.sampled_from([b"", wav(0.1)[:44], b"OggS", b"fLaC", b"ID3", b"\x1aE\xdf\xa3"]), st.binary(max_size=200))
def test_any_bytes_are_a_sound_or_refused(head: bytes, tail: bytes) -> None:
    try:
        assert media.sound(head + tail, 16_000).pcm.size
    except ServiceError as error:
        assert error.status in (413, 415, 422)
