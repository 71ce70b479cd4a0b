import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfu.rtp import extensions, header
from tests.unit.rtp.fuzz import fuzzed, hostile, parses_or_names_a_field

FIXED = bytes.fromhex("80 ef 1234 00010203 cafebabe")  # V=2, M=1, PT=111
# abs-send-time under 2, transport-cc under 3, three bytes of padding to 32 bits
BROWSER = bytes.fromhex("90 6f 1234 00010203 cafebabe bede 0003 22 010203 31 0405 10 8a 000000") + b"payload"
# RFC 8285 section 4.3: elements of 0, 1 and 4 bytes with padding between them
TWO_BYTE = bytes.fromhex("90 60 0001 00000002 00000003 1000 0003 0100 02 01 aa 00 14 04 01020304") + b"x"
TWO_CSRCS = bytes.fromhex("82 60 0001 00000002 00000003 11111111 22222222") + b"xy"
PADDED = bytes.fromhex("a0 60 0001 00000002 00000003") + b"abc" + bytes.fromhex("0000 03")
ONLY_PADDING = bytes.fromhex("a0 60 0001 00000002 00000003 00000004")
EVERYTHING = bytes.fromhex("b1 e0 ffff ffffffff 00000003 11111111 bede 0001 50 61 0000") + b"ab" + bytes.fromhex("01")
ALL = (FIXED, BROWSER, TWO_BYTE, TWO_CSRCS, PADDED, ONLY_PADDING, EVERYTHING)


def payload(packet: bytes) -> bytes:
    parsed = header.parse(packet)
    return packet[parsed.payload_start : parsed.payload_end]


def test_fixed_header() -> None:
    assert header.parse(FIXED) == (0x80, 111, 0x1234, 0x00010203, 0xCAFEBABE, {}, 12, 12)


@pytest.mark.parametrize(
    ("packet", "elements", "content"),
    [
        (BROWSER, {2: b"\1\2\3", 3: b"\4\5", 1: b"\x8a"}, b"payload"),
        (TWO_BYTE, {1: b"", 2: b"\xaa", 20: b"\1\2\3\4"}, b"x"),
        (TWO_CSRCS, {}, b"xy"),
        (PADDED, {}, b"abc"),
        (ONLY_PADDING, {}, b""),
        (EVERYTHING, {5: b"a"}, b"ab"),
    ],
)
def test_extensions_csrcs_and_padding(packet: bytes, elements: dict[int, bytes], content: bytes) -> None:
    assert header.parse(packet).extensions == elements
    assert payload(packet) == content


