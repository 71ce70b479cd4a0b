"""The packet loop without its process: what one track or one transform breaks, no other notices."""

import time
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from media_processors import path_host, registry
from media_processors.base import Samples
from media_processors.errors import UnavailableError
from media_processors.findings import ProcessorInfo, ProcessorStatus
from media_processors.frames import TrackRef
from media_processors.path_host import PathHost, _Tap
from media_processors.settings import ProcessingSettings
from media_processors.streams import PathStream
from sfu.tap import MAX_STEPS, CloseTrack, OpenTrack, TapFrame, TapPacket, TapResult, Trace, Traced
from tests.unit.processors.sounds import opened, packet, publish, voice


class Link:
    """The worker's end: keeps what is sent."""

    def __init__(self) -> None:
        self.dropped_full = 0
        self.sent: list[TapFrame] = []

    def queue(self, frame: TapFrame) -> None:
        self.sent.append(frame)

    def flush(self) -> bool:
        return True


class Faulty:
    """A third party's transform with a bug in one of its methods."""

    kind: ClassVar[Literal["transform"]] = "transform"
    sample_rate_hz = 48_000
    frame_samples = 480
    delay_samples = 0

    def __init__(self, fails_in: str) -> None:
        self.fails_in = fails_in

    def info(self) -> ProcessorInfo:
        return ProcessorInfo(name="faulty", kind="transform", media="audio", available=True, model="faulty@1")

    def open(self, track: TrackRef) -> "Faulty":
        self._maybe_fail("open")
        return self

    def process(self, samples: Samples) -> Samples:
        self._maybe_fail("process")
        return samples

    def reset(self) -> None:
        self._maybe_fail("reset")

    def _maybe_fail(self, method: str) -> None:
        if method == self.fails_in:
            raise RuntimeError("a bug")


class Scene:
    """A started host with one tap."""

    def __init__(self, run_dir: Path, transform: Faulty) -> None:
        self.host = PathHost(
            ProcessingSettings(late_ms=1000), run_dir, 1, {"faulty": registry.Loaded(transform.info(), transform)}
        )
        self.statuses: list[ProcessorStatus] = []
        self.closed: list[str] = []
        self.host.on_status = self.statuses.append
        self.host.on_close = self.closed.append
        self.host.start()
        self.link = Link()
        self.tap = _Tap(run_dir / "worker-0.tap", self.link)  # type: ignore[arg-type]  # of the link only these methods are used

    def handle(self, *frames: OpenTrack | CloseTrack | TapPacket | Trace) -> list[TapResult]:
        self.link.sent.clear()
        self.host._handle_all(self.tap, list(frames))
        return [frame for frame in self.link.sent if isinstance(frame, TapResult)]


PAYLOADS = publish(voice(140, 0.3))


def arrived(index: int, handle: int = 1) -> TapPacket:
    return packet(index, PAYLOADS[index])._replace(handle=handle, arrival_ns=2**62)


def faulty(track_id: str, handle: int = 1) -> OpenTrack:
    return opened(track_id=track_id, handle=handle, processors={"faulty": True})


def test_a_packet_that_breaks_us_bypasses_its_track_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(tmp_path, Faulty("nowhere"))
    scene.handle(faulty("bad"), faulty("good", 2))
    scene.statuses.clear()
    stream = scene.tap.tracks[1].stream

    def broken(packet: TapPacket, late: bool) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(stream, "push", broken)
    results = scene.handle(arrived(0), arrived(0, 2), arrived(1), arrived(1, 2))
    assert [(result.handle, result.seq) for result in results] == [(1, 0), (2, 0), (1, 1), (2, 1)]
    assert [result.payload for result in results if result.handle == 1] == PAYLOADS[:2]
    assert [result.dry for result in results if result.handle == 1] == [1, 1]
    assert scene.host.counters.failed == 1
    told = [(status.track_id, status.state, status.reason) for status in scene.statuses if status.track_id == "bad"]
    assert told == [("bad", "bypass", "failed: ZeroDivisionError")]
    scene.handle(faulty("bad"))  # opened again: another attempt
    assert isinstance(scene.tap.tracks[1].stream, PathStream)


@pytest.mark.parametrize("method", ["open", "process"])
def test_a_transform_that_fails_when_tried_is_unavailable_with_its_errors_type(tmp_path: Path, method: str) -> None:
    scene = Scene(tmp_path, Faulty(method))
    (info,) = scene.host.infos
    assert (info.available, info.reason) == (False, "it was tried and failed: RuntimeError")
    results = scene.handle(faulty("t"), arrived(0))
    assert [result.payload for result in results] == PAYLOADS[:1]
    assert [(status.state, status.reason) for status in scene.statuses] == [("unavailable", info.reason)]


