"""Fetching weights into the store. Nothing is visible there until all of a model is there and is what it should be.

Files come side by side into `.pull-<commit>` beside their place. If the network fails they stay, and the next attempt goes on
where this one stopped; if one is not what was promised, all are deleted.
"""

import shutil
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path

from models.catalog import HubSource, ModelEntry, PulledSource, UrlSource
from models.download import InterruptedPullError, Progress, PullError
from models.origins import Origin, Release, RemoteFile
from models.store import Busy, LockedModel, Store, sha256_of
from models.unzip import unzip

AT_ONCE = 4
"""Files that come side by side."""


def pull(
    entry: ModelEntry, store: Store, origin: Origin, progress: Progress, budget_bytes: int, keep: int = 0
) -> LockedModel:
    """Fetch a model and write it into the lock. Raises PullError, CorruptModelError, OSError.

    `budget_bytes`: what the store may take on the disk, this model included. `keep`: so many versions before it stay.
    """
    source = entry.source
    if not isinstance(source, PulledSource):
        raise PullError(f"{entry.name} is not a model that is pulled")
    try:
        with store.alone():
            release = origin.describe(source)
            locked = LockedModel(kind=source.kind, repository=source.repository, commit=release.commit, files={})
            _check_room(entry, release, store, _staging(store.root / locked.folder), budget_bytes)
            files = _install(source, release, store.root / locked.folder, origin, progress)
            locked = locked.model_copy(update={"files": files})
            store.put(entry.name, locked, keep=keep)
            return locked
    except Busy as error:
        raise PullError(str(error)) from error


def _staging(final: Path) -> Path:
    return final.with_name(f".pull-{final.name}")


def _check_room(entry: ModelEntry, release: Release, store: Store, staging: Path, budget_bytes: int) -> None:
    needed = sum(file.size_bytes for file in release.files) * (2 if isinstance(entry.source, UrlSource) else 1)
    here = sum(path.stat().st_size for path in staging.rglob("*") if path.is_file())
    used = store.size_bytes() - here
    if used + needed > budget_bytes:
        raise PullError(
            f"{entry.name} needs {needed / 1e6:.0f} MB and the store has {used / 1e6:.0f} of at most "
            f"{budget_bytes / 1e6:.0f} MB (setting models.max_store_gb): `candor models remove NAME` makes room"
        )
    free = shutil.disk_usage(store.root).free
    if needed - here > free:
        raise PullError(f"{entry.name} needs {needed / 1e6:.0f} MB, the disk has {free / 1e6:.0f} MB left")


def _install(source: PulledSource, release: Release, final: Path, origin: Origin, progress: Progress) -> dict[str, str]:
    """Fetch every file beside its place, then move them there; returns their hashes. Until the lock names them nobody sees them."""
    staging = _staging(final)
    staging.mkdir(parents=True, exist_ok=True)
    try:
        hashes = _fetch_all(source, release, staging, origin, progress)
        if isinstance(source, UrlSource):
            hashes = _unpacked(staging, source.file_name)
    except InterruptedPullError:
        raise
    except (PullError, OSError):
        shutil.rmtree(staging, ignore_errors=True)
        raise
    for name in hashes:  # one by one: another model may have other files of the same commit
        (final / name).parent.mkdir(parents=True, exist_ok=True)
        (staging / name).replace(final / name)
    shutil.rmtree(staging)
    return hashes


def _fetch_all(
    source: PulledSource, release: Release, staging: Path, origin: Origin, progress: Progress
) -> dict[str, str]:
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="pull") as pool:
        fetches = {
            file.path: pool.submit(_fetch, source, release, file, staging, origin, progress) for file in release.files
        }
        done, _ = wait(fetches.values(), return_when=FIRST_EXCEPTION)
        if any(fetch.exception() for fetch in done):
            pool.shutdown(cancel_futures=True)
    return {path: fetch.result() for path, fetch in fetches.items() if not fetch.cancelled()}


def _fetch(
    source: PulledSource, release: Release, file: RemoteFile, staging: Path, origin: Origin, progress: Progress
) -> str:
    target = staging / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and file.size_bytes == target.stat().st_size:  # whole, from an earlier attempt
        actual = sha256_of(target)
        progress(file.path, file.size_bytes, file.size_bytes)
    else:
        actual = origin.fetch(source, release, file, target, progress)
    if file.sha256 and actual != file.sha256:
        who = "the hub promised" if isinstance(source, HubSource) else "the catalog says"
        raise PullError(f"{file.path} has sha256 {actual}, {who} {file.sha256}")
    return actual


def _unpacked(staging: Path, archive: str) -> dict[str, str]:
    """Replace the archive by what is in it."""
    shutil.rmtree(staging / ".unpacked", ignore_errors=True)  # of an attempt that was killed
    names = unzip(staging / archive, staging / ".unpacked")
    (staging / archive).unlink()
    for name in names:
        (staging / name).parent.mkdir(parents=True, exist_ok=True)
        (staging / ".unpacked" / name).rename(staging / name)
    shutil.rmtree(staging / ".unpacked")
    return {name: sha256_of(staging / name) for name in names}
