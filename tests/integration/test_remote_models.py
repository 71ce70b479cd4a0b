"""A node without an engine of its own: its captions come from a model service, which may die; media does not notice."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from candor.node import Node, node
from candor.settings import load
from tests.contract.backends import Service
from tests.e2e.meeting_kit import next_caption
from tests.integration.test_kills import COMES_BACK_S, Talk, processed, talking
from tests.until import until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    service = Service(tmp_path, max_queued=64)
    await service.start()
    yield service
    await service.end()


@pytest.fixture
async def running(service: Service) -> AsyncIterator[Node]:
    models = {"backend": "http", "backend_url": service.url, "backend_key": service.key}
    arguments = {"log_level": "error", "signaling": {"port": 0}, "models": models}
    async with node(load(arguments=arguments)) as started:
        yield started


async def silent(talk: Talk) -> None:
    """Until everybody is told that there are no captions now."""

    def missing() -> str:
        status = talk.ear.bot.room.processor_status.get((talk.microphone.track_id, "captions"))
        return "" if status is not None and status.state == "unavailable" else f"no captions, they are {status}"

    await until(missing, COMES_BACK_S)


async def test_captions_come_from_the_service_and_come_back_with_it(running: Node, service: Service) -> None:
    assert "engine" not in running.supervisor.children
    async with talking(running, "remote") as talk:
        await next_caption(talk.ear.bot, talk.speaker.participant_id)
        service.kill()
        await silent(talk)
        await talk.goes_on()
        talk.check()
        await service.revive()
        await processed(talk, "captions")
        await next_caption(talk.ear.bot, talk.speaker.participant_id)
        await talk.goes_on()
        talk.check()
