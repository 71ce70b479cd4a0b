"""Pacing on a clock that the test turns, and the bounded feed."""

import asyncio

import pytest

from bots.feed import Feed
from bots.pacing import MAX_LATE_NS, Pacer

STEP_NS = 20_000_000


class Clock:
    """A clock that sleeping moves, and the test."""

    def __init__(self) -> None:
        self.now_ns = 5_000_000_000
        self.slept: list[float] = []

    def read_ns(self) -> int:
        return self.now_ns

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_ns += round(seconds * 1e9)


async def test_frames_leave_at_their_time_whatever_the_caller_spends() -> None:
    clock = Clock()
    pacer = Pacer(clock.read_ns, clock.sleep)
    left = []
    for index in range(100):
        assert await pacer.wait(index * STEP_NS) == 0
        left.append(clock.now_ns)
        clock.now_ns += 7_000_000  # the encoder's work must not add up
    assert [when - left[0] for when in left] == [index * STEP_NS for index in range(100)]


async def test_a_little_late_is_caught_up_without_skipping() -> None:
    clock = Clock()
    pacer = Pacer(clock.read_ns, clock.sleep)
    await pacer.wait(0)
    clock.now_ns += STEP_NS + MAX_LATE_NS
    assert await pacer.wait(STEP_NS) == 0
    assert clock.slept[-1] == 0, "a late frame leaves at once but lets other tasks run"


async def test_a_stall_is_skipped_and_said() -> None:
    clock = Clock()
    pacer = Pacer(clock.read_ns, clock.sleep)
    await pacer.wait(0)
    clock.now_ns += 3_000_000_000
    assert await pacer.wait(STEP_NS) == 3_000_000_000 - STEP_NS
    resumed_ns = clock.now_ns
    assert await pacer.wait(2 * STEP_NS) == 0
    assert clock.now_ns - resumed_ns == STEP_NS, "no burst after the stall"


async def test_a_full_feed_drops_the_oldest_and_counts() -> None:
    feed: Feed[int] = Feed(3)
    for item in range(5):
        feed.push(item)
    feed.close()
    feed.push(99)
    assert [item async for item in feed] == [2, 3, 4]
    assert feed.dropped == 2


async def test_a_waiting_reader_gets_what_comes_and_ends_with_the_feed() -> None:
    feed: Feed[str] = Feed(2)

    async def read() -> list[str]:
        return [item async for item in feed]

    reader = asyncio.create_task(read())
    await asyncio.sleep(0)
    feed.push("a")
    await asyncio.sleep(0)
    feed.push("b")
    feed.close()
    assert await reader == ["a", "b"]


def test_a_feed_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="bound"):
        Feed(0)
