"""An engine in a process of its own, in which one model ends the process instead of answering, and another just answers.

`python -m tests.unit.models.dying_engine <run dir>`.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models import engine, shelf
from models.catalog import ModelEntry
from models.questions import Scores, Text
from models.settings import ModelSettings

DEADLY, HARMLESS = "mini-xception", "meso-inception-4"


class Runner:
    """Answers, or ends the process as a broken library does."""

    takes = Text
    max_batch = 1
    max_wait_ms = 0.0
    concurrency = 1
    isolated = False

    def __init__(self, deadly: bool) -> None:
        self._deadly = deadly

    async def start(self) -> None:
        """Nothing to load."""

    def check(self, question: Text) -> None:
        """Nothing to check."""

    async def run(self, batch: Sequence[Text]) -> list[Scores]:
        if self._deadly:
            os.abort()
        return [Scores(("fine",), (1.0,)) for _ in batch]

    async def close(self) -> None:
        """Nothing to free."""


def create(entry: ModelEntry, *_: Any) -> tuple[Runner, str]:
    return Runner(entry.name == DEADLY), "1"


if __name__ == "__main__":
    shelf.create_runner = create  # type: ignore[assignment]  # this process is a stage, and this its stand-in
    run_dir = Path(sys.argv[1])
    asyncio.run(engine.run(ModelSettings(models_dir=run_dir / "none"), run_dir))
