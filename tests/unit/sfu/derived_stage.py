"""A camera on its way through the video host: a real plane, a real tap socket, and the test as the video host."""

import itertools
import time

from sfu.consumer import Consumer
from sfu.derived import (
    DerivedVideo,
)
from sfu.layer_control import LayerControl
from sfu.producer import Producer
from sfu.rtp import header
from sfu.tap import SelectLayer, TapPacket, TapSocket, VideoResult, WantKeyframe
from sfu.tapped import Tapped
from tests.unit.sfu.rig import RigPeer
from tests.unit.sfu.rig import vp8 as vp8_payload
from tests.unit.sfu.video_scene import Host, Scene
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
        self.consumer.downlink.observer = self.control
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

    def pass_time(self, viewer: Viewer) -> None:
        """What the worker does now and then."""
        now_ns = time.monotonic_ns()
        self.rig.plane.tick(now_ns)
        viewer.control.tick(now_ns)
        self.taps.tick_layers(now_ns)
        self.taps.refresh()

    async def happens(self, step: str, epoch: int) -> None:
        """One of the things that publisher, host and signaling do."""
        video = self.video
        match step:
            case "send" | "send key":
                self.send(keyframe=step == "send key")
                await self.take()
            case "answer" | "answer key":
                await self.answer(keyframe=step == "answer key", epoch=epoch)
            case "foreign":
                await self.answer(epoch=99)
            case "end" if video is not None:
                await self.answer(payload=b"", epoch=epoch)
            case "silence" if video is not None:
                video.source.distrust()
            case "mute" | "unmute":
                self.producer.set_muted(step == "mute")
