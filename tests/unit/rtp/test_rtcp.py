import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfu.rtp import rtcp
from tests.unit.rtp.fuzz import fuzzed, hostile, parses_or_names_a_field

BLOCK = rtcp.ReportBlock(0x11111111, 64, -2, 0x00021234, 90, 0xAABBCCDD, 65536)
# RFC 3550 sections 6.4.1 and 6.4.2, by hand
SENDER_REPORT = bytes.fromhex(
    "81 c8 000c cafebabe e000000180000000 00000400 00000064 00003039"
    "11111111 40 fffffe 00021234 0000005a aabbccdd 00010000"
)
RECEIVER_REPORT = bytes.fromhex("81 c9 0007 00000001 11111111 40 fffffe 00021234 0000005a aabbccdd 00010000")
CNAME = bytes.fromhex("81 ca 0003 cafebabe 01 04 61626364 00 00")
GOODBYE = bytes.fromhex("81 cb 0001 cafebabe")
PLI = bytes.fromhex("81 ce 0002 00000001 cafebabe")
FIR = bytes.fromhex("84 ce 0004 00000001 00000000 cafebabe 05 000000")
PADDED = bytes.fromhex("a1 cd 0004 00000001 cafebabe 12340000 00000004")
ALL = (SENDER_REPORT + CNAME, RECEIVER_REPORT, GOODBYE, PLI, FIR, PADDED)

uint32 = st.integers(0, 0xFFFFFFFF)
blocks = st.lists(
    st.builds(
        rtcp.ReportBlock, uint32, st.integers(0, 255), st.integers(-0x800000, 0x7FFFFF), uint32, uint32, uint32, uint32
    ),
    max_size=31,
)


def read_everything(packet: bytes) -> None:
    for part in rtcp.split(packet):
        if part.packet_type == rtcp.SR:
            rtcp.parse_sender_info(part)
        if part.packet_type in (rtcp.SR, rtcp.RR):
            rtcp.parse_reports(part)
        if part.packet_type in (rtcp.RTPFB, rtcp.PSFB):
            rtcp.split_feedback(part)
        if part.packet_type == rtcp.PSFB and part.count == rtcp.FMT_FIR:
            rtcp.parse_fir(part)


def test_sender_report() -> None:
    (part,) = rtcp.split(SENDER_REPORT)
    assert rtcp.parse_sender_info(part) == (0xCAFEBABE, 0xE000000180000000, 1024, 100, 12345)
    assert rtcp.parse_reports(part) == [BLOCK]
    assert rtcp.build_sr(0xCAFEBABE, 0xE000000180000000, 1024, 100, 12345, [BLOCK]) == SENDER_REPORT


def test_receiver_report() -> None:
    (part,) = rtcp.split(RECEIVER_REPORT)
    assert rtcp.parse_reports(part) == [BLOCK]
    assert rtcp.build_rr(1, [BLOCK]) == RECEIVER_REPORT


def test_counters_wrap() -> None:
    (part,) = rtcp.split(rtcp.build_sr(1, 2, 3, (1 << 32) + 4, (1 << 32) + 5))
    assert rtcp.parse_sender_info(part) == (1, 2, 3, 4, 5)


def test_small_parts() -> None:
    assert rtcp.build_sdes(0xCAFEBABE, "abcd") == CNAME
    assert rtcp.build_pli(1, 0xCAFEBABE) == PLI
    assert rtcp.parse_fir(rtcp.split(FIR)[0]) == [(0xCAFEBABE, 5)]
    assert rtcp.split_feedback(rtcp.split(PLI)[0]) == (1, 0xCAFEBABE, b"")


@pytest.mark.parametrize("length", range(8))
def test_sdes_items_end_with_a_zero_and_fill_words(length: int) -> None:
    packet = rtcp.build_sdes(1, "x" * length)
    assert len(packet) % 4 == 0
    (part,) = rtcp.split(packet)
    assert part[:2] == (rtcp.SDES, 1)
    item = bytes([1, length]) + b"x" * length
    assert part.body[4 : 4 + len(item)] == item
    assert 1 <= len(part.body) - 4 - len(item) <= 4
    assert not any(part.body[4 + len(item) :])


