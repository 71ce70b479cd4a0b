"""How fast one client may ask."""

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


class Budget:
    """What one client may still ask. `patience` is for asking on while being refused: without it the socket is cut."""

    def __init__(self, per_s: float, burst: int) -> None:
        self.messages = TokenBucket(per_s, burst)
        self.patience = TokenBucket(per_s, burst)
