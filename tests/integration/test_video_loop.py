"""The whole way of a picture in one process: encoder, data plane, tap server, tap socket, watch host, observer, and back again
the wishes for key frames and layers. Packets are lost where the test wants it."""

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from media_processors import observing, registry
from media_processors.settings import ProcessingSettings
from media_processors.watch_host import SOCKET_NAME, WatchHost
from models.store import Store
from sfu.channel import connect
from sfu.rtp import rtcp
from sfu.tap import TapFrame, TapPacket, TapSocket
from sfu.tap_server import TapServer
from tests.fakes.camera import Camera
from tests.integration.sight import NAME, WANTS, Sight
from tests.unit.sfu.rig import Rig, rtp
from tests.until import until

RATE_HZ = 40
SIZES = {"": (320, 180), "q": (160, 90), "h": (320, 180), "f": (640, 360)}


class Layer:
    """One encoder of the publisher, its SSRC and numbering."""

    def __init__(self, ssrc: int, rid: str, codec: str) -> None:
        self.ssrc = ssrc
        self.rid = rid
        self.seq = 0
        self.keyframe_wanted = False
        self.camera = Camera(codec, *SIZES[rid], rate_hz=RATE_HZ)

    def packets(self) -> list[bytes]:
        payloads, timestamp = self.camera.shoot(self.keyframe_wanted)
        self.keyframe_wanted = False
        made = []
        for index, payload in enumerate(payloads):
            self.seq += 1
            last = index == len(payloads) - 1
            made.append(rtp("video", self.seq, timestamp, payload, ssrc=self.ssrc, rid=self.rid, marker=last))
        return made


class Loop:
    """A publisher who films, a worker without a network, and a watch host."""

    def __init__(self, run_dir: Path, rids: tuple[str, ...], codec: str) -> None:
        self.run_dir = run_dir
        self.rig = Rig()
        self.rids = rids
        self.codec = codec
        self.layers = {ssrc: Layer(ssrc, rid, codec) for ssrc, rid in enumerate(rids or ("",), 300)}
        self.seen: list[tuple[str, int]] = []

    async def start(self) -> None:
        self.taps = TapServer(self.run_dir / "worker-0.tap", self.rig.plane, lambda *_: None)
        self.taps.start()
        observer = Sight()
        loaded = {NAME: registry.Loaded(observer.info(), observer)}
        self.host = WatchHost(ProcessingSettings(), Store(self.run_dir), self.run_dir, 1, loaded)
        await self.host.start()
        await until(lambda: "" if "watch_video" in str(self.taps.statistics()["hosts"]) else "the host at the tap")
        self.channel = await connect(self.run_dir / SOCKET_NAME)
        self.channel.on_notify = self._notified
        self.channel.start()
        self.taps.open("room", self.rig.producer("video", self.rids, self.codec))
        self.film()
        self.taps.set_processing("track-video", {NAME: True}, 0)

    async def stop(self) -> None:
        await self.channel.close()
        await self.host.close()
        self.taps.close()
        self.rig.close()

    def _notified(self, event: str, params: dict[str, Any]) -> None:
        if event == "finding":
            self.seen.append((params["text"], params["start_ms"]))

    def film(self) -> None:
        """One frame of every layer; what the worker asked for since the last one is a key frame."""
        for packet in self.rig.publisher.rtcp:
            for part in rtcp.split(packet):
                if part.packet_type == rtcp.PSFB and part.count == rtcp.FMT_PLI:
                    self.layers[rtcp.split_feedback(part).media].keyframe_wanted = True
        self.rig.publisher.rtcp.clear()
        for layer in self.layers.values():
            for packet in layer.packets():
                self.rig.publish(packet)

    async def films_until(self, done: Callable[[], bool], what: str) -> None:
        """Go on filming, a frame at each look, until it is so."""

        def missing() -> str:
            self.film()
            now_ns = time.monotonic_ns()
            self.rig.plane.tick(now_ns)
            self.taps.tick_layers(now_ns)
            return "" if done() else what

        await until(missing, 30)


def losing(monkeypatch: pytest.MonkeyPatch, lost: Callable[[TapPacket], bool]) -> None:
    """Lose packets on the tap: both sides believe that they were sent."""
    queue = TapSocket.queue

    def lossy(link: TapSocket, frame: TapFrame) -> None:
        if not (isinstance(frame, TapPacket) and lost(frame)):
            queue(link, frame)

    monkeypatch.setattr(TapSocket, "queue", lossy)


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    started: list[Loop] = []

    async def start(*rids: str, codec: str = "vp8") -> Loop:
        started.append(Loop(tmp_path, rids, codec))
        await started[-1].start()
        return started[-1]

    yield start
    for loop in started:
        await loop.stop()


async def test_a_loss_on_the_tap_is_repaired_by_one_key_frame(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = await start()
    await loop.films_until(lambda: len(loop.seen) >= 2, "two pictures")
    asked = loop.rig.plane.counters.keyframe_requests_sent
    left = [1]

    def lost(packet: TapPacket) -> bool:
        left[0] -= 1
        return left[0] >= 0

    losing(monkeypatch, lost)
    await loop.films_until(lambda: loop.host.counters.seeing.lost == 1, "the loss to be noticed")
    pictures = len(loop.seen)
    await loop.films_until(lambda: len(loop.seen) >= pictures + 2, "two more pictures")
    assert loop.rig.plane.counters.keyframe_requests_sent == asked + 1
    assert loop.host.counters.seeing.undecodable == 0


async def test_a_way_that_loses_much_asks_for_few_key_frames_and_still_shows_something(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = await start()
    losing(monkeypatch, lambda packet: packet.seq % 7 == 0)
    since_ns = time.monotonic_ns()
    await loop.films_until(lambda: len(loop.seen) >= 3, "three pictures")
    seeing = loop.host.counters.seeing
    assert seeing.lost > 0
    assert (loop.host.counters.deaf, seeing.undecodable) == (0, 0)
    passed_s = (time.monotonic_ns() - since_ns) / 1e9
    assert loop.rig.plane.counters.keyframe_requests_sent <= 2 + passed_s


@pytest.mark.parametrize("codec", ["vp8", "h264"])
async def test_layers_follow_the_observers_wish(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, codec: str
) -> None:
    monkeypatch.setattr(observing, "CHOOSE_S", 0.5)
    monkeypatch.setenv(WANTS, "600")
    loop = await start("q", "h", "f", codec=codec)
    await loop.films_until(lambda: "640x360" in dict(loop.seen), "a picture of the highest layer")
    await loop.films_until(lambda: loop.seen[-1][0] == loop.seen[-2][0] == "640x360", "it to stay so")
    texts, times_ms = zip(*loop.seen, strict=True)
    assert texts[0] == "320x180"
    assert set(texts) == {"320x180", "640x360"}
    assert list(times_ms) == sorted(times_ms)
    assert (loop.host.counters.seeing.lost, loop.host.counters.seeing.undecodable) == (0, 0)
