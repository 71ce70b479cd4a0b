"""The scene of the video host."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.processors_video.host_scene import Scene, Start
from tests.unit.processors_video.transforms import Changes


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    scenes: list[Scene] = []

    async def start(*transforms: Changes) -> Scene:
        scenes.append(Scene(tmp_path, *transforms))
        await scenes[-1].start()
        return scenes[-1]

    yield start
    for scene in scenes:
        await scene.stop()
