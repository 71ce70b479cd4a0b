"""Video that the video host makes of a published one."""

import time
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sfu.derived import (
    LATE_NS,
    RETURN_NS,
)
from sfu.errors import DropReason
from sfu.rtp import header, nack, rtcp
from sfu.tap import SelectLayer, VideoResult, WantKeyframe
from tests.unit.sfu.derived_stage import Stage, Viewer
from tests.unit.sfu.video_scene import SSRCS
from tests.until import until

S = 1_000_000_000
NAME = "watermark"


async def test_viewers_get_the_publishers_own_until_a_key_frame_of_the_host_came(stage: Stage) -> None:
    viewer = await stage.begin()
    assert len(viewer.sees()) == 1
    await stage.answer()
    assert stage.rig.drops(DropReason.DERIVED_WAITS) == 1, "it does not begin with a key frame"
    viewer.control.tick(time.monotonic_ns())
    assert viewer.consumer.target is stage.producer.sources[""]
    await stage.answer(keyframe=True)
    viewer.control.tick(time.monotonic_ns())
    assert viewer.consumer.target is stage.producer.derived
    stage.send()
    await stage.take()
    assert len(viewer.sees()) == 1, "untouched until the switch"
    await stage.answer()
    assert viewer.sees() == []
    made = [await stage.answer(keyframe=True), await stage.answer()]
    stage.send()
    assert viewer.sees() == made
    assert viewer.unbroken()
    assert stage.plis() == [], "nothing was asked of the publisher"
    await stage.told(stage.host_)
    assert stage.host_.keyframes_wanted >= 1
    assert stage.states == [("bypass", "starting")], "not on before there is a picture"
    stage.taps.tick_layers(time.monotonic_ns())
    assert stage.states[1:] == [("processed", "")]


async def test_off_means_back_at_the_publishers_next_key_frame_which_is_asked_for_at_once(stage: Stage) -> None:
    viewer = await stage.live()
    await stage.answer(payload=b"")
    stage.process(on=False)
    assert stage.states[-2:] == [("bypass", "late"), ("processed", "")], "what was said of the host is no longer so"
    assert stage.taps.processing("track-video")[2] is None
    await stage.asked(SSRCS[""])
    assert stage.producer.derived is None
    stage.send()
    assert viewer.sees() == []
    stage.send(keyframe=True)
    stage.send()
    assert len(viewer.sees()) == 2
    assert viewer.consumer.current is stage.producer.sources[""]
    assert viewer.unbroken()


async def test_the_hosts_death_costs_a_key_frame_and_it_comes_back_by_itself(stage: Stage) -> None:
    viewer = await stage.live()
    stage.host_.link.close()
    await until(lambda: "the host's end to be noticed" if stage.producer.derived is not None else "")
    assert stage.states[-1] == ("bypass", "host is gone")
    assert stage.taps.processing("track-video")[2] == "host is gone", "for a signaling process that comes later"
    await stage.asked(SSRCS[""])
    stage.send(keyframe=True)
    assert len(viewer.sees()) == 1
    stage.host_ = await stage.host("video", (NAME,))
    stage.send(keyframe=True)
    await stage.take()
    await stage.answer(keyframe=True)
    viewer.control.tick(time.monotonic_ns())
    made = await stage.answer(keyframe=True)
    assert viewer.sees()[-1] == made
    assert viewer.unbroken()


