"""How fast one client may ask, and how often a room is told the same kind of thing."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class TokenBucket:
    """Lets `burst` through at once and `per_s` a second after that. Time is an argument, in nanoseconds."""

    per_s: float
    burst: int
    tokens: float = field(init=False)
    _at_ns: int | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.tokens = float(self.burst)

    def take(self, now_ns: int) -> bool:
        """Take one token; False if there is none."""
        if self._at_ns is not None:
            self.tokens = min(self.burst, self.tokens + self.per_s * (now_ns - self._at_ns) / 1e9)
        self._at_ns = now_ns
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class Calm:
    """Does something at once when asked, and then at most every `every_s`: what is asked in between happens once, at the end.

    `idle` is called when nothing was asked for that long. Needs a running event loop.
    """

    def __init__(self, every_s: float, act: Callable[[], None], idle: Callable[[], None]) -> None:
        self._every_s = every_s
        self._act = act
        self._idle = idle
        self._asked = False
        self._timer: asyncio.TimerHandle | None = None

    def ask(self) -> None:
        """Act now or a little later."""
        if self._timer is None:
            self._go()
        else:
            self._asked = True

    def close(self) -> None:
        """Do nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _go(self) -> None:
        self._asked = False
        self._timer = asyncio.get_running_loop().call_later(self._every_s, self._over)
        self._act()

    def _over(self) -> None:
        self._timer = None
        if self._asked:
            self._go()
        else:
            self._idle()


class Budget:
    """What one client may still ask. `patience` is for asking on while being refused: without it the socket is cut."""

    def __init__(self, per_s: float, burst: int) -> None:
        self.messages = TokenBucket(per_s, burst)
        self.patience = TokenBucket(per_s, burst)
