"""The Python data plane: routing, rewriting, layer switches, retransmission, hostile input; SRTP is real throughout."""

import itertools
import struct
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sfu.errors import DropReason
from sfu.rtp import nack, remb, rtcp
from sfu.rtp import vp8 as vp8_format
from sfu.rtp.rtcp import ReportBlock
from sfu.tap import Sound
from tests.unit.sfu.rig import Rig, rtp, vp8


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.close()


def test_audio_reaches_every_subscriber_under_its_own_numbers(rig: Rig) -> None:
    producer = rig.producer("audio")
    consumers = [rig.consumer(producer, ssrc) for ssrc in (100, 200)]
    for index in range(5):
        rig.publish(rtp("audio", 1000 + index, 50_000 + 960 * index, b"\x78opus%d" % index))
    for consumer, peer, observer in consumers:
        packets = peer.received()
        assert [payload for _, payload in packets] == [b"\x78opus%d" % index for index in range(5)]
        heads = [head for head, _ in packets]
        assert {head.ssrc for head in heads} == {consumer.ssrc}
        assert heads[0].seq < 1 << 15
        assert [head.seq - heads[0].seq for head in heads] == [0, 1, 2, 3, 4]
        assert [head.timestamp - heads[0].timestamp for head in heads] == [0, 960, 1920, 2880, 3840]
        assert {head.payload_type for head in heads} == {111}
        assert [int.from_bytes(head.extensions[3], "big") for head in heads] == [1, 2, 3, 4, 5]
        assert heads[0].extensions[1] == bytes([20])
        assert observer.sent_packets == 5
    assert rig.events.levels == [20] * 5
    assert rig.events.heard == [Sound.RAW] * 5


def test_a_duplicate_is_never_protected_twice(rig: Rig) -> None:
    producer = rig.producer("audio")
    _, peer, _ = rig.consumer(producer)
    for _ in range(3):
        rig.publish(rtp("audio", 7, 960, b"x"))
    assert len(peer.received()) == 1
    assert rig.drops(DropReason.DUPLICATE) == 2
    assert rig.drops(DropReason.PROTECT_REFUSED) == 0


def test_what_was_sent_is_refused_by_srtp_too(rig: Rig) -> None:
    """The last line of defence: even if numbering were wrong, libsrtp will not reuse a nonce."""
    producer = rig.producer("audio")
    consumer, peer, _ = rig.consumer(producer)
    rig.publish(rtp("audio", 7, 960, b"x"))
    rig.publish(rtp("audio", 8, 1920, b"y"))
    assert consumer.feed is not None
    fanout = consumer.feed.fanout
    fanout.leave(consumer)
    consumer.feed = consumer.feed._replace(seq_offset=consumer.feed.seq_offset - 1)
    fanout.join([consumer])
    rig.publish(rtp("audio", 9, 2880, b"z"))
    assert len(peer.received()) == 2
    assert rig.drops(DropReason.PROTECT_REFUSED) == 1


def test_muted_tracks_are_not_forwarded(rig: Rig) -> None:
    producer = rig.producer("audio")
    _, peer, _ = rig.consumer(producer)
    producer.muted = True
    rig.publish(rtp("audio", 7, 960, b"x"))
    assert peer.received() == []
    assert rig.drops(DropReason.MUTED) == 1


def _publish_layers(rig: Rig, frame: int, keyframe: bool) -> None:
    for ssrc, rid in ((10, "q"), (20, "h"), (30, "f")):
        base = ssrc * 1000
        payload = vp8((ssrc + frame) & 0x7FFF, (ssrc + frame) & 0xFF, keyframe=keyframe)
        rig.publish(rtp("video", base + 2 * frame, base + 3000 * frame, payload, ssrc=ssrc, rid=rid))
        payload = vp8((ssrc + frame) & 0x7FFF, (ssrc + frame) & 0xFF, start=False)
        rig.publish(rtp("video", base + 2 * frame + 1, base + 3000 * frame, payload, ssrc=ssrc, rid=rid, marker=True))


def test_a_layer_switch_is_seamless(rig: Rig) -> None:
    producer = rig.producer("video", rids=("q", "h", "f"))
    consumer, peer, _ = rig.consumer(producer)
    _publish_layers(rig, 0, keyframe=True)  # latches the three SSRCs
    rig.target(consumer, producer.sources["q"])
    _publish_layers(rig, 1, keyframe=True)
    _publish_layers(rig, 2, keyframe=False)
    rig.target(consumer, producer.sources["f"])
    _publish_layers(rig, 3, keyframe=False)  # still low: no key frame of the high layer yet
    assert consumer.current is producer.sources["q"]
    _publish_layers(rig, 4, keyframe=True)
    _publish_layers(rig, 5, keyframe=False)
    packets = peer.received()
    seqs = [head.seq for head, _ in packets]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    timestamps = [head.timestamp for head, _ in packets]
    assert all(0 <= (b - a) & 0xFFFFFFFF < 90_000 for a, b in itertools.pairwise(timestamps))
    descriptors = [vp8_format.parse(payload) for _, payload in packets]
    assert all((b.picture_id - a.picture_id) & 0x7FFF in (0, 1) for a, b in itertools.pairwise(descriptors))
    assert all((b.tl0 - a.tl0) & 0xFF in (0, 1) for a, b in itertools.pairwise(descriptors))
    assert consumer.current is producer.sources["f"]
    assert consumer.switches == 1
    assert producer.sources["f"].width == 640


