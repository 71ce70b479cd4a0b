"""One batcher per model: groups requests, keeps rooms fair, lets nothing wait longer than it is wanted.

- A batch leaves when it is full, or when its oldest request has waited `max_wait_ms`.
- Rooms take turns; within a room the oldest goes first.
- At most `max_queued` requests wait. One more, and the oldest of the room with the most waiting is shed (`overloaded`).
- A request whose deadline passes, waiting or running, fails with `timeout` at that moment; its place in the queue is freed.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from models import tracing
from models.errors import DeadlineError, FailedError, InferenceError, OverloadedError

P = TypeVar("P")
R = TypeVar("R")


@dataclass(slots=True)
class BatcherStats:
    """Counters since the start; every request ends in exactly one of `answered`, `shed`, `late`, `failed`."""

    asked: int = 0
    answered: int = 0
    shed: int = 0
    late: int = 0
    failed: int = 0
    batches: int = 0
    longest_wait_ms: float = 0.0


@dataclass(slots=True, eq=False)
class _Item(Generic[P, R]):
    payload: P
    room_id: str
    asked_s: float
    future: "asyncio.Future[R]" = field(repr=False)
    waited_s: float = 0.0
    batch_size: int = 0
    """Of the batch that it is in; 0: of none yet."""


class Batcher(Generic[P, R]):
    """Feeds `run` with batches of at most `max_batch` payloads, at most `concurrency` batches at a time.

    `run` answers one result per payload, in order; what it raises fails the whole batch.
    """

    def __init__(
        self,
        run: Callable[[Sequence[P]], Awaitable[Sequence[R]]],
        *,
        max_batch: int,
        max_wait_ms: float,
        max_queued: int,
        concurrency: int = 1,
    ) -> None:
        self.stats = BatcherStats()
        self.on_batch: Callable[[Sequence[float]], None] = _ignore
        """Called when a batch begins, with the seconds that each of its requests has waited."""
        self._run = run
        self._max_batch = max_batch
        self._max_wait_s = max_wait_ms / 1000
        self._max_queued = max_queued
        self._free = asyncio.Semaphore(concurrency)
        self._rooms: OrderedDict[str, deque[_Item[P, R]]] = OrderedDict()
        self._queued = 0
        self._changed = asyncio.Event()
        self._ended = asyncio.Event()
        self._driver: asyncio.Task[None] | None = None
        self._batches: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to form batches."""
        self._driver = asyncio.create_task(self._drive(), name="batcher")

    async def close(self) -> None:
        """Stop. Requests still waiting fail with `failed`."""
        tasks = [task for task in (self._driver, *self._batches) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for item in [item for queue in self._rooms.values() for item in queue]:
            self._fail(item, FailedError("the engine is closing"))
        self._rooms.clear()
        self._queued = 0

    @property
    def queued(self) -> int:
        """Requests waiting."""
        return self._queued

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not self._queued and not self._batches

    async def drained(self) -> None:
        """Return once everything that was asked so far has ended."""
        while not self.idle:
            self._ended.clear()
            await self._ended.wait()

    async def submit(self, payload: P, *, room_id: str, deadline_ms: float) -> R:
        """The result for `payload`. Raises OverloadedError, DeadlineError, or what `run` raised."""
        loop = asyncio.get_running_loop()
        item: _Item[P, R] = _Item(payload, room_id, loop.time(), loop.create_future())
        self.stats.asked += 1
        if self._queued >= self._max_queued:
            self._shed()
        self._rooms.setdefault(room_id, deque()).append(item)
        self._queued += 1
        self._changed.set()
        timer = loop.call_later(deadline_ms / 1000, self._expire, item)
        try:
            return await item.future
        except asyncio.CancelledError:
            self._remove(item)
            raise
        finally:
            timer.cancel()
            if item.batch_size:
                tracing.note_batch(item.waited_s, item.batch_size)

    def _shed(self) -> None:
        busiest = max(self._rooms.values(), key=len)
        item = busiest[0]
        self._remove(item)
        self.stats.shed += 1
        self._fail(item, OverloadedError("more is asked of this model than it can answer"), counted=True)

    def _expire(self, item: _Item[P, R]) -> None:
        self._remove(item)
        if not item.future.done():
            self.stats.late += 1
            self._fail(item, DeadlineError("no answer before the deadline"), counted=True)

    def _remove(self, item: _Item[P, R]) -> None:
        queue = self._rooms.get(item.room_id)
        if queue is None or item not in queue:
            return
        queue.remove(item)
        self._queued -= 1
        self._ended.set()
        if not queue:
            del self._rooms[item.room_id]

    def _fail(self, item: _Item[P, R], error: InferenceError, counted: bool = False) -> None:
        if item.future.done():
            return
        self.stats.failed += not counted
        item.future.set_exception(error)

    async def _drive(self) -> None:
        while True:
            await self._free.acquire()
            await self._batch_is_due()
            task = asyncio.create_task(self._run_batch(self._take()), name="batch")
            self._batches.add(task)
            task.add_done_callback(self._batch_ended)

    def _batch_ended(self, task: "asyncio.Task[None]") -> None:
        self._batches.discard(task)
        self._ended.set()

    async def _batch_is_due(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            if self._queued >= self._max_batch:
                return
            wait_s = None
            if self._queued:
                oldest_s = min(queue[0].asked_s for queue in self._rooms.values())
                wait_s = oldest_s + self._max_wait_s - loop.time()
                if wait_s <= 0:
                    return
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _take(self) -> list[_Item[P, R]]:
        """The next batch: one of each room in turn, until it is full."""
        batch: list[_Item[P, R]] = []
        while self._rooms and len(batch) < self._max_batch:
            room_id, queue = self._rooms.popitem(last=False)
            batch.append(queue.popleft())
            self._queued -= 1
            if queue:
                self._rooms[room_id] = queue
        return batch

    async def _run_batch(self, batch: list[_Item[P, R]]) -> None:
        now = asyncio.get_running_loop().time()
        self.stats.batches += 1
        for item in batch:
            item.waited_s, item.batch_size = now - item.asked_s, len(batch)
        waited_s = [item.waited_s for item in batch]
        self.stats.longest_wait_ms = max(self.stats.longest_wait_ms, 1000 * max(waited_s))
        self.on_batch(waited_s)
        try:
            results = await self._run([item.payload for item in batch])
            for item, result in zip(batch, results, strict=True):
                if not item.future.done():
                    self.stats.answered += 1
                    item.future.set_result(result)
        except InferenceError as error:
            for item in batch:
                self._fail(item, error)
        except Exception as error:  # whatever a model raises fails its batch and nothing else
            for item in batch:
                self._fail(item, FailedError(type(error).__name__))
        finally:
            self._free.release()
            for item in batch:
                self._fail(item, FailedError("the engine is closing"))


def _ignore(waited_s: Sequence[float]) -> None:
    del waited_s
