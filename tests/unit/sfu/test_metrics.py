"""What a worker tells Prometheus: counted where it happens, read when asked, and lost by no track that ends."""

import time
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from sfu.counters import SAMPLE_EVERY, TapTotals
from sfu.errors import DropReason
from sfu.metrics import WorkerMetrics
from sfu.rtp import nack, rtcp
from sfu.rtp.rtcp import ReportBlock
from sfu.tap_server import TapServer
from tests.unit.sfu.derived_stage import Stage
from tests.unit.sfu.rig import Rig, rtp, vp8
from tests.until import until

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.close()


class Taps:
    """A tap to which nobody is connected."""

    attached: tuple[str, ...] = ()

    def path_totals(self) -> TapTotals:
        return TapTotals()


class Told:
    """The page of a worker, as Prometheus reads it."""

    def __init__(self, rig: Rig, taps: Taps | TapServer | None = None) -> None:
        socket_drops = {DropReason.MALFORMED_STUN: 3}
        self._metrics = WorkerMetrics(CollectorRegistry(), rig.plane.counters, socket_drops, {}, taps or Taps())

    def __call__(self, name: str, **labels: str) -> float:
        """A sample; KeyError if there is none."""
        return self._samples()[name, frozenset(labels.items())]

    def _samples(self) -> Samples:
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self._metrics.page())
            for sample in family.samples
        }


def test_packets_and_bytes_are_told_by_kind_and_direction(rig: Rig) -> None:
    told = Told(rig)
    sound, picture = rig.producer("audio"), rig.producer("video")
    for ssrc in (100, 200):
        rig.consumer(sound, ssrc)
    viewer, _, _ = rig.consumer(picture, 300)
    for seq in range(4):
        rig.publish(rtp("audio", seq, 960 * seq, b"\x78sound", ssrc=1))
    rig.publish(rtp("video", 7, 0, vp8(1, 1, keyframe=True), ssrc=2))
    rig.target(viewer, picture.sources[""])
    rig.publish(rtp("video", 8, 3000, vp8(2, 2, keyframe=True), ssrc=2))
    assert told("candor_packets_total", direction="in", kind="audio") == 4
    assert told("candor_packets_total", direction="out", kind="audio") == 8
    assert told("candor_packets_total", direction="in", kind="video") == 2
    assert told("candor_packets_total", direction="out", kind="video") == 1
    sizes = [len(rtp("audio", seq, 960 * seq, b"\x78sound", ssrc=1)) for seq in range(4)]
    assert told("candor_packet_bytes_total", direction="in", kind="audio") == sum(sizes)
    assert told("candor_packet_bytes_total", direction="out", kind="audio") > 8 * len(b"\x78sound")


def test_a_track_that_ends_takes_nothing_with_it(rig: Rig) -> None:
    told = Told(rig)
    producer = rig.producer("audio")
    rig.publish(rtp("audio", 1, 960, b"\x78sound"))
    rig.plane.remove_producer(producer)
    rig.producer("audio")
    rig.publish(rtp("audio", 9, 960, b"\x78sound"))
    assert told("candor_packets_total", direction="in", kind="audio") == 2


def test_every_drop_has_its_reason_also_those_of_the_socket(rig: Rig) -> None:
    told = Told(rig)
    rig.producer("audio")
    for _ in range(3):
        rig.publish(rtp("audio", 7, 960, b"\x78sound"))
    assert told("candor_dropped_packets_total", reason="duplicate") == 2
    assert told("candor_dropped_packets_total", reason="malformed_stun") == 3
    assert {told("candor_dropped_packets_total", reason=reason.value) for reason in DropReason} == {0.0, 2.0, 3.0}


def test_latency_is_that_of_one_packet_in_so_many(rig: Rig) -> None:
    told = Told(rig)
    rig.consumer(rig.producer("audio"))
    for seq in range(2 * SAMPLE_EVERY):
        rig.publish(rtp("audio", seq, 960 * seq, b"\x78sound"))
    assert told("candor_forward_latency_seconds_count", kind="audio", path="raw") == 2
    assert 0 < told("candor_forward_latency_seconds_sum", kind="audio", path="raw") < 60
    assert told("candor_forward_latency_seconds_count", kind="video", path="raw") == 0


def _report(ssrc: int, fraction_lost: int, last_sr: int = 0) -> bytes:
    block = ReportBlock(ssrc, fraction_lost, 0, 100, 0, last_sr, 0)
    return rtcp.build_rr(1, [block])