def test_switching_asks_for_a_key_frame_until_it_comes(rig: Rig) -> None:
    producer = rig.producer("video", rids=("q", "f"))
    consumer, _, _ = rig.consumer(producer)
    rig.publish(rtp("video", 1, 0, vp8(1, 1), ssrc=10, rid="q"))
    rig.target(consumer, producer.sources["q"])
    assert rig.publisher.rtcp == [rtcp.build_pli(1, 10)]
    rig.plane.tick(2_000_000_000)
    assert len(rig.publisher.rtcp) == 2
    rig.publish(rtp("video", 2, 3000, vp8(2, 2, keyframe=True), ssrc=10, rid="q"))
    rig.plane.tick(9_000_000_000)
    assert len(rig.publisher.rtcp) == 2


def test_a_paused_consumer_gets_nothing_and_returns_with_a_key_frame(rig: Rig) -> None:
    producer = rig.producer("video")
    consumer, peer, _ = rig.consumer(producer)
    rig.publish(rtp("video", 1, 0, vp8(1, 1, keyframe=True)))
    rig.target(consumer, producer.sources[""])
    rig.publish(rtp("video", 2, 3000, vp8(2, 2, keyframe=True)))
    rig.target(consumer, None)
    rig.publish(rtp("video", 3, 6000, vp8(3, 3)))
    rig.target(consumer, producer.sources[""])
    rig.publish(rtp("video", 4, 9000, vp8(4, 4)))
    rig.publish(rtp("video", 5, 12000, vp8(5, 5, keyframe=True)))
    packets = peer.received()
    assert len(packets) == 2
    assert packets[1][0].seq == packets[0][0].seq + 1


def test_nack_is_answered_by_rtx_and_upstream_loss_is_asked_for(rig: Rig) -> None:
    producer = rig.producer("video")
    consumer, peer, _ = rig.consumer(producer)
    rig.publish(rtp("video", 1, 0, vp8(1, 1, keyframe=True)))
    rig.target(consumer, producer.sources[""])
    for seq in (2, 3, 5):
        rig.publish(rtp("video", seq, 3000 * seq, vp8(seq, seq, keyframe=seq == 2)))
    original = {head.seq: payload for head, payload in peer.received()}
    lost = sorted(original)[1]
    rig.rtcp(peer, nack.build(9, consumer.ssrc, [lost]))
    ((head, payload),) = peer.received()
    assert head.ssrc == consumer.rtx_ssrc
    assert head.payload_type == 97
    assert int.from_bytes(payload[:2], "big") == lost
    assert payload[2:] == original[lost]
    rig.plane.tick(10**18)
    assert nack.parse(rtcp.split_feedback(rtcp.split(rig.publisher.rtcp[-1])[0]).fci) == [4]


def test_upstream_rtx_fills_the_gap(rig: Rig) -> None:
    producer = rig.producer("video")
    consumer, peer, _ = rig.consumer(producer)
    rig.publish(rtp("video", 1, 0, vp8(1, 1, keyframe=True)))
    rig.target(consumer, producer.sources[""])
    rig.publish(rtp("video", 2, 3000, vp8(2, 2, keyframe=True)))
    rig.publish(rtp("video", 4, 9000, vp8(4, 4)))
    repaired = struct.pack("!H", 3) + vp8(3, 3)
    rig.publish(rtp("video", 500, 6000, repaired, ssrc=78, rtx=True))
    seqs = [head.seq for head, _ in peer.received()]
    assert sorted(seqs) == list(range(min(seqs), min(seqs) + 3))
    assert seqs != sorted(seqs)


def test_retransmissions_are_capped(rig: Rig) -> None:
    producer = rig.producer("video")
    consumer, peer, _ = rig.consumer(producer)
    rig.publish(rtp("video", 1, 0, vp8(1, 1, keyframe=True)))
    rig.target(consumer, producer.sources[""])
    rig.publish(rtp("video", 2, 3000, vp8(2, 2, keyframe=True, size=1000)))
    ((head, _),) = peer.received()
    for _ in range(300):
        rig.rtcp(peer, nack.build(9, consumer.ssrc, [head.seq]))
    assert 100 < consumer.retransmitted < 140  # 128 KiB of about 1 kB each
    assert rig.drops(DropReason.RTX_CAPPED) == 300 - consumer.retransmitted
    rig.rtcp(peer, nack.build(9, consumer.ssrc, [(head.seq + 7) & 0xFFFF]))
    assert rig.drops(DropReason.RTX_GONE) == 1


