"""A bounded queue between what arrives and who reads it."""

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Feed(Generic[T]):
    """An async iterator over at most `bound` waiting items; when it is full the oldest is dropped and counted.

    A slow reader therefore sees the present and a number (`dropped`), and never holds up anybody else. Iteration ends when
    the feed is closed and what waited has been read. One reader per feed.
    """

    def __init__(self, bound: int) -> None:
        if bound < 1:
            raise ValueError("bound: must be at least 1")
        self.dropped = 0
        self._items: deque[T] = deque(maxlen=bound)
        self._changed = asyncio.Event()
        self._closed = False

    def push(self, item: T) -> None:
        """Add an item; ignored once closed."""
        if self._closed:
            return
        if len(self._items) == self._items.maxlen:
            self.dropped += 1
        self._items.append(item)
        self._changed.set()

    def close(self) -> None:
        """End the iteration after what still waits."""
        self._closed = True
        self._changed.set()

    @property
    def closed(self) -> bool:
        """Whether nothing more can arrive."""
        return self._closed

    def __aiter__(self) -> "Feed[T]":
        return self

    async def __anext__(self) -> T:
        while not self._items:
            if self._closed:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._items.popleft()
