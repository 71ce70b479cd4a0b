"""What the journal of a dead engine tells the next one."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from models import journal as journal_module
from models.client import InferenceClient
from models.engine import SOCKET_NAME
from models.errors import EngineGoneError, UnavailableError
from models.journal import BAN_S, NAME, Journal
from models.questions import Scores, Text
from tests.unit.models.dying_engine import DEADLY, HARMLESS
from tests.until import until

HELLO = Text("hello", "en")
ROOM = {"room_id": "room", "deadline_ms": 30_000}
UNFINISHED: list[AbstractContextManager[None]] = []
"""Held for ever: what nobody holds any more would be finished."""
Start = Callable[[], Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[InferenceClient]:
    client = InferenceClient(tmp_path / SOCKET_NAME)
    client.start()
    yield client
    await client.close()


@pytest.fixture
async def start(client: InferenceClient, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts an engine, as the supervisor does with the one that died before."""
    processes = []

    async def started() -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.unit.models.dying_engine", str(tmp_path)
        )
        processes.append(process)
        await until(lambda: "" if client.connected else "the engine")
        return process

    yield started
    for process in processes:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_model_that_ends_the_engine_twice_is_left_alone_and_the_others_go_on(
    client: InferenceClient, start: Start
) -> None:
    for _ in range(2):
        process = await start()
        assert (await client.ask(HARMLESS, HELLO, Scores, **ROOM)).answer["fine"] == 1
        with pytest.raises(EngineGoneError):
            await client.ask(DEADLY, HELLO, Scores, **ROOM)
        assert await process.wait() == -signal.SIGABRT
    await start()
    with pytest.raises(
        UnavailableError, match="died twice while it was at work; it is tried again in 10 min"
    ) as caught:
        await client.ask(DEADLY, HELLO, Scores, **ROOM)
    assert caught.value.command == f"candor models verify {DEADLY}"
    assert BAN_S - 60 < caught.value.retry_s <= BAN_S
    assert (await client.ask(HARMLESS, HELLO, Scores, **ROOM)).answer["fine"] == 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(journal_module.time, "monotonic", lambda: now[0])
    return now


def die_at_work(path: Path, *names: str) -> Journal:
    """A journal that an engine left which died while these were at work; returned as the next engine opens it."""
    dead = Journal(path)
    dead.open()
    for name in names:
        UNFINISHED.append(work := dead.at_work(name))
        work.__enter__()
    opened = Journal(path)
    opened.open()
    return opened


def test_one_death_is_nobodys_fault(tmp_path: Path, clock: list[float]) -> None:
    assert die_at_work(tmp_path / NAME, "a", "b").banned_s("a") == 0


def test_who_was_at_work_at_two_deaths_is_left_alone_for_a_while(tmp_path: Path, clock: list[float]) -> None:
    die_at_work(tmp_path / NAME, "a", "b")
    after = die_at_work(tmp_path / NAME, "b", "c")
    assert (after.banned_s("a"), after.banned_s("b"), after.banned_s("c")) == (0, BAN_S, 0)
    clock[0] += BAN_S / 2
    assert die_at_work(tmp_path / NAME).banned_s("b") == BAN_S / 2
    clock[0] += BAN_S / 2
    assert after.banned_s("b") == 0


def test_a_death_long_ago_does_not_count(tmp_path: Path, clock: list[float]) -> None:
    die_at_work(tmp_path / NAME, "a")
    clock[0] += BAN_S + 1
    assert die_at_work(tmp_path / NAME, "a").banned_s("a") == 0


def test_work_that_ended_is_not_in_the_journal(tmp_path: Path, clock: list[float]) -> None:
    for _ in range(2):
        dead = Journal(tmp_path / NAME)
        dead.open()
        with dead.at_work("a"), dead.at_work("a"), dead.at_work("b"):
            pass
    after = Journal(tmp_path / NAME)
    after.open()
    assert after.banned_s("a") == after.banned_s("b") == 0


def test_an_engine_that_ends_as_told_leaves_nothing(tmp_path: Path, clock: list[float]) -> None:
    journal = die_at_work(tmp_path / NAME, "a")
    journal.close()
    journal.close()
    assert not (tmp_path / NAME).exists()


def test_a_journal_that_is_none_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("{")
    journal = Journal(tmp_path / NAME)
    journal.open()
    assert journal.banned_s("a") == 0
