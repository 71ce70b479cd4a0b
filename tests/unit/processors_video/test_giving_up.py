"""What the video host gives up, for how long, and what it tries again."""

import time

import pytest

from media_processors.base import Picture
from media_processors.errors import CodecError
from media_processors.video import deriving
from media_processors.video.pace import PATIENCE_NS, PROVEN_NS, RETRY_NS, TRIES, WINDOW_NS
from sfu.rtp import vp8
from tests.unit.processors_video.host_scene import Scene, Start
from tests.unit.processors_video.transforms import Changes, Gate, negative
from tests.until import until

S = 1_000_000_000


def overload(tracks: list[deriving.DerivedTrack], since_ns: int) -> int:
    """Thirty pictures a second come, none goes, for as long as it takes to be too slow; the end."""
    for now_ns in range(since_ns, since_ns + WINDOW_NS + PATIENCE_NS, S // 2):
        for track in tracks:
            track.pace.came(now_ns, 15)
            track.pace.too_slow(now_ns)
    return since_ns + WINDOW_NS + PATIENCE_NS


async def test_a_track_that_cannot_keep_up_is_given_up_and_tried_again(start: Start) -> None:
    scene = await start(negative())
    scene.open()
    scene.shoot()
    await scene.made(1)
    track = await scene.track()
    available = scene.host._available
    now_ns = time.monotonic_ns()
    for tries in range(1, TRIES + 1):
        track.pace.reset()
        now_ns = overload([track], now_ns)
        assert track.tick(now_ns, available)
        (end,) = await scene.made(1)
        assert end.payload == b""
        assert not track.working
        await until(lambda: "" if scene.states[-1:] and scene.states[-1][1] == "unavailable" else "a status")
        assert scene.states[-1] == ("negative", "unavailable", "too_slow: 0.0 pictures/s of 30.0")
        assert not track.tick(now_ns + RETRY_NS - 1, available)
        assert not track.working
        now_ns += RETRY_NS
        track.tick(now_ns, available)
        assert track.working is (tries < TRIES)
    assert scene.host.counters.given_up == TRIES
    scene.open(on=False)
    scene.open()
    scene.shoot(keyframe=True)
    await scene.made(1)


async def test_pictures_count_as_come_while_the_thread_is_busy_with_one(start: Start) -> None:
    """Else a transform that takes two seconds for each would seem to have a camera that pauses."""
    gate = Gate()
    scene = await start(Changes("gate", gate))
    scene.open()
    scene.shoot()
    await until(lambda: "" if gate.waiting.is_set() else "the first picture in the transform")
    track = await scene.track()
    for _ in range(5):
        scene.shoot()

    def missing() -> str:
        came, _ = track.pace.rates(time.monotonic_ns())
        return "" if came else "pictures"

    await until(missing)
    gate.leave.release(2)
    await scene.made(2)


async def given_up(scene: Scene, track: deriving.DerivedTrack, times: int) -> int:
    """So often in a row; when the last try is over."""
    now_ns = time.monotonic_ns()
    for _ in range(times):
        now_ns = overload([track], now_ns)
        assert track.tick(now_ns, scene.host._available)
        now_ns += RETRY_NS
        track.tick(now_ns, scene.host._available)
    return now_ns


async def test_a_label_that_joins_is_not_held_to_what_was_too_slow_before(start: Start) -> None:
    scene = await start(
        Changes("slow", lambda picture: picture), Changes(deriving.LABEL, lambda picture: 255 - picture)
    )
    scene.open({"slow": True, deriving.LABEL: False})
    track = await scene.track()
    await given_up(scene, track, TRIES)
    assert not track.working
    scene.open({"slow": True, deriving.LABEL: True})
    await scene.told(deriving.LABEL, "on")
    scene.shoot(keyframe=True)
    await scene.made(1)


async def test_what_is_too_slow_makes_way_for_the_label(start: Start) -> None:
    gate = Gate()
    scene = await start(Changes("slow", gate), Changes(deriving.LABEL, lambda picture: 255 - picture))
    scene.open()
    scene.shoot()
    await until(lambda: "" if gate.waiting.is_set() else "a picture in the transform")
    track = await scene.track()
    late_ns = time.monotonic_ns() + PATIENCE_NS + S
    assert track.tick(late_ns, scene.host._available)
    await scene.told("slow", "unavailable", "too_slow: 4 s for a picture")
    assert not track.tick(late_ns + S, scene.host._available), "the label has its own time"
    gate.leave.release()
    scene.shoot()
    await scene.made(2)
    assert scene.states[-1] == ("slow", "unavailable", "too_slow: 4 s for a picture")
    scene.open({"slow": True, deriving.LABEL: False})
    await until(lambda: "" if track.statuses["slow"].state == "on" else "a new try when something is switched")


async def test_what_keeps_up_for_a_minute_has_all_tries_again(start: Start) -> None:
    scene = await start(negative())
    scene.open()
    track = await scene.track()
    back_ns = await given_up(scene, track, TRIES - 1)
    for now_ns in range(back_ns, back_ns + PROVEN_NS + S, S // 2):
        track.pace.came(now_ns, 15)
        for _ in range(15):
            track.pace.went(now_ns, 20.0)
        assert not track.tick(now_ns, scene.host._available)
    track.pace.reset()
    await given_up(scene, track, TRIES - 1)
    assert track.working


async def test_a_mistake_of_ours_costs_one_track_for_a_minute(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = await start(negative())
    scene.open()
    track = await scene.track()

    def packets(frame: bytes) -> list[bytes]:
        raise RuntimeError("no luck today")

    with monkeypatch.context() as patch:
        patch.setattr(track._packetizer, "packets", packets)
        scene.shoot()
        (end,) = await scene.made(1)
    assert end.payload == b""
    await scene.told("negative", "unavailable", "failed: RuntimeError")
    assert scene.host.counters.failed == 1
    track.tick(time.monotonic_ns() + RETRY_NS + S, scene.host._available)
    await until(lambda: "" if scene.states[-1][1] == "on" else "another try")
    scene.shoot(keyframe=True)
    await scene.made(1)


async def test_after_an_encoder_that_failed_another_begins_with_a_key_frame(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = await start(negative())
    scene.open()
    scene.shoot()
    await scene.made(1)
    track = await scene.track()

    def encode(picture: Picture, ticks: int, *, keyframe: bool) -> bytes:
        raise CodecError("picture: ValueError")

    monkeypatch.setattr(track._encoder, "encode", encode)
    scene.shoot()
    await until(lambda: "" if scene.host.counters.failed else "the failure")
    scene.shoot()
    results = await scene.made(1)
    assert vp8.parse(results[0].payload).keyframe
    assert scene.host.counters.seeing.undecodable == 0, "the publisher's pictures are not to blame"


async def test_where_there_is_no_time_for_all_the_newest_is_given_up_and_the_others_judged_anew(start: Start) -> None:
    scene = await start(negative())
    for handle in (1, 2, 3):
        scene.open(handle=handle)
    await until(lambda: "" if len(scene.host._tracks) == 3 else "three tracks")
    tracks = list(scene.host._tracks.values())
    now_ns = time.monotonic_ns()
    for working in ([True, True, False], [True, False, False]):
        now_ns = overload(tracks, now_ns)
        for _ in range(2):
            scene.host._tick_tracks(now_ns)
            assert [track.working for track in tracks] == working
