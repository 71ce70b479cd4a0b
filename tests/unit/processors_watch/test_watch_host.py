"""The watch host over a real tap socket, with observers made for the test: consent, order, bounds, other people's bugs."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from media_processors import registry
from media_processors.base import Emit
from media_processors.findings import Finding, ProcessorInfo, Prosody
from media_processors.frames import AudioFrame, TrackRef, VideoFrame
from media_processors.perceiving import QUEUE_PACKETS
from media_processors.settings import ProcessingSettings
from media_processors.watch_host import SOCKET_NAME, WatchHost
from models.store import Store
from sfu.channel import Channel, ChannelError, connect
from sfu.tap import CloseTrack, OpenTrack, Sound, TapPacket, TapSocket, listen
from tests.until import until

SILENT_OPUS = b"\xf8\xff\xfe"


class Counter:
    """Reports every frame at once, and at the flush once more through `emit`."""

    kind: ClassVar[Literal["observer"]] = "observer"
    media: Literal["audio", "video"] = "audio"
    sound: Literal["raw", "processed"] = "raw"
    sample_rate_hz = 16_000

    def __init__(self) -> None:
        self.available = True
        self.fails = False
        self.mute = False
        self.streams: list[CounterStream] = []

    def info(self) -> ProcessorInfo:
        if self.mute:
            raise RuntimeError("a bug")
        reason = "" if self.available else "out of order"
        return ProcessorInfo(name="counter", kind="observer", media="audio", available=self.available, reason=reason)

    def open(self, track: TrackRef, emit: Emit) -> "CounterStream":
        self.streams.append(CounterStream(self, track, emit))
        return self.streams[-1]


class CounterStream:
    def __init__(self, observer: Counter, track: TrackRef, emit: Emit) -> None:
        self.observer = observer
        self.track = track
        self.emit = emit
        self.frames = 0
        self.flushes = 0
        self.closed = False

    def push(self, frame: AudioFrame | VideoFrame) -> list[Finding]:
        if self.observer.fails:
            raise RuntimeError("a bug")
        self.frames += 1
        return [self.finding(frame.start_ms)]

    def flush(self) -> list[Finding]:
        self.flushes += 1
        return []

    async def aclose(self) -> None:
        if self.flushes:
            self.emit(self.finding(999_999))
        self.closed = True

    def finding(self, start_ms: int) -> Prosody:
        track = self.track
        return Prosody(
            room_id=track.room_id,
            participant_id=track.participant_id,
            track_id=track.track_id,
            epoch=track.epoch,
            start_ms=start_ms,
            end_ms=start_ms,
            model="counter@1",
            level_dbfs=-20,
            pitch_hz=None,
            syllables_per_s=None,
            speech_ms=0,
        )


class Scene:
    """The host, a worker's end of the tap, and a channel as signaling has one."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.observer = Counter()
        self.listener = listen(run_dir / "worker-0.tap")
        self.findings: list[dict[str, object]] = []
        self.states: list[tuple[str, str]] = []
        self.number = 0

    async def start(self) -> None:
        loaded = {"counter": registry.Loaded(self.observer.info(), self.observer)}
        self.host = WatchHost(ProcessingSettings(), Store(self.run_dir), self.run_dir, 1, loaded)
        await self.host.start()
        self.worker = await self.accept()
        self.channel = await self.connect()

    async def connect(self) -> Channel:
        channel = await connect(self.run_dir / SOCKET_NAME)
        channel.on_notify = self.notified
        channel.start()
        return channel

    async def accept(self) -> TapSocket:
        accepted = []

        def missing() -> str:
            try:
                accepted.append(self.listener.accept()[0])
            except BlockingIOError:
                return "the host at the tap"
            return ""

        await until(missing)
        return TapSocket(accepted[0])

    async def stop(self) -> None:
        await self.channel.close()
        await self.host.close()
        await self.host.close()
        self.worker.close()
        self.listener.close()

    def notified(self, event: str, params: dict[str, object]) -> None:
        if event == "finding":
            self.findings.append(params)
        else:
            self.states.append((str(params["state"]), str(params["reason"])))

    def open(self, on: bool = True, epoch: int = 0, codec: Literal["opus", "vp8"] = "opus", handle: int = 1) -> None:
        opened = OpenTrack(
            handle=handle,
            track_id=f"track-{handle}",
            room_id="room",
            participant_id="participant",
            kind="audio",
            source="microphone",
            codec=codec,
            clock_hz=48_000,
            processors={"counter": on},
            epoch=epoch,
        )
        self.worker.queue(opened)
        self.worker.flush()

    def send(self, count: int = 1, epoch: int = 0, payload: bytes = SILENT_OPUS, handle: int = 1) -> None:
        for _ in range(count):
            self.number += 1
            packet = TapPacket(
                handle=handle,
                sound=Sound.RAW,
                marker=0,
                seq=self.number & 0xFFFF,
                timestamp=self.number * 960,
                arrival_ns=self.number * 20_000_000,
                epoch=epoch,
                level=127,
                restart=0,
                payload=payload,
            )
            self.worker.queue(packet)
        self.worker.flush()

    async def heard(self, count: int) -> None:
        await until(lambda: "" if len(self.findings) >= count else f"{count - len(self.findings)} findings")


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    scene = Scene(tmp_path)
    await scene.start()
    yield scene
    await scene.stop()


