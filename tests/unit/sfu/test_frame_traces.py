"""Packets followed through the path of a transform, with a real tap and the test as the path host; spans over a channel."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from sfu import path as path_module
from sfu import tap_server
from sfu.channel import pair, tracing
from sfu.frame_traces import FrameTraces
from sfu.path import PathMode
from sfu.tap import Hello, Step, TapFrame, TapPacket, TapResult, TapSocket, Trace, Traced, connect
from sfu.tap_server import TapServer
from tests.unit.sfu.rig import Rig, rtp
from tests.until import until

OPUS_20_MS = b"\x78sound"


class Scene:
    """A publisher of sound in the path, a listener, and the test as the path host."""

    def __init__(self, run_dir: Path, between: int) -> None:
        self.rig = Rig()
        self.path = run_dir / "worker-0.tap"
        self.traces = FrameTraces(between)
        self.taps = TapServer(self.path, self.rig.plane, lambda *_: None, self.traces)
        self.taps.start()
        self.producer = self.rig.producer("audio")
        self.rig.consumer(self.producer)
        self.link: TapSocket
        self.frames: list[TapFrame] = []
        self.seq = 0

    async def begin(self) -> None:
        self.link = connect(self.path, Hello(role="path", pid=1, processors=("denoise",)))
        await until(lambda: "" if "path" in self.taps.attached else "the host")
        self.taps.open("room", self.producer)
        self.taps.set_processing("track-audio", {"denoise": True}, 0)

    async def gets(self) -> list[Trace | TapPacket]:
        """Another packet is published; what the host gets of it."""
        self.seq += 1
        self.rig.publish(rtp("audio", self.seq, 960 * self.seq, OPUS_20_MS))

        def packet() -> str:
            self.frames += self.link.receive() or []
            return "" if any(isinstance(frame, TapPacket) for frame in self.frames) else "the packet"

        await until(packet)
        frames, self.frames = self.frames, []
        return [frame for frame in frames if isinstance(frame, Trace | TapPacket)]

    async def answers(self, packet: TapPacket, *before: Traced) -> None:
        """The host has processed a packet."""
        for told in before:
            self.link.queue(told)
        forwarded = self.rig.plane.counters.forwarded
        self.link.queue(TapResult(packet.handle, 0, packet.seq, packet.timestamp, packet.epoch, 20, OPUS_20_MS))
        self.link.flush()
        await until(lambda: "" if self.rig.plane.counters.forwarded > forwarded else "the result")

    def close(self) -> None:
        self.link.close()
        self.taps.close()
        self.rig.close()


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    scene = Scene(tmp_path, between=1)
    await scene.begin()
    yield scene
    scene.close()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline of a packet never passes: here it would, on a busy machine."""
    monkeypatch.setattr(path_module, "DEADLINE_NS", 60 * 10**9)
    monkeypatch.setattr(tap_server, "DEADLINE_NS", 60 * 10**9)
    monkeypatch.setattr(tap_server, "LOST_S", 60.0)


def steps_of(made: InMemorySpanExporter) -> tuple[ReadableSpan, list[ReadableSpan]]:
    """The one span `frame`, and those below it in the order of their beginnings."""
    spans = made.get_finished_spans()
    (frame,) = [span for span in spans if span.name == "frame"]
    below = [span for span in spans if span.parent is not None and span.parent.span_id == frame.context.span_id]
    assert len(below) == len(spans) - 1
    return frame, sorted(below, key=lambda span: span.start_time)


def told_of(packet: TapPacket, names: Sequence[str]) -> Traced:
    """The steps of a host that needs 100 us for each."""
    ends = [packet.arrival_ns + 100_000 * number for number in range(1, len(names) + 1)]
    models = {"denoise": "rnnoise@1"}
    steps = tuple(
        Step(name=name, model=models.get(name, ""), ended_ns=end) for name, end in zip(names, ends, strict=True)
    )
    return Traced(handle=packet.handle, seq=packet.seq, steps=steps)


@pytest.mark.usefixtures("patient")
async def test_a_followed_packet_becomes_a_span_with_its_steps(scene: Scene, made: InMemorySpanExporter) -> None:
    asked, packet = await scene.gets()
    assert isinstance(packet, TapPacket)
    assert asked == Trace(packet.handle, packet.seq)
    names = ["tap", "decode", "vad", "denoise", "encode"]
    await scene.answers(packet, told_of(packet, names))
    frame, below = steps_of(made)
    assert [span.name for span in below] == [*names, "inject", "send"]
    assert all(one.end_time == next_one.start_time for one, next_one in itertools.pairwise(below))
    assert (frame.start_time, frame.end_time) == (below[0].start_time, below[-1].end_time)
    assert below[3].attributes == {"candor.model": "rnnoise@1"}
    assert frame.attributes == {
        "candor.outcome": "processed",
        "candor.room_id": "room",
        "candor.participant_id": "alice",
        "candor.track_id": "track-audio",
    }
    assert frame.parent is None
    assert abs(frame.start_time - time.time_ns()) < 60e9


