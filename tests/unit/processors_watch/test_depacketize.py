"""RTP packets become frames, whatever order they come in and whatever is missing; hostile ones become nothing."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media_processors.video.depacketize import (
    EARLY_PACKETS,
    FAR_PACKETS,
    FRAME_BYTES,
    REPAIR_NS,
    EncodedFrame,
    FrameAssembler,
    SightCounters,
    VideoCodec,
)
from sfu.tap import Sound, TapPacket

fuzzed = settings(max_examples=100, deadline=None)
KEY = bytes.fromhex("10 02 00 9d 01 2a 80 02 68 01")
START, REST = b"\x10", b"\x00"
FRAME_NS = 33_000_000


def tap(seq: int, timestamp: int, payload: bytes, *, marker: bool, arrival_ns: int = 0) -> TapPacket:
    return TapPacket(1, Sound.RAW, marker, seq & 0xFFFF, timestamp & 0xFFFFFFFF, arrival_ns, 0, 0, 0, payload)


class Vp8Film:
    """Frames that can be told apart, in as many packets as wanted."""

    def __init__(self, seq: int = 65_000) -> None:
        self.seq = seq
        self.number = 0

    def frame(self, packets: int = 1, keyframe: bool = False) -> tuple[list[TapPacket], bytes]:
        self.number += 1
        head = KEY if keyframe else b"\x11"
        pieces = [(head if at == 0 else b"") + self.number.to_bytes(4, "big") + bytes([at]) for at in range(packets)]
        made = [
            tap(
                self.seq + at,
                self.number * 3000,
                (REST if at else START) + piece,
                marker=at == packets - 1,
                arrival_ns=self.number * FRAME_NS,
            )
            for at, piece in enumerate(pieces)
        ]
        self.seq += packets
        return made, b"".join(pieces)


def assembler(codec: VideoCodec = "vp8") -> tuple[FrameAssembler, SightCounters]:
    counters = SightCounters()
    return FrameAssembler(codec, counters), counters


def pushed(into: FrameAssembler, packets: list[TapPacket]) -> Iterator[EncodedFrame]:
    for packet in packets:
        yield from into.push(packet)


@fuzzed
@given(st.lists(st.integers(1, 5), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_frames_come_out_whole_and_in_order_however_their_packets_are_mixed_up(
    sizes: list[int], chance: object
) -> None:
    film, (into, counters) = Vp8Film(), assembler()
    made = [film.frame(size, keyframe=at == 0) for at, size in enumerate(sizes)]
    packets = [packet for frame, _ in made for packet in frame]
    mixed = packets[1:] * 2
    chance.shuffle(mixed)  # type: ignore[attr-defined]  # hypothesis hands out a random.Random
    mixed = [packet._replace(arrival_ns=0) for packet in mixed]  # all at once: nothing is overdue
    frames = list(pushed(into, [packets[0]._replace(arrival_ns=0), *mixed]))
    assert [frame.data for frame in frames] == [data for _, data in made]
    assert [frame.timestamp for frame in frames] == [3000 * (at + 1) for at in range(len(made))]
    assert (counters.lost, counters.old) == (0, len(packets) - 1)


@fuzzed
@given(st.lists(st.tuples(st.integers(1, 4), st.booleans(), st.booleans()), min_size=1, max_size=20), st.data())
def test_after_a_loss_nothing_comes_until_a_key_frame(plan: list[tuple[int, bool, bool]], data: st.DataObject) -> None:
    """Each frame: (packets, key frame, one of its packets is lost). Half a second lies between frames, so nothing is repaired."""
    film, (into, _) = Vp8Film(), assembler()
    expected: list[bytes] = []
    given_packets: list[TapPacket] = []
    whole = True
    for number, (size, keyframe, loses) in enumerate([(1, True, False), *plan]):
        packets, encoded = film.frame(size, keyframe)
        packets = [packet._replace(arrival_ns=number * 500_000_000) for packet in packets]
        whole = (whole or keyframe) and not loses
        if whole:
            expected.append(encoded)
        if loses:
            packets.pop(data.draw(st.integers(0, size - 1)))
        given_packets += packets
    for number in range(len(plan) + 1, len(plan) + 3):  # so that the last gap is overdue
        packets, encoded = film.frame(keyframe=True)
        given_packets += [packet._replace(arrival_ns=number * 500_000_000) for packet in packets]
        expected.append(encoded)
    assert [frame.data for frame in pushed(into, given_packets)] == expected


def test_what_is_repaired_in_time_is_not_lost() -> None:
    film, (into, counters) = Vp8Film(), assembler()
    first, encoded = film.frame(3, keyframe=True)
    second, encoded_too = film.frame(2)
    late = first[1]._replace(arrival_ns=first[0].arrival_ns + REPAIR_NS)
    frames = list(pushed(into, [first[0], first[2], *second, late]))
    assert [frame.data for frame in frames] == [encoded, encoded_too]
    assert frames[0].arrival_ns == late.arrival_ns
    assert counters.lost == 0


def test_what_waits_behind_a_gap_is_bounded() -> None:
    film, (into, counters) = Vp8Film(), assembler()
    list(pushed(into, film.frame(keyframe=True)[0]))
    film.seq += 1
    for _ in range(EARLY_PACKETS + 1):
        assert not into.awaits_keyframe
        list(pushed(into, [packet._replace(arrival_ns=0) for packet in film.frame()[0]]))
    assert into.awaits_keyframe
    assert (counters.lost, counters.skipped) == (1, EARLY_PACKETS + 1)


def test_another_numbering_begins_anew() -> None:
    film, (into, counters) = Vp8Film(), assembler()
    list(pushed(into, film.frame(keyframe=True)[0]))
    film.seq += FAR_PACKETS + 1
    assert list(pushed(into, film.frame()[0])) == []
    assert into.awaits_keyframe
    packets, encoded = film.frame(2, keyframe=True)
    assert [frame.data for frame in pushed(into, packets)] == [encoded]
    assert counters.lost == 0


def test_a_frame_ends_with_its_timestamp_even_without_a_marker() -> None:
    into, _ = assembler("h264")
    sps, idr, other = b"\x67\x42", b"\x65\x88", b"\x41\x9a"
    packets = [tap(0, 0, sps, marker=False), tap(1, 0, idr, marker=False), tap(2, 3000, other, marker=True)]
    start = b"\x00\x00\x00\x01"
    assert [frame.data for frame in pushed(into, packets)] == [start + sps + start + idr, start + other]


def test_a_frame_without_end_is_dropped() -> None:
    into, counters = assembler()
    piece = START + KEY + bytes(50_000)
    for number in range(FRAME_BYTES // 50_000 + 1):
        assert into.push(tap(number, 0, piece if number == 0 else REST + bytes(50_000), marker=False)) == []
    assert (into.awaits_keyframe, counters.malformed) == (True, 1)


@pytest.mark.parametrize(
    ("codec", "payload"), [("vp8", b""), ("vp8", START + KEY[:5]), ("h264", b""), ("h264", b"\x78\x00\x09")]
)
def test_what_is_malformed_costs_its_frame(codec: VideoCodec, payload: bytes) -> None:
    into, counters = assembler(codec)
    assert into.push(tap(0, 0, payload, marker=True)) == []
    assert (into.awaits_keyframe, counters.malformed) == (True, 1)


@fuzzed
@given(
    st.sampled_from(["vp8", "h264"]),
    st.lists(
        st.tuples(
            st.integers(0, 70_000),
            st.integers(0, 1 << 33),
            st.binary(max_size=40),
            st.booleans(),
            st.integers(0, 1 << 40),
        ),
        max_size=30,
    ),
)
def test_hostile_packets_raise_nothing(codec: VideoCodec, packets: list[tuple[int, int, bytes, bool, int]]) -> None:
    into, counters = assembler(codec)
    for seq, timestamp, payload, marker, arrival_ns in packets:
        into.push(tap(seq, timestamp, payload, marker=marker, arrival_ns=arrival_ns))
    assert counters.packets == len(packets)
