"""NACK, REMB and transport-wide congestion control feedback."""

import math
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfu.rtp import nack, remb, rtcp, twcc
from tests.unit.rtp.fuzz import fuzzed, hostile, parses_or_names_a_field

MS = 1_000_000


def fci_of(packet: bytes, packet_type: int, fmt: int) -> bytes:
    (part,) = rtcp.split(packet)
    assert (part.packet_type, part.count) == (packet_type, fmt)
    feedback = rtcp.split_feedback(part)
    assert feedback.sender == 1
    return feedback.fci


# --- NACK


def test_nack_mask_counts_from_the_number_after_the_first() -> None:
    assert nack.parse(bytes.fromhex("0064 8005")) == [100, 101, 103, 116]
    assert nack.parse(bytes.fromhex("ffff 0001 0010 0000")) == [65535, 0, 16]


@pytest.mark.parametrize("fci", [b"", b"\0", bytes(5)])
def test_nack_malformed(fci: bytes) -> None:
    with pytest.raises(ValueError, match="NACK entries"):
        nack.parse(fci)


@pytest.mark.parametrize(
    ("lost", "entries"),
    [
        ([100], 1),
        (list(range(100, 117)), 1),
        (list(range(100, 118)), 2),
        ([65530, 65535, 65536, 65546], 1),
        ([5, 5, 6], 1),
        ([10, 9], 2),
    ],
)
def test_nack_shares_entries(lost: list[int], entries: int) -> None:
    fci = fci_of(nack.build(1, 2, lost), rtcp.RTPFB, rtcp.FMT_NACK)
    assert len(fci) == 4 * entries
    assert nack.parse(fci) == [seq & 0xFFFF for seq in dict.fromkeys(lost)]


def test_nack_of_nothing() -> None:
    with pytest.raises(ValueError, match="NACK entries"):
        nack.build(1, 2, [])


@fuzzed
@given(st.integers(0, 1 << 20), st.sets(st.integers(0, 3000), min_size=1, max_size=100))
def test_nack_round_trip(base: int, offsets: set[int]) -> None:
    lost = [base + offset for offset in sorted(offsets)]
    fci = fci_of(nack.build(1, 2, lost), rtcp.RTPFB, rtcp.FMT_NACK)
    assert nack.parse(fci) == [seq & 0xFFFF for seq in lost]


@fuzzed
@given(hostile((bytes.fromhex("0064 8005 ffff 0001"),)))
def test_nack_hostile_bytes(fci: bytes) -> None:
    parses_or_names_a_field(nack.parse, fci)


# --- when to send a NACK


def tracker() -> nack.NackTracker:
    """One that has seen 65530 and then 65538 at 0: seven are missing, across the wrap."""
    made = nack.NackTracker()
    made.note(65530, 0)
    made.note(65538, 0)
    return made


def test_a_loss_is_asked_for_after_the_reordering_tolerance() -> None:
    tracked = tracker()
    assert tracked.due(9 * MS) == []
    assert tracked.due(10 * MS) == [65531, 65532, 65533, 65534, 65535, 0, 1]
    assert tracked.due(10 * MS) == []


def test_reordering_is_not_loss() -> None:
    tracked = tracker()
    for seq in (65537, 65531, 65532, 65536, 65533, 65535, 65534):
        tracked.note(seq, 5 * MS)
    assert tracked.due(1000 * MS) == []
    assert tracked.abandoned == 0


def test_repeats_are_spaced_and_end() -> None:
    tracked = tracker()
    asked_ms = [now_ms for now_ms in range(3000) if tracked.due(now_ms * MS)]
    assert asked_ms == [10 + attempt * 100 for attempt in range(nack.MAX_ATTEMPTS)]
    assert tracked.abandoned == 7


def test_what_arrives_is_asked_for_no_more() -> None:
    tracked = tracker()
    tracked.due(10 * MS)
    tracked.note(65535, 20 * MS)
    assert tracked.due(110 * MS) == [65531, 65532, 65533, 65534, 0, 1]
    tracked.note(65535, 111 * MS)  # a duplicate changes nothing
    assert 65535 not in tracked.due(300 * MS)


def test_the_oldest_losses_are_pushed_out() -> None:
    tracked = nack.NackTracker()
    tracked.note(0, 0)
    tracked.note(201, 0)
    tracked.note(302, 0)
    assert tracked.due(10 * MS) == [*range(45, 201), *range(202, 302)]
    assert tracked.abandoned == 44


def test_of_a_huge_gap_only_the_newest_are_remembered() -> None:
    tracked = nack.NackTracker()
    tracked.note(0, 0)
    tracked.note(60_000, 0)
    assert tracked.due(10 * MS) == list(range(60_000 - nack.MAX_MISSING, 60_000))
    assert tracked.abandoned == 59_999 - nack.MAX_MISSING


