"""The directory of a node's sockets: made at its start, removed at its end, or by the next node if it was killed.

Its owner holds a lock (flock(2)) on a file in it for as long as it lives; the kernel lets go of it however the owner ends.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = "candor-"
OWNER = "owner.lock"


@contextlib.contextmanager
def run_directory() -> Iterator[Path]:
    """A directory with mode 0700 for the time of the block, beside which none is left of owners that are gone."""
    remove_abandoned()
    path = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        with _owned(path):
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def remove_abandoned() -> None:
    """Remove run directories of this user that nobody holds. Directories without the lock file are not ours."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if _abandoned(path):
            shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _owned(path: Path) -> Iterator[None]:
    """The file gets its name when it is locked, so that nobody finds it unlocked before."""
    fresh = path / f"{OWNER}.new"
    fresh.touch(mode=0o600)
    with fresh.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        fresh.rename(path / OWNER)
        yield


def _abandoned(path: Path) -> bool:
    try:
        if path.lstat().st_uid != os.getuid():
            return False
        lock = os.open(path / OWNER, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:  # gone, or no such file in it
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True