async def test_frames_become_findings_and_a_status_says_on(scene: Scene) -> None:
    scene.open()
    scene.send(3)
    await scene.heard(3)
    assert [finding["start_ms"] for finding in scene.findings] == [0, 20, 40]
    assert scene.states == [("on", "")]
    listed = await scene.channel.request("processors")
    assert listed["processors"][0]["name"] == "counter"
    stats = await scene.channel.request("stats")
    assert (stats["findings"], stats["tracks"]) == (3, 1)
    with pytest.raises(ChannelError, match="dance"):
        await scene.channel.request("dance")


async def test_who_connects_later_hears_the_current_states(scene: Scene) -> None:
    scene.open()
    await until(lambda: "" if scene.states else "a status")
    second = await scene.connect()
    await until(lambda: "" if len(scene.states) == 2 else "the status again")
    await second.close()


async def test_switched_off_nothing_is_heard(scene: Scene) -> None:
    scene.open()
    scene.send()
    await scene.heard(1)
    scene.open(on=False)
    scene.send(2)
    await until(lambda: "" if scene.host.counters.unwanted == 2 else "two unwanted packets")
    await until(lambda: "" if scene.observer.streams[0].closed else "the stream to be closed")
    assert len(scene.findings) == 1
    assert scene.observer.streams[0].flushes == 0
    assert scene.states[-1] == ("off", "")


async def test_a_new_epoch_drops_what_is_pending_and_begins_anew(scene: Scene) -> None:
    scene.open(epoch=1)
    scene.send(2, epoch=1)
    await scene.heard(2)
    old = scene.observer.streams[0]
    scene.open(epoch=2)
    scene.send(2, epoch=1)
    scene.send(1, epoch=2)
    await scene.heard(3)
    old.emit(old.finding(5))
    await until(lambda: "" if old.closed else "the old stream to be closed")
    assert scene.host.counters.stale == 2
    assert [finding["epoch"] for finding in scene.findings] == [1, 1, 2]
    assert scene.findings[-1]["start_ms"] == 80


async def test_a_track_that_ends_may_say_what_is_left(scene: Scene) -> None:
    scene.open()
    scene.send(2)
    scene.worker.queue(CloseTrack(1))
    scene.worker.flush()
    await scene.heard(3)
    assert scene.findings[-1]["start_ms"] == 999_999


async def test_a_sender_that_pauses_is_flushed_once(scene: Scene) -> None:
    scene.open()
    scene.send()
    await until(lambda: "" if scene.observer.streams and scene.observer.streams[0].flushes else "a flush")
    scene.send()
    await scene.heard(2)
    assert scene.observer.streams[0].flushes == 1


async def test_a_full_queue_drops_the_oldest_and_counts(scene: Scene) -> None:
    scene.open()
    await until(lambda: "" if scene.states else "the track")
    (track,) = scene.host._tracks.values()
    for index in range(QUEUE_PACKETS + 5):
        track.put(TapPacket(1, Sound.RAW, 0, index, index * 960, index * 20_000_000, 0, 127, 0, SILENT_OPUS))
    assert scene.host.counters.dropped == 5
    assert track.waiting[0].seq == 5
    scene.number = QUEUE_PACKETS + 4
    scene.send()
    await scene.heard(QUEUE_PACKETS)