def test_compound_and_padding() -> None:
    parts = rtcp.split(RECEIVER_REPORT + CNAME + PADDED)
    assert [(part.packet_type, part.count) for part in parts] == [(rtcp.RR, 1), (rtcp.SDES, 1), (rtcp.RTPFB, 1)]
    assert rtcp.split_feedback(parts[2]) == (1, 0xCAFEBABE, b"\x12\x34\0\0")


@pytest.mark.parametrize("size", range(9))
def test_build_pads_to_words(size: int) -> None:
    packet = rtcp.build(rtcp.RTPFB, 15, bytes(range(size)))
    assert len(packet) % 4 == 0
    assert rtcp.split(packet) == [rtcp.Part(rtcp.RTPFB, 15, bytes(range(size)))]


@pytest.mark.parametrize(
    ("packet", "field"),
    [
        (b"", "packet: empty"),
        (PLI[:3], "header"),
        (b"\x41" + PLI[1:], "version"),
        (PLI[:-1], "length"),
        (PLI + b"\0", "header"),
        (PLI + PLI[:6], "length"),
        (PADDED + PLI, "padding"),
        (PADDED[:-1] + b"\0", "padding"),
        (PADDED[:-1] + b"\x11", "padding"),
        (bytes.fromhex("a1 cb 0000"), "padding"),
    ],
)
def test_split_is_strict(packet: bytes, field: str) -> None:
    with pytest.raises(ValueError, match=field):
        rtcp.split(packet)


def test_bodies_are_checked() -> None:
    with pytest.raises(ValueError, match="sender info"):
        rtcp.parse_sender_info(rtcp.Part(rtcp.SR, 0, bytes(23)))
    with pytest.raises(ValueError, match="not a sender report"):
        rtcp.parse_sender_info(rtcp.Part(rtcp.RR, 0, bytes(24)))
    for part in (rtcp.Part(rtcp.SR, 1, bytes(47)), rtcp.Part(rtcp.RR, 2, bytes(51)), rtcp.Part(rtcp.RR, 0, b"")):
        with pytest.raises(ValueError, match="report blocks"):
            rtcp.parse_reports(part)
    with pytest.raises(ValueError, match="not a report"):
        rtcp.parse_reports(rtcp.Part(rtcp.SDES, 0, bytes(8)))
    with pytest.raises(ValueError, match="feedback SSRCs"):
        rtcp.split_feedback(rtcp.Part(rtcp.PSFB, 1, bytes(7)))
    with pytest.raises(ValueError, match="not feedback"):
        rtcp.split_feedback(rtcp.Part(rtcp.RR, 1, bytes(8)))
    for size in (8, 12, 17):
        with pytest.raises(ValueError, match="FIR entries"):
            rtcp.parse_fir(rtcp.Part(rtcp.PSFB, rtcp.FMT_FIR, bytes(size)))
    with pytest.raises(ValueError, match="not a full intra request"):
        rtcp.parse_fir(rtcp.Part(rtcp.PSFB, rtcp.FMT_PLI, bytes(16)))


def test_builders_refuse_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="report blocks"):
        rtcp.build_rr(1, [BLOCK] * 32)
    with pytest.raises(ValueError, match="CNAME"):
        rtcp.build_sdes(1, "é" * 128)


@fuzzed
@given(hostile(ALL))
def test_hostile_bytes(packet: bytes) -> None:
    parses_or_names_a_field(read_everything, packet)


@fuzzed
@given(uint32, st.integers(0, (1 << 64) - 1), uint32, uint32, uint32, blocks)
def test_reports_round_trip(
    ssrc: int, ntp: int, timestamp: int, packets: int, octets: int, reports: list[rtcp.ReportBlock]
) -> None:
    sent, received = rtcp.split(
        rtcp.build_sr(ssrc, ntp, timestamp, packets, octets, reports) + rtcp.build_rr(ssrc, reports)
    )
    assert rtcp.parse_sender_info(sent) == (ssrc, ntp, timestamp, packets, octets)
    assert rtcp.parse_reports(sent) == rtcp.parse_reports(received) == reports
