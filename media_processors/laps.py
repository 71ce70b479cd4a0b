"""When the steps of a packet ended, for the worker that asked (`sfu.tap.Trace`)."""

import time
from collections.abc import Mapping

from sfu.tap import MAX_MODEL, MAX_NAME, MAX_STEPS, Step, Traced


class Laps:
    """Of one track. Nothing is noted unless somebody asked for the next packet, so a note costs what a comparison does."""

    __slots__ = ("_ends",)

    def __init__(self) -> None:
        self._ends: list[tuple[str, int]] | None = None

    def begin(self) -> None:
        """The next packet's; until now it has waited for us."""
        self._ends = [("tap", time.monotonic_ns())]

    def note(self, name: str) -> None:
        """A step has ended. More than `MAX_STEPS` (a long repair) are not told."""
        if self._ends is not None and len(self._ends) < MAX_STEPS:
            self._ends.append((name, time.monotonic_ns()))

    def take(self, handle: int, seq: int, models: Mapping[str, str]) -> Traced | None:
        """The packet is done: what to tell of it, if somebody asked. `models`: name@version, by the name of a step."""
        ends, self._ends = self._ends, None
        if ends is None:
            return None
        steps = tuple(
            Step(name=name[:MAX_NAME], model=models.get(name, "")[:MAX_MODEL], ended_ns=ended_ns)
            for name, ended_ns in ends
        )
        return Traced(handle=handle, seq=seq, steps=steps)
