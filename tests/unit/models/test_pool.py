"""The decoder pool: stickiness, replacement, and no answer ever reaching the wrong question."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import pytest

from models.errors import FailedError
from models.runners import child
from models.runners.child import cpu_ticks
from models.runners.pool import Pool
from tests.until import until


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    pool = Pool("tests.unit.models.echo_worker", 2)
    await pool.start()
    yield pool
    await pool.close()


async def call(pool: Pool, track: str, segment: str = "1", ends: bool = False, text: str = "") -> int:
    reply = await pool.call(track, f"{track}/{segment}", ends, {"text": text})
    assert reply["text"] == text
    return int(reply["pid"])


async def test_a_session_keeps_its_process(pool: Pool) -> None:
    first = await call(pool, "a")
    other = await call(pool, "b")
    assert first != other
    assert [await call(pool, "a"), await call(pool, "b"), await call(pool, "a")] == [first, other, first]


async def test_a_track_comes_back_to_its_process(pool: Pool) -> None:
    first = await call(pool, "a", ends=True)
    second = await call(pool, "b", ends=True)
    assert await call(pool, "b", "2", ends=True) == second
    assert await call(pool, "a", "2", ends=True) == first


async def test_a_third_speaker_takes_the_process_unused_for_longest(pool: Pool) -> None:
    first = await call(pool, "a")
    await call(pool, "b")
    assert await call(pool, "c") == first


async def test_a_process_that_dies_fails_its_request_and_is_replaced(pool: Pool) -> None:
    first = await call(pool, "a")
    with pytest.raises(FailedError):
        await call(pool, "a", text="die")
    assert await call(pool, "a") != first
    assert pool.restarts == 1


async def test_a_process_that_babbles_is_replaced(pool: Pool) -> None:
    with pytest.raises(FailedError):
        await call(pool, "a", text="babble")
    await call(pool, "a", text="again")


async def test_a_process_that_computes_nothing_is_killed(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    first = await call(pool, "a")
    monkeypatch.setattr(child, "STUCK_S", 0.2)
    monkeypatch.setattr(child, "cpu_ticks", lambda pid: 7)
    with pytest.raises(FailedError):
        await call(pool, "a", text="sleep")
    monkeypatch.undo()
    assert await call(pool, "a") != first


async def test_a_process_that_does_not_read_is_killed_too(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A window is larger than what a pipe holds."""
    first = await call(pool, "a")
    monkeypatch.setattr(child, "STUCK_S", 0.2)
    monkeypatch.setattr(child, "cpu_ticks", lambda pid: 7)
    os.kill(first, signal.SIGSTOP)
    with pytest.raises(FailedError):
        await call(pool, "a", text="x" * 500_000)


async def test_a_process_that_computes_is_waited_for(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It answers only after it has been found late three times, each time with more CPU time on its account."""
    first = await call(pool, "a")
    wanted = tmp_path / "go"
    looked = 0

    def growing(pid: int) -> int:
        nonlocal looked
        looked += 1
        if looked == 4:
            wanted.touch()
        return looked

    monkeypatch.setattr(child, "STUCK_S", 0.01)
    monkeypatch.setattr(child, "cpu_ticks", growing)
    assert await call(pool, "a", text=str(wanted)) == first
    assert looked >= 4


@pytest.mark.parametrize("progress", ["some", "unknown"])
async def test_a_process_that_never_answers_is_killed_whatever_it_does(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, progress: str
) -> None:
    first = await call(pool, "a")
    ticks = count()
    looked: list[int] = []

    def told(pid: int) -> int | None:
        looked.append(next(ticks))
        return looked[-1] if progress == "some" else None

    monkeypatch.setattr(child, "STUCK_S", 0.01)
    monkeypatch.setattr(child, "LONGEST_S", 0.05)
    monkeypatch.setattr(child, "cpu_ticks", told)
    with pytest.raises(FailedError):
        await call(pool, "a", text=str(tmp_path / "never"))
    assert len(looked) >= 2
    monkeypatch.undo()
    assert await call(pool, "a") != first


async def test_cpu_time_is_what_the_system_counts() -> None:
    if not Path("/proc/self/stat").exists():
        assert cpu_ticks(os.getpid()) is None
        return
    before = cpu_ticks(os.getpid())
    assert before is not None

    def missing() -> str:
        sum(range(100_000))
        return "" if (cpu_ticks(os.getpid()) or 0) > before else "a tick of CPU time"

    await until(missing)
    assert cpu_ticks(2**30) is None


async def test_a_cancelled_call_cannot_answer_the_next_one(pool: Pool) -> None:
    await call(pool, "a")
    asking = asyncio.create_task(call(pool, "a", text="old"))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await call(pool, "a", text="new")


async def test_a_module_that_does_not_start_is_an_error() -> None:
    pool = Pool("tests.unit.models.no_such_worker", 1)
    with pytest.raises(FailedError):
        await pool.start()
    await pool.close()


async def test_closing_twice_leaves_no_process(pool: Pool) -> None:
    await call(pool, "a")
    await pool.close()
    await pool.close()
    assert pool.pids() == []
