"""Pictures through the video host, and what it says of them."""

from collections.abc import Sequence

import numpy as np
import pytest

from media_processors.base import Picture
from media_processors.errors import UnavailableError
from media_processors.video import deriving
from media_processors.video.decode import VideoDecoder, to_rgb
from media_processors.video.depacketize import FrameAssembler, SightCounters
from sfu.rtp import vp8
from sfu.tap import (
    CloseTrack,
    Hello,
    SelectLayer,
    Sound,
    TapFrame,
    TapPacket,
    VideoResult,
    WantKeyframe,
)
from tests.fakes.camera import Camera, Film
from tests.unit.processors_video.host_scene import Start
from tests.unit.processors_video.transforms import Changes, Gate, negative
from tests.until import until

S = 1_000_000_000


def decoded(results: list[VideoResult]) -> list[Picture]:
    """What a viewer sees, from a key frame on."""
    assembler, decoder = FrameAssembler("vp8", SightCounters()), VideoDecoder("vp8")
    pictures = []
    for seq, result in enumerate(results):
        packet = TapPacket(1, Sound.RAW, result.marker, seq, result.timestamp, seq, 0, 0, 0, result.payload)
        for frame in assembler.push(packet):
            picture = decoder.decode(frame.data, frame.timestamp)
            assert picture is not None
            pictures.append(to_rgb(picture))
    return pictures


def shown(frames: int) -> Picture:
    """What the camera shows in a frame."""
    camera, decoder = Camera(rate_hz=10), VideoDecoder("vp8")
    assembler = FrameAssembler("vp8", SightCounters())
    film = Film(camera)
    for _ in range(frames):
        (frame,) = [frame for packet in film.frame() for frame in assembler.push(packet)]
        picture = decoder.decode(frame.data, frame.timestamp)
    assert picture is not None
    return to_rgb(picture)


async def test_pictures_go_through_the_transform_and_back_under_their_own_times(start: Start) -> None:
    scene = await start(negative())
    assert (scene.hello.role, scene.hello.processors) == ("video", ("negative",))
    scene.open(epoch=3)
    await scene.wants(SelectLayer(1, deriving.LONGEST_PX))
    stamps, results = [], []
    for _ in range(4):
        stamps.append(scene.shoot())
        results += await scene.made(1)
    assert [result.timestamp for result in results if result.marker] == stamps
    assert {(result.handle, result.epoch) for result in results} == {(1, 0)}, "the epoch is that of the packets"
    pictures = decoded(results)
    assert len(pictures) == 4
    assert np.abs(pictures[-1].astype(int) - (255 - shown(4).astype(int))).mean() < 12
    await scene.told("negative", "on")
    stats = await scene.channel.request("stats")
    assert (stats["made"], stats["seeing"]["frames"], stats["refused"]) == (4, 4, 0)
    assert stats["tracks"]["track-1"]["latency_p50_ms"] > 0


async def test_a_key_frame_comes_when_it_is_wanted(start: Start) -> None:
    scene = await start(negative())
    scene.open()
    scene.shoot()
    first = await scene.made(1)
    scene.shoot()
    second = await scene.made(1)
    scene.link.send(WantKeyframe(1))
    scene.shoot()
    third = await scene.made(1)
    found = [vp8.parse(results[0].payload).keyframe for results in (first, second, third)]
    assert found == [True, False, True]


async def test_only_the_newest_picture_is_changed_when_there_is_no_time_for_all(start: Start) -> None:
    gate = Gate()
    scene = await start(Changes("gate", gate))
    scene.open()
    first = scene.shoot()
    await until(lambda: "" if gate.waiting.is_set() else "the first picture in the transform")
    stamps = [scene.shoot() for _ in range(5)]
    await until(lambda: "" if scene.host.counters.seeing.packets >= 1 else "packets")
    track = await scene.track()
    await until(lambda: "" if len(track._waiting) >= 5 else "the packets of the other pictures")
    gate.leave.release(2)
    results = await scene.made(2)
    assert [result.timestamp for result in results if result.marker] == [first, stamps[-1]]
    assert scene.host.counters.replaced == 4
    assert len(decoded(results)) == 2


async def test_off_says_so_and_on_again_begins_with_a_key_frame(start: Start) -> None:
    scene = await start(negative())
    scene.open()
    scene.shoot()
    await scene.made(1)
    scene.open(on=False)
    (end,) = await scene.made(1)
    assert end.payload == b""
    await scene.told("negative", "off")
    scene.shoot()
    scene.open()
    scene.shoot(keyframe=True)
    results = await scene.made(1)
    assert vp8.parse(results[0].payload).keyframe
    assert scene.host.counters.unwanted >= 1


async def test_a_loss_on_the_tap_is_noticed_and_a_key_frame_asked_for(start: Start) -> None:
    scene = await start(negative())
    scene.open()
    scene.shoot()
    await scene.made(1)
    lost = scene.film.frame()
    for _ in range(6):
        scene.shoot()
    await scene.wants(WantKeyframe(1))
    scene.shoot(keyframe=True)
    await scene.made(1)
    assert scene.host.counters.seeing.lost == len(lost)