def silence(stage: Stage, viewer: Viewer, seconds: float, *, camera: bool) -> None:
    """The host says nothing. Time passes by the argument of the ticks; whether the camera goes on meanwhile."""
    since_ns = time.monotonic_ns()
    for now_ns in range(since_ns, since_ns + int(seconds * S), S // 4):
        if camera:
            stage.producer.sources[""].last_arrival_ns = now_ns
        viewer.control.tick(now_ns)
        stage.taps.tick_layers(now_ns)


async def test_a_host_that_is_silent_for_a_second_is_left_and_trusted_again_later(stage: Stage) -> None:
    viewer = await stage.live()
    assert stage.video is not None
    source = stage.video.source
    stage.send()
    await stage.take()
    silence(stage, viewer, LATE_NS / S + 0.5, camera=True)
    assert viewer.consumer.target is stage.producer.sources[""]
    await stage.asked(SSRCS[""])
    assert stage.states[1:] == [("processed", ""), ("bypass", "late")]
    await stage.answer()
    now_ns = time.monotonic_ns()
    viewer.control.tick(now_ns)
    assert viewer.consumer.target is stage.producer.sources[""], "one packet is not a sign of life"
    for at_ns in range(now_ns, now_ns + RETURN_NS, S // 2):
        assert not source.live(at_ns)
        source.arrived(0, at_ns)
    assert source.live(now_ns + RETURN_NS)


async def test_a_host_that_never_makes_a_picture_is_said_to_be_late(stage: Stage) -> None:
    viewer = await stage.begin()
    silence(stage, viewer, LATE_NS / S + 0.5, camera=True)
    assert stage.states == [("bypass", "starting"), ("bypass", "late")]
    await stage.answer(keyframe=True)
    viewer.control.tick(time.monotonic_ns())
    assert viewer.consumer.target is stage.producer.derived, "late, and new: it has broken no trust"


@pytest.mark.parametrize("mid_picture", [False, True])
async def test_a_camera_that_pauses_is_not_shown_untouched_when_it_goes_on(stage: Stage, mid_picture: bool) -> None:
    viewer = await stage.live()
    if mid_picture:
        stage.send()
        await stage.take()
    silence(stage, viewer, 5, camera=False)
    source = stage.producer.sources[""]
    source.last_arrival_ns -= 5 * S
    assert viewer.consumer.target is stage.producer.derived
    stage.send()
    await stage.take()
    viewer.control.tick(time.monotonic_ns())
    assert viewer.consumer.target is stage.producer.derived
    assert viewer.sees() == []
    made = await stage.answer()
    assert viewer.sees() == [made], "without a key frame"
    assert stage.states[1:] == [("processed", "")]


async def test_a_muted_camera_is_not_the_hosts_fault_either(stage: Stage) -> None:
    viewer = await stage.live()
    stage.send()
    await stage.take()
    stage.producer.set_muted(True)
    silence(stage, viewer, 3, camera=True)
    assert viewer.consumer.target is stage.producer.derived


async def test_a_host_that_gives_up_is_left_at_once_and_sent_nothing_until_it_asks(stage: Stage) -> None:
    viewer = await stage.live()
    stage.taps.tick_layers(time.monotonic_ns())
    await stage.answer(payload=b"")
    assert viewer.consumer.target is stage.producer.sources[""]
    assert stage.states[1:] == [("processed", ""), ("bypass", "late")]
    await stage.asked(SSRCS[""])
    await stage.told(stage.host_)
    stage.send(keyframe=True)
    stage.taps.tick_layers(time.monotonic_ns())
    before = stage.looked_at
    assert stage.host_.link.send(SelectLayer(stage.seen[-1].handle, 640))
    stage.send(keyframe=True)
    assert await stage.told(stage.host_) == []
    assert stage.host_.link.send(WantKeyframe(stage.seen[-1].handle))
    await until(lambda: "" if stage.looked_at > before + 1 else "a look at both wishes")
    stage.send(keyframe=True)
    assert len(await stage.told(stage.host_)) == 1


async def test_everybody_goes_back_to_the_layer_that_is_right_for_them(stage: Stage) -> None:
    wide = await stage.begin(("q", "h", "f"))
    narrow = Viewer(stage, stage.producer, 0x4321)
    await stage.answer(keyframe=True)
    narrow.control.show({"track-video": (160, 90)}, time.monotonic_ns())
    wide.control.tick(time.monotonic_ns())
    for viewer in (wide, narrow):
        assert viewer.consumer.target is stage.producer.derived
    await stage.answer(payload=b"")
    assert narrow.consumer.target is stage.producer.sources["q"]
    assert wide.consumer.target is stage.producer.sources["f"]
    stage.rig.plane.tick(time.monotonic_ns())
    assert SSRCS["h"] not in stage.plis()


async def test_results_of_an_older_consent_are_dropped_and_what_follows_begins_with_a_key_frame(stage: Stage) -> None:
    viewer = await stage.live()
    await stage.told(stage.host_)
    wanted = stage.host_.keyframes_wanted
    stage.process(epoch=1)
    await stage.answer(epoch=0)
    await stage.answer(epoch=1)
    assert stage.rig.drops(DropReason.DERIVED_STRAY) == 1
    assert stage.rig.drops(DropReason.DERIVED_WAITS) == 1
    assert viewer.sees() == []

    def asked() -> str:
        stage.rig.plane.tick(time.monotonic_ns() + S)
        stage.host_.read()
        return "" if stage.host_.keyframes_wanted > wanted else "a wish for a key frame"

    await until(asked)
    made = await stage.answer(keyframe=True, epoch=1)
    assert viewer.sees() == [made]
    assert viewer.unbroken()
    stage.send()
    assert (await stage.take()).epoch == 1, "the video went on"


async def test_what_is_late_foreign_or_nonsense_is_counted_and_not_sent(stage: Stage) -> None:
    viewer = await stage.live()
    packet = await stage.take()
    good = VideoResult(packet.handle, 0, 1, packet.timestamp, stage.payload(keyframe=True))
    late, never = (packet.timestamp - 3 * 90_000) & 0xFFFFFFFF, (packet.timestamp + 1) & 0xFFFFFFFF
    large = stage.payload(keyframe=True, size=2_000)
    strays = [good._replace(handle=99), good._replace(timestamp=late), good._replace(timestamp=never)]
    for stray in [*strays, good._replace(payload=large), good._replace(epoch=5)]:
        await stage.result(stray)
    assert stage.rig.drops(DropReason.DERIVED_STRAY) == 5
    await stage.result(good._replace(payload=b"\x90"))
    assert stage.rig.drops(DropReason.MALFORMED_RTP) == 1
    watcher = await stage.host("watch_video", ("faces",))
    watcher.link.send(good)
    await until(lambda: "" if stage.rig.drops(DropReason.DERIVED_STRAY) == 6 else "the result of another host")
    assert viewer.sees() == []
    await stage.result(good)
    assert len(viewer.sees()) == 1
    assert viewer.unbroken()


async def test_a_flood_is_bounded(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    viewer = await stage.live()
    assert stage.video is not None
    guard = stage.video.source.rate_guard
    assert guard.take(4_999_000, time.monotonic_ns()), "two seconds of 20 Mb/s"
    monkeypatch.setattr(guard, "_per_s", 0.0)
    while not stage.rig.drops(DropReason.RATE):
        await stage.answer()
    assert sum(map(len, viewer.sees())) < 1_500


async def test_a_muted_camera_is_not_derived(stage: Stage) -> None:
    viewer = await stage.live()
    stage.producer.set_muted(True)
    await stage.answer(keyframe=True)
    assert viewer.sees() == []
    assert stage.rig.drops(DropReason.MUTED) == 1
    stage.producer.set_muted(False)
    await stage.answer()
    made = await stage.answer(keyframe=True)
    assert viewer.sees() == [made]


async def test_a_viewers_wish_for_a_key_frame_goes_to_the_host(stage: Stage) -> None:
    viewer = await stage.live()
    await stage.told(stage.host_)
    wanted = stage.host_.keyframes_wanted
    stage.rig.rtcp(viewer.peer, rtcp.build_pli(1, viewer.consumer.ssrc))

    def asked() -> str:
        stage.rig.plane.tick(time.monotonic_ns() + S)
        stage.host_.read()
        return "" if stage.host_.keyframes_wanted > wanted else "a wish for a key frame"

    await until(asked)
    assert stage.plis() == []


async def test_lost_packets_of_a_derived_picture_are_sent_again(stage: Stage) -> None:
    viewer = await stage.live()
    made = await stage.answer()
    assert viewer.sees() == [made]
    stage.rig.rtcp(viewer.peer, nack.build(1, viewer.consumer.ssrc, [viewer.seqs[-1]]))
    (again,) = viewer.peer.received()
    assert again[0].ssrc == viewer.consumer.rtx_ssrc
    assert again[1][:2] == viewer.seqs[-1].to_bytes(2, "big")
    assert again[1][7:] == made


async def test_the_watch_host_goes_on_to_see_the_publishers_own(stage: Stage) -> None:
    await stage.live()
    watcher = await stage.host("watch_video", ("faces",))
    stage.taps.set_processing("track-video", {NAME: True, "faces": True}, 0)
    stage.send(keyframe=True)
    await stage.take()
    await stage.answer(keyframe=True)
    stage.taps.tick_layers(time.monotonic_ns())
    stage.send()
    payloads = [packet.payload for packet in await stage.told(watcher)]
    assert len(payloads) == 2
    assert payloads == [packet.payload for packet in [*stage.seen, await stage.take()][-3:] if packet][-2:]


async def test_another_codec_is_not_derived(stage: Stage) -> None:
    stage.host_ = await stage.host("video", (NAME,))
    producer = stage.camera(codec="h264")
    stage.process()
    assert (producer.derived, producer.consumers) == (None, ())


async def test_sender_reports_tell_when_the_original_was_filmed(stage: Stage) -> None:
    viewer = await stage.begin()
    since_ns = time.monotonic_ns()
    ntp = 1 << 40
    source = stage.producer.sources[""]
    filmed = stage.numbers[""] * 3_000
    source.reception.note_sender_report(ntp, filmed, since_ns)
    await stage.answer(keyframe=True)
    viewer.control.tick(time.monotonic_ns())
    await stage.answer(keyframe=True)
    viewer.sees()
    viewer.peer.rtcp.clear()
    stage.rig.plane.send_reports(since_ns + S)
    (report,) = [
        rtcp.parse_sender_info(part)
        for packet in viewer.peer.rtcp
        for part in rtcp.split(packet)
        if part.packet_type == rtcp.SR
    ]
    # The derived picture's time at the viewer, by the report, is the instant at which its original was filmed.
    ahead = header.timestamp_delta(viewer.stamps[-1], report.timestamp)
    assert report.ntp + (ahead << 32) // 90_000 == pytest.approx(ntp, abs=(1 << 32) // 45_000)
    stage.process(on=False)
    assert viewer.consumer.current is not None
    assert viewer.consumer.current.sender_clock is not None, "reports go on until the switch"


# --- whatever comes in whatever order

STEPS = st.sampled_from(
    (
        *("send", "send key", "answer", "answer key", "foreign", "moment", "second", "minute"),
        *("silence", "off", "on", "end", "epoch", "mute", "unmute"),
    )
)
PASSES_NS = {"moment": S // 4, "second": S + S // 2, "minute": 60 * S}


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(steps=st.lists(STEPS, max_size=30))
async def test_a_viewers_numbers_have_no_gap_whatever_comes(tmp_path: Path, steps: list[str]) -> None:
    stage, real, passed_ns = Stage(tmp_path), time.monotonic_ns, 0
    with patch("time.monotonic_ns", lambda: real() + passed_ns):
        try:
            viewer = await stage.begin()
            epoch, on = 0, True
            for step in steps:
                if step in PASSES_NS:
                    passed_ns += PASSES_NS[step]
                    stage.pass_time(viewer)
                elif step in ("off", "on", "epoch"):
                    on = on if step == "epoch" else step == "on"
                    epoch += step == "epoch"
                    stage.process(on, epoch)
                else:
                    await stage.happens(step, epoch)
                viewer.sees()
            viewer.sees()
            assert viewer.unbroken()
            assert viewer.consumer.packets == len(viewer.seqs)
        finally:
            stage.close()