async def test_an_observer_with_a_bug_ends_its_own_stream_only(scene: Scene) -> None:
    scene.observer.fails = True
    scene.open()
    scene.send(3)
    await until(lambda: "" if scene.host.counters.broken else "the failure")
    assert scene.host.counters.broken == 1
    assert scene.states[-1] == ("unavailable", "it failed: RuntimeError")
    await scene.channel.request("stats")


async def test_a_packet_that_breaks_us_ends_the_hearing_of_its_track_only(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.open()
    scene.open(handle=2)
    scene.send()
    await scene.heard(1)

    def broken(packet: TapPacket) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(scene.host._tracks[scene.host._taps[0], 1]._perception, "push", broken)
    scene.send(3)
    await until(lambda: "" if ("unavailable", "it failed: ZeroDivisionError") in scene.states else "the status")
    scene.send(2, handle=2)
    await scene.heard(3)
    assert scene.host.counters.deaf == 1
    assert [finding["track_id"] for finding in scene.findings] == ["track-1", "track-2", "track-2"]
    scene.open(epoch=1)  # consent given anew: another attempt
    await until(lambda: "" if scene.states[-1] == ("on", "") else "the status")


async def test_a_packet_that_breaks_us_cannot_stop_the_end_of_its_track(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.open()
    await until(lambda: "" if scene.states else "the track")
    (track,) = scene.host._tracks.values()

    def broken(packet: TapPacket) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(track._perception, "push", broken)
    track.waiting.extend([TapPacket(1, Sound.RAW, 0, 1, 960, 0, 0, 127, 0, SILENT_OPUS)] * 2)
    scene.worker.queue(CloseTrack(1))
    scene.worker.flush()
    await until(lambda: "" if scene.observer.streams[0].closed else "the stream to be closed")
    assert (scene.host.counters.deaf, scene.host._tracks) == (1, {})
    await scene.channel.request("stats")


async def test_what_becomes_unavailable_says_so_and_what_comes_back_runs(scene: Scene) -> None:
    scene.open()
    await until(lambda: "" if scene.states else "a status")
    scene.observer.available = False
    await until(lambda: "" if scene.states[-1] == ("unavailable", "out of order") else "the status")
    scene.observer.available = True
    await until(lambda: "" if scene.states[-1] == ("on", "") else "the status")
    scene.send()
    await scene.heard(1)


async def test_another_codec_is_unavailable(scene: Scene) -> None:
    scene.open(codec="vp8")
    await until(lambda: "" if scene.states == [("unavailable", "codec: vp8")] else "the status")


async def test_malformed_and_unknown_packets_are_counted(scene: Scene) -> None:
    scene.worker.sock.send(b"\x00\x05\x04abc")
    scene.send()
    scene.open()
    scene.send(1, payload=b"")
    scene.send(1)
    await scene.heard(1)
    counters = scene.host.counters
    assert (counters.malformed, counters.unwanted, counters.listening.damaged) == (1, 1, 1)


async def test_a_worker_that_dies_takes_its_tracks_and_is_found_again(scene: Scene) -> None:
    scene.open()
    scene.send()
    await scene.heard(1)
    scene.worker.close()
    scene.worker = await scene.accept()
    assert scene.host._tracks == {}
    scene.open()
    scene.send()
    await until(lambda: "" if len(scene.observer.streams) == 2 else "a new stream")
    await asyncio.sleep(0)


async def test_a_bug_while_letting_a_worker_go_does_not_keep_the_host_from_coming_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: raised.append(context["exception"]))

    def broken(tap: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(scene.host, "forget_all", broken)
    scene.worker.close()
    scene.worker = await scene.accept()
    assert [type(error) for error in raised] == [ZeroDivisionError]
    monkeypatch.undo()
    scene.open()
    scene.send()
    await scene.heard(1)


async def test_an_observer_that_cannot_describe_itself_is_unavailable(scene: Scene) -> None:
    scene.open()
    await until(lambda: "" if scene.states else "a status")
    scene.observer.mute = True
    await until(lambda: "" if scene.states[-1][0] == "unavailable" else "the status")
    listed = await scene.channel.request("processors")
    assert "RuntimeError" in listed["processors"][0]["reason"]
