"""What an engine was doing when it died, told to the next one: a model that keeps ending the engine is left alone for a while.

A library can end the whole process (a bad instruction, memory that the system takes back), and with it every model. Which one it
was nobody can ask any more; so the journal says which were loading or answering. Once may be anybody's fault, also of somebody who
killed the engine; a model that was at work at two deaths within `BAN_S` is not loaded for as long. One that was only there by
chance is left alone with it: known, accepted, and over after the same time.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

NAME = "engine.journal"
BAN_S = 600.0
"""How long a model is left alone; also how long a death is remembered."""

log = structlog.get_logger()


class _Page(BaseModel):
    model_config = ConfigDict(extra="forbid")

    at_work: list[str] = []
    suspects: dict[str, float] = {}
    """Models that were at work when an engine died, and until when that is remembered."""
    banned: dict[str, float] = {}
    """Until when; both in seconds of CLOCK_MONOTONIC, which all processes of a machine share until it restarts."""


class Journal:
    """One file, replaced whenever a model begins or ends to work. The page cache outlives the process: nothing is synced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._page = _Page()
        self._at_work: Counter[str] = Counter()

    def open(self) -> None:
        """Read what the engine before this one left: nothing if it ended as told."""
        try:
            left = _Page.model_validate_json(self._path.read_text())
        except FileNotFoundError:
            return
        except (ValidationError, OSError) as error:
            log.warning("journal_unreadable", error=type(error).__name__)
            return
        now = time.monotonic()
        self._page.banned = {name: until for name, until in left.banned.items() if until > now}
        self._page.suspects = {name: until for name, until in left.suspects.items() if until > now}
        for name in left.at_work:
            if name in self._page.suspects:
                log.error("model_left_alone", model=name, banned_s=BAN_S)
                self._page.banned[name] = now + BAN_S
            self._page.suspects[name] = now + BAN_S
        self._write()

    def banned_s(self, name: str) -> float:
        """For how long a model must not be loaded yet; 0 if it may be."""
        return max(0.0, self._page.banned.get(name, 0.0) - time.monotonic())

    @contextmanager
    def at_work(self, name: str) -> Iterator[None]:
        """A model loads, or answers."""
        self._at_work[name] += 1
        if self._at_work[name] == 1:
            self._write()
        try:
            yield
        finally:
            self._at_work[name] -= 1
            if not self._at_work[name]:
                del self._at_work[name]
                self._write()

    def _write(self) -> None:
        self._page.at_work = sorted(self._at_work)
        temporary = self._path.with_name(f".{self._path.name}")
        try:
            temporary.write_text(json.dumps(self._page.model_dump()))
            temporary.replace(self._path)
        except OSError as error:  # a full disk must not stop models; a death goes unexplained then
            log.warning("journal_not_written", error=type(error).__name__)

    def close(self) -> None:
        """The engine ends as told: nothing was anybody's fault."""
        self._path.unlink(missing_ok=True)
