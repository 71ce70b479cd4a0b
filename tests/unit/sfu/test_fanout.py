"""A source and everybody who is fed from it: what is kept once for all of them must come out right for each."""

from collections.abc import Iterator

import pytest

from sfu.consumer import Consumer
from sfu.errors import DropReason
from sfu.producer import Producer
from sfu.rtp import nack, rtcp
from sfu.rtp import vp8 as vp8_format
from tests.unit.sfu.rig import Rig, RigPeer, rtp, vp8


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.close()


def layered(rig: Rig) -> tuple[Producer, Consumer, RigPeer]:
    """A viewer of the low one of two layers, which has had one packet."""
    producer = rig.producer("video", rids=("q", "f"))
    consumer, peer, _ = rig.consumer(producer)
    frame(rig, 0, keyframe=True)
    rig.target(consumer, producer.sources["q"])
    frame(rig, 1, keyframe=True)
    return producer, consumer, peer


def frame(rig: Rig, number: int, *, keyframe: bool = False) -> None:
    """One packet of each layer, of which the payload tells both."""
    for ssrc, rid in ((10, "q"), (20, "f")):
        payload = vp8(ssrc * 100 + number, ssrc + number, keyframe=keyframe) + bytes([ssrc, number])
        rig.publish(rtp("video", ssrc * 1000 + number, 3000 * number, payload, ssrc=ssrc, rid=rid))


def test_a_nack_is_answered_across_a_switch_of_layers(rig: Rig) -> None:
    producer, consumer, peer = layered(rig)
    frame(rig, 2)
    rig.target(consumer, producer.sources["f"])
    frame(rig, 3)
    frame(rig, 4, keyframe=True)
    frame(rig, 5)
    sent = {head.seq: (head.timestamp, payload) for head, payload in peer.received()}
    assert [payload[-2:] for _, payload in sent.values()] == [
        b"\x0a\x01",
        b"\x0a\x02",
        b"\x0a\x03",
        b"\x0a\x04",
        b"\x14\x04",
        b"\x14\x05",
    ]
    rig.rtcp(peer, nack.build(9, consumer.ssrc, sorted(sent)))
    repeated = {int.from_bytes(payload[:2], "big"): (head.timestamp, payload[2:]) for head, payload in peer.received()}
    assert repeated == sent


def test_what_is_not_sent_yet_cannot_be_had_by_a_nack(rig: Rig) -> None:
    _, consumer, peer = layered(rig)
    ((head, _),) = peer.received()
    rig.rtcp(peer, nack.build(9, consumer.ssrc, [head.seq - 1 & 0xFFFF, head.seq + 1 & 0xFFFF]))
    assert peer.received() == []
    assert rig.drops(DropReason.RTX_GONE) == 2


def test_after_a_mute_old_packets_are_not_taken_for_new_ones(rig: Rig) -> None:
    producer, consumer, peer = layered(rig)
    ((first, _),) = peer.received()
    producer.set_muted(True)
    frame(rig, 2)
    producer.set_muted(False)
    frame(rig, 3, keyframe=True)
    ((head, _),) = peer.received()
    assert head.seq == first.seq + 1
    rig.rtcp(peer, nack.build(9, consumer.ssrc, [first.seq, head.seq]))
    assert [payload[-2:] for _, payload in peer.received()] == [b"\x0a\x01", b"\x0a\x03"]


def test_a_track_that_ends_feeds_nobody_and_keeps_nothing(rig: Rig) -> None:
    producer, consumer, _ = layered(rig)
    source = producer.sources["q"]
    assert any(source.fanout.ring)
    rig.plane.remove_producer(producer)
    assert (source.fanout.consumers, producer.consumers, producer.waiting) == ((), (), {})
    assert not any(source.fanout.ring)
    rig.publisher.rtcp.clear()
    rig.target(consumer, None)
    rig.target(consumer, producer.sources["f"])  # the layers' clock did not know yet
    assert producer.waiting == {}
    assert rig.publisher.rtcp == []


