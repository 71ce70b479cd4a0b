"""Which process runs on which core, and how much CPU it has used."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Cores(NamedTuple):
    """Where things run; the same core twice on a machine that has only one."""

    server: int
    load: int


def cores() -> Cores:
    """The first two cores that we may use."""
    usable = sorted(os.sched_getaffinity(0))
    return Cores(usable[0], usable[min(1, len(usable) - 1)])


@contextlib.contextmanager
def started_on(core: int) -> Iterator[None]:
    """Processes that are started inside run on `core` alone, with all their threads."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Scheduled(NamedTuple):
    """What the scheduler gave a process so far, over its living threads."""

    cpu_ns: int
    """User and system."""
    waited_ns: int
    """Ready to run, but something else had the core: how much others disturb a measurement."""


def scheduled(pid: int) -> Scheduled:
    """From Linux's schedstat, which counts in nanoseconds and not in ticks."""
    cpu_ns = waited_ns = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the thread ended meanwhile
            ran, waited, _ = (task / "schedstat").read_text().split()
            cpu_ns += int(ran)
            waited_ns += int(waited)
    return Scheduled(cpu_ns, waited_ns)
