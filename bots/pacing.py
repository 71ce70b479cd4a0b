"""When the next frame is due, on a clock that never jumps."""

import asyncio
import time
from collections.abc import Awaitable, Callable

MAX_LATE_NS = 200_000_000


async def _sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)


class Pacer:
    """Turns media time into waiting.

    Frames that are a little late are sent at once, so that the average rate is exact. After a stall of more than 200 ms the
    schedule moves on instead of sending a burst: the skipped time is returned, so that timestamps can skip it too.
    """

    def __init__(
        self,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], Awaitable[None]] = _sleep,
    ) -> None:
        self._clock_ns = clock_ns
        self._sleep = sleep
        self._origin_ns: int | None = None

    async def wait(self, media_ns: int) -> int:
        """Wait until media time `media_ns`, counted from the first call, is due. Returns the nanoseconds skipped, else 0."""
        now_ns = self._clock_ns()
        if self._origin_ns is None:
            self._origin_ns = now_ns - media_ns
        early_ns = self._origin_ns + media_ns - now_ns
        if early_ns > 0:
            await self._sleep(early_ns / 1e9)
            return 0
        if -early_ns <= MAX_LATE_NS:
            # Give other tasks their turn even when every frame is late.
            await self._sleep(0)
            return 0
        self._origin_ns -= early_ns
        return -early_ns
