"""A browser and a server for the page tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.e2e.mock_meeting import MockMeeting
from tests.e2e.pages import chromium
from tests.e2e.pictures import write_y4m


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    film: Path = tmp_path_factory.mktemp("film") / "camera.y4m"
    write_y4m(film, person=3)
    async with chromium(film) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def meeting() -> AsyncIterator[MockMeeting]:
    async with MockMeeting().serve() as running:
        yield running