async def test_a_new_bitrate_is_a_new_encoder_and_a_key_frame(start: Start) -> None:
    scene = await start(negative())
    scene.open(bitrate_bps=150_000)
    scene.shoot()
    await scene.made(1)
    scene.open(bitrate_bps=200_000)
    scene.shoot()
    results = await scene.made(1)
    assert vp8.parse(results[0].payload).keyframe
    ids = [vp8.parse(result.payload).picture_id for result in results]
    assert set(ids) == {1}, "one numbering"


async def test_what_raises_is_left_out_and_others_go_on(start: Start) -> None:
    def broken(picture: Picture) -> Picture:
        raise RuntimeError("no luck today")

    def refusing(picture: Picture) -> Picture:
        raise UnavailableError("large_enough")

    scene = await start(Changes("broken", broken), Changes("refusing", refusing), negative())
    scene.open()
    scene.shoot()
    await scene.told("broken", "unavailable", "failed: RuntimeError")
    scene.shoot()
    await scene.told("refusing", "unavailable", "large_enough")
    scene.shoot()
    await scene.made(1)
    await scene.told("negative", "on")
    assert scene.host.counters.failed == 1


async def test_the_last_one_that_refuses_ends_it(start: Start) -> None:
    def refusing(picture: Picture) -> Picture:
        raise UnavailableError("large_enough")

    scene = await start(Changes("refusing", refusing))
    scene.open()
    scene.shoot()
    (end,) = await scene.made(1)
    assert end.payload == b""


async def test_what_the_worker_could_not_take_is_said_again(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = await start(negative())
    refused: list[TapFrame] = []

    def full(frames: Sequence[TapFrame]) -> bool:
        refused.extend(frames)
        return False

    scene.open()
    track = await scene.track()
    scene.open(on=False)
    await until(lambda: "a free place" if scene.host._tracks else "")
    (tap,) = scene.host._taps
    with monkeypatch.context() as patch:
        patch.setattr(tap, "send_all", full)
        scene.open()
        track = await scene.track()
        assert refused[-2:] == [WantKeyframe(1), SelectLayer(1, deriving.LONGEST_PX)]
    track._send = tap.send_all
    scene.read()
    scene.asked.clear()
    await scene.wants(SelectLayer(1, deriving.LONGEST_PX))
    await scene.wants(WantKeyframe(1))


async def test_what_cannot_run_any_more_is_not_offered_to_the_worker(start: Start) -> None:
    transform = negative()
    scene = await start(transform)
    scene.open()
    scene.shoot()
    await scene.made(1)
    transform.reason = "its model is gone"
    await scene.wants(Hello(role="video", pid=scene.hello.pid, processors=()))
    (end,) = await scene.made(1)
    assert end.payload == b""
    (info,) = (await scene.channel.request("processors"))["processors"]
    assert (info["available"], info["reason"]) == (False, "its model is gone")


async def test_other_codecs_and_too_many_tracks_are_told(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = await start(negative())
    scene.open(codec="h264")
    await scene.told("negative", "unavailable", "codec")
    monkeypatch.setattr("media_processors.video_host.MAX_TRACKS", 1)
    scene.open(handle=2)
    scene.results.clear()
    scene.open(handle=3)
    await scene.told("negative", "unavailable", "too_many")
    (end,) = await scene.made(1)
    assert (end.handle, end.payload) == (3, b""), "nothing of it need be sent"
    scene.link.send(CloseTrack(2))
    scene.open(handle=4)
    await until(lambda: "" if [key[1] for key in scene.host._tracks] == [3] else "another track in its place")
    scene.open(handle=3, on=False)
    await until(lambda: "" if [key[1] for key in scene.host._tracks] == [4] else "the place of what was switched off")


async def test_a_track_takes_a_place_only_while_one_of_its_transforms_is_on_and_can_run(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("media_processors.video_host.MAX_TRACKS", 1)
    scene = await start(negative())
    for handle in (1, 2, 3):
        scene.open(handle=handle, on=False)
    scene.open(handle=4)
    scene.film = Film(Camera(rate_hz=10), seq=1, handle=4)
    scene.shoot()
    (result, *_) = await scene.made(1)
    assert result.handle == 4
    scene.transforms[0].reason = "its model is gone"
    await until(lambda: "a free place" if scene.host._tracks else "")
    scene.transforms[0].reason = ""
    await until(lambda: "" if scene.host._tracks else "a track")


async def test_a_picture_is_never_larger_than_what_a_track_may_cost(start: Start) -> None:
    scene = await start(negative())
    scene.film = Film(Camera(width=1280, height=720, rate_hz=10), seq=1)
    scene.open()
    scene.shoot()
    results = await scene.made(1)
    described = vp8.parse(results[0].payload)
    assert (described.width, described.height) == (640, 360)


async def test_a_worker_that_comes_back_is_found_again(start: Start) -> None:
    scene = await start(negative())
    scene.open()
    scene.link.send(CloseTrack(1))
    scene.link.close()
    await scene.accept()
    assert scene.hello.role == "video"
    scene.open()
    scene.film = Film(Camera(rate_hz=10), seq=1)
    scene.shoot()
    await scene.made(1)