@fuzzed
@given(st.lists(st.tuples(st.integers(-2000, 70000), st.integers(0, 50)), max_size=30))
def test_a_tracker_is_bounded_and_asks_only_for_what_is_missing(steps: list[tuple[int, int]]) -> None:
    tracked = nack.NackTracker()
    seen = {1 << 20}
    seq = now_ns = 1 << 20
    tracked.note(seq, now_ns)
    for step, wait_ms in steps:
        seq += step
        now_ns += wait_ms * MS
        tracked.note(seq, now_ns)
        seen.add(seq)
        due = tracked.due(now_ns)
        assert len(due) == len(set(due)) <= nack.MAX_MISSING
        top = max(seen)
        for low in due:
            assert top - ((top - low) & 0xFFFF) not in seen


# --- REMB

# draft-alvestrand-rmcat-remb-03 section 2.2: 1 Mb/s for two SSRCs, as 250000 << 2
REMB = b"REMB" + bytes.fromhex("02 0b d090 00000005 cafebabe")


def test_remb() -> None:
    assert remb.parse(REMB) == (1_000_000, [5, 0xCAFEBABE])
    assert fci_of(remb.build(1, 1_000_000, [5, 0xCAFEBABE]), rtcp.PSFB, rtcp.FMT_REMB) == REMB


@pytest.mark.parametrize(
    ("fci", "field"),
    [
        (b"", "identifier"),
        (REMB[:7], "identifier"),
        (b"RAMB" + REMB[4:], "identifier"),
        (REMB[:-1], "SSRCs"),
        (REMB + bytes(4), "SSRCs"),
        (b"REMB" + bytes.fromhex("00 ff ffff"), "bitrate"),
    ],
)
def test_remb_malformed(fci: bytes, field: str) -> None:
    with pytest.raises(ValueError, match=field):
        remb.parse(fci)


def test_remb_refuses_what_does_not_fit() -> None:
    for bitrate_bps in (-1, 1 << 63):
        with pytest.raises(ValueError, match="bitrate"):
            remb.build(1, bitrate_bps, [])
    with pytest.raises(ValueError, match="SSRCs"):
        remb.build(1, 1, [0] * 256)


@fuzzed
@given(st.integers(0, (1 << 63) - 1), st.lists(st.integers(0, 0xFFFFFFFF), max_size=255))
def test_remb_round_trip_keeps_18_bits(bitrate_bps: int, ssrcs: list[int]) -> None:
    read_bps, read_ssrcs = remb.parse(fci_of(remb.build(1, bitrate_bps, ssrcs), rtcp.PSFB, rtcp.FMT_REMB))
    assert read_ssrcs == ssrcs
    assert 0 <= bitrate_bps - read_bps <= bitrate_bps >> 17


@fuzzed
@given(hostile((REMB,)))
def test_remb_hostile_bytes(fci: bytes) -> None:
    parses_or_names_a_field(remb.parse, fci)


# --- transport-wide congestion control


def feedback_of(recorder: twcc.TwccRecorder) -> twcc.TwccFeedback:
    packet = recorder.build(1, 2)
    assert packet is not None
    assert len(packet) <= 1232
    return twcc.parse_feedback(fci_of(packet, rtcp.RTPFB, rtcp.FMT_TWCC))


def test_twcc_by_hand() -> None:
    # Base 10, 5 packets, reference 2, feedback 7; a vector of two-bit symbols 1 0 2 1 1; deltas 4, -1, 0, 255 ticks.
    fci = bytes.fromhex("000a 0005 000002 07 d250 04 ffff 00 ff")
    assert twcc.parse_feedback(fci) == (
        7,
        128_000,
        [(10, 129_000), (11, None), (12, 128_750), (13, 128_750), (14, 192_500)],
        0,
    )


def test_twcc_chunks_by_hand() -> None:
    # A run of 3 missing, then one-bit symbols of which only the first 4 count.
    fci = bytes.fromhex("fffe 0007 000000 00 0003 a800 01 02")
    assert twcc.parse_feedback(fci).packets == [
        (65534, None),
        (65535, None),
        (0, None),
        (1, 250),
        (2, None),
        (3, 750),
        (4, None),
    ]


