"""Cameras of bots through the real node to an observer of video that somebody has installed."""

import itertools
import os
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCRtpSender, RTCRtpTransceiver

from bots import MeetingBot, PatternSource
from candor.node import Node, node
from candor.settings import load
from media_processors.findings import Caption
from signaling.protocol import messages as wire
from tests.integration.sight import NAME, installed_sight
from tests.until import until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(200)]

SLOW_S = 40.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    with installed_sight(tmp_path_factory.mktemp("installed")):
        async with node(load(arguments={"log_level": "warning", "signaling": {"port": 0}})) as started:
            yield started


class Filmed:
    """A bot, and what the observer says of its pictures."""

    def __init__(self, url: str, room: str) -> None:
        self.bot = MeetingBot(url, room, "Filmed", subscribe=False)
        self.seen: list[Caption] = []
        self.bot.on(wire.FindingEvent, self._note)

    def _note(self, event: wire.FindingEvent) -> None:
        if isinstance(event.finding, Caption) and event.finding.model == "sight@1":
            self.seen.append(event.finding)

    async def __aenter__(self) -> "Filmed":
        """In the room, and willing to be seen: nobody is looked at who did not say so."""
        await self.bot.start()
        await until(lambda: "" if NAME in self.bot.room.processors else "the observer", SLOW_S)
        await self.bot.set_processor(NAME, True)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.bot.leave()

    async def sees(self, more: int) -> list[Caption]:
        """Wait for so many more pictures; those."""
        before = len(self.seen)
        await until(
            lambda: "" if len(self.seen) >= before + more else f"{before + more - len(self.seen)} pictures", SLOW_S
        )
        return self.seen[before : before + more]

    def state(self, track_id: str) -> str:
        status = self.bot.room.processor_status.get((track_id, NAME))
        return status.state if status is not None else ""


async def test_a_vp8_camera_is_seen_twice_a_second(running: Node) -> None:
    async with Filmed(running.url, "vp8") as filmed:
        camera = await filmed.bot.publish_video(PatternSource(640, 360), rate_hz=15)
        pictures = await filmed.sees(6)
        assert {picture.text for picture in pictures} == {"640x360"}
        assert {picture.track_id for picture in pictures} == {camera.track_id}
        steps_ms = [after.start_ms - before.start_ms for before, after in itertools.pairwise(pictures)]
        assert min(steps_ms) >= 250  # two a second by the server's clock; by the camera's the network shows
        assert sum(steps_ms) >= 2_000
        assert filmed.state(camera.track_id) == "on"


async def test_h264_is_seen_as_well(running: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    add = RTCPeerConnection.addTransceiver

    def only_h264(connection: RTCPeerConnection, track: MediaStreamTrack, direction: str) -> RTCRtpTransceiver:
        transceiver = add(connection, track, direction=direction)
        codecs = RTCRtpSender.getCapabilities("video").codecs
        transceiver.setCodecPreferences([codec for codec in codecs if codec.mimeType.lower() == "video/h264"])
        return transceiver

    monkeypatch.setattr(RTCPeerConnection, "addTransceiver", only_h264)
    async with Filmed(running.url, "h264") as filmed:
        await filmed.bot.publish_video(PatternSource(480, 270), rate_hz=10)
        assert {picture.text for picture in await filmed.sees(4)} == {"480x270"}


async def test_a_shared_screen_is_not_looked_at(running: Node) -> None:
    async with Filmed(running.url, "screen") as filmed:
        screen = await filmed.bot.publish_video(PatternSource(480, 270), "screen", rate_hz=10)
        camera = await filmed.bot.publish_video(PatternSource(320, 180), rate_hz=10)
        assert {picture.track_id for picture in await filmed.sees(3)} == {camera.track_id}
        assert (screen.track_id, NAME) not in filmed.bot.room.processor_status


async def test_revoked_means_no_picture_more_and_granted_again_they_come(running: Node) -> None:
    async with Filmed(running.url, "consent") as filmed:
        camera = await filmed.bot.publish_video(PatternSource(), rate_hz=20)
        await filmed.sees(2)
        await filmed.bot.set_processor(NAME, False)
        seen, frames = len(filmed.seen), camera.frames
        await until(lambda: "" if camera.frames > frames + 30 else "a second and a half of pictures")
        assert len(filmed.seen) == seen
        assert filmed.state(camera.track_id) == "off"
        await filmed.bot.set_processor(NAME, True)
        again = await filmed.sees(2)
        assert {picture.epoch for picture in again} == {3}


async def test_a_muted_camera_is_seen_again_afterwards(running: Node) -> None:
    async with Filmed(running.url, "mute") as filmed:
        camera = await filmed.bot.publish_video(PatternSource(), rate_hz=15)
        await filmed.sees(1)
        await filmed.bot.mute(camera)
        await filmed.bot.mute(camera, muted=False)
        await filmed.sees(3)


async def test_the_watch_host_is_killed_and_sees_again(running: Node) -> None:
    async with Filmed(running.url, "killed") as filmed, MeetingBot(running.url, "killed", "Viewer") as viewer:
        camera = await filmed.bot.publish_video(PatternSource(), rate_hz=15)
        await filmed.sees(2)
        await until(lambda: "" if camera.track_id in viewer.tracks else "the viewer's subscription")
        pid = running.supervisor.pid("watch")
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await until(lambda: "" if filmed.state(camera.track_id) == "unavailable" else "a status that says so", SLOW_S)
        assert await anext(viewer.tracks[camera.track_id])
        filmed.seen.clear()
        await filmed.sees(3)
        await until(lambda: "" if filmed.state(camera.track_id) == "on" else "a status that says so")
