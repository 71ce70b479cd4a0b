"""The decoder pool: stickiness, replacement, and no answer ever reaching the wrong question."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from models.errors import FailedError
from models.runners.pool import Pool


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
