import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfu.rtp.reception import MAX_DROPOUT, WINDOW, Reception
from tests.unit.rtp.fuzz import fuzzed

MS = 1_000_000
S = 1_000 * MS


def receive(reception: Reception, seqs: list[int], start_ns: int = 0) -> list[bool]:
    """One packet each 20 ms with the timestamp that belongs to its place in the list."""
    results = []
    for index, seq in enumerate(seqs):
        new = reception.is_new(seq & 0xFFFF)
        if new:
            reception.arrived(reception.extended, 960 * index & 0xFFFFFFFF, start_ns + 20 * MS * index)
        results.append(new)
    return results


def test_a_duplicate_is_not_new() -> None:
    reception = Reception(7, 48000)
    assert receive(reception, [65535, 0, 65535, 0, 2, 1, 1]) == [True, True, False, False, True, True, False]
    assert reception.highest == 65538
    assert reception.received == 4


def test_the_window_ends() -> None:
    reception = Reception(7, 48000)
    reception.is_new(10_000)
    reception.is_new(10_000 + WINDOW)
    assert not reception.is_new(10_000)
    assert reception.is_new(10_001)
    assert reception.extended == 10_001
    assert not reception.is_new(10_001)
    assert not reception.is_new(9_999)


def test_a_packet_from_before_the_first() -> None:
    reception = Reception(7, 48000)
    assert receive(reception, [0, 65535]) == [True, True]
    assert (reception.extended, reception.highest) == (-1, 0)


@pytest.mark.parametrize("jump", [MAX_DROPOUT + 3, 20_000, -MAX_DROPOUT - 1, -20_000])
def test_a_jump_must_be_confirmed(jump: int) -> None:
    reception = Reception(7, 48000)
    receive(reception, [5000, 5001])
    far = 5001 + jump
    assert receive(reception, [far, far, 5002, far + 7, 5003]) == [False, False, True, False, True]
    assert reception.restarts == 0
    assert receive(reception, [far, far + 1, far + 2]) == [False, True, True]
    assert reception.restarts == 1
    assert reception.extended & 0xFFFF == (far + 2) & 0xFFFF
    assert reception.extended > 5003
    block = reception.report(0)
    assert (block.lost, block.fraction_lost) == (0, 0)


def test_a_step_of_the_largest_dropout_is_loss() -> None:
    reception = Reception(7, 48000)
    assert receive(reception, [0, MAX_DROPOUT]) == [True, True]
    assert reception.report(0).lost == MAX_DROPOUT - 1


def test_old_packets_never_confirm_a_jump() -> None:
    reception = Reception(7, 48000)
    receive(reception, [0, 2500, 5000])
    assert receive(reception, [3000, 3001, 3002]) == [False, False, False]
    assert reception.restarts == 0


@fuzzed
@given(st.integers(0, 65535), st.lists(st.integers(-5000, 5000), max_size=80))
def test_no_extended_number_is_given_twice(start: int, steps: list[int]) -> None:
    reception = Reception(7, 90000)
    given_out = set()
    seq = start
    for step in [0, *steps]:
        seq = (seq + step) & 0xFFFF
        for confirmed in (seq, (seq + 1) & 0xFFFF):
            if reception.is_new(confirmed):
                assert reception.extended not in given_out
                assert reception.extended & 0xFFFF == confirmed
                given_out.add(reception.extended)
                assert not reception.is_new(confirmed)
    assert reception.highest == max(given_out)


def test_report_of_loss() -> None:
    reception = Reception(7, 48000)
    receive(reception, [65530, 65531, 65535, 65536])
    block = reception.report(0)
    assert (block.ssrc, block.fraction_lost, block.lost, block.highest) == (7, 3 * 256 // 7, 3, 65536)
    assert (block.last_sr, block.delay_since_sr) == (0, 0)
    receive(reception, [65537, 65538])
    assert reception.report(0)[1:3] == (0, 3)  # nothing was lost since
    receive(reception, [65532, 65533])  # two repairs: more came than was expected
    assert reception.report(0)[1:3] == (0, 1)


def test_report_of_a_whole_interval_lost_fits_a_byte() -> None:
    reception = Reception(7, 48000)
    receive(reception, [0])
    reception.report(0)
    assert reception.is_new(2000)  # counted as expected, but not as arrived
    assert reception.report(0).fraction_lost == 255


def test_report_before_the_first_packet() -> None:
    assert Reception(7, 48000).report(0) == (7, 0, 0, 0, 0, 0, 0)


def test_report_of_a_sender_report() -> None:
    reception = Reception(7, 48000)
    receive(reception, [1])
    reception.note_sender_report(0x1122334455667788, 960, 2 * S)
    block = reception.report(2 * S + 500 * MS)
    assert (block.last_sr, block.delay_since_sr) == (0x33445566, 32768)
    assert reception.sender_clock == (0x1122334455667788, 960, 2 * S)


def test_no_jitter_on_an_even_stream_across_a_timestamp_wrap() -> None:
    reception = Reception(7, 48000)
    for index in range(200):
        reception.is_new(index)
        reception.arrived(index, (0xFFFFFFFF - 960 * 100 + 960 * index) & 0xFFFFFFFF, 20 * MS * index)
    assert reception.jitter == 0


def test_jitter_follows_appendix_a8() -> None:
    reception = Reception(7, 48000)
    jitter = 0.0
    for index in range(300):
        reception.is_new(index)
        late = 5 * MS if index % 2 else 0
        reception.arrived(index, 960 * index, 20 * MS * index + late)
        if index:
            jitter += (240 - jitter) / 16  # each transit time differs from the last by 5 ms
    assert abs(reception.jitter - jitter) <= 1
    assert reception.report(0).jitter == reception.jitter


def test_a_repair_does_not_count_as_jitter() -> None:
    reception = Reception(7, 48000)
    for seq, at in ((0, 0), (2, 2), (1, 60), (3, 3)):
        reception.is_new(seq)
        reception.arrived(reception.extended, 960 * seq, 20 * MS * at)
    assert reception.jitter == 0
    assert reception.received == 4


@fuzzed
@given(
    st.lists(
        st.tuples(st.integers(0, 65535), st.integers(0, 0xFFFFFFFF), st.integers(0, 1 << 62)), min_size=1, max_size=40
    )
)
def test_reports_fit_their_fields_whatever_comes(packets: list[tuple[int, int, int]]) -> None:
    reception = Reception(7, 90000)
    for seq, timestamp, now_ns in packets:
        if reception.is_new(seq):
            reception.arrived(reception.extended, timestamp, now_ns)
        reception.note_sender_report(timestamp << 32, timestamp, now_ns)
        block = reception.report(now_ns)
        assert 0 <= block.fraction_lost <= 255
        assert -0x800000 <= block.lost <= 0x7FFFFF
        assert all(0 <= value <= 0xFFFFFFFF for value in block[3:])
