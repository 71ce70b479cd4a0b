"""Does a track's transform keep up? Sans-IO: time is an argument."""

from collections import deque

WINDOW_NS = 2_000_000_000
"""What rates are measured over."""
PATIENCE_NS = 3_000_000_000
"""How long it must have been too slow: a moment in which the machine has something else to do is not the transform's fault."""
PAUSE_NS = 1_000_000_000
"""A camera that sends nothing for so long pauses, and what is measured across a pause says nothing about a transform."""
PICTURES_PER_S_MIN = 10.0
"""Below this a picture stutters ..."""
SHARE_MIN = 0.5
"""... but of a camera that sends few nobody makes more: there it is half of what comes."""
BEHIND_MS_MAX = 250.0
RETRY_NS = 60_000_000_000
TRIES = 3
PROVEN_NS = 60_000_000_000
"""Who keeps up for so long has all tries again."""
KEPT = 512


class Pace:
    """Pictures in and out, and how late they are, over the last two seconds."""

    def __init__(self) -> None:
        self.latencies_ms: deque[float] = deque(maxlen=KEPT)
        """Of the latest pictures, from the arrival of the original at the worker until the result was sent."""
        self._in: deque[int] = deque()
        self._out: deque[tuple[int, float]] = deque()
        self._since_ns = 0
        """When the first picture came."""
        self._came_ns = 0
        """When the latest came."""
        self._slow_since_ns = 0
        """0: it keeps up."""

    def reset(self) -> None:
        """A new attempt: nothing is held against it."""
        self._since_ns = 0
        self._slow_since_ns = 0
        self._in.clear()
        self._out.clear()

    def came(self, now_ns: int, count: int = 1) -> None:
        """So many pictures came, whether or not there is time for them yet."""
        if now_ns - self._came_ns > PAUSE_NS:
            self.reset()
        self._came_ns = now_ns
        self._since_ns = self._since_ns or now_ns
        self._in.extend([now_ns] * count)

    def went(self, now_ns: int, latency_ms: float) -> None:
        """A picture was sent."""
        self._out.append((now_ns, latency_ms))
        self.latencies_ms.append(latency_ms)

    def rates(self, now_ns: int) -> tuple[float, float]:
        """(pictures in, pictures out) per second."""
        self._forget(now_ns)
        window_s = min(WINDOW_NS, max(1, now_ns - self._since_ns)) / 1e9 if self._since_ns else 1.0
        return len(self._in) / window_s, len(self._out) / window_s

    def too_slow(self, now_ns: int) -> str:
        """By how much, in words, if it has been so for `PATIENCE_NS`; else empty. Ask a few times a second."""
        figure = self._slow_now(now_ns)
        if not figure:
            self._slow_since_ns = 0
            return ""
        self._slow_since_ns = self._slow_since_ns or now_ns
        return figure if now_ns - self._slow_since_ns >= PATIENCE_NS else ""

    def proven(self, now_ns: int) -> bool:
        """Whether it has kept up for `PROVEN_NS` in which the camera did not pause."""
        return bool(self._since_ns) and not self._slow_since_ns and now_ns - self._since_ns >= PROVEN_NS

    def _slow_now(self, now_ns: int) -> str:
        if not self._since_ns or now_ns - self._since_ns < WINDOW_NS or now_ns - self._came_ns > PAUSE_NS:
            return ""
        came, went = self.rates(now_ns)
        if went < min(PICTURES_PER_S_MIN, came * SHARE_MIN):
            return f"{went:.1f} pictures/s of {came:.1f}"
        if not self._out:
            return ""
        behind_ms = sorted(latency_ms for _, latency_ms in self._out)[len(self._out) // 2]
        return f"{behind_ms:.0f} ms behind" if behind_ms > BEHIND_MS_MAX else ""

    def _forget(self, now_ns: int) -> None:
        while self._in and now_ns - self._in[0] > WINDOW_NS:
            self._in.popleft()
        while self._out and now_ns - self._out[0][0] > WINDOW_NS:
            self._out.popleft()
