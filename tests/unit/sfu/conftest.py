"""The stage of derived video."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.sfu.derived_stage import Stage


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    stage.close()