def test_a_new_publisher_on_the_same_consumer_goes_on_in_numbering(rig: Rig) -> None:
    first = rig.producer("audio")
    _consumer, peer, _ = rig.consumer(first)
    rig.publish(rtp("audio", 60_000, 5, b"a", ssrc=1))
    rig.publish(rtp("audio", 30, 5, b"b", ssrc=2))  # the client restarted its encoder: same mid, other SSRC
    heads = [head for head, _ in peer.received()]
    assert heads[1].seq == heads[0].seq + 1
    assert 0 < (heads[1].timestamp - heads[0].timestamp) & 0xFFFFFFFF < 48_000


def test_reports_flow_both_ways(rig: Rig) -> None:
    producer = rig.producer("audio")
    consumer, peer, observer = rig.consumer(producer)
    rig.publish(rtp("audio", 1, 960, b"x"))
    rig.rtcp(rig.publisher, rtcp.build_sr(77, 1 << 40, 960, 1, 1))
    rig.plane.send_reports(10**18)
    assert [part.packet_type for part in rtcp.split(rig.publisher.rtcp[-1])] == [rtcp.RR]
    report, sdes = rtcp.split(peer.rtcp[-1])
    assert rtcp.parse_sender_info(report).ssrc == consumer.ssrc
    assert b"alice" in sdes.body
    rig.rtcp(peer, rtcp.build_rr(5, [ReportBlock(consumer.ssrc, 64, 3, 10, 0, 0, 0)]))
    rig.rtcp(peer, remb.build(5, 300_000, [consumer.ssrc]))
    assert observer.losses == [0.25]
    assert observer.rembs == [300_000]


def test_other_peoples_streams_cannot_be_addressed(rig: Rig) -> None:
    producer = rig.producer("video")
    consumer, peer, observer = rig.consumer(producer)
    _, stranger, _ = rig.consumer(producer, ssrc=900)
    rig.publish(rtp("video", 1, 0, vp8(1, 1, keyframe=True)))
    rig.target(consumer, producer.sources[""])
    rig.publish(rtp("video", 2, 3000, vp8(2, 2, keyframe=True)))
    seq = peer.received()[0][0].seq
    rig.rtcp(stranger, nack.build(9, consumer.ssrc, [seq]))
    rig.rtcp(stranger, rtcp.build_rr(5, [ReportBlock(consumer.ssrc, 255, 3, 10, 0, 0, 0)]))
    assert peer.received() == []
    assert observer.losses == []


def test_unknown_peers_and_streams_are_unroutable(rig: Rig) -> None:
    rig.publish(rtp("audio", 1, 0, b"x"))
    rig.producer("audio")
    rig.publish(rtp("video", 1, 0, b"x", ssrc=5))
    assert rig.drops(DropReason.UNROUTABLE) == 2


def test_a_long_mute_leaves_no_hole_in_the_numbering(rig: Rig) -> None:
    producer = rig.producer("audio")
    _, peer, _ = rig.consumer(producer)
    rig.publish(rtp("audio", 1, 960, b"x"))
    producer.set_muted(True)
    for seq in range(2, 40_000):
        rig.publish(rtp("audio", seq, 960 * seq, b"x"))
    producer.set_muted(False)
    for seq in range(40_000, 40_010):
        rig.publish(rtp("audio", seq, 960 * seq, b"x"))
    seqs = [head.seq for head, _ in peer.received()]
    assert seqs == list(range(seqs[0], seqs[0] + 11))
    assert rig.drops(DropReason.PROTECT_REFUSED) == 0


def test_unmuted_video_waits_for_a_key_frame_and_asks_for_it(rig: Rig) -> None:
    producer = rig.producer("video")
    consumer, peer, _ = rig.consumer(producer)
    rig.publish(rtp("video", 1, 0, vp8(1, 1, keyframe=True)))
    rig.target(consumer, producer.sources[""])
    rig.publish(rtp("video", 2, 3000, vp8(2, 2, keyframe=True)))
    producer.set_muted(True)
    for seq in range(3, 500):
        rig.publish(rtp("video", seq, 3000 * seq, vp8(seq, seq & 0xFF)))
    producer.set_muted(False)
    rig.publisher.rtcp.clear()
    rig.publish(rtp("video", 500, 1_500_000, vp8(500, 1)))
    rig.plane.tick(10**18)
    assert rig.publisher.rtcp == [rtcp.build_pli(1, 77)]  # and no NACK for what came while muted
    rig.publish(rtp("video", 501, 1_503_000, vp8(501, 2, keyframe=True)))
    heads = [head for head, _ in peer.received()]
    assert [head.seq - heads[0].seq for head in heads] == [0, 1]
    assert rig.drops(DropReason.NO_KEYFRAME) == 1