@pytest.mark.parametrize(
    ("fci", "field"),
    [
        ("000a 0005 000002", "fixed part"),
        ("000a 0000 000002 07 0001", "status count"),
        ("000a ffff 000002 07 1fff", "chunks"),
        ("000a 0005 000002 07", "chunks"),
        ("000a 0005 000002 07 00", "chunks"),
        ("000a 0009 000002 07 0008", "chunks"),
        ("000a 0005 000002 07 0000 0005", "run length"),
        ("000a 0005 000002 07 f000 0000", "status symbol"),
        ("000a 0001 000002 07 6001", "status symbol"),
        ("000a 0001 000002 07 2001", "deltas"),
        ("000a 0001 000002 07 4001 00", "deltas"),
    ],
)
def test_twcc_malformed(fci: str, field: str) -> None:
    with pytest.raises(ValueError, match=field):
        twcc.parse_feedback(bytes.fromhex(fci))


@fuzzed
@given(
    hostile(
        (
            bytes.fromhex("000a 0005 000002 07 d250 04 ffff 00 ff"),
            bytes.fromhex("fffe 0007 000000 00 0003 a800 01 02"),
        )
    )
)
def test_twcc_hostile_bytes(fci: bytes) -> None:
    parses_or_names_a_field(twcc.parse_feedback, fci)


@pytest.mark.parametrize("claimed", [1001, 8191])
def test_twcc_reads_only_so_much_of_one_feedback(claimed: int) -> None:
    run = 1 << 13 | claimed  # all of them with a small delta
    feedback = twcc.parse_feedback(struct.pack("!HHIH", 65000, claimed, 0, run) + bytes([1]) * claimed)
    assert len(feedback.packets) == 1000
    assert feedback.packets[-1] == ((65000 + 999) & 0xFFFF, 1000 * 250)
    assert feedback.unread == claimed - 1000


def test_twcc_deltas_follow_the_chunks_that_are_not_read() -> None:
    # A run of 2 missing, vectors of one-bit and of two-bit symbols, a run of 2 received; 1 + 3 + 2 deltas.
    fci = bytes.fromhex("0001 0019 000000 00 0002 8001 c015 2002 04 08 0c 10 14 18")
    whole = twcc.parse_feedback(fci)
    assert [arrival_us for _, arrival_us in whole.packets if arrival_us is not None] == [
        1000,
        3000,
        6000,
        10_000,
        15_000,
        21_000,
    ]
    for wanted in range(1, 25):
        part = twcc.parse_feedback(fci, wanted)
        assert part.packets == whole.packets[:wanted]
        assert part.unread == 25 - wanted


def test_twcc_nothing_to_say() -> None:
    recorder = twcc.TwccRecorder()
    assert recorder.build(1, 2) is None
    recorder.add(1, 0)
    assert feedback_of(recorder).packets == [(1, 0)]
    assert recorder.build(1, 2) is None
    recorder.add(1, 500)  # a duplicate
    assert recorder.build(1, 2) is None


def test_twcc_reports_a_late_packet_again_and_counts_feedbacks() -> None:
    recorder = twcc.TwccRecorder()
    for seq in (65534, 0):
        recorder.add(seq, 64_000 + 250 * (seq & 3))
    first = feedback_of(recorder)
    assert first.packets == [(65534, 64_500), (65535, None), (0, 64_000)]
    recorder.add(65535, 100_000)
    recorder.add(1, 101_000)
    second = feedback_of(recorder)
    assert second.packets == [(65535, 100_000), (0, 64_000), (1, 101_000)]
    assert (first.feedback_count, second.feedback_count) == (0, 1)


def test_twcc_ends_where_a_delta_does_not_fit() -> None:
    recorder = twcc.TwccRecorder()
    recorder.add(1, 0)
    recorder.add(3, 9_000_000)
    assert feedback_of(recorder).packets == [(1, 0), (2, None)]
    assert feedback_of(recorder).packets == [(3, 9_000_000)]
    assert recorder.build(1, 2) is None


@pytest.mark.parametrize(("ticks", "fits"), [(0x7FFF, True), (0x8000, False), (-0x8000, True), (-0x8001, False)])
def test_twcc_delta_has_16_bits(ticks: int, fits: bool) -> None:
    recorder = twcc.TwccRecorder()
    recorder.add(1, 64_000_000)
    recorder.add(2, 64_000_000 + ticks * 250)
    assert len(feedback_of(recorder).packets) == (2 if fits else 1)


def test_twcc_ignores_what_is_too_late_for_its_memory() -> None:
    recorder = twcc.TwccRecorder()
    recorder.add(1000, 64_000)
    recorder.add(1000 - twcc.MAX_STATUSES, 65_000)
    assert feedback_of(recorder).packets == [(1000, 64_000)]
    recorder.add(1001 - twcc.MAX_STATUSES, 66_000)
    packets = feedback_of(recorder).packets
    assert len(packets) == twcc.MAX_STATUSES
    assert [packet for packet in packets if packet[1] is not None] == [(489, 66_000), (1000, 64_000)]


