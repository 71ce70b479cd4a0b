import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfu.rtp import vp8
from tests.unit.rtp.fuzz import fuzzed, hostile, parses_or_names_a_field

# RFC 6386 section 9.1: frame tag with bit 0 clear, start code, 640 x 360 with upscaling bits set
KEY = bytes.fromhex("10 02 00 9d 01 2a 80 42 68 41")
DELTA = bytes.fromhex("31 02 00 aa bb")
CHROMIUM = bytes.fromhex("90 e0 92 34 56 a0")  # X S, I L T, picture id 0x1234 (15 bits), tl0 0x56, temporal layer 2
SHORT_ID = bytes.fromhex("90 80 55")
NO_EXTENSION = bytes.fromhex("10")
CONTINUED = bytes.fromhex("80 c0 92 34 56")
ALL = (CHROMIUM + KEY, SHORT_ID + DELTA, NO_EXTENSION + KEY, CONTINUED + DELTA)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (CHROMIUM + KEY, (True, True, 0x1234, 2, True, 0x56, 4, 2, 640, 360)),
        (CHROMIUM + DELTA, (False, True, 0x1234, 2, True, 0x56, 4, 2, 0, 0)),
        (SHORT_ID + KEY, (True, True, 0x55, 2, False, 0, 0, 0, 640, 360)),
        (NO_EXTENSION + KEY, (True, True, 0, 0, False, 0, 0, 0, 640, 360)),
        (
            CONTINUED + KEY,
            (False, False, 0x1234, 2, True, 0x56, 4, 0, 0, 0),
        ),  # S is clear: not the frame's first packet
        (b"\x11" + KEY, (False, False, 0, 0, False, 0, 0, 0, 0, 0)),  # starts partition 1, not the frame
        (b"\x30" + DELTA, (False, True, 0, 0, False, 0, 0, 0, 0, 0)),  # N: not a reference
        (bytes.fromhex("90 10 c5") + DELTA, (False, True, 0, 0, False, 0, 0, 0, 0, 0)),  # only K: TID means nothing
        (bytes.fromhex("90 40 07") + DELTA, (False, True, 0, 0, False, 7, 2, 0, 0, 0)),
        (bytes.fromhex("90 60 07 40") + DELTA, (False, True, 0, 0, False, 7, 2, 1, 0, 0)),
        (bytes.fromhex("90 00") + DELTA, (False, True, 0, 0, False, 0, 0, 0, 0, 0)),
    ],
)
def test_descriptor(payload: bytes, expected: tuple[int, ...]) -> None:
    assert vp8.parse(payload) == expected


@pytest.mark.parametrize("descriptor", [CHROMIUM, SHORT_ID, NO_EXTENSION, CONTINUED])
def test_a_descriptor_needs_all_its_bytes_and_a_frame(descriptor: bytes) -> None:
    for length in range(len(descriptor) + 1):
        with pytest.raises(ValueError, match="payload descriptor"):
            vp8.parse(descriptor[:length])


def test_a_key_frame_needs_its_header() -> None:
    for length in range(1, len(KEY)):
        with pytest.raises(ValueError, match="key frame header"):
            vp8.parse(CHROMIUM + KEY[:length])
    with pytest.raises(ValueError, match="start code"):
        vp8.parse(CHROMIUM + KEY[:3] + b"\x9d\x01\x2b" + KEY[6:])


@fuzzed
@given(hostile(ALL))
def test_hostile_bytes(payload: bytes) -> None:
    parses_or_names_a_field(vp8.parse, payload)


@fuzzed
@given(st.sampled_from(ALL), st.integers(0, 20), st.integers(0, 1 << 20), st.integers(0, 1 << 20), st.booleans())
def test_rewrite_changes_only_its_fields(payload: bytes, at: int, picture_id: int, tl0: int, as_view: bool) -> None:
    before = vp8.parse(payload)
    buffer = bytearray(at) + payload + b"tail"
    vp8.rewrite(memoryview(buffer) if as_view else buffer, at, before, picture_id, tl0)
    assert buffer[:at] == bytes(at)
    assert buffer[at + len(payload) :] == b"tail"
    after = vp8.parse(bytes(buffer[at : at + len(payload)]))
    mask = 0x7FFF if before.picture_id_long else 0x7F if before.picture_id_at else 0
    assert after == before._replace(picture_id=picture_id & mask, tl0=tl0 & 0xFF if before.tl0_at else 0)
    vp8.rewrite(buffer, at, before, before.picture_id, before.tl0)
    assert buffer[at : at + len(payload)] == payload


@fuzzed
@given(st.integers(0, 16383), st.integers(0, 16383), st.integers(0, 3))
def test_size_has_14_bits(width: int, height: int, scale: int) -> None:
    size = struct.pack("<HH", width | scale << 14, height | scale << 14)
    descriptor = vp8.parse(NO_EXTENSION + KEY[:6] + size)
    assert (descriptor.width, descriptor.height) == (width, height)


@pytest.mark.parametrize("descriptor", [CHROMIUM, SHORT_ID, NO_EXTENSION, CONTINUED, b"\x90\x10\xc5", b"\x90\x00"])
def test_frame_data_is_what_follows_the_descriptor(descriptor: bytes) -> None:
    assert vp8.frame_data(descriptor + KEY) == KEY
    for length in range(len(descriptor) + 1):
        with pytest.raises(ValueError, match="payload descriptor"):
            vp8.frame_data(descriptor[:length])


@fuzzed
@given(hostile(ALL))
def test_frame_data_of_hostile_bytes(payload: bytes) -> None:
    parses_or_names_a_field(vp8.frame_data, payload)


@fuzzed
@given(hostile(ALL))
def test_what_parses_has_frame_data(payload: bytes) -> None:
    try:
        descriptor = vp8.parse(payload)
    except ValueError:
        return
    data = vp8.frame_data(payload)
    assert payload.endswith(data)
    if descriptor.keyframe:
        assert data[3:6] == b"\x9d\x01\x2a"