def test_everybody_may_switch_at_once(rig: Rig) -> None:
    producer = rig.producer("video", rids=("q", "f"))
    viewers = [rig.consumer(producer, 100 + 2 * index)[:2] for index in range(5)]
    frame(rig, 0, keyframe=True)
    for viewer, _ in viewers:
        rig.target(viewer, producer.sources["q"])
    frame(rig, 1, keyframe=True)
    for viewer, _ in viewers:
        rig.target(viewer, producer.sources["f"])
    frame(rig, 2, keyframe=True)
    frame(rig, 3)
    for _, peer in viewers:
        assert [payload[-2:] for _, payload in peer.received()] == [b"\x0a\x01", b"\x0a\x02", b"\x14\x02", b"\x14\x03"]
    assert producer.sources["q"].fanout.rows == b""


def test_a_packet_that_came_is_not_asked_for_even_if_it_makes_no_sense(rig: Rig) -> None:
    layered(rig)
    rig.publish(rtp("video", 10_002, 6000, b"\x90", ssrc=10, rid="q"))
    frame(rig, 3)
    assert rig.drops(DropReason.MALFORMED_RTP) == 1
    rig.publisher.rtcp.clear()
    rig.plane.tick(10**18)
    parts = [part for packet in rig.publisher.rtcp for part in rtcp.split(packet)]
    asked = [nack.parse(rtcp.split_feedback(part).fci) for part in parts if part.count == rtcp.FMT_NACK]
    assert asked == [[20_002]], "only of the other layer is it missing"


def test_a_newcomer_begins_at_a_key_frame_and_disturbs_nobody(rig: Rig) -> None:
    producer, _, peer = layered(rig)
    newcomer, other, _ = rig.consumer(producer, 500)
    rig.target(newcomer, producer.sources["q"])
    frame(rig, 2)
    frame(rig, 3, keyframe=True)
    frame(rig, 4)
    assert [payload[-1] for _, payload in peer.received()] == [1, 2, 3, 4]
    assert [payload[-1] for _, payload in other.received()] == [3, 4]
    assert newcomer.packets == 2


def test_a_late_packet_reaches_those_who_were_there_before_it(rig: Rig) -> None:
    producer = rig.producer("audio")
    _, early, _ = rig.consumer(producer, 100)
    rig.publish(rtp("audio", 1, 960, b"\x78a"))
    rig.publish(rtp("audio", 3, 2880, b"\x78c"))
    _, late, _ = rig.consumer(producer, 200)
    rig.publish(rtp("audio", 4, 3840, b"\x78d"))
    rig.publish(rtp("audio", 2, 1920, b"\x78b"))
    rig.publish(rtp("audio", 5, 4800, b"\x78e"))
    numbered = [(head.seq, payload) for head, payload in early.received()]
    first = numbered[0][0]
    assert [(seq - first, payload) for seq, payload in numbered] == [
        (0, b"\x78a"),
        (2, b"\x78c"),
        (3, b"\x78d"),
        (1, b"\x78b"),
        (4, b"\x78e"),
    ]
    assert [payload for _, payload in late.received()] == [b"\x78d", b"\x78e"]
    assert rig.drops(DropReason.BEFORE_SWITCH) == 1


def test_counts_go_on_over_switches_and_end_with_the_consumer(rig: Rig) -> None:
    producer, consumer, _ = layered(rig)
    bystander, _, _ = rig.consumer(producer, 500)
    rig.target(bystander, producer.sources["f"])
    rig.target(consumer, producer.sources["f"])
    frame(rig, 2, keyframe=True)
    rig.target(consumer, None)
    frame(rig, 3, keyframe=True)
    rig.target(consumer, producer.sources["q"])
    frame(rig, 4, keyframe=True)
    assert (consumer.packets, bystander.packets) == (4, 3)
    rig.plane.remove_consumer(consumer)
    frame(rig, 5)
    assert (consumer.packets, bystander.packets) == (4, 4)
    assert producer.sources["q"].fanout.consumers == ()


def test_a_client_that_keeps_its_ssrc_sees_one_numbering_over_two_consumers(rig: Rig) -> None:
    producer, consumer, peer = layered(rig)
    numbers = consumer.numbers()
    rig.plane.remove_consumer(consumer)
    successor = Consumer(producer, consumer.downlink, consumer.ssrc, consumer.rtx_ssrc)
    successor.go_on_from(numbers)
    rig.plane.add_consumer(successor)
    rig.target(successor, producer.sources["f"])
    frame(rig, 2, keyframe=True)
    (first, before), (second, after) = peer.received()
    assert second.seq == first.seq + 1
    assert vp8_format.parse(after).picture_id == vp8_format.parse(before).picture_id + 1
    assert rig.drops(DropReason.PROTECT_REFUSED) == 0
