"""Who goes first: at most so many questions of a model are with the engine, the others wait in order of priority."""

import asyncio
import heapq
from dataclasses import dataclass, field

from models.errors import OverloadedError


@dataclass(order=True, slots=True)
class _Waiter:
    rank: tuple[int, int]
    """Minus the priority, then the order of arrival: the smallest goes first, the largest is shed first."""
    granted: "asyncio.Future[None]" = field(compare=False, repr=False)


class Gate:
    """Of one model. At most `max_waiting` wait; one more, and of the lowest priority the newest is shed, perhaps itself.

    The engine has no priorities: it takes rooms in turn. So what it has not got yet is what can be put in order.
    """

    def __init__(self, in_flight: int, max_waiting: int) -> None:
        self._free = in_flight
        self._max_waiting = max_waiting
        self._waiting: list[_Waiter] = []
        self._arrivals = 0

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    async def enter(self, priority: int) -> None:
        """Wait for a place, which `leave` gives back. Raises OverloadedError."""
        if self._free and not self._waiting:
            self._free -= 1
            return
        self._arrivals += 1
        waiter = _Waiter((-priority, self._arrivals), asyncio.get_running_loop().create_future())
        heapq.heappush(self._waiting, waiter)
        if len(self._waiting) > self._max_waiting:
            self._shed()
        try:
            await waiter.granted
        except asyncio.CancelledError:
            if waiter in self._waiting:
                self._remove(waiter)
            elif not waiter.granted.cancelled() and waiter.granted.exception() is None:
                self.leave()  # its turn came at the moment in which it gave up
            raise

    def leave(self) -> None:
        """Give the place to who is next."""
        while self._waiting:
            granted = heapq.heappop(self._waiting).granted
            if not granted.done():  # else it was cancelled a moment ago and has not noticed yet
                granted.set_result(None)
                return
        self._free += 1

    def _shed(self) -> None:
        last = max(self._waiting)
        self._remove(last)
        last.granted.set_exception(OverloadedError("more is asked of this model than it can answer"))

    def _remove(self, waiter: _Waiter) -> None:
        self._waiting.remove(waiter)
        heapq.heapify(self._waiting)
