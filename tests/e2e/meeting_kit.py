"""What the tests of whole meetings share: a node whose log can be read, bots that keep every packet's number, speech."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from playwright.async_api import Page, expect

from bots import AudioSource, MeetingBot, PcmSource, RawRtp
from candor.measure import unwrap
from candor.node import Node, node
from candor.settings import load
from candor.speech import load_script
from tests.e2e.pictures import film
from tests.until import until

OPUS_CLOCK_HZ = 48_000
MISTAKES = (
    "Traceback",
    "never retrieved",
    "was never awaited",
    "timer_failed",
    "Exception in callback",
    "handler error",
)
"""What a log holds only if something raised where nothing may raise."""


@asynccontextmanager
async def logged_node(log: Path, **arguments: Any) -> AsyncIterator[Node]:
    """A node on a free port whose children write their log to `log`: they inherit this process's standard error."""
    settings = load(arguments={"log_level": "warning", "signaling": {"port": 0}, **arguments})
    kept = os.dup(2)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        manager = node(settings)
        running = await manager.__aenter__()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
    try:
        yield running
    finally:
        await manager.__aexit__(None, None, None)


def mistakes(log: Path) -> list[str]:
    """Lines of a log that tell of something that raised where nothing may."""
    return [line for line in log.read_text().splitlines() if any(word in line for word in MISTAKES)]


async def speech(times: int = 20) -> AudioSource:
    """The demo's clean lines, over and over: never more than half a second of silence."""
    script = await load_script()
    lines = [line.sound for line in script.turns if line.name == script.turns[0].name]
    sound = np.concatenate([np.pad(line, (0, 9600)) for line in lines] * times)
    return PcmSource(np.clip(np.round(sound * 32767), -32768, 32767).astype(np.int16))


class Ear:
    """A bot that notes the number and the time of every RTP packet, before aiortc's jitter buffer."""

    def __init__(self, url: str, room: str, name: str = "Ear") -> None:
        self.bot = MeetingBot(url, room, name)
        self.packets: dict[str, list[RawRtp]] = {}
        self.bot.on_rtp(self._note)

    def _note(self, packet: RawRtp) -> None:
        self.packets.setdefault(packet.track_id, []).append(packet)

    async def __aenter__(self) -> "Ear":
        await self.bot.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.bot.leave()

    def heard(self, track_id: str) -> int:
        """How many packets of a track came."""
        return len(self.packets.get(track_id, []))

    async def hears(self, track_id: str, more: int = 25, timeout_s: float = 30.0) -> None:
        """Wait until so many more packets of a track have come."""
        wanted = self.heard(track_id) + more
        await until(
            lambda: "" if self.heard(track_id) >= wanted else f"{wanted - self.heard(track_id)} packets of {track_id}",
            timeout_s,
        )

    def missing(self, track_id: str) -> list[int]:
        """Lengths of the runs of packets that never came between the first and the last. Repairs (RTX) do not count as coming."""
        numbers, _ = self._split(track_id)
        return [int(step) - 1 for step in np.diff(numbers) if step > 1]

    def gaps(self, track_id: str, since_ns: int) -> "Gaps":
        """What came since then (`time.monotonic_ns()`), what did not, and what of it was sent again (RFC 4588, section 4)."""
        numbers, repairs = self._split(track_id, since_ns)
        if not len(numbers):
            return Gaps(0, 0, 0)
        missing = {int(number) & 0xFFFF for number in np.setdiff1d(np.arange(numbers[0], numbers[-1]), numbers)}
        again = {int.from_bytes(packet.payload[:2], "big") for packet in repairs}
        return Gaps(len(numbers), len(missing), len(missing & again))

    def _split(self, track_id: str, since_ns: int = 0) -> tuple[npt.NDArray[np.int64], list[RawRtp]]:
        """The numbers of a track's own stream, sorted and once each; the packets of its other one, the repairs."""
        packets = self.packets.get(track_id, [])
        [(stream, _)] = Counter(packet.ssrc for packet in packets).most_common(1) or [(0, 0)]
        packets = [packet for packet in packets if packet.arrival_ns >= since_ns]
        own = [packet.sequence_number for packet in packets if packet.ssrc == stream]
        return np.unique(unwrap(own, 16)), [packet for packet in packets if packet.ssrc != stream]


class Gaps(NamedTuple):
    """Of one track, in packets."""

    came: int
    missing: int
    repaired: int
    """Of the missing ones."""


async def next_caption(bot: MeetingBot, participant_id: str, timeout_s: float = 90.0) -> str:
    """The text of the next caption of somebody."""
    async with asyncio.timeout(timeout_s):
        async for caption in bot.captions():
            if caption.participant_id == participant_id and caption.text:
                return caption.text
    raise AssertionError("the bot left the room before a caption came")


# --- a real page

COUNT_CONNECTIONS = """
window.connections = [];
window.RTCPeerConnection = class extends window.RTCPeerConnection {
  constructor(...configuration) {
    super(...configuration);
    window.connections.push(this);
  }
};
window.figures = async (type) => {
  const open = window.connections.filter((connection) => connection.connectionState !== 'closed');
  const reports = await Promise.all(open.map((connection) => connection.getStats()));
  return reports.flatMap((report) => [...report.values()]).filter((figure) => figure.type === type);
};
"""
"""Before the page's own script: keeps its connections, so that a test can read their statistics."""

CAMERA_SIZE = (960, 540)
"""The smallest for which Chromium sends three layers."""
CAMERA_HZ = 8

Figures = dict[str, Any]


def write_camera(path: Path, noise: float = 0.0) -> None:
    """What the fake cameras see, as YUV4MPEG2 (4:2:0): small and slow, for two browsers have to live on two cores.

    `noise` is its standard deviation, of 255: with some an encoder needs all the bits that it may use.
    """
    width, height = CAMERA_SIZE
    chance = np.random.default_rng(1)
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F{CAMERA_HZ}:1 Ip A1:1 C420jpeg\n".encode())
        for picture in film(person=1):
            planes = cv2.cvtColor(cv2.resize(picture, CAMERA_SIZE), cv2.COLOR_BGR2YUV_I420).astype(np.float32)
            planes[:height] += chance.normal(0, noise, (height, width)) if noise else 0
            file.write(b"FRAME\n")
            file.write(np.clip(planes, 0, 255).astype(np.uint8).tobytes())


async def enter(page: Page, url: str, name: str) -> None:
    """Open a room's link, give a name, join, and wait until the meeting is shown."""
    await page.goto(url)
    await page.get_by_label("Your name").fill(name)
    await page.get_by_role("button", name="Join", exact=True).click()
    await expect(page.get_by_role("navigation", name="Meeting controls")).to_be_visible()


async def received(page: Page, kind: str) -> Figures:
    """Statistics of the `inbound-rtp` of this kind that has got most, {} if there is none."""
    figures: list[Figures] = await page.evaluate("figures('inbound-rtp')")
    ours = [one for one in figures if one["kind"] == kind]
    return max(ours, key=lambda one: one["packetsReceived"], default={})


async def plays(page: Page, frames: int = 10, timeout_s: float = 40.0) -> Figures:
    """Wait until so many more frames were decoded; the figures then."""
    before = (await received(page, "video")).get("framesDecoded", 0)
    latest: Figures = {}

    async def missing() -> str:
        latest.update(await received(page, "video"))
        decoded = latest.get("framesDecoded", 0) - before
        return "" if decoded >= frames else f"{frames - decoded} of {frames} frames"

    await until(missing, timeout_s)
    return latest
