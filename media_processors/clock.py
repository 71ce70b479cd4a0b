"""A track's own clock."""

CLOCK_OFF_MS = 2_000
"""A timestamp that is further off than this from the time that passed is a new clock, not a pause."""


class TrackClock:
    """RTP timestamps as ticks since the track was opened. A new clock goes on where the time of arrival says."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._last_timestamp: int | None = None
        self._last_arrival_ns = 0
        self._now = 0

    def at(self, timestamp: int, arrival_ns: int) -> int:
        """When something starts, in ticks of the clock. `timestamp`: 32 bits."""
        if self._last_timestamp is not None:
            ahead = (timestamp - self._last_timestamp + 0x80000000 & 0xFFFFFFFF) - 0x80000000
            passed = (arrival_ns - self._last_arrival_ns) * self._rate_hz // 1_000_000_000
            if abs(ahead - passed) > CLOCK_OFF_MS * self._rate_hz // 1000:
                ahead = passed
            self._now = max(0, self._now + ahead)
        self._last_timestamp, self._last_arrival_ns = timestamp, arrival_ns
        return self._now