@pytest.mark.parametrize(
    ("profile", "words", "elements"),
    [
        ("bede", "10 aa 20 bb", {1: b"\xaa", 2: b"\xbb"}),
        ("bede", "10 aa f0 bb", {1: b"\xaa"}),  # identifier 15 ends the list (RFC 8285 section 4.2)
        ("bede", "10 aa 03 bb", {1: b"\xaa"}),  # so does identifier 0 with a length
        ("bede", "10 aa 10 bb", {1: b"\xbb"}),
        ("bede", "", {}),
        ("1005", "07 01 aa 00", {7: b"\xaa"}),  # the low bits of the two-byte profile are the application's
        ("1234", "10 aa 20 bb", {}),  # somebody's own extension is skipped
    ],
)
def test_extension_blocks(profile: str, words: str, elements: dict[int, bytes]) -> None:
    block = bytes.fromhex(words)
    prefix = bytes.fromhex(f"60 0001 00000002 00000003 {profile}") + struct.pack("!H", len(block) // 4)
    for first in (0x90, 0xB0):  # the quick path, and the general one by way of padding
        packet = bytes([first]) + prefix + block + b"!!\2"
        parsed = header.parse(packet)
        assert parsed.extensions == elements
        assert packet[parsed.payload_start :] == b"!!\2"


@pytest.mark.parametrize(
    ("packet", "field"),
    [
        (b"", "fixed header"),
        (FIXED[:11], "fixed header"),
        (b"\x40" + FIXED[1:], "version"),
        (b"\x81" + FIXED[1:], "CSRC list"),
        (b"\x90" + FIXED[1:], "header extension: exceeds"),
        (BROWSER[:16], "header extension: exceeds"),
        (BROWSER[:26], "header extension: exceeds"),
        (bytes.fromhex("90 60 0001 00000002 00000003 bede 0001 10 aa 25 bb 000000000000"), "element"),
        (bytes.fromhex("91 60 0001 00000002 00000003 00000000 bede 0001 10 aa 25 bb"), "element"),
        (bytes.fromhex("90 60 0001 00000002 00000003 1000 0001 01 00 00 02"), "element: has no length"),
        (bytes.fromhex("90 60 0001 00000002 00000003 1000 0001 01 03 0000 00000000"), "element: exceeds"),
        (b"\xa0" + FIXED[1:] + b"ab\0", "padding"),
        (b"\xa0" + FIXED[1:] + b"ab\4", "padding"),
    ],
)
def test_malformed(packet: bytes, field: str) -> None:
    with pytest.raises(ValueError, match=field):
        header.parse(packet)


@fuzzed
@given(hostile(ALL))
def test_hostile_bytes(packet: bytes) -> None:
    parses_or_names_a_field(header.parse, packet)


@fuzzed
@given(
    st.booleans(),
    st.dictionaries(st.integers(1, 14), st.binary(min_size=1, max_size=16), max_size=4),
    st.lists(st.integers(0, 0xFFFFFFFF), max_size=15),
    st.binary(max_size=20),
    st.integers(0, 255),
)
def test_what_is_built_is_parsed(
    two_byte: bool, elements: dict[int, bytes], csrcs: list[int], content: bytes, padding: int
) -> None:
    block = b"".join(
        (bytes([key, len(value)]) if two_byte else bytes([key << 4 | len(value) - 1])) + value
        for key, value in elements.items()
    )
    block += bytes(-len(block) % 4)
    first = 0x90 | len(csrcs) | (0x20 if padding else 0)
    packet = struct.pack("!BBHII", first, 96, 7, 8, 9) + struct.pack(f"!{len(csrcs)}I", *csrcs)
    packet += struct.pack("!HH", 0x1000 if two_byte else 0xBEDE, len(block) // 4) + block + content
    packet += bytes(padding - 1) + bytes([padding]) if padding else b""
    parsed = header.parse(packet)
    assert parsed[:5] == (0, 96, 7, 8, 9)
    assert parsed.extensions == elements
    assert payload(packet) == content


def outcome(packet: bytes) -> tuple[object, bytes] | str:
    try:
        parsed = header.parse(packet)
    except ValueError as error:
        return str(error)
    return parsed.extensions, packet[parsed.payload_start : parsed.payload_end]


@fuzzed
@given(hostile((BROWSER[12:], EVERYTHING[16:])))
def test_the_quick_path_agrees_with_the_general_one(rest: bytes) -> None:
    fixed = BROWSER[1:12]
    assert outcome(b"\x90" + fixed + rest) == outcome(b"\x91" + fixed + b"csrc" + rest)


@pytest.mark.parametrize(
    ("a", "b", "delta"),
    [(1, 0, 1), (0, 1, -1), (0, 65535, 1), (65535, 0, -1), (32767, 0, 32767), (32768, 0, -32768), (5, 5, 0)],
)
def test_seq_delta(a: int, b: int, delta: int) -> None:
    assert header.seq_delta(a, b) == delta


@pytest.mark.parametrize(
    ("a", "b", "delta"), [(0, 0xFFFFFFFF, 1), (0xFFFFFFFF, 0, -1), (0x80000000, 0, -0x80000000), (960, 0, 960)]
)
def test_timestamp_delta(a: int, b: int, delta: int) -> None:
    assert header.timestamp_delta(a, b) == delta


def test_extension_names_and_uris_are_inverse() -> None:
    assert {extensions.URIS[name]: name for name in extensions.URIS} == extensions.NAMES
    assert set(extensions.URIS) == {"audio-level", "abs-send-time", "transport-cc", "mid", "rid", "repaired-rid"}


def test_abs_send_time_counts_from_1900_modulo_64_s() -> None:
    seconds = 1_700_000_000.25
    from_1900 = int((seconds + 2_208_988_800) * (1 << 18)) & 0xFFFFFF
    assert extensions.abs_send_time(seconds) == from_1900
    assert extensions.abs_send_time(63.5) == 63 << 18 | 1 << 17
    assert extensions.abs_send_time(64.0) == 0


def test_audio_level() -> None:
    assert extensions.parse_audio_level(b"\x8a") == (10, True)
    assert extensions.parse_audio_level(b"\x7f") == (127, False)
    for value in (b"", b"\1\2"):
        with pytest.raises(ValueError, match="audio level"):
            extensions.parse_audio_level(value)