def test_twcc_is_bounded_under_hostile_jumps() -> None:
    recorder = twcc.TwccRecorder()
    dice = random.Random(1)
    for now_us in range(20_000):
        recorder.add(dice.randrange(65536), now_us)
    assert len(feedback_of(recorder).packets) <= twcc.MAX_STATUSES
    recorder = twcc.TwccRecorder()
    for seq in range(0, 200_000, 30_000):
        recorder.add(seq & 0xFFFF, seq)
    feedback = feedback_of(recorder)
    assert len(feedback.packets) == twcc.MAX_STATUSES
    assert feedback.packets[-1] == (180_000 & 0xFFFF, 180_000)
    assert recorder.unreported == 180_001 - twcc.MAX_STATUSES


def test_twcc_without_loss_is_one_run() -> None:
    recorder = twcc.TwccRecorder()
    for seq in range(100):
        recorder.add(seq, 1000 * seq)
    packet = recorder.build(1, 2)
    assert packet is not None
    fci = fci_of(packet, rtcp.RTPFB, rtcp.FMT_TWCC)
    assert fci[8:10] == bytes.fromhex("2064")
    assert len(fci) == 8 + 2 + 100


@fuzzed
@given(
    st.integers(0, 65535),
    st.lists(st.tuples(st.sampled_from(["got", "lost", "slow"]), st.integers(1, 30)), min_size=1, max_size=12),
)
def test_twcc_round_trip(base: int, spans: list[tuple[str, int]]) -> None:
    recorder = twcc.TwccRecorder()
    now_us = 123_456_750
    kinds = ["got", *(kind for kind, length in spans for _ in range(length)), "got"]
    expected: list[tuple[int, int | None]] = []
    for index, kind in enumerate(kinds):
        seq = (base + index) & 0xFFFF
        now_us += {"got": 1_000, "lost": 0, "slow": 100_000}[kind]
        if kind != "lost":
            recorder.add(seq, now_us)
        expected.append((seq, None if kind == "lost" else now_us))
    packet = recorder.build(1, 2)
    assert packet is not None
    fci = fci_of(packet, rtcp.RTPFB, rtcp.FMT_TWCC)
    assert twcc.parse_feedback(fci).packets == expected
    deltas = sum({"got": 1, "lost": 0, "slow": 2}[kind] for kind in kinds)
    assert (
        len(fci) <= 8 + 2 * math.ceil(len(kinds) / 7) + deltas + 1
    )  # never more than vectors of 7; the first may be slow


@pytest.mark.parametrize(
    ("kinds", "chunks"),
    [
        ("1" * 400, ["2190"]),
        ("1" + "0" * 12 + "1", ["a001"]),  # 14 single bits
        ("1" + "0" * 12 + "11", ["a001", "2001"]),
        ("1" + "0" * 20 + "1", ["a000", "8040"]),
        ("10012", ["d060"]),
        ("1000000" + "2", ["d000", "4001"]),
        ("1" * 9 + "2" * 8, ["2009", "4008"]),
        ("1" * 6 + "2" * 8 + "1", ["d556", "4007", "2001"]),
    ],
)
def test_twcc_chooses_the_chunk_that_reaches_furthest(kinds: str, chunks: list[str]) -> None:
    recorder = twcc.TwccRecorder()
    now_us = 0
    for seq, kind in enumerate(kinds):
        now_us += {"0": 0, "1": 1_000, "2": 100_000}[kind]
        if kind != "0":
            recorder.add(seq, now_us)
    packet = recorder.build(1, 2)
    assert packet is not None
    assert packet[20 : 20 + 2 * len(chunks)].hex(" ", 2).split() == chunks
    assert len(rtcp.split(packet)[0].body) == 16 + 2 * len(chunks) + sum(int(kind) for kind in kinds)


@fuzzed
@given(st.lists(st.tuples(st.integers(0, 65535), st.integers(0, 20_000_000), st.booleans()), max_size=60))
def test_twcc_says_only_what_was_added(steps: list[tuple[int, int, bool]]) -> None:
    recorder = twcc.TwccRecorder()
    added: dict[int, set[int]] = {}
    now_us = 0
    for seq, wait_us, flush in steps:
        now_us += wait_us
        recorder.add(seq, now_us)
        added.setdefault(seq, set()).add(now_us)
        if flush and (packet := recorder.build(1, 2)):
            for reported, arrival_us in twcc.parse_feedback(fci_of(packet, rtcp.RTPFB, rtcp.FMT_TWCC)).packets:
                assert arrival_us is None or any(0 <= at - arrival_us < 250 for at in added[reported])
