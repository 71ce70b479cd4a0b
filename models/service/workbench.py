"""Threads for what is heavy: media is unpacked and packed here, within the time of its question, and delays nobody else."""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from models.errors import DeadlineError
from models.service.gate import Gate

THREADS = 2
"""So many pictures are unpacked in memory at a time, each of at most 100 MB with what OpenCV needs beside it."""
MAX_WAITING = 128
"""Two whole batches. One more and the newest of the lowest priority is shed."""

T = TypeVar("T")


class Workbench:
    """A few threads of its own, and who goes first.

    A thread cannot be interrupted: whose time passes is told so at once, but the place stays taken until the thread is done.
    """

    def __init__(self) -> None:
        self._gate = Gate(THREADS, MAX_WAITING)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="workbench")

    async def do(self, work: Callable[[], T], until_s: float, priority: int) -> T:
        """What `work` returns. `until_s`: on the event loop's clock. Raises what it raises, OverloadedError, DeadlineError."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(until_s):
                await self._gate.enter(priority)
                done = self._threads.submit(work)
                done.add_done_callback(lambda _: self._left(loop))
                return await asyncio.wrap_future(done)
        except TimeoutError as error:
            raise DeadlineError("its media was not ready before the time-out") from error

    def _left(self, loop: asyncio.AbstractEventLoop) -> None:
        """Runs in the thread, perhaps after the service has ended."""
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(self._gate.leave)

    def close(self) -> None:
        """Begin nothing more. Idempotent."""
        self._threads.shutdown(wait=False, cancel_futures=True)
