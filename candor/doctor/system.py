"""The machine itself: limits, disk, clock, cores."""

import asyncio
import ctypes
import os
import resource
import shutil
from pathlib import Path

from candor.doctor.line import Line
from candor.machine import CpuMeter
from candor.settings import Settings

FILES_WANTED = 4_096
"""A socket for each client, some for each process, and what libraries open."""
DISK_WANTED_BYTES = 2_000_000_000
WATCH_S = 1.0
TIME_ERROR = 5
"""adjtimex(2): the clock is not synchronised."""
TIMEX_BYTES = 256
"""More than the structure of adjtimex has anywhere; all zeros only reads."""


def files() -> Line:
    """How many files a process may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= FILES_WANTED:
        return Line("ok", "open files", "no limit" if soft == resource.RLIM_INFINITY else f"at most {soft}")
    within = hard == resource.RLIM_INFINITY or hard >= FILES_WANTED
    remedy = f"ulimit -n {FILES_WANTED}" if within else f"raise the hard limit: LimitNOFILE={FILES_WANTED} in systemd"
    return Line("fix", "open files", f"at most {soft}: one client needs one", remedy)


def disk(settings: Settings) -> Line:
    """Where models lie."""
    folder = settings.models.store_dir
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if not os.access(existing, os.W_OK):
        return Line(
            "note", "disk", f"{existing} cannot be written, so models cannot be pulled", "set models.models_dir"
        )
    found = f"{free / 1e9:.1f} GB free at {existing}"
    if free < DISK_WANTED_BYTES:
        return Line("note", "disk", found, "the default models need 1.5 GB and more")
    return Line("ok", "disk", found)


def clock() -> Line:
    """Tokens, TURN credentials and leases carry times. What the kernel knows (adjtimex(2))."""
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(TIMEX_BYTES))
    except (OSError, AttributeError):
        return Line("note", "clock", "this system does not say whether it is synchronised")
    if state == TIME_ERROR:
        return Line("note", "clock", "nothing here synchronises it", "run chrony or systemd-timesyncd on the host")
    if state < 0:
        return Line("note", "clock", "this system does not say whether it is synchronised")
    return Line("ok", "clock", "synchronised")


async def cores() -> Line:
    """How busy they are just now, and whether others take them."""
    meter = CpuMeter()
    await asyncio.sleep(WATCH_S)
    shares, count = meter.shares(), os.cpu_count() or 1
    if shares is None:
        return Line("note", "cores", f"{count}; this system does not say how busy")
    if shares.busy:
        return Line("note", "cores", f"{count}, {shares}", "media in real time needs cores that are free and its own")
    return Line("ok" if count > 1 else "note", "cores", f"{count}, {shares}")


def gpu() -> Line:
    """Whether the driver of a card is there. Whether torch can use it is said by `candor models tune`."""
    cards = sorted(Path("/proc/driver/nvidia/gpus").glob("*"))
    if cards:
        return Line("ok", "GPU", f"{len(cards)} with NVIDIA's driver")
    return Line("note", "GPU", "none: models run on the CPU")
