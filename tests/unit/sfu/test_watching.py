"""The worker's half of watching a video: a real plane, a real tap socket, and the test as the watch host."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sfu import watching
from sfu.errors import DropReason
from sfu.path import AudioPacket
from sfu.tap import CloseTrack, Hello, OpenTrack, SelectLayer, Sound, WantKeyframe
from tests.unit.sfu.rig import rtp
from tests.unit.sfu.video_scene import SSRCS, Scene, picture
from tests.until import until


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(watching, "PAUSE_NS", 0)
    yield


async def test_a_watched_camera_begins_with_a_key_frame_and_is_numbered_without_a_gap(scene: Scene) -> None:
    host = await scene.host()
    producer = scene.camera()
    scene.send(keyframe=True)
    scene.watch()
    assert scene.plis() == [77]
    for keyframe in (False, True, False, False):
        scene.send(keyframe=keyframe)
    packets = await scene.told(host)
    (opened,) = host.others
    assert isinstance(opened, OpenTrack)
    assert (opened.kind, opened.codec, opened.clock_hz, opened.processors) == ("video", "vp8", 90_000, {"faces": True})
    assert [packet.seq - packets[0].seq for packet in packets] == [0, 1, 2]
    assert [packet.timestamp - packets[0].timestamp for packet in packets] == [0, 3000, 6000]
    assert {packet.marker for packet in packets} == {1}
    assert packets[0].payload == picture(3, keyframe=True)
    assert scene.rig.drops(DropReason.NO_KEYFRAME) == 1
    assert len(producer.consumers) == 1


async def test_nothing_is_sent_of_what_nobody_watches(scene: Scene) -> None:
    host, ears = await scene.host(), await scene.host("watch", ("captions",))
    producer = scene.camera()
    scene.watch(on=False)
    scene.send(keyframe=True)
    assert await scene.told(host) == []
    assert await scene.told(ears) == []
    assert ears.others == []
    assert (producer.consumers, producer.sources[""].fanout.watchers) == ((), ())
    assert scene.plis() == []


async def test_another_codec_is_told_but_not_sent(scene: Scene) -> None:
    host = await scene.host()
    producer = scene.camera(codec="vp9")
    scene.watch()
    await scene.told(host)
    assert [frame.codec for frame in host.others if isinstance(frame, OpenTrack)] == ["vp9"]
    assert producer.consumers == ()


async def test_off_and_a_new_epoch_end_the_stream_at_once(scene: Scene) -> None:
    host = await scene.host()
    producer = scene.camera()
    scene.send(keyframe=True)
    scene.watch(epoch=1)
    scene.send(keyframe=True)
    scene.watch(epoch=2)
    scene.send()
    scene.send(keyframe=True)
    packets = await scene.told(host)
    assert [packet.epoch for packet in packets] == [1, 2]
    scene.watch(on=False, epoch=3)
    scene.send(keyframe=True)
    assert await scene.told(host) == []
    assert producer.consumers == ()
    scene.watch(epoch=4)
    scene.taps.close_track("track-video")
    assert producer.consumers == ()
    await scene.told(host)
    assert isinstance(host.others[-1], CloseTrack)


async def test_a_host_that_comes_back_begins_with_a_key_frame(scene: Scene) -> None:
    host = await scene.host()
    producer = scene.camera()
    scene.send(keyframe=True)
    scene.watch()
    scene.send(keyframe=True)
    assert len(await scene.told(host)) == 1
    host.link.close()
    await until(lambda: "the host's end to be noticed" if producer.consumers else "")
    scene.send()
    host = await scene.host()
    scene.send()
    scene.send(keyframe=True)
    assert [packet.payload for packet in await scene.told(host)] == [picture(5, keyframe=True)]


async def test_a_host_that_can_run_nothing_any_more_is_sent_nothing(scene: Scene) -> None:
    host = await scene.host()
    producer = scene.camera()
    scene.send(keyframe=True)
    scene.watch()
    scene.send(keyframe=True)
    host.link.send(Hello(role="watch_video", pid=1, processors=()))
    await until(lambda: "the worker to stop" if producer.consumers else "")
    host.link.send(Hello(role="watch_video", pid=1, processors=("faces",)))
    await until(lambda: "" if producer.consumers else "the worker to begin again")
    scene.send()
    scene.send(keyframe=True)
    assert [packet.payload for packet in await scene.told(host)] == [
        picture(2, keyframe=True),
        picture(4, keyframe=True),
    ]


async def test_layers_change_at_key_frames_in_one_numbering(scene: Scene) -> None:
    host = await scene.host()
    scene.camera(("q", "h", "f"))
    for rid in ("q", "h", "f"):
        scene.send(rid, keyframe=True)
    scene.watch()
    await scene.told(host)
    assert scene.plis() == [SSRCS["h"]], "no wish: the middle layer"
    for rid in ("q", "h", "f"):
        scene.send(rid, keyframe=True)
    handle = (await scene.told(host))[0].handle
    host.link.send(SelectLayer(handle, 500))
    await scene.asked(SSRCS["f"])
    for rid in ("h", "f"):
        scene.send(rid)
    scene.send("f", keyframe=True)
    scene.send("h")
    scene.send("f")
    packets = await scene.told(host)
    expected = [picture(3, 320), picture(4, 640, keyframe=True), picture(5)]
    assert [packet.payload for packet in packets] == expected
    assert [packet.seq - packets[0].seq for packet in packets] == [0, 1, 2]
    assert all(packet.timestamp > packets[0].timestamp for packet in packets[1:])
    host.link.send(SelectLayer(handle, 0))
    await scene.asked(SSRCS["h"])


async def test_a_layer_that_ends_is_replaced_by_one_that_lives(scene: Scene) -> None:
    host = await scene.host()
    producer = scene.camera(("q", "h", "f"))
    for rid in ("q", "h"):
        scene.send(rid, keyframe=True)
    scene.watch()
    scene.send("h", keyframe=True)
    assert len(await scene.told(host)) == 1
    producer.sources["h"].last_arrival_ns = time.monotonic_ns() - 2_000_000_000
    scene.taps.tick_layers(time.monotonic_ns())
    scene.send("q", keyframe=True)
    assert len(await scene.told(host)) == 1


async def test_the_hosts_wish_for_a_key_frame_is_heard_once_a_second(scene: Scene) -> None:
    host = await scene.host()
    scene.camera()
    scene.send(keyframe=True)
    scene.watch()
    scene.send(keyframe=True)
    scene.plis()
    (packet,) = await scene.told(host)
    for handle in (packet.handle, packet.handle, 99):
        host.link.send(WantKeyframe(handle))
    await until(lambda: "" if scene.rig.drops(DropReason.PATH_STRAY) else "the last wish")
    assert scene.rig.drops(DropReason.KEYFRAME_CAPPED) == 1
    scene.rig.plane.tick(time.monotonic_ns() + 300_000_000)
    assert scene.plis() == [77]


async def test_a_full_socket_pauses_the_video_and_costs_sound_and_viewers_nothing(
    scene: Scene, impatient: None
) -> None:
    host, ears = await scene.host(), await scene.host("watch", ("captions",))
    producer = scene.camera()
    microphone = scene.rig.producer("audio")
    scene.taps.open("room", microphone)
    scene.taps.set_processing("track-audio", {"captions": True}, 0)
    consumer, viewer, _ = scene.rig.consumer(producer)
    scene.send(keyframe=True)
    scene.rig.target(consumer, producer.sources[""])
    scene.watch()
    scene.send(keyframe=True, size=1000)
    sent, received = 1, 0
    while not scene.rig.drops(DropReason.TAP_VIDEO_FULL):
        scene.send(size=1000)
        sent += 1
        received += len(viewer.received())
        await asyncio.sleep(0)
    assert received == sent
    scene.plis()
    scene.taps.tick_layers(time.monotonic_ns())
    scene.send(keyframe=True)
    assert len(viewer.received()) == 1
    assert scene.plis() == [], "nobody would take it"
    scene.taps.heard(microphone, AudioPacket(1, 0, 960, 20, time.monotonic_ns(), b""), b"\x78sound", 20, Sound.RAW)
    assert [packet.payload for packet in await scene.told(ears)] == [b"\x78sound"]
    assert scene.rig.drops(DropReason.TAP_FULL) == 0

    before = await scene.told(host)
    scene.taps.refresh()
    scene.taps.tick_layers(time.monotonic_ns())
    scene.rig.plane.tick(time.monotonic_ns() + 300_000_000)
    assert scene.plis() == [77]
    scene.send()
    scene.send(keyframe=True)
    (packet,) = await scene.told(host)
    assert packet.payload == picture(scene.numbers[""], keyframe=True)
    assert (packet.seq - before[-1].seq) & 0xFFFF > 1, "the gap tells what was dropped"


async def test_a_late_packet_from_before_a_switch_is_not_watched(scene: Scene) -> None:
    host = await scene.host()
    scene.camera()
    scene.send(keyframe=True)
    scene.watch()
    scene.rig.publish(rtp("video", 5, 15_000, picture(5, keyframe=True), ssrc=77))
    scene.rig.publish(rtp("video", 4, 12_000, picture(4), ssrc=77))
    assert len(await scene.told(host)) == 1
    assert scene.rig.drops(DropReason.BEFORE_SWITCH) == 1


async def test_a_wish_of_another_host_is_not_heard(scene: Scene) -> None:
    host, ears = await scene.host(), await scene.host("watch", ("captions",))
    scene.camera()
    scene.send(keyframe=True)
    scene.watch()
    scene.send(keyframe=True)
    (packet,) = await scene.told(host)
    ears.link.send(WantKeyframe(packet.handle))
    await until(lambda: "" if scene.rig.drops(DropReason.PATH_STRAY) else "the wish to be refused")
    assert scene.rig.plane.counters.keyframe_requests_received == 0


async def test_h264_has_a_size_too_and_an_unreadable_one_is_forwarded_all_the_same(scene: Scene) -> None:
    host = await scene.host()
    producer = scene.camera(codec="h264")
    sps = bytes.fromhex("6742c01eda0280bfe584000003000400000300f23c58ba80")
    broken = b"\x67\x42\xc0\x1f"
    scene.rig.publish(rtp("video", 1, 3000, b"\x65\x88", ssrc=77))
    scene.watch()
    scene.rig.publish(rtp("video", 2, 6000, broken, ssrc=77))
    producer.sources[""].sized_ns = 0
    scene.rig.publish(rtp("video", 3, 9000, sps, ssrc=77))
    assert [packet.payload for packet in await scene.told(host)] == [broken, sps]
    assert (producer.sources[""].width, producer.sources[""].height) == (640, 360)
    assert scene.rig.drops(DropReason.MALFORMED_RTP) == 0


async def test_a_pause_lasts_for_a_while(scene: Scene) -> None:
    await scene.host()
    producer = scene.camera()
    scene.send(keyframe=True)
    scene.watch()
    (stream,) = producer.consumers
    video = scene.taps._tapped["track-video"].videos["watch_video"]
    now_ns = time.monotonic_ns()
    video.pause(now_ns)
    producer.sources[""].last_arrival_ns = now_ns + watching.PAUSE_NS
    video.tick(now_ns + watching.PAUSE_NS - 1)
    assert stream.target is None
    video.tick(now_ns + watching.PAUSE_NS)
    assert stream.target is producer.sources[""]


async def test_a_viewer_beside_the_watch_host_is_counted_and_numbered_as_ever(scene: Scene) -> None:
    host = await scene.host()
    producer = scene.camera()
    scene.send(keyframe=True)
    consumer, viewer, _ = scene.rig.consumer(producer)
    scene.rig.target(consumer, producer.sources[""])
    scene.watch()
    for number in range(5):
        scene.send(keyframe=number == 0)
    received = [(head.seq, head.timestamp) for head, _ in viewer.received()]
    assert [(seq - received[0][0], stamp - received[0][1]) for seq, stamp in received] == [
        (n, 3000 * n) for n in range(5)
    ]
    assert consumer.packets == 5
    assert len(await scene.told(host)) == 5
    scene.rig.plane.remove_consumer(consumer)
    scene.send()
    assert len(await scene.told(host)) == 1
