"""The order in which questions go to the engine."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import OverloadedError
from models.service.gate import Gate


async def test_priority_goes_before_arrival() -> None:
    gate, order = Gate(1, 8), []
    await gate.enter(5)

    async def ask(name: str, priority: int) -> None:
        await gate.enter(priority)
        order.append(name)
        gate.leave()

    asking = [asyncio.create_task(ask(*who)) for who in (("low", 2), ("normal", 5), ("second", 5), ("high", 8))]
    await asyncio.sleep(0)
    gate.leave()
    await asyncio.gather(*asking)
    assert order == ["high", "normal", "second", "low"]


async def test_the_newest_of_the_lowest_priority_is_shed() -> None:
    gate = Gate(1, 2)
    await gate.enter(5)
    waiting = [asyncio.create_task(gate.enter(priority)) for priority in (2, 2, 8)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [task.done() for task in waiting] == [False, True, False]
    with pytest.raises(OverloadedError):
        await waiting[1]
    gate.leave()
    await waiting[2]
    gate.leave()
    await waiting[0]


@given(st.lists(st.sampled_from(["enter", "leave", "cancel", "run"]), max_size=60))
def test_no_place_is_lost_or_doubled(steps: list[str]) -> None:
    """Whatever happens between two turns of the loop: who entered and did not leave never is more than there are places."""

    async def play() -> None:
        gate, inside = Gate(2, 4), 0
        waiting: list[asyncio.Task[None]] = []

        def settle() -> int:
            done = [task for task in waiting if task.done()]
            for task in done:
                waiting.remove(task)
            return sum(not task.cancelled() and task.exception() is None for task in done)

        for step in steps:
            if step == "enter":
                waiting.append(asyncio.create_task(gate.enter(5)))
            elif step == "leave" and inside:
                gate.leave()
                inside -= 1
            elif step == "cancel" and waiting:
                waiting[0].cancel()
            elif step == "run":
                await asyncio.sleep(0)
            inside += settle()
            assert inside <= 2
        for _ in range(3):
            await asyncio.sleep(0)
        inside += settle()
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        for _ in range(inside):
            gate.leave()
        await gate.enter(5)
        await gate.enter(5)
        assert gate.waiting == 0

    asyncio.run(play())
