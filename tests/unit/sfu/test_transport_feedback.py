"""What a subscriber can have read of its transport-wide feedback, whatever it sends."""

import struct
from collections.abc import Iterator

import pytest

from sfu.dataplane.transport_feedback import FEEDBACKS_PER_TICK_MAX, STATUSES_PER_TICK_MAX
from sfu.errors import DropReason
from sfu.rtp import rtcp
from tests.unit.sfu.rig import Observer, Rig, RigPeer

MISSING = 0


def feedback(count: int, symbol: int = MISSING) -> bytes:
    """A feedback that says the same of `count` packets."""
    fci = struct.pack("!HHIHxx", 1, count, 0, symbol << 13 | count)
    return rtcp.build_feedback(rtcp.RTPFB, rtcp.FMT_TWCC, 1, 0, fci)


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.close()


@pytest.fixture
def subscriber(rig: Rig) -> tuple[RigPeer, Observer]:
    _, peer, observer = rig.consumer(rig.producer("audio"))
    return peer, observer


def read(observer: Observer) -> list[int]:
    """How many packets each feedback spoke of that was read since the last call."""
    counts = [len(packets) for packets in observer.feedbacks]
    observer.feedbacks.clear()
    return counts


def test_feedback_is_read_at_the_tick(rig: Rig, subscriber: tuple[RigPeer, Observer]) -> None:
    peer, observer = subscriber
    rig.rtcp(peer, feedback(10))
    rig.rtcp(peer, rtcp.build_rr(1, []) + feedback(20) + feedback(30))  # Chromium may send several at once
    assert read(observer) == []
    rig.plane.tick(1)
    assert read(observer) == [10, 20, 30]
    rig.plane.tick(2)
    assert read(observer) == []


def test_one_datagram_cannot_claim_any_number_of_packets(rig: Rig, subscriber: tuple[RigPeer, Observer]) -> None:
    peer, observer = subscriber
    rig.rtcp(peer, feedback(8191) * 60)
    rig.plane.tick(1)
    assert read(observer) == [STATUSES_PER_TICK_MAX]
    assert rig.drops(DropReason.FEEDBACK_CAPPED) == 60


def test_statuses_of_a_peer_in_one_tick_are_bounded(rig: Rig, subscriber: tuple[RigPeer, Observer]) -> None:
    peer, observer = subscriber
    for _ in range(3):
        rig.rtcp(peer, feedback(STATUSES_PER_TICK_MAX - 400))
    rig.plane.tick(1)
    assert read(observer) == [STATUSES_PER_TICK_MAX - 400, 400]
    assert rig.drops(DropReason.FEEDBACK_CAPPED) == 2
    rig.rtcp(peer, feedback(7))
    rig.plane.tick(2)
    assert read(observer) == [7]


def test_what_waits_is_bounded_for_each_peer(rig: Rig, subscriber: tuple[RigPeer, Observer]) -> None:
    peer, observer = subscriber
    _, quiet, other = rig.consumer(rig.producer("video"))
    for _ in range(FEEDBACKS_PER_TICK_MAX + 5):
        rig.rtcp(peer, feedback(1))
    rig.rtcp(quiet, feedback(3))
    rig.plane.tick(1)
    assert read(observer) == [1] * FEEDBACKS_PER_TICK_MAX
    assert read(other) == [3]
    assert rig.drops(DropReason.FEEDBACK_CAPPED) == 5


def test_after_a_malformed_one_the_rest_of_the_tick_is_not_read(rig: Rig, subscriber: tuple[RigPeer, Observer]) -> None:
    peer, observer = subscriber
    for packet in (feedback(5), feedback(900, symbol=1), feedback(5)):  # 900 deltas that do not follow
        rig.rtcp(peer, packet)
    rig.plane.tick(1)
    assert read(observer) == [5]
    assert rig.drops(DropReason.MALFORMED_RTCP) == 1
    assert rig.drops(DropReason.FEEDBACK_CAPPED) == 1


def test_nobody_listens_to_feedback_of_those_who_get_nothing(rig: Rig) -> None:
    rig.producer("audio")
    rig.rtcp(rig.publisher, feedback(900, symbol=1))
    rig.plane.tick(1)
    assert rig.plane.counters.drops == {}


def test_feedback_of_a_peer_that_left_meanwhile_is_forgotten(rig: Rig) -> None:
    consumer, peer, observer = rig.consumer(rig.producer("audio"))
    rig.rtcp(peer, feedback(5))
    rig.plane.remove_peer(consumer.peer)
    rig.plane.tick(1)
    assert read(observer) == []
