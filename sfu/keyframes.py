"""When to ask a publisher for a key frame: all wishes for one source become one PLI. Pure; time is an argument."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

THROTTLE_NS = 300_000_000  # between two requests to one source: encoders answer each with an expensive frame
REPEAT_NS = 500_000_000  # a request, or the key frame, may have been lost
MAX_REPEATS = 10
RESIGN_NS = 5_000_000_000

SourceId = TypeVar("SourceId", bound=Hashable)


@dataclass(slots=True)
class _Source:
    wanted: bool
    due_ns: int
    requests: int = 0
    """Since it was last wanted anew."""
    throttled_until_ns: int = 0


class KeyframeRequests(Generic[SourceId]):
    """The pending key frame requests of all sources; `gave_up` counts those that nobody answered in ten tries.

    A wish within 300 ms of the last request is kept and sent when they are over. A source that does not answer is left alone for
    5 s; a wish after that starts anew.
    """

    def __init__(self) -> None:
        self.gave_up = 0
        self._sources: dict[SourceId, _Source] = {}

    def want(self, source: SourceId, now_ns: int) -> None:
        """Somebody needs a key frame. May be called at every packet that had to be dropped for want of one."""
        entry = self._sources.get(source)
        if entry is None:
            self._sources[source] = _Source(True, now_ns)
        elif not entry.wanted:
            entry.wanted = True
            entry.requests = 0
            entry.due_ns = max(now_ns, entry.throttled_until_ns)

    def arrived(self, source: SourceId) -> None:
        """A key frame of this source has come; whoever still wants one says so again."""
        entry = self._sources.get(source)
        if entry is not None:
            entry.wanted = False

    def forget(self, source: SourceId) -> None:
        """The source is gone. Without this it is asked in vain until it is given up."""
        self._sources.pop(source, None)

    def due(self, now_ns: int) -> list[SourceId]:
        """The sources to send a PLI (or FIR) to now."""
        due = []
        for source, entry in list(self._sources.items()):
            if not entry.wanted:
                if entry.throttled_until_ns <= now_ns:
                    del self._sources[source]
            elif entry.due_ns <= now_ns and entry.requests == MAX_REPEATS:
                self.gave_up += 1
                entry.wanted = False
                entry.throttled_until_ns = now_ns + RESIGN_NS
            elif entry.due_ns <= now_ns:
                entry.requests += 1
                entry.due_ns = now_ns + REPEAT_NS
                entry.throttled_until_ns = now_ns + THROTTLE_NS
                due.append(source)
        return due