def test_subscribers_reports_tell_of_loss_and_round_trip(rig: Rig) -> None:
    told = Told(rig)
    producer = rig.producer("audio")
    consumer, peer, _ = rig.consumer(producer, 100)
    consumer.report_ntp, consumer.report_sent_ns = 77, time.monotonic_ns() - 80_000_000
    rig.rtcp(peer, _report(100, 64, last_sr=77))
    rig.rtcp(peer, _report(100, 0))  # before a sender report nobody knows the round trip
    assert told("candor_loss_ratio_count", direction="out", kind="audio") == 2
    assert told("candor_loss_ratio_sum", direction="out", kind="audio") == 0.25
    assert told("candor_round_trip_seconds_count") == 1
    assert told("candor_round_trip_seconds_sum") >= 0.08
    assert told("candor_round_trip_seconds_bucket", le="0.05") == 0


def test_publishers_loss_and_jitter_are_told_while_they_send(rig: Rig) -> None:
    told = Told(rig)
    rig.producer("audio")
    for seq in (1, 2, 4):
        rig.publish(rtp("audio", seq, 960 * seq, b"\x78sound"))
    now_ns = time.monotonic_ns()
    rig.plane.send_reports(now_ns)
    rig.plane.send_reports(now_ns + 60_000_000_000)  # silent for a minute: nothing new is known
    assert told("candor_loss_ratio_count", direction="in", kind="audio") == 1
    assert told("candor_loss_ratio_sum", direction="in", kind="audio") == pytest.approx(0.25)
    assert told("candor_jitter_seconds_count", kind="audio") == 1


def test_what_is_asked_for_again_is_told(rig: Rig) -> None:
    told = Told(rig)
    picture = rig.producer("video")
    viewer, peer, _ = rig.consumer(picture, 300)
    rig.publish(rtp("video", 7, 0, vp8(1, 1, keyframe=True), ssrc=2))
    rig.target(viewer, picture.sources[""])
    rig.publish(rtp("video", 8, 3000, vp8(2, 2, keyframe=True), ssrc=2))
    (sent, _), *_ = peer.received()
    rig.rtcp(peer, nack.build(1, 300, [sent.seq]))
    rig.rtcp(peer, rtcp.build_pli(1, 300))
    assert told("candor_nacks_total", direction="in") == 1
    assert told("candor_retransmissions_total") == 1
    assert told("candor_keyframe_requests_total", direction="in") == 1
    assert told("candor_keyframe_requests_total", direction="out") >= 1


async def test_seconds_around_a_transform_are_told_with_the_reason(stage: Stage) -> None:
    told = Told(stage.rig, stage.taps)
    start_ns = time.monotonic_ns()

    def after(seconds: float) -> tuple[float, float]:
        """Seconds by the host's fault (`starting`, `late`), and without a host, up to a moment."""
        stage.taps.tick_layers(start_ns + int(seconds * 1e9))
        slow = [told("candor_bypass_seconds_total", kind="video", reason=reason) for reason in ("starting", "late")]
        return sum(slow), told("candor_bypass_seconds_total", kind="video", reason="host_is_gone")

    await stage.begin()
    assert told("candor_tap_attached", host="video") == 1
    before, _ = after(10)
    assert after(12) == (before + 2, 0)
    stage.host_.link.close()
    await until(lambda: "the end of the host" if told("candor_tap_attached", host="video") else "")
    assert after(15) == (before + 2, 3)
    stage.process(on=False)
    assert after(19) == (before + 2, 3)


async def test_what_became_of_sound_in_the_path_outlives_its_track(stage: Stage) -> None:
    told = Told(stage.rig, stage.taps)
    producer = stage.rig.producer("audio")
    stage.taps.open("room", producer)
    host = await stage.host("path", ("denoise",))
    stage.taps.set_processing(producer.track_id, {"denoise": True}, 1)
    stage.rig.publish(rtp("audio", 1, 960, b"\x78sound"))
    host.link.close()
    await until(lambda: "the end of the host" if told("candor_tap_attached", host="path") else "")
    stage.rig.publish(rtp("audio", 2, 1920, b"\x78sound"))
    assert told("candor_path_packets_total", outcome="bypassed") == 2
    assert told("candor_hard_bypasses_total") == 1
    stage.taps.tick_layers(time.monotonic_ns() + 4_000_000_000)
    assert told("candor_bypass_seconds_total", kind="audio", reason="host_is_gone") > 3
    stage.taps.close_track(producer.track_id)
    assert told("candor_path_packets_total", outcome="bypassed") == 2
