"""An observer that reads what another finds about the same track, and one that says why it is silent."""

from typing import ClassVar, Literal

import numpy as np

from media_processors.audio.vad import SileroVad
from media_processors.base import Emit
from media_processors.codec import OpusEncoder
from media_processors.findings import Finding, ProcessorInfo, ProcessorStatus
from media_processors.frames import AudioFrame, TrackRef, VideoFrame
from media_processors.observing import OVERLOADED, Available, WatchCounters, WatchedTrack
from media_processors.perceiving import Hearing
from sfu.tap import Sound, TapPacket
from tests.unit.processors.sounds import opened
from tests.unit.processors_watch.test_watch_host import Counter, CounterStream


class Echo(Counter):
    """Says again what it reads, also what it says itself if it were given that."""

    def info(self) -> ProcessorInfo:
        return ProcessorInfo(name="echo", kind="observer", media="audio", available=True)

    def open(self, track: TrackRef, emit: Emit) -> "EchoStream":
        return EchoStream(self, track, emit)


class EchoStream(CounterStream):
    silent_because = ""
    words: ClassVar[list[str]] = ["", "language"]

    def push(self, frame: AudioFrame | VideoFrame) -> list[Finding]:
        self.silent_because = self.words[frame.start_ms > 50]
        return []

    def read(self, finding: Finding) -> list[Finding]:
        return [finding.model_copy(update={"model": "echo@1"})]


class Track:
    """A watched track with both observers, without a host."""

    def __init__(self) -> None:
        self.found: list[Finding] = []
        self.told: list[ProcessorStatus] = []
        wanted = opened(processors={"counter": True, "echo": True}, epoch=0)
        counters = WatchCounters()
        perception = Hearing(SileroVad(), counters.listening)
        self.watched = WatchedTrack(wanted, perception, counters, self.found.append, self.told.append, lambda ask: None)
        self.observers = (Counter(), Echo())
        self.encoder = OpusEncoder()
        self.refresh()

    def refresh(self, *, shed: bool = False) -> None:
        self.watched.refresh([Available(one.info(), one, "", shed) for one in self.observers])

    def hear(self, index: int) -> None:
        payload = self.encoder.encode(np.full(960, 0.1, np.float32))
        self.watched.put(TapPacket(1, Sound.RAW, 0, index, index * 960, 0, 0, 30, 0, payload))
        self.watched.work()

    def state(self, name: str) -> tuple[Literal["on", "off", "guard", "bypass", "unavailable"], str]:
        return next((one.state, one.reason) for one in reversed(self.told) if one.processor == name)


async def test_what_one_finds_another_reads_and_never_itself() -> None:
    track = Track()
    track.hear(0)
    assert [finding.model for finding in track.found] == ["counter@1", "echo@1"]
    await track.watched.close(pending=False)


async def test_an_observer_says_why_it_is_silent() -> None:
    track = Track()
    assert track.state("echo") == ("on", "")
    for index in range(6):
        track.hear(index)
    track.refresh()
    assert track.state("echo") == ("unavailable", "language")
    assert track.state("counter") == ("on", "")
    await track.watched.close(pending=False)


async def test_a_shed_observer_stops_says_so_and_comes_back() -> None:
    track = Track()
    track.refresh(shed=True)
    assert track.state("counter") == ("unavailable", OVERLOADED)
    track.watched.put(TapPacket(1, Sound.RAW, 0, 0, 0, 0, 0, 30, 0, b"\xf8\xff\xfe"))
    assert not track.watched.waiting
    track.refresh()
    assert track.state("counter") == ("on", "")
    track.hear(1)
    assert track.found
    await track.watched.close(pending=False)


async def test_what_is_said_last_of_a_track_is_read_as_well() -> None:
    track = Track()
    track.hear(0)
    await track.watched.close(pending=True)
    last = [finding.model for finding in track.found if finding.start_ms == 999_999]
    assert last == ["counter@1", "echo@1", "counter@1"]  # the third is the echo's own last word
