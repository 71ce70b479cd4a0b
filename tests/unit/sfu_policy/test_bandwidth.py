"""The estimate at a simulated bottleneck, and sharing it."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfu.bandwidth import MAX_BPS, MIN_BPS, START_BPS, Allocation, Demand, DownlinkEstimate, allocate
from tests.unit.sfu_policy.bottleneck import ARRIVAL_WRAP_US, MS, Call, Link, S


def rises(history: list[tuple[float, int | None, str]]) -> list[float]:
    """When the layer rose."""
    levels = [(at, -1 if index is None else index) for at, index, _ in history]
    return [after[0] for before, after in pairwise(levels) if after[1] > before[1]]


@pytest.mark.parametrize("low_s", [21, 31, 35.4, 46.6])
@pytest.mark.parametrize("queue_ms", [100, 1000])
def test_a_link_that_narrows_and_widens_again(low_s: float, queue_ms: int) -> None:
    """3 Mb/s, 400 kb/s, 3 Mb/s: down in 5 s, back in 20 s, no try more often than every 10 s, wherever in a try it widens."""
    call = Call(Link(3_000_000, queue_ns=queue_ms * MS), clock_offset_us=ARRIVAL_WRAP_US - 30_000_000)
    call.run(20)
    assert call.history == [[(0.0, 2, "tile")]]
    call.link.rate_bps = 400_000
    call.run(low_s)
    call.link.rate_bps = 3_000_000
    call.run(30)
    history = call.history[0]
    down_s = next(at for at, index, _ in history if at >= 20 and index == 0) - 20
    back_s = next(at for at, index, _ in history if at >= 20 + low_s and index == 2) - 20 - low_s
    assert down_s < 5
    assert back_s < 20
    tries = [at for at in rises(history) if at < 20 + low_s]
    assert all(later - earlier > 10 for earlier, later in pairwise(tries))
    assert all(index is not None for _, index, _ in history), "the lowest layer fits, so the video never pauses"
    assert call.audio[1] / call.audio[0] < 0.01


def test_enough_for_everything_stays_so() -> None:
    call = Call(Link(2_000_000))
    call.run(60)
    assert call.history == [[(0.0, 2, "tile")]]


@pytest.mark.parametrize("loss", [0.01, 0.05])
def test_some_loss_without_a_queue_changes_nothing(loss: float) -> None:
    call = Call(Link(3_000_000, random_loss=loss))
    call.run(60)
    assert call.history == [[(0.0, 2, "tile")]]


def test_much_loss_without_a_queue_lowers_but_never_pauses() -> None:
    call = Call(Link(3_000_000, random_loss=0.15))
    call.run(60)
    assert call.history[0][-1][1:] == (0, "loss")
    assert all(index is not None for _, index, _ in call.history[0])


def test_a_link_too_narrow_for_any_video_keeps_the_audio() -> None:
    call = Call(Link(100_000))
    call.run(60)
    assert (None, "bandwidth") in [entry[1:] for entry in call.history[0]]
    tries = rises(call.history[0])
    assert tries, "it is tried again"
    assert all(later - earlier > 10 for earlier, later in pairwise(tries))
    late = call.audio[:]
    call.run(60)
    assert (call.audio[1] - late[1]) / (call.audio[0] - late[0]) < 0.05


def test_three_videos_share_a_link() -> None:
    call = Call(Link(1_300_000), viewers=3)
    call.run(90)
    last = [history[-1][1] for history in call.history]
    assert None not in last
    for history in call.history:
        tries = [at for at in rises(history) if at > 5]
        assert all(later - earlier > 10 for earlier, later in pairwise(tries))


def feed(estimate: DownlinkEstimate, seqs: range, *, start_ns: int = 0, lost: int = 0) -> int:
    """Packets of 1250 bytes every 10 ms (1 Mb/s), with feedback every 100 ms; the last time."""
    packets: list[tuple[int, int | None]] = []
    now_ns = start_ns
    for count, seq in enumerate(seqs):
        now_ns = start_ns + count * 10 * MS
        estimate.sent(seq & 0xFFFF, now_ns, 1250)
        packets.append((seq & 0xFFFF, None if lost and count % lost == 0 else now_ns // 1000))
        if count % 10 == 9:
            estimate.feedback(packets, now_ns)
            packets = []
    return now_ns


def test_nothing_is_known_without_feedback_and_after_it_has_stopped() -> None:
    estimate = DownlinkEstimate()
    estimate.sent(1, 0, 1000)
    assert estimate.estimate_bps(0) is None
    assert estimate.loss(0) == 0.0
    end_ns = feed(estimate, range(100))
    assert estimate.estimate_bps(end_ns) == START_BPS
    assert estimate.estimate_bps(end_ns + 4 * S) is None


def test_loss_is_that_of_the_last_second() -> None:
    estimate = DownlinkEstimate()
    end_ns = feed(estimate, range(65_500, 65_800), lost=20)
    assert estimate.loss(end_ns) == pytest.approx(0.05, abs=0.01)
    end_ns = feed(estimate, range(65_800, 66_000), start_ns=end_ns)
    assert estimate.loss(end_ns) == 0.0
    assert estimate.loss(end_ns + 4 * S) == 0.0


def test_feedback_about_packets_that_were_never_sent_is_ignored() -> None:
    estimate = DownlinkEstimate()
    for count in range(100):
        estimate.feedback([(seq, seq * 7919) for seq in range(count, count + 500)], count * 100 * MS)
    assert estimate.estimate_bps(10 * S) is None


def test_a_receiver_whose_clock_starts_anew() -> None:
    estimate = DownlinkEstimate()
    end_ns = feed(estimate, range(500))
    before = estimate.estimate_bps(end_ns)
    for clock_us in (5_000_000_000, 7):
        start_ns = end_ns + 4 * S
        for count in range(300):
            end_ns = start_ns + count * 10 * MS
            estimate.sent(count, end_ns, 1250)
            estimate.feedback([(count, clock_us + count * 10_000)], end_ns)
        assert estimate.estimate_bps(end_ns) == before


def test_a_packet_counts_once() -> None:
    estimate = DownlinkEstimate()
    for seq in range(40):
        estimate.sent(seq, seq * MS, 1250)
    report = [(seq, None if seq % 5 == 0 else seq * 1000) for seq in range(40)]
    for count in range(1, 10):
        estimate.feedback(report, count * 100 * MS)
    assert estimate.loss(S) == 0.2


def test_growth_stops_at_what_one_more_step_needs() -> None:
    estimate = DownlinkEstimate()
    estimate.aim_at(4_000_000)
    end_ns = feed(estimate, range(500))
    assert estimate.estimate_bps(end_ns) == 4_000_000
    estimate.aim_at(None)
    end_ns = feed(estimate, range(500, 1000), start_ns=end_ns)
    assert estimate.estimate_bps(end_ns) == 4_000_000, "and does not fall for want of demand"


class Rembs:
    """A subscriber of video that answers with REMB alone."""

    def __init__(self) -> None:
        self.estimate = DownlinkEstimate()
        self.now_ns = 0
        self._sent_bytes = 0

    def second(self, sent_bps: int, *rembs_bps: int) -> int | None:
        """One second at this rate, then an estimate for each SSRC. The server's estimate after it."""
        self.now_ns += S
        self._sent_bytes += sent_bps // 8
        for ssrc, remb_bps in enumerate(rembs_bps):
            self.estimate.remb(remb_bps, self.now_ns, [ssrc], self._sent_bytes, self._sent_bytes)
        return self.estimate.estimate_bps(self.now_ns)


