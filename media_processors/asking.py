"""What observers that ask a model have in common: which model, whether it is here, and what the engine said of it last."""

import asyncio
from typing import TypeVar

import structlog

from media_processors.errors import UnavailableError
from models.calibration import Calibration
from models.catalog import ModelEntry, Task
from models.choosing import Chosen, choose
from models.client import InferenceClient
from models.errors import UnavailableError as ModelUnavailableError
from models.inventory import Inventory
from models.questions import Answer, Question
from models.store import Missing

A = TypeVar("A", bound=Answer)

log = structlog.get_logger()


class Choice:
    """The model of one task, as `models.choosing` says."""

    def __init__(self, task: Task) -> None:
        self.entry: ModelEntry | None = None
        self.version = ""
        """name@version; empty if there is none."""
        self.missing = Missing("it runs in the watch host", "")
        """Why there is none, if there is none."""
        self._task = task
        self._engine: InferenceClient | None = None
        self._store: Inventory | None = None

    def attach(self, engine: InferenceClient, store: Inventory) -> None:
        """Look into the store."""
        self._engine, self._store, self.entry, self.version = engine, store, None, ""
        match choose(self._task, store):
            case Chosen(entry, version):
                self.entry, self.version = entry, version
            case missing:
                self.missing = missing

    @property
    def here(self) -> bool:
        """Whether there is one."""
        return self.entry is not None

    def required(self) -> ModelEntry:
        """The model. Raises UnavailableError if there is none."""
        if self.entry is None:
            raise UnavailableError(self.missing.reason, self.missing.command)
        return self.entry

    def calibration(self) -> Calibration:
        """What the model's scores mean. Raises UnavailableError if there is no model, or nobody knows."""
        entry = self.required()
        if entry.calibration is None:
            raise UnavailableError(f"{entry.name} has no calibration")
        return entry.calibration

    async def ask(
        self, question: Question, wanted: type[A], *, room_id: str, deadline_ms: float, track_id: str = ""
    ) -> A:
        """What the model answers; `version` is then that of this answer. Where two versions answer, a track stays with one.

        Raises InferenceError, UnavailableError; a model that the engine refuses is here no longer, or not until it would take it
        again.
        """
        engine, store, entry = self._engine, self._store, self.required()
        if engine is None or store is None:
            raise UnavailableError(self.missing.reason, self.missing.command)
        try:
            answered = await engine.ask(
                entry.name, question, wanted, room_id=room_id, track_id=track_id, deadline_ms=deadline_ms
            )
        except ModelUnavailableError as error:
            log.error("model_unavailable", task=self._task, reason=error.message)
            self.missing = Missing(error.message, error.command)
            self.entry = None
            if error.retry_s:
                asyncio.get_running_loop().call_later(error.retry_s, self.attach, engine, store)
            raise
        self.version = answered.model
        return answered.answer