@pytest.mark.parametrize("method", ["open", "process", "reset"])
def test_a_transform_that_fails_later_bypasses_itself_on_that_track(tmp_path: Path, method: str) -> None:
    transform = Faulty("nowhere")
    scene = Scene(tmp_path, transform)
    transform.fails_in = method
    results = scene.handle(faulty("t"), arrived(0))
    scene.handle(opened(processors={"faulty": False}), *(arrived(index) for index in range(1, 4)))
    results += scene.handle(faulty("t"), *(arrived(index) for index in range(4, 6)))
    assert len(results) == 3
    assert all(result.payload for result in results)
    assert (scene.statuses[-1].state, scene.statuses[-1].reason) == ("bypass", "failed: RuntimeError")
    assert scene.host.counters.failed == 0


def test_every_track_that_was_open_is_told_closed(tmp_path: Path) -> None:
    scene = Scene(tmp_path, Faulty("open"))
    scene.handle(faulty("untouched"), CloseTrack(1), faulty("first"), faulty("second"), faulty("other", 2))
    assert scene.closed == ["untouched", "first"]
    scene.handle(CloseTrack(1), CloseTrack(1), CloseTrack(2), CloseTrack(3))
    assert scene.closed == ["untouched", "first", "second", "other"]


def test_tracks_beyond_the_most_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path_host, "MAX_TRACKS_PER_TAP", 1)
    scene = Scene(tmp_path, Faulty("open"))
    scene.handle(faulty("first"), faulty("second", 2))
    assert {status.track_id for status in scene.statuses} == {"first"}


def test_a_bitrate_that_opus_does_not_have_leaves_the_track_as_it_is(tmp_path: Path) -> None:
    scene = Scene(tmp_path, Faulty("nowhere"))
    results = scene.handle(opened(processors={"faulty": True}, bitrate_bps=1), arrived(0))
    assert [result.payload for result in results] == PAYLOADS[:1]
    scene.handle(faulty("t"))
    kept = scene.tap.tracks[1].stream
    scene.handle(opened(processors={"faulty": True}, bitrate_bps=1))
    assert scene.tap.tracks[1].stream is kept


def test_without_libopus_the_host_starts_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise UnavailableError("no libopus", "pip install av")

    monkeypatch.setattr(path_host, "load_library", missing)
    scene = Scene(tmp_path, Faulty("nowhere"))
    (info,) = scene.host.infos
    assert (info.available, info.reason, info.command) == (False, "no libopus", "pip install av")


def told(scene: Scene) -> list[Traced]:
    return [frame for frame in scene.link.sent if isinstance(frame, Traced)]


def test_of_a_packet_that_is_asked_about_every_step_is_told_before_the_result(tmp_path: Path) -> None:
    scene = Scene(tmp_path, Faulty("nowhere"))
    began_ns = time.monotonic_ns()
    scene.handle(faulty("asked"), faulty("other", 2), arrived(0), Trace(1, 1), arrived(0, 2), arrived(1), arrived(2))
    (traced,) = told(scene)
    assert (traced.handle, traced.seq) == (1, 1)
    assert [(step.name, step.model) for step in traced.steps] == [
        ("tap", ""),
        ("decode", ""),
        ("vad", ""),
        ("faulty", "faulty@1"),
        ("encode", ""),
    ]
    ends = [step.ended_ns for step in traced.steps]
    assert ends == sorted(ends)
    assert began_ns <= ends[0] <= ends[-1] <= time.monotonic_ns()
    after = scene.link.sent[scene.link.sent.index(traced) + 1]
    assert isinstance(after, TapResult)
    assert (after.handle, after.seq) == (1, 1)


def test_a_long_repair_is_told_in_part(tmp_path: Path) -> None:
    scene = Scene(tmp_path, Faulty("nowhere"))
    scene.handle(faulty("asked"))
    for index in range(3):
        short = publish(voice(140, 0.01), samples=120)[0]
        scene.handle(packet(index, short, timestamp=120 * index)._replace(handle=1, arrival_ns=2**62))
    late = packet(30, publish(voice(140, 0.01), samples=120)[0], timestamp=120 * 30)
    scene.handle(Trace(1, 30), late._replace(handle=1, arrival_ns=2**62))
    (traced,) = told(scene)
    assert len(traced.steps) == MAX_STEPS


def test_a_question_about_a_track_that_is_not_here_is_forgotten(tmp_path: Path) -> None:
    scene = Scene(tmp_path, Faulty("nowhere"))
    scene.handle(Trace(1, 0), faulty("late"), arrived(0))
    assert told(scene) == []
