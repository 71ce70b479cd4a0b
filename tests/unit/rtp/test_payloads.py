"""H.264, VP9, AV1 and Opus: what is read from the first bytes of a payload."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media_processors.codec import OpusDecoder
from sfu.rtp import av1, h264, opus, vp9
from tests.unit.rtp.fuzz import fuzzed, hostile, parses_or_names_a_field

SPS, PPS, IDR, SLICE, SEI = b"\x67\x42", b"\x68\xce", b"\x65\x88", b"\x41\x9a", b"\x06\x05"


def stap_a(*units: bytes) -> bytes:
    return b"\x78" + b"".join(len(unit).to_bytes(2, "big") + unit for unit in units)


@pytest.mark.parametrize(
    ("payload", "keyframe"),
    [
        (SPS, True),
        (IDR, True),
        (PPS, False),
        (SLICE, False),
        (SEI, False),
        (stap_a(SPS, PPS), True),
        (stap_a(SEI, PPS, IDR), True),
        (stap_a(SEI, SLICE), False),
        (b"\x7c\x85\x88", True),  # FU-A, start, IDR
        (b"\x7c\x45\x88", False),  # FU-A, end, IDR
        (b"\x7c\x81\x9a", False),  # FU-A, start, other slice
        (b"\x7d\x85\x88", False),  # FU-B belongs to the interleaved mode, which nobody negotiates
    ],
)
def test_h264(payload: bytes, keyframe: bool) -> None:
    assert h264.is_keyframe(payload) is keyframe


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        (b"", "payload"),
        (b"\x7c", "FU header"),
        (b"\x78", "STAP-A: holds no unit"),
        (b"\x78\x00", "unit size"),
        (b"\x78\x00\x00", "unit size"),
        (stap_a(SPS)[:-1], "unit size"),
        (stap_a(SPS) + b"\x01", "unit size"),
    ],
)
def test_h264_malformed(payload: bytes, field: str) -> None:
    with pytest.raises(ValueError, match=field):
        h264.is_keyframe(payload)


START = b"\x00\x00\x00\x01"


@pytest.mark.parametrize(
    ("payload", "stream"),
    [
        (SPS, START + SPS),
        (stap_a(SPS, PPS), START + SPS + START + PPS),
        (b"\x7c\x85\x88\x99", START + b"\x65\x88\x99"),  # FU-A, start: NRI of the indicator, type of the header
        (b"\x5c\x41\x9a", b"\x9a"),  # FU-A, end
    ],
)
def test_h264_annex_b(payload: bytes, stream: bytes) -> None:
    assert h264.annex_b(payload) == stream


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        (b"", "payload"),
        (b"\x7c\x85", "FU header"),
        (b"\x78", "STAP-A: holds no unit"),
        (stap_a(SPS)[:-1], "unit size"),
        (b"\x7d\x85\x88", "packet type"),  # FU-B
        (b"\x79\x00\x00", "packet type"),  # STAP-B
        (b"\x60\x00", "packet type"),  # 0 is reserved
    ],
)
def test_h264_annex_b_malformed(payload: bytes, field: str) -> None:
    with pytest.raises(ValueError, match=field):
        h264.annex_b(payload)


@fuzzed
@given(st.lists(st.tuples(st.sampled_from([1, 5, 6, 7, 8]), st.binary(min_size=2, max_size=30)), min_size=1), st.data())
def test_h264_units_come_back_however_they_are_packed(units: list[tuple[int, bytes]], data: st.DataObject) -> None:
    packed: list[bytes] = []
    for kind, body in units:
        way = data.draw(st.sampled_from(["single", "aggregated", "fragments"]))
        unit = bytes([0x60 | kind]) + body
        if way == "fragments":
            cut = data.draw(st.integers(1, len(body) - 1))
            packed += [b"\x7c" + bytes([0x80 | kind]) + body[:cut], b"\x7c" + bytes([0x40 | kind]) + body[cut:]]
        else:
            packed.append(unit if way == "single" else stap_a(unit))
    expected = b"".join(START + bytes([0x60 | kind]) + body for kind, body in units)
    assert b"".join(h264.annex_b(payload) for payload in packed) == expected


@pytest.mark.parametrize(
    ("payload", "keyframe"),
    [
        (b"\x08..", True),  # B, nothing optional
        (b"\x48..", False),  # P
        (b"\x00..", False),  # not the first packet
        (b"\x88\x05.", True),  # 7-bit picture id
        (b"\x88\x85\x01.", True),  # 15-bit picture id
        (b"\xa8\x85\x01\x00.", True),  # lowest spatial layer
        (b"\xa8\x85\x01\xe0.", True),  # its temporal id does not matter
        (b"\xa8\x85\x01\x02.", False),  # spatial layer 1
        (b"\x28\x02.", False),
        (b"\xac\x80\x00\x11.", True),  # spatial id 0, with D (inter-layer) set; E, the last packet, as well
    ],
)
def test_vp9(payload: bytes, keyframe: bool) -> None:
    assert vp9.is_keyframe(payload) is keyframe


@pytest.mark.parametrize("payload", [b"", b"\x08", b"\x88", b"\x88\x05", b"\x88\x85\x01", b"\x28"])
def test_vp9_malformed(payload: bytes) -> None:
    with pytest.raises(ValueError, match="VP9"):
        vp9.is_keyframe(payload)


@pytest.mark.parametrize(("payload", "keyframe"), [(b"\x18\x0a", True), (b"\x10\x32", False), (b"\x90\x32", False)])
def test_av1(payload: bytes, keyframe: bool) -> None:
    assert av1.is_keyframe(payload) is keyframe


@pytest.mark.parametrize("payload", [b"", b"\x18", b"\x98\x0a"])
def test_av1_malformed(payload: bytes) -> None:
    with pytest.raises(ValueError, match="AV1 aggregation header"):
        av1.is_keyframe(payload)


def toc(config: int, stereo: bool = False, code: int = 0) -> int:
    return config << 3 | stereo << 2 | code


# RFC 6716 table 2, in milliseconds.
FRAME_MS = [10, 20, 40, 60] * 3 + [10, 20] * 2 + [2.5, 5, 10, 20] * 4


@pytest.mark.parametrize("config", range(32))
def test_opus_duration_by_configuration_and_code(config: int) -> None:
    for rate in (8000, 12000, 16000, 24000, 48000):
        samples = FRAME_MS[config] * rate / 1000
        assert opus.duration_samples(bytes([toc(config)]), rate) == samples
        assert opus.duration_samples(bytes([toc(config, code=1)]), rate) == 2 * samples
        assert opus.duration_samples(bytes([toc(config, code=2)]), rate) == 2 * samples
        most = int(120 / FRAME_MS[config])
        for count in range(1, most + 1):
            assert opus.duration_samples(bytes([toc(config, code=3), 0xC0 | count]), rate) == count * samples
        for count in (0, most + 1, 63):
            with pytest.raises(ValueError, match="frame count"):
                opus.duration_samples(bytes([toc(config, code=3), count]), rate)


@pytest.mark.parametrize("samples", [120, 240, 480, 960, 1_440, 1_920, 2_880, 5_760])
def test_opus_silence_is_silent_for_as_long_as_it_should_be(samples: int) -> None:
    payload = opus.silence(samples)
    assert opus.duration_samples(payload) == samples
    assert not opus.has_fec(payload)
    decoded = OpusDecoder().decode(payload)
    assert decoded.shape == (samples,)
    assert abs(decoded).max() < 1e-9


def test_opus_flags() -> None:
    assert opus.is_stereo(bytes([toc(31, stereo=True), 1]))
    assert not opus.is_stereo(bytes([toc(31), 1]))
    assert opus.is_dtx(bytes([toc(1)]))
    assert opus.is_dtx(bytes([toc(1), 0]))
    assert not opus.is_dtx(bytes([toc(1), 0, 0]))


# The beginnings of packets that libopus 1.6.1 encoded, with in-band FEC on and off.
WITH_FEC = (
    "48c3cb54641e46a1855b6a80c76a140ce22ba6abf38a50de76c20319ef90c372e2f00887a69c5f8253666bd1c358821e457554071502"
)
STEREO_WITH_FEC = "40c36e90bde1abaef6420d59f99d5b1a8c773d637aa04c1562cdce5e46fec0"
WITHOUT_FEC = "48833fdf882aa2308b004f75a3d7c657a86d4ba6e69a9a5bd0e2369ac079d883e1d27bf0f00dc5105aa45e01fc086ca8e306c0"
STEREO_WITHOUT_FEC = "0082e32722e510378b162adc6578"
FRAME_WITH_FEC = b"\xc3\xcb\x54"
FRAME_WITHOUT_FEC = b"\x83\x3f\xdf"


@pytest.mark.parametrize(
    ("packet", "fec"),
    [
        (bytes.fromhex(WITH_FEC), True),
        (bytes.fromhex(STEREO_WITH_FEC), True),
        (bytes.fromhex(WITHOUT_FEC), False),
        (bytes.fromhex(STEREO_WITHOUT_FEC), False),
        (bytes([toc(9)]), False),  # an empty frame: DTX
        (bytes([toc(31)]) + b"\xff\xff", False),  # CELT has none
        (bytes([toc(9, code=1)]) + FRAME_WITH_FEC + FRAME_WITHOUT_FEC, True),
        (bytes([toc(9, code=1)]) + FRAME_WITHOUT_FEC + FRAME_WITH_FEC, False),  # FEC is in the first frame
        (bytes([toc(9, code=2), 3]) + FRAME_WITH_FEC + b"\x83", True),
        (bytes([toc(9, code=2), 252, 0]) + FRAME_WITH_FEC + bytes(249) + b"\x83", True),  # a size of two bytes
        (bytes([toc(9, code=3), 2]) + FRAME_WITH_FEC + FRAME_WITHOUT_FEC, True),
        (bytes([toc(9, code=3), 0x42, 4]) + FRAME_WITH_FEC + FRAME_WITHOUT_FEC + bytes(4), True),
        (bytes([toc(9, code=3), 0x43, 255, 0]) + FRAME_WITH_FEC * 3 + bytes(254), True),
        (bytes([toc(9, code=3), 0x41, 255, 0]) + b"\xff" * 254, False),  # an empty frame, then 254 bytes of padding
        (bytes([toc(9, code=3), 0x83, 3, 3]) + FRAME_WITH_FEC * 2 + b"\x83", True),
        (bytes([toc(9, code=3), 0x81]) + FRAME_WITH_FEC, True),
    ],
)
def test_opus_fec(packet: bytes, fec: bool) -> None:
    assert opus.has_fec(packet) is fec


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        (b"", "payload"),
        (bytes([toc(9, code=2)]), "frame size"),
        (bytes([toc(9, code=2), 252]), "frame size"),
        (bytes([toc(9, code=2), 5, 1]), "frame length"),
        (bytes([toc(9, code=3)]), "frame count"),
        (bytes([toc(9, code=3), 0x42]), "padding size"),
        (bytes([toc(9, code=3), 0x42, 255]), "padding size"),
        (bytes([toc(9, code=3), 0x42, 9]), "padding: exceeds"),
    ],
)
def test_opus_malformed(payload: bytes, field: str) -> None:
    with pytest.raises(ValueError, match=field):
        opus.has_fec(payload)


def test_opus_empty() -> None:
    for read in (opus.duration_samples, opus.is_stereo, opus.is_dtx, opus.has_fec):
        with pytest.raises(ValueError, match="payload: empty"):
            read(b"")


@fuzzed
@given(
    st.sampled_from(
        (h264.is_keyframe, h264.annex_b, vp9.is_keyframe, av1.is_keyframe, opus.duration_samples, opus.has_fec)
    ),
    hostile((stap_a(SPS, PPS), b"\x7c\x85\x88", b"\xa8\x85\x01\x00.", b"\x18\x0a", bytes.fromhex(WITH_FEC))),
)
def test_hostile_bytes(parse: object, payload: bytes) -> None:
    assert callable(parse)
    parses_or_names_a_field(parse, payload)
