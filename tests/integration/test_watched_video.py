"""Cameras of bots through the real node to an observer of video that somebody has installed."""

import itertools
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

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
        await self.bot.start()
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
        assert min(steps_ms) >= 500
        assert filmed.state(camera.track_id) == "on"