def test_a_late_packet_does_not_turn_picture_ids_back(rig: Rig) -> None:
    producer = rig.producer("video")
    consumer, peer, _ = rig.consumer(producer)
    rig.publish(rtp("video", 1, 0, vp8(1, 1, keyframe=True)))
    rig.target(consumer, producer.sources[""])
    for seq in (2, 3, 5, 6, 4):
        rig.publish(rtp("video", seq, 3000 * seq, vp8(seq, seq, keyframe=seq == 2)))
    newest = max(vp8_format.parse(payload).picture_id for _, payload in peer.received())
    assert consumer.numbers().picture_id == newest


def test_one_viewers_requests_count_once_a_second(rig: Rig) -> None:
    producer = rig.producer("video")
    consumer, peer, _ = rig.consumer(producer)
    rig.publish(rtp("video", 1, 0, vp8(1, 1, keyframe=True)))
    rig.target(consumer, producer.sources[""])
    rig.publish(rtp("video", 2, 3000, vp8(2, 2, keyframe=True)))
    for _ in range(50):
        rig.rtcp(peer, rtcp.build_pli(9, consumer.ssrc))
    assert rig.drops(DropReason.KEYFRAME_CAPPED) == 49


def test_a_flood_of_sound_is_cut_at_its_source(rig: Rig) -> None:
    producer = rig.producer("audio")
    _, peer, _ = rig.consumer(producer)
    for seq in range(2000):
        rig.publish(rtp("audio", seq, 960 * seq, b"x"))
    forwarded = len(peer.received())
    assert 150 < forwarded < 1000
    assert rig.drops(DropReason.RATE) == 2000 - forwarded


def test_no_peer_can_fill_the_tables(rig: Rig) -> None:
    rig.producer("video")
    rig.publish(rtp("video", 1, 0, vp8(1, 1, keyframe=True)))
    for ssrc in range(1000, 2000):
        rig.publish(rtp("video", 1, 0, struct.pack("!H", 9) + vp8(1, 1), ssrc=ssrc, rtx=True))
    assert rig.drops(DropReason.UNROUTABLE) >= 700


def test_removing_a_peer_leaves_nothing_behind(rig: Rig) -> None:
    producer = rig.producer("audio")
    consumer, peer, _ = rig.consumer(producer)
    rig.plane.remove_peer(consumer.peer)
    rig.publish(rtp("audio", 1, 0, b"x"))
    assert peer.received() == []
    rig.plane.remove_peer(producer.peer)
    rig.publish(rtp("audio", 2, 0, b"x"))
    assert rig.drops(DropReason.UNROUTABLE) == 1


PACKETS = st.one_of(
    st.binary(max_size=200),
    st.builds(
        lambda seq, at, value: (lambda p: p[: at % len(p)] + bytes([value]) + p[at % len(p) + 1 :])(
            rtp("video", seq, 0, vp8(seq & 0x7FFF, 1, keyframe=True), rid="q")
        ),
        st.integers(0, 65535),
        st.integers(0, 60),
        st.integers(0, 255),
    ),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.booleans(), PACKETS), max_size=20))
def test_nothing_that_comes_in_raises_or_disturbs_others(rig: Rig, packets: list[tuple[bool, bytes]]) -> None:
    if not rig.publisher.rtcp:
        rig.producer("video", rids=("q",))
        rig.publisher.rtcp.append(b"")
    for is_rtcp, packet in packets:
        if is_rtcp:
            rig.rtcp(rig.publisher, packet)
        else:
            rig.publish(packet)
    rig.plane.tick(10**18)
    rig.plane.send_transport_feedback()
    rig.plane.send_reports(10**18)


def test_transport_wide_numbers_are_only_where_they_are_wanted(rig: Rig) -> None:
    producer = rig.producer("audio")
    plain, plain_peer, plain_observer = rig.consumer(producer, 100)
    plain.downlink.transport_wide = False
    _, wide_peer, wide_observer = rig.consumer(producer, 200)
    for index in range(3):
        rig.publish(rtp("audio", 1000 + index, 960 * index, b"\x78opus"))
    heads = [head for head, _ in plain_peer.received()]
    assert [3 in head.extensions for head in heads] == [False] * 3
    assert [head.extensions[1] for head in heads] == [bytes([20])] * 3, "the audio level behind the padding"
    assert [int.from_bytes(head.extensions[3], "big") for head, _ in wide_peer.received()] == [1, 2, 3]
    assert (plain_observer.sent_packets, wide_observer.sent_packets) == (0, 3)
