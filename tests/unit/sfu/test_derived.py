"""Video that the video host makes of a published one: a real plane, a real tap socket, and the test as the video host."""

import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sfu.consumer import Consumer
from sfu.derived import CEILING_BPS, RETURN_NS, RISE_AFTER_NS, START_BPS, DerivedVideo, next_bitrate
from sfu.errors import DropReason
from sfu.layer_control import FLOOR_BPS, LayerControl
from sfu.producer import Producer
from sfu.rtp import header, nack, rtcp
from sfu.tap import OpenTrack, SelectLayer, TapPacket, TapSocket, VideoResult, WantKeyframe
from sfu.tapped import Tapped
from tests.unit.sfu.rig import RigPeer
from tests.unit.sfu.rig import vp8 as vp8_payload
from tests.unit.sfu.video_scene import SSRCS, Host, Scene
from tests.until import until

S = 1_000_000_000
NAME = "watermark"


class Viewer:
    """A subscriber whose layers are chosen as ever."""

    def __init__(self, scene: Scene, producer: Producer, ssrc: int = 0x1234) -> None:
        self.scene = scene
        self.consumer: Consumer
        self.peer: RigPeer
        self.consumer, self.peer, _ = scene.rig.consumer(producer, ssrc)
        self.control = LayerControl(scene.rig.plane)
        self.control.add(self.consumer, time.monotonic_ns())
        self.seqs: list[int] = []
        self.stamps: list[int] = []

    def sees(self) -> list[bytes]:
        """The payloads since the last call, without what the worker rewrites; their numbers are noted."""
        packets = self.peer.received()
        self.seqs += [head.seq for head, _ in packets]
        self.stamps += [head.timestamp for head, _ in packets]
        return [payload[5:] for _, payload in packets]

    def unbroken(self) -> bool:
        seqs, stamps = self.seqs, self.stamps
        ahead = [header.timestamp_delta(after, before) for before, after in itertools.pairwise(stamps)]
        return seqs == [(seqs[0] + index) & 0xFFFF for index in range(len(seqs))] and all(step >= 0 for step in ahead)


class Stage(Scene):
    """The scene with a video host that answers."""

    host_: Host
    producer: Producer
    seen: list[TapPacket]
    pictures = 0
    looked_at = 0
    """How many frames of hosts of video the worker has looked at."""

    async def begin(self, rids: tuple[str, ...] = ()) -> Viewer:
        """A camera that is on its way through the host, and a viewer; nothing came back yet."""
        heard = self.taps._videos.heard

        def count(link: TapSocket, frame: SelectLayer | WantKeyframe | VideoResult, tapped: Tapped | None) -> None:
            heard(link, frame, tapped)
            self.looked_at += 1

        self.taps._videos.heard = count  # type: ignore[method-assign]  # only to know when it has been called
        self.host_ = await self.host("video", (NAME,))
        self.producer = self.camera(rids)
        self.seen = []
        for rid in rids or ("",):
            self.send(rid, keyframe=True)
        viewer = Viewer(self, self.producer)
        self.process()
        for rid in rids or ("",):
            self.send(rid, keyframe=True)
        await self.take()
        self.plis()
        return viewer

    def process(self, on: bool = True, epoch: int = 0) -> None:
        self.taps.set_processing("track-video", {NAME: on}, epoch)

    async def take(self) -> TapPacket:
        """What the host was given; the newest packet."""
        self.seen += await self.told(self.host_)
        return self.seen[-1]

    def payload(self, keyframe: bool = False, size: int = 40) -> bytes:
        self.pictures += 1
        return vp8_payload(self.pictures, self.pictures & 0xFF, keyframe=keyframe, size=size)

    async def answer(self, keyframe: bool = False, epoch: int | None = None, payload: bytes | None = None) -> bytes:
        """A picture from the host, made of the newest that it was given; what the worker has taken."""
        packet = self.seen[-1]
        payload = self.payload(keyframe) if payload is None else payload
        epoch = packet.epoch if epoch is None else epoch
        await self.result(VideoResult(packet.handle, epoch, 1, packet.timestamp, payload))
        return payload[5:]

    async def result(self, result: VideoResult) -> None:
        """Send one and wait until the worker has looked at it."""
        before = self.looked_at
        assert self.host_.link.send(result)
        await until(lambda: "" if self.looked_at > before else "a look at the result")

    @property
    def video(self) -> DerivedVideo | None:
        video = self.taps._tapped["track-video"].videos.get("video")
        assert video is None or isinstance(video, DerivedVideo)
        return video

    async def live(self) -> Viewer:
        """A viewer who is fed from the derived source."""
        viewer = await self.begin()
        await self.answer(keyframe=True)
        viewer.control.tick(time.monotonic_ns())
        await self.answer(keyframe=True)
        assert viewer.consumer.current is self.producer.derived
        viewer.sees()
        self.plis()
        return viewer


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    stage.close()


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
    assert stage.states == []
    stage.taps.tick_layers(time.monotonic_ns())
    assert stage.states == [("processed", "")]


