"""Batches, fairness, shedding and deadlines, on virtual time."""

import asyncio
from collections.abc import Sequence

import pytest

from models.batching import Batcher
from models.errors import DeadlineError, FailedError, OverloadedError
from tests.unit.models.virtual_time import run


class Model:
    """Answers a batch after `seconds`, and remembers what it was asked."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.batches: list[list[str]] = []

    async def __call__(self, batch: Sequence[str]) -> list[str]:
        self.batches.append(list(batch))
        await asyncio.sleep(self.seconds)
        if "bad" in batch:
            raise ValueError("bad sound")
        return [item.upper() for item in batch]


def make(model: Model, max_batch: int = 1, max_wait_ms: float = 0, max_queued: int = 100) -> Batcher[str, str]:
    batcher = Batcher(model, max_batch=max_batch, max_wait_ms=max_wait_ms, max_queued=max_queued)
    batcher.start()
    return batcher


async def ask(batcher: Batcher[str, str], *items: str, deadline_ms: float = 1e6) -> list[str | BaseException]:
    """Ask for items of the form `room:name`, in this order."""
    calls = [batcher.submit(item, room_id=item.split(":")[0], deadline_ms=deadline_ms) for item in items]
    return await asyncio.gather(*calls, return_exceptions=True)


def test_a_batch_leaves_when_it_is_full() -> None:
    async def scenario() -> None:
        model = Model(1)
        batcher = make(model, max_batch=2, max_wait_ms=1e6)
        assert await ask(batcher, "a:1", "b:1") == ["A:1", "B:1"]
        assert asyncio.get_running_loop().time() == pytest.approx(1.0)
        await batcher.close()

    run(scenario())


def test_a_lone_request_leaves_after_the_longest_wait() -> None:
    async def scenario() -> None:
        batcher = make(Model(1), max_batch=8, max_wait_ms=250)
        assert await ask(batcher, "a:1") == ["A:1"]
        assert asyncio.get_running_loop().time() == pytest.approx(1.25)
        await batcher.close()

    run(scenario())


def test_rooms_take_turns_however_much_one_of_them_asks() -> None:
    async def scenario() -> None:
        model = Model(1)
        batcher = make(model)
        await ask(batcher, *(f"loud:{number}" for number in range(6)), "quiet:0", "quiet:1")
        order = [batch[0] for batch in model.batches]
        assert order[:5] == ["loud:0", "quiet:0", "loud:1", "quiet:1", "loud:2"]
        await batcher.close()

    run(scenario())


def test_overload_sheds_the_oldest_of_the_busiest_room() -> None:
    async def scenario() -> None:
        model = Model(1)
        batcher = make(model, max_queued=4)
        first = asyncio.create_task(ask(batcher, "loud:running"))
        await asyncio.sleep(0.1)
        answers = await ask(batcher, "quiet:0", "loud:0", "loud:1", "loud:2", "quiet:1")
        assert isinstance(answers[1], OverloadedError)
        assert [answer for answer in answers if isinstance(answer, str)] == ["QUIET:0", "LOUD:1", "LOUD:2", "QUIET:1"]
        assert batcher.stats.shed == 1
        await first
        await batcher.close()

    run(scenario())


def test_a_deadline_frees_the_queue_and_the_rest_goes_on() -> None:
    async def scenario() -> None:
        model = Model(10)
        batcher = make(model)
        running = asyncio.create_task(ask(batcher, "a:running"))
        await asyncio.sleep(0.1)
        late = (await ask(batcher, "a:late", deadline_ms=500))[0]
        assert isinstance(late, DeadlineError)
        assert asyncio.get_running_loop().time() == pytest.approx(0.6)
        assert batcher.queued == 0
        assert await running == ["A:RUNNING"]
        assert model.batches == [["a:running"]]
        assert batcher.stats.late == 1
        await batcher.close()

    run(scenario())


def test_a_deadline_also_ends_the_wait_for_a_running_batch() -> None:
    async def scenario() -> None:
        batcher = make(Model(10))
        assert isinstance((await ask(batcher, "a:1", deadline_ms=500))[0], DeadlineError)
        assert await ask(batcher, "a:2") == ["A:2"]
        await batcher.close()

    run(scenario())


def test_what_a_model_raises_fails_its_batch_only() -> None:
    async def scenario() -> None:
        batcher = make(Model(1))
        answers = await ask(batcher, "bad", "a:1")
        assert isinstance(answers[0], FailedError)
        assert answers[1] == "A:1"
        await batcher.close()

    run(scenario())


def test_closing_fails_what_waits_and_what_runs() -> None:
    async def scenario() -> None:
        batcher = make(Model(10))
        asking = asyncio.create_task(ask(batcher, "a:running", "a:waiting"))
        await asyncio.sleep(0.1)
        await batcher.close()
        assert [type(answer) for answer in await asking] == [FailedError, FailedError]

    run(scenario())


def test_every_request_is_counted_once() -> None:
    async def scenario() -> None:
        batcher = make(Model(1), max_batch=2, max_wait_ms=10, max_queued=5)
        await ask(batcher, *(f"{room}:{number}" for room in "abc" for number in range(4)), deadline_ms=2_500)
        stats = batcher.stats
        assert stats.asked == 12
        assert stats.answered + stats.shed + stats.late + stats.failed == 12
        assert min(stats.answered, stats.shed, stats.late) > 0
        await batcher.close()

    run(scenario())
