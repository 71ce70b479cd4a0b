"""A camera, the worker's tap server, and the test as the hosts that it sends videos to."""

import asyncio
import time
from pathlib import Path
from typing import Literal, cast

from sfu.producer import Producer
from sfu.rtp import rtcp
from sfu.tap import CloseTrack, Hello, OpenTrack, TapPacket, TapSocket, WantKeyframe, connect
from sfu.tap_server import TapServer
from tests.unit.sfu.rig import Rig, rtp, vp8
from tests.until import until

START_CODE = b"\x9d\x01\x2a"
WIDTHS = {"": 640, "q": 160, "h": 320, "f": 640}
SSRCS = {"": 77, "q": 301, "h": 302, "f": 303}


def picture(number: int, width: int = 640, keyframe: bool = False, size: int = 30) -> bytes:
    """A VP8 payload that can be told from others."""
    payload = vp8(number, number & 0xFF, keyframe=keyframe, size=size)
    return payload.replace(START_CODE + (640).to_bytes(2, "little"), START_CODE + width.to_bytes(2, "little"))


class Host:
    """What a connection of a host gets."""

    def __init__(self, link: TapSocket) -> None:
        self.link = link
        self.packets: list[TapPacket] = []
        self.others: list[OpenTrack | CloseTrack] = []
        self.keyframes_wanted = 0

    def read(self) -> None:
        while frames := self.link.receive():
            for frame in frames:
                if isinstance(frame, TapPacket):
                    self.packets.append(frame)
                elif isinstance(frame, WantKeyframe):
                    self.keyframes_wanted += 1
                else:
                    assert isinstance(frame, OpenTrack | CloseTrack)
                    self.others.append(frame)


class Scene:
    """A publisher with one camera, the worker's tap server, and hosts."""

    def __init__(self, run_dir: Path) -> None:
        self.rig = Rig()
        self.path = run_dir / "worker-0.tap"
        self.states: list[tuple[str, str]] = []
        self.taps = TapServer(self.path, self.rig.plane, lambda _, mode, why: self.states.append((mode.value, why)))
        self.taps.start()
        self.hosts: list[Host] = []
        self.numbers = dict.fromkeys(SSRCS, 0)

    async def host(
        self,
        role: Literal["path", "watch", "watch_video", "video"] = "watch_video",
        processors: tuple[str, ...] = ("faces",),
    ) -> Host:
        host = Host(connect(self.path, Hello(role=role, pid=1, processors=processors)))
        self.hosts.append(host)
        await until(lambda: "" if role in cast(list[str], self.taps.statistics()["hosts"]) else f"the {role} host")
        return host

    def camera(self, rids: tuple[str, ...] = (), codec: str = "vp8") -> Producer:
        producer = self.rig.producer("video", rids, codec)
        self.taps.open("room", producer)
        return producer

    def watch(self, on: bool = True, epoch: int = 0) -> None:
        self.taps.set_processing("track-video", {"faces": on}, epoch)

    def send(self, rid: str = "", keyframe: bool = False, size: int = 30) -> None:
        number = self.numbers[rid] = self.numbers[rid] + 1
        payload = picture(number, WIDTHS[rid], keyframe, size)
        self.rig.publish(rtp("video", number, number * 3000, payload, ssrc=SSRCS[rid], rid=rid, marker=True))

    async def told(self, host: Host) -> list[TapPacket]:
        """The packets since the last call; what this turn of the loop has queued leaves in the next."""
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        host.read()
        packets, host.packets = host.packets, []
        return packets

    def plis(self) -> list[int]:
        """SSRCs of the sources that were asked for a key frame since the last call."""
        asked = []
        for packet in self.rig.publisher.rtcp:
            for part in rtcp.split(packet):
                if part.packet_type == rtcp.PSFB and part.count == rtcp.FMT_PLI:
                    asked.append(rtcp.split_feedback(part).media)
        self.rig.publisher.rtcp.clear()
        return asked

    async def asked(self, ssrc: int) -> None:
        """Wait until a source is asked for a key frame."""

        def missing() -> str:
            self.rig.plane.tick(time.monotonic_ns())
            return "" if ssrc in self.plis() else f"a key frame to be asked of {ssrc}"

        await until(missing)

    def close(self) -> None:
        self.taps.close()
        for host in self.hosts:
            host.link.close()
        self.rig.close()