def test_remb_above_the_rate_sent_means_no_trouble_and_below_it_a_full_link() -> None:
    link = Rembs()
    assert [link.second(1_000_000, 1_500_000) for _ in range(5)] == [START_BPS] * 5
    assert link.second(1_000_000, 500_000) == START_BPS, "a key frame may have done that"
    assert link.second(1_000_000, 500_000) == 450_000
    assert [link.second(300_000, 450_000) for _ in range(3)][-1] == 500_000, "what filled the link is believed for 5 s"
    assert [link.second(300_000, 450_000) for _ in range(5)][-1] == 550_000
    assert link.estimate.estimate_bps(link.now_ns + 4 * S) is None


def test_rembs_about_single_streams_are_added_up() -> None:
    link = Rembs()
    assert [link.second(1_000_000, 700_000, 700_000) for _ in range(6)] == [START_BPS] * 6
    assert [link.second(1_000_000, 700_000) for _ in range(6)][-1] == 630_000, "the other one is too old"


def test_rembs_for_ever_new_ssrcs_do_not_pile_up() -> None:
    link = Rembs()
    for ssrc in range(1000):
        link.estimate.remb(1, 0, [ssrc], 0, 0)
    assert [link.second(1_000_000, 1) for _ in range(3)][-1] == 50_000


def test_remb_does_not_count_beside_transport_wide_feedback() -> None:
    estimate = DownlinkEstimate()
    end_ns = feed(estimate, range(100))
    estimate.remb(1000, end_ns, [1], 0, 0)
    estimate.remb(1000, end_ns + S, [1], 1_000_000, 1_000_000)
    assert estimate.estimate_bps(end_ns) == START_BPS


def test_loss_of_receiver_reports_counts_until_it_is_old() -> None:
    estimate = DownlinkEstimate()
    estimate.reported_loss(0.25, S)
    assert estimate.loss(2 * S) == 0.25
    assert estimate.loss(5 * S) == 0.0


