"""Sizes in H.264 parameter sets: of real encoders, and hostile."""

from fractions import Fraction

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfu.rtp import h264_sps
from tests.unit.rtp.fuzz import fuzzed, hostile, parses_or_names_a_field

PROFILES = {"baseline": "yuv420p", "main": "yuv420p", "high": "yuv420p", "high422": "yuv422p", "high444": "yuv444p"}


def parameter_set(profile: str, width: int, height: int, **options: str) -> bytes:
    """What libx264 writes."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, PROFILES[profile]
    encoder.time_base = Fraction(1, 30)
    encoder.options = {"profile": profile, "preset": "ultrafast", "tune": "zerolatency", **options}
    frame = av.VideoFrame(width, height, PROFILES[profile])
    frame.pts = 0
    stream = b"".join(bytes(packet) for packet in encoder.encode(frame))
    units = stream.replace(b"\x00\x00\x00\x01", b"\x00\x00\x01").split(b"\x00\x00\x01")
    return next(unit for unit in units if unit and unit[0] & 0x1F == 7)


SPS = parameter_set("baseline", 640, 360)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(("width", "height"), [(640, 360), (480, 270), (1280, 720), (64, 48), (240, 134)])
def test_sizes_of_a_real_encoder(profile: str, width: int, height: int) -> None:
    unit = parameter_set(profile, width, height)
    assert h264_sps.picture_size(unit) == (width, height)
    stap_a = b"\x78" + b"".join(len(one).to_bytes(2, "big") + one for one in (b"\x09\x10", unit, b"\x68\xce"))
    assert h264_sps.picture_size(stap_a) == (width, height)


def test_interlaced_pictures_count_both_fields() -> None:
    assert h264_sps.picture_size(parameter_set("main", 720, 576, **{"x264-params": "interlaced=1"})) == (720, 576)


@pytest.mark.parametrize("payload", [b"\x65\x88", b"\x7c\x85\x88", b"\x41\x9a"])
def test_a_packet_without_a_parameter_set_says_nothing(payload: bytes) -> None:
    assert h264_sps.picture_size(payload) is None


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        (b"", "payload: empty"),
        (SPS[:6], "cut short"),
        (SPS[:4] + bytes(8), "too long"),
        (SPS + bytes(64), "longer than is read"),
    ],
)
def test_malformed(payload: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        h264_sps.picture_size(payload)


@fuzzed
@given(
    st.one_of(
        hostile((SPS, b"\x78\x00" + bytes([len(SPS)]) + SPS)), st.binary(max_size=64).map(lambda tail: b"\x67" + tail)
    )
)
def test_hostile_bytes(payload: bytes) -> None:
    parses_or_names_a_field(h264_sps.picture_size, payload)