async def test_off_means_back_at_the_publishers_next_key_frame_which_is_asked_for_at_once(stage: Stage) -> None:
    viewer = await stage.live()
    stage.process(on=False)
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


async def silent_for_a_second(stage: Stage) -> None:
    """The host is given pictures and says nothing. Time passes by the argument of the ticks."""
    now_ns = time.monotonic_ns()
    assert stage.video is not None
    stage.taps.tick_layers(now_ns)
    for step_ns in range(0, S + 1, S // 4):
        stage.producer.sources[""].fanout.newest_ns = now_ns + step_ns
        stage.producer.sources[""].last_arrival_ns = now_ns + step_ns
        stage.taps.tick_layers(now_ns + step_ns)


async def test_a_host_that_is_silent_for_a_second_is_left_and_trusted_again_later(stage: Stage) -> None:
    viewer = await stage.live()
    assert stage.video is not None
    source = stage.video.source
    stage.send()
    await stage.take()
    await silent_for_a_second(stage)
    assert viewer.consumer.target is stage.producer.sources[""]
    await stage.asked(SSRCS[""])
    assert stage.states == [("processed", ""), ("bypass", "late")]
    await stage.answer()
    now_ns = time.monotonic_ns()
    viewer.control.tick(now_ns)
    assert viewer.consumer.target is stage.producer.sources[""], "one packet is not a sign of life"
    for at_ns in range(now_ns, now_ns + RETURN_NS, S // 2):
        assert not source.live(at_ns)
        source.arrived(0, at_ns)
    assert source.live(now_ns + RETURN_NS)


async def test_silence_of_a_camera_is_not_the_hosts_fault(stage: Stage) -> None:
    viewer = await stage.live()
    stage.taps.tick_layers(time.monotonic_ns())
    assert stage.video is not None
    source = stage.video.source
    source.last_arrival_ns -= 5 * S
    stage.producer.sources[""].fanout.newest_ns -= 5 * S
    stage.taps.tick_layers(time.monotonic_ns())
    assert viewer.consumer.target is stage.producer.sources[""], "whatever comes first is shown"
    assert stage.states == [("processed", "")]
    stage.send()
    await stage.take()
    stage.taps.tick_layers(time.monotonic_ns())
    await stage.answer(keyframe=True)
    viewer.control.tick(time.monotonic_ns())
    assert viewer.consumer.target is source, "trusted at once"
    assert stage.states == [("processed", "")]


async def test_a_host_that_gives_up_is_left_at_once(stage: Stage) -> None:
    viewer = await stage.live()
    stage.taps.tick_layers(time.monotonic_ns())
    await stage.answer(payload=b"")
    assert viewer.consumer.target is stage.producer.sources[""]
    assert stage.states == [("processed", ""), ("bypass", "late")]
    await stage.asked(SSRCS[""])


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


# --- bitrate


def test_a_bitrate_falls_at_once_and_rises_in_steps() -> None:
    assert next_bitrate(600_000, 200_000, 0) == 200_000
    assert next_bitrate(600_000, 580_000, S) == 600_000
    assert next_bitrate(600_000, CEILING_BPS, RISE_AFTER_NS - 1) == 600_000
    assert next_bitrate(600_000, CEILING_BPS, RISE_AFTER_NS) == 900_000
    assert next_bitrate(600_000, 700_000, RISE_AFTER_NS) == 600_000
    assert next_bitrate(600_000, 800_000, RISE_AFTER_NS) == 800_000


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
    for narrow, expected in ((400_000, 360_000), (100_000, FLOOR_BPS)):
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


# --- whatever comes in whatever order

STEPS = st.sampled_from(
    ("send", "send key", "answer", "answer key", "foreign", "tick", "silence", "off", "on", "end", "epoch")
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(steps=st.lists(STEPS, max_size=30))
async def test_a_viewers_numbers_have_no_gap_whatever_comes(tmp_path: Path, steps: list[str]) -> None:
    stage = Stage(tmp_path)
    try:
        viewer = await stage.begin()
        epoch, on = 0, True
        for step in steps:
            if step in ("send", "send key"):
                stage.send(keyframe=step == "send key")
                await stage.take()
            elif step in ("answer", "answer key"):
                await stage.answer(keyframe=step == "answer key", epoch=epoch)
            elif step == "foreign":
                await stage.answer(epoch=99)
            elif step == "end" and stage.video is not None and stage.video.source.last_arrival_ns > 1:
                await stage.answer(payload=b"", epoch=epoch)
            elif step == "tick":
                now_ns = time.monotonic_ns()
                viewer.control.tick(now_ns)
                stage.taps.tick_layers(now_ns)
            elif step == "silence" and stage.video is not None:
                stage.video.source.distrust()
            elif step in ("off", "on", "epoch"):
                on = on if step == "epoch" else step == "on"
                epoch += step == "epoch"
                stage.process(on, epoch)
            viewer.sees()
        viewer.sees()
        assert viewer.unbroken()
        assert viewer.consumer.packets == len(viewer.seqs)
    finally:
        stage.close()