LAYERS = (150_000, 500_000, 1_500_000)


def test_an_unknown_link_has_no_limit() -> None:
    assert allocate(None, 40_000, [Demand(1, LAYERS, -1)]) == Allocation([None], None)
    assert allocate(1_000_000, 40_000, []) == Allocation([], None)


@pytest.mark.parametrize(
    ("estimate_bps", "caps"),
    [
        (100_000, [0, 0]),
        (250_000, [150_000, 0]),
        (400_000, [150_000, 150_000]),
        (800_000, [500_000, 150_000]),
        (1_200_000, [500_000, 500_000]),
        (2_300_000, [None, 500_000]),
        (4_000_000, [None, None]),
    ],
)
def test_everybody_rises_one_layer_at_a_time_larger_tiles_first(estimate_bps: int, caps: list[int | None]) -> None:
    small, large = Demand(100, LAYERS, -1), Demand(200, LAYERS, -1)
    assert allocate(estimate_bps, 40_000, [large, small]).caps_bps == caps
    assert allocate(estimate_bps, 40_000, [small, large]).caps_bps == caps[::-1]


def test_what_is_carried_already_needs_no_margin() -> None:
    assert allocate(540_000, 40_000, [Demand(1, LAYERS, 1)]).caps_bps == [500_000]
    assert allocate(540_000, 40_000, [Demand(1, LAYERS, 0)]).caps_bps == [150_000]


def test_a_small_tile_that_has_all_it_wants_is_not_limited() -> None:
    share = allocate(700_000, 40_000, [Demand(1, LAYERS[:1], 0), Demand(2, LAYERS, 0)])
    assert share.caps_bps == [None, 150_000]
    assert share.next_bps == int((40_000 + 150_000 + 500_000) * 1.15)


def test_nobody_wants_more() -> None:
    assert allocate(5_000_000, 40_000, [Demand(1, LAYERS, 2)]).next_bps is None


EVENTS = st.one_of(
    st.tuples(st.just("sent"), st.integers(0, 0xFFFF), st.integers(0, 1500)),
    st.tuples(st.just("remb"), st.integers(0, 1 << 62), st.lists(st.integers(0, 3), max_size=3)),
    st.tuples(st.just("loss"), st.floats(0, 1), st.none()),
    st.tuples(
        st.just("feedback"),
        st.lists(st.tuples(st.integers(0, 0xFFFF), st.one_of(st.none(), st.integers(0, 1 << 41))), max_size=20),
        st.none(),
    ),
)


@given(st.lists(st.tuples(st.integers(0, 4 * S), EVENTS), max_size=40))
@settings(max_examples=100, deadline=None)
def test_whatever_a_subscriber_reports_the_estimate_stays_within_bounds(
    events: list[tuple[int, tuple[Any, ...]]],
) -> None:
    estimate = DownlinkEstimate()
    now_ns = 0
    for elapsed_ns, (what, first, second) in events:
        now_ns += elapsed_ns
        if what == "sent":
            estimate.sent(first, now_ns, second)
        elif what == "remb":
            estimate.remb(first, now_ns, second, 1000 * len(second), 500)
        elif what == "loss":
            estimate.reported_loss(first, now_ns)
        else:
            for seq, _ in first:
                estimate.sent(seq, now_ns, 1000)
            estimate.feedback(first, now_ns)
        bps = estimate.estimate_bps(now_ns)
        assert bps is None or MIN_BPS <= bps <= MAX_BPS
        assert 0.0 <= estimate.loss(now_ns) <= 1.0


def test_what_a_link_was_found_to_carry_outlives_the_change_to_remb() -> None:
    estimate = DownlinkEstimate()
    end_ns = feed(estimate, range(100))
    before_bps = estimate.estimate_bps(end_ns)
    assert before_bps is not None
    for second in range(1, 6):
        estimate.remb(600_000, end_ns + second * S, [1], second * 60_000, second * 60_000)
    assert estimate.estimate_bps(end_ns + 5 * S) == before_bps


def test_sound_is_no_part_of_what_an_estimate_of_video_may_not_reach() -> None:
    estimate = DownlinkEstimate()
    for second in range(30):  # 40 kb/s of video, 200 kb/s of sound
        estimate.remb(60_000, second * S, (1,), second * (5_000 + 25_000), second * 5_000)
    bps = estimate.estimate_bps(29 * S)
    assert bps is not None
    assert bps >= START_BPS


def test_consumers_that_go_take_their_counts_with_them_and_trouble_nobody() -> None:
    estimate = DownlinkEstimate()
    for second, sent_bytes in enumerate((1_000_000, 1_200_000, 200_000, 400_000)):
        estimate.remb(2_400_000, second * S, (1,), sent_bytes, sent_bytes)
    assert estimate.estimate_bps(3 * S) == START_BPS
