"""Changes that are made to their end, whoever hangs up meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import structlog

from models.service.errors import ServiceError

MOST = 16
"""That may be open at a time; one more is refused."""
STOPPING = "stopping"
"""The code of an error: the service is being stopped."""

T = TypeVar("T")

log = structlog.get_logger()


class Changes:
    """The changes that are being made, each in a task of its own: a caller who is gone cancels its request, not the change."""

    def __init__(self) -> None:
        self._open: set[asyncio.Task[Any]] = set()
        self._turn = asyncio.Lock()
        self._closing = False

    async def make(self, change: Coroutine[Any, Any, T]) -> T:
        """What the change returns. Raises what it raises, and ServiceError (503) if there are too many."""
        if len(self._open) >= MOST:
            change.close()
            raise ServiceError(503, "overloaded", "too many changes at a time", retryable=True, retry_s=1.0)
        task = asyncio.create_task(change, name="model-service-change")
        self._open.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One change is made at a time. Raises ServiceError (503) if the service was closed before it was this one's turn."""
        async with self._turn:
            if self._closing:
                raise ServiceError(503, STOPPING, "the service is being stopped", retryable=True)
            yield

    def refuse(self) -> None:
        """Let no change begin any more."""
        self._closing = True

    async def close(self) -> None:
        """Wait for the one that is being made. Idempotent."""
        self.refuse()
        await asyncio.gather(*self._open, return_exceptions=True)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        """Who asked for it may be gone, so what went wrong is said here too."""
        self._open.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, ServiceError):
            log.error("change_failed", error=type(error).__name__)
