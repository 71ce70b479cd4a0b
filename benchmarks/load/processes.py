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


def cpu_ns(pid: int) -> int:
    """CPU time of a process, user and system, over its living threads, to the nanosecond (Linux schedstat)."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the thread ended meanwhile
            total += int((task / "schedstat").read_text().split()[0])
    return total