async def test_a_packet_that_nobody_answers_is_dropped_and_the_next_is_followed(
    scene: Scene, made: InMemorySpanExporter
) -> None:
    await scene.gets()
    await until(lambda: "" if made.get_finished_spans() else "the end of the frame")
    frame, below = steps_of(made)
    assert frame.attributes is not None
    assert frame.attributes["candor.outcome"] == "dropped"
    assert below == []
    asked, packet = await scene.gets()
    assert isinstance(asked, Trace)
    assert isinstance(packet, TapPacket)
    assert asked.seq == packet.seq


@pytest.mark.usefixtures("patient")
async def test_when_the_host_dies_the_frame_was_bypassed(scene: Scene, made: InMemorySpanExporter) -> None:
    await scene.gets()
    scene.link.close()
    await until(lambda: "" if made.get_finished_spans() else "the end of the frame")
    frame, below = steps_of(made)
    assert frame.attributes is not None
    assert frame.attributes["candor.outcome"] == "bypassed"
    assert [span.name for span in below] == ["inject", "send"]


@pytest.mark.usefixtures("patient")
async def test_one_packet_at_a_time_is_followed_and_others_are_believed_nothing(
    scene: Scene, made: InMemorySpanExporter
) -> None:
    _, first = await scene.gets()
    assert isinstance(first, TapPacket)
    (second,) = await scene.gets()  # not asked about
    assert isinstance(second, TapPacket)
    await scene.answers(first, told_of(second, ["tap", "decode"]), told_of(first, ["tap"]))
    _, below = steps_of(made)
    assert [span.name for span in below] == ["tap", "inject", "send"]


async def test_around_the_host_nothing_is_followed(tmp_path: Path, made: InMemorySpanExporter) -> None:
    scene = Scene(tmp_path, between=1)
    await scene.begin()
    assert scene.producer.path is not None
    scene.producer.path.detach("test")
    scene.producer.path._attached = True  # as in bypass: the host is given packets to try
    assert scene.producer.path.mode is PathMode.BYPASS
    assert [type(frame) for frame in await scene.gets()] == [TapPacket]
    assert not made.get_finished_spans()
    scene.close()


@pytest.mark.parametrize("between", [0, 20])
def test_how_many_are_followed(between: int) -> None:
    traces = FrameTraces(between)
    followed = sum(traces.due() for _ in range(20_000))
    assert followed == 0 if between == 0 else 800 < followed < 1250


async def test_a_request_brings_what_caused_it(made: InMemorySpanExporter) -> None:
    left, right = await pair()

    async def answer(method: str, params: dict[str, Any]) -> Any:
        with tracing.span("negotiate", direction="publish"):
            return {}

    right.on_request = answer
    left.start()
    right.start()
    with tracing.span("join"):
        await left.request("publish_offer")
    await left.request("publish_offer")
    caused, join, alone = made.get_finished_spans()
    assert caused.parent is not None
    assert (caused.parent.span_id, caused.context.trace_id) == (join.context.span_id, join.context.trace_id)
    assert caused.attributes == {"candor.direction": "publish"}
    assert alone.parent is None
    await left.close()
    await right.close()


@pytest.mark.parametrize("traceparent", [7, "", "00-zz-1-01", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", b"\xff", None])
async def test_a_cause_that_cannot_be_read_is_none(made: InMemorySpanExporter, traceparent: object) -> None:
    left, right = await pair()

    async def answer(method: str, params: dict[str, Any]) -> Any:
        with tracing.span("negotiate"):
            return "done"

    right.on_request = answer
    left.start()
    right.start()
    left._next_id = 1
    waiting = left._waiting[1] = asyncio.get_running_loop().create_future()
    left._send([0, 1, "hello", {}, traceparent])
    assert await waiting == "done"
    (span,) = made.get_finished_spans()
    assert span.parent is None
    await left.close()
    await right.close()


def test_an_error_leaves_its_type_and_not_its_text(made: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="said in confidence"), tracing.span("join"):
        raise ValueError("said in confidence")
    (span,) = made.get_finished_spans()
    assert span.attributes == {"error.type": "ValueError"}
    assert not span.events
    assert span.status.description is None


def test_what_begins_later_has_the_last_cause(made: InMemorySpanExporter) -> None:
    with tracing.span("join") as join:
        kept = tracing.cause(Context())
    assert tracing.cause(kept) is kept  # outside of any span
    assert trace.get_current_span(kept).get_span_context() == join.get_span_context()
    with tracing.span("publish"), tracing.span("negotiate", Context()):
        pass
    negotiate = next(span for span in made.get_finished_spans() if span.name == "negotiate")
    assert negotiate.parent is None
