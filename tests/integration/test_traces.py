"""A real node with a call, as a collector sees it that takes OTLP over HTTP; and the call when the collector dies."""

import itertools
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from bots import MeetingBot
from candor.node import Node
from tests.e2e.meeting_kit import Ear, logged_node, mistakes, speech
from tests.until import until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

STEPS = ["tap", "decode", "vad", "denoise", "encode", "inject", "send"]


class Collector:
    """Keeps every span that it is sent, by the service that made it."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Span]] = []
        self.bodies: list[bytes] = []
        self.port = 0
        app = web.Application()
        app.router.add_post("/v1/traces", self._taken)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)

    async def start(self) -> None:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _taken(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.bodies.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = attributes(resource.resource.attributes)["service.name"]
            self.spans += [(str(service), span) for scope in resource.scope_spans for span in scope.spans]
        return web.Response(content_type="application/x-protobuf")

    def named(self, service: str, name: str) -> list[Span]:
        """The spans of that name."""
        return [span for made_by, span in self.spans if (made_by, span.name) == (service, name)]

    def below(self, parent: Span) -> list[Span]:
        """In the order of their beginnings."""
        found = [span for _, span in self.spans if span.parent_span_id == parent.span_id]
        return sorted(found, key=lambda span: (span.start_time_unix_nano, span.end_time_unix_nano))


def attributes(pairs: Iterable[object]) -> dict[str, object]:
    """Of a span or resource."""
    found = {}
    for pair in pairs:
        value = pair.value
        found[pair.key] = getattr(value, value.WhichOneof("value"))
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def collector() -> AsyncIterator[Collector]:
    collector = Collector()
    await collector.start()
    yield collector
    await collector.stop()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("traces") / "node.log"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def traced(collector: Collector, log: Path) -> AsyncIterator[Node]:
    """A node that follows one packet in five."""
    telemetry = {
        "endpoint": f"http://127.0.0.1:{collector.port}/v1/traces",
        "frame_sample": 0.2,
        "inference_sample": 1.0,
    }
    async with logged_node(log, telemetry=telemetry) as running:
        yield running


def whole_frames(collector: Collector) -> list[tuple[Span, list[Span]]]:
    """Followed packets that the path host has processed."""
    frames = [(frame, collector.below(frame)) for frame in collector.named("candor-worker", "frame")]
    return [(frame, steps) for frame, steps in frames if [step.name for step in steps] == STEPS]


def _missing_of_a_call(collector: Collector) -> str:
    expected = {
        "two joins": len(collector.named("candor-signaling", "join")) >= 2,
        "a publication": collector.named("candor-signaling", "publish"),
        "negotiations": len(collector.named("candor-worker", "negotiate")) >= 3,
        "connections": len(collector.named("candor-worker", "connect")) >= 3,
        "frames": len(whole_frames(collector)) >= 3,
        "a loaded model": collector.named("candor-engine", "model.load"),
        "an answer": any(
            attributes(span.attributes)["candor.outcome"] == "ok"
            for span in collector.named("candor-engine", "model.infer")
        ),
    }
    return ", ".join(what for what, there in expected.items() if not there)


async def test_a_call_is_traced_and_goes_on_without_the_collector(
    traced: Node, collector: Collector, log: Path
) -> None:
    await traced.hosts_attached()
    async with MeetingBot(traced.url, "traces", "Wilhelmina", subscribe=False) as speaker:
        microphone = await speaker.publish_audio(await speech())
        async with Ear(traced.url, "traces", "Ferdinand") as ear:
            await ear.hears(microphone.track_id, 100)
            await until(lambda: _missing_of_a_call(collector), 90)
            check_join(collector, speaker.participant_id)
            check_publish(collector, microphone.track_id, speaker.participant_id)
            check_frames(collector, microphone.track_id)
            check_models(collector)
            assert not [
                name for name in (b"Wilhelmina", b"Ferdinand", b"127.0.0.1") if name in b"".join(collector.bodies)
            ]
            await collector.stop()
            taken = len(collector.bodies)
            await ear.hears(microphone.track_id, 200)
            assert len(collector.bodies) == taken
            await until(lambda: "" if "spans_dropped" in log.read_text() else "a line about spans that were dropped")
    assert mistakes(log) == []


def check_join(collector: Collector, participant_id: str) -> None:
    """A join, and below it what the worker negotiated for it."""
    (join,) = [
        span
        for span in collector.named("candor-signaling", "join")
        if attributes(span.attributes)["candor.participant_id"] == participant_id
    ]
    assert attributes(join.attributes)["candor.outcome"] == "new"
    assert not join.parent_span_id
    (negotiate,) = collector.below(join)
    assert negotiate.trace_id == join.trace_id
    told = attributes(negotiate.attributes)
    assert (negotiate.name, told["candor.direction"], told["candor.outcome"]) == ("negotiate", "subscribe", "answered")
    assert [span.name for span in collector.below(negotiate)] == ["connect"]


def check_publish(collector: Collector, track_id: str, participant_id: str) -> None:
    """A publication, and below it the answer and the connection."""
    (publish,) = collector.named("candor-signaling", "publish")
    (negotiate,) = collector.below(publish)
    told = attributes(negotiate.attributes)
    assert (negotiate.name, told["candor.direction"]) == ("negotiate", "publish")
    assert told["candor.participant_id"] == participant_id
    assert [span.name for span in collector.below(negotiate)] == ["connect"]


def check_frames(collector: Collector, track_id: str) -> None:
    """A packet's way through the path host, each step after the other."""
    for frame, steps in whole_frames(collector):
        told = attributes(frame.attributes)
        assert (told["candor.track_id"], told["candor.outcome"]) == (track_id, "processed")
        assert frame.start_time_unix_nano == steps[0].start_time_unix_nano
        assert all(one.end_time_unix_nano == later.start_time_unix_nano for one, later in itertools.pairwise(steps))
        assert frame.end_time_unix_nano == steps[-1].end_time_unix_nano
        denoise = steps[STEPS.index("denoise")]
        assert str(attributes(denoise.attributes)["candor.model"]).startswith("rnnoise@")


def check_models(collector: Collector) -> None:
    """Who answered, after what wait, in how large a batch."""
    answered = [
        told
        for span in collector.named("candor-engine", "model.infer")
        if (told := attributes(span.attributes))["candor.outcome"] == "ok"
    ]
    for told in answered:
        assert "@" in str(told["candor.model"])
        assert int(str(told["candor.batch_size"])) >= 1
        assert float(str(told["candor.queue_wait_ms"])) >= 0
