"""What the video host encodes at, and how a derived video shares a downlink with others."""

import dataclasses
import time

import pytest

from sfu.consumer import Consumer
from sfu.derived import (
    CEILING_BPS,
    FALL_AGAIN_NS,
    RISE_AFTER_NS,
    START_BPS,
    next_bitrate,
)
from sfu.layer_control import FLOOR_BPS, WANTED_BPS, offered_layers
from sfu.producer import Producer, Source
from sfu.tap import OpenTrack
from tests.unit.sfu.derived_stage import Stage, Viewer

S = 1_000_000_000


def test_a_bitrate_falls_at_once_and_rises_in_steps() -> None:
    assert next_bitrate(600_000, 180_000, 0) == FLOOR_BPS, "no lower than that, and at once"
    assert next_bitrate(600_000, 400_000, 0) == 320_000, "with room for the next fall"
    assert next_bitrate(600_000, 580_000, 10 * S) == 600_000
    assert next_bitrate(600_000, 500_000, FALL_AGAIN_NS) == 400_000
    assert next_bitrate(600_000, 500_000, FALL_AGAIN_NS - 1) == 600_000, "not again so soon for so little"
    assert next_bitrate(600_000, CEILING_BPS, RISE_AFTER_NS - 1) == 600_000
    assert next_bitrate(600_000, CEILING_BPS, RISE_AFTER_NS) == 900_000
    assert next_bitrate(600_000, 700_000, RISE_AFTER_NS) == 600_000
    assert next_bitrate(600_000, 800_000, RISE_AFTER_NS) == 800_000


def test_a_share_that_falls_and_falls_costs_few_key_frames() -> None:
    bitrate_bps, changed_ns, changes = CEILING_BPS, 0, 0
    for second in range(1, 41):
        allowed_bps = max(FLOOR_BPS, int(CEILING_BPS * 0.94**second))
        wanted_bps = next_bitrate(bitrate_bps, allowed_bps, second * S - changed_ns)
        if wanted_bps != bitrate_bps:
            bitrate_bps, changed_ns, changes = wanted_bps, second * S, changes + 1
    assert bitrate_bps < 1.05 * FLOOR_BPS
    assert changes <= 8, "of 37 falls"


async def test_the_host_encodes_for_the_narrowest_viewer(stage: Stage) -> None:
    viewer = await stage.live()
    other = Viewer(stage, stage.producer, 0x4321)
    now_ns = time.monotonic_ns()
    stage.taps.tick_layers(now_ns)
    viewer.control.remb(400_000, [viewer.consumer.ssrc], now_ns)
    for control in (viewer.control, other.control):
        control.tick(now_ns)
    share = viewer.consumer.share_bps
    assert share is not None
    assert other.consumer.share_bps is None
    for narrow, expected in ((400_000, 288_000), (100_000, FLOOR_BPS)):
        viewer.consumer.share_bps = narrow
        stage.taps.refresh()
        await stage.told(stage.host_)
        opened = [frame for frame in stage.host_.others if isinstance(frame, OpenTrack)]
        assert opened[-1].bitrate_bps == expected
    assert opened[0].bitrate_bps == START_BPS


async def test_who_has_not_even_room_for_the_floor_is_paused(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    viewer = await stage.live()
    video = stage.video
    assert video is not None
    video.source.rate.bps = 900_000
    for estimate_bps, target in ((500_000, video.source), (FLOOR_BPS - 1, None)):
        monkeypatch.setattr(viewer.control.estimate, "estimate_bps", lambda _, bps=estimate_bps: bps)
        viewer.control.tick(time.monotonic_ns())
        assert viewer.consumer.target is target
        assert viewer.consumer.share_bps == estimate_bps
    (state,) = viewer.control.states()
    assert (state.layer, state.reason) == ("paused", "bandwidth")


async def test_two_derived_videos_share_what_is_left(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    viewer = await stage.live()
    twin, _, _ = stage.rig.consumer(stage.producer, 0x9999)
    viewer.control.add(twin, time.monotonic_ns())
    monkeypatch.setattr(viewer.control.estimate, "estimate_bps", lambda _: 800_000)
    viewer.control.tick(time.monotonic_ns())
    assert (viewer.consumer.share_bps, twin.share_bps) == (400_000, 400_000)


def full_grid(stage: Stage, viewer: Viewer, now_ns: int) -> list[Consumer]:
    """Five cameras more, whose middle layers alone fill two megabits."""
    others = []
    for number in range(5):
        media = dataclasses.replace(stage.producer.media, rids=("q", "h", "f"))
        producer = Producer(f"camera-{number}", "bert", "camera", stage.producer.peer, media)
        for index, (rid, bps) in enumerate((("q", 100_000), ("h", 370_000), ("f", 900_000))):
            source = producer.sources[rid] = Source(producer, 5_000 + 10 * number + index, rid)
            source.width, source.height, source.last_arrival_ns = 160 << index, 90 << index, now_ns
            source.rate.bps = bps
        stage.rig.plane.add_producer(producer)
        consumer, _, _ = stage.rig.consumer(producer, 0x8000 + 10 * number)
        viewer.control.add(consumer, now_ns)
        others.append(consumer)
    return others


async def test_in_a_full_grid_a_derived_video_competes_like_a_layer(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = await stage.live()
    now_ns = time.monotonic_ns()
    stage.producer.sources[""].rate.bps = 900_000
    assert viewer.consumer.target is not None
    viewer.consumer.target.rate.bps = 500_000
    others = full_grid(stage, viewer, now_ns)
    monkeypatch.setattr(viewer.control.estimate, "estimate_bps", lambda _: 2_000_000)
    for _ in range(3):
        viewer.control.tick(now_ns)
    share_bps = viewer.consumer.share_bps
    assert share_bps is not None
    assert share_bps >= WANTED_BPS
    spent_bps = [consumer.target.rate.bps for consumer in others if consumer.target is not None]
    assert sorted(spent_bps) == [100_000, 100_000, 370_000, 370_000, 370_000]
    assert share_bps + sum(spent_bps) <= 2_000_000


async def test_what_is_given_up_for_it_is_no_more_than_its_original_takes(stage: Stage) -> None:
    await stage.live()
    stage.producer.sources[""].rate.bps = 200_000
    offer = offered_layers(stage.producer, time.monotonic_ns())
    assert offer.wanted_bps == 200_000
