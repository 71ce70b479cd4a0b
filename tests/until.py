"""Wait for a condition that can say what is still missing."""

import asyncio
import time
from collections.abc import Awaitable, Callable


async def until(missing: Callable[[], str | Awaitable[str]], timeout_s: float = 15.0) -> None:
    """Poll `missing` until it returns an empty string; fail with its last answer after `timeout_s` seconds.

    The condition returns what it still waits for, so a test that times out says so in one line:
    `await until(lambda: "" if bot.captions else "a caption")`.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        answer = missing()
        text = answer if isinstance(answer, str) else await answer
        if not text:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"after {timeout_s:g} s still missing: {text}")
        await asyncio.sleep(0.02)
