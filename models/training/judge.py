"""A runner of the engine, asked from a command: what is evaluated is the code that answers in a meeting."""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from models.catalog import ModelEntry
from models.questions import Answer
from models.runners import Runner, create_runner
from models.settings import ModelSettings
from models.store import Store
from models.training.media import Question


class Judge:
    """A model of the store while a `with` block lasts."""

    def __init__(self, entry: ModelEntry, store: Store, settings: ModelSettings) -> None:
        """Raises UnavailableError if its weights are not here, or not whole."""
        self._loop = asyncio.Runner()
        self._runner: Runner[Any, Any]
        self._runner, version = create_runner(entry, store, settings)
        self.version = f"{entry.name}@{version}"

    def __enter__(self) -> Self:
        """Load. Raises UnavailableError."""
        try:
            self._loop.run(self._runner.start())
        except BaseException:
            self._loop.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loop.run(self._runner.close())
        self._loop.close()

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question; each is one that the runner takes. Raises InferenceError, ValueError."""
        for question in questions:
            self._runner.check(question)
        size = self._runner.max_batch
        return [
            answer
            for at in range(0, len(questions), size)
            for answer in self._loop.run(self._runner.run(questions[at : at + size]))
        ]
