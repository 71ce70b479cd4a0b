"""Where weights come from: the internet, or a folder laid out alike.

The hub's interface (https://huggingface.co/docs/hub/api): `GET /api/models/<repository>/revision/<revision>?blobs=true` answers
`{sha, siblings: [{rfilename, size, lfs: {sha256}}]}`; `GET /<repository>/resolve/<commit>/<file>` answers the file, often by a
redirect to a host that only stores files. GitHub answers `GET /<repository>/<commit>/<file>` on a host of its own.
A mirror has `hf|github/<owner>/<repository>/<commit>/<file>` and `url/<host>/<sha256>/<archive>`.
"""

import re
import shutil
import urllib.parse
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from models.catalog import GithubSource, HubSource, PulledSource, UrlSource
from models.download import AbsentError, Downloader, Progress, PullError
from models.store import sha256_of

DEFAULT_HUB = "https://huggingface.co"
DEFAULT_GITHUB = "https://raw.githubusercontent.com"
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a release."""

    path: str
    size_bytes: int
    """0: not told."""
    sha256: str
    """What it must be; empty: not told."""


@dataclass(frozen=True, slots=True)
class Release:
    """A source at one commit. Of an archive, the commit is its hash and it is the only file."""

    commit: str
    files: tuple[RemoteFile, ...]


class Origin(Protocol):
    """Knows what a source holds, and brings it."""

    def describe(self, source: PulledSource) -> Release:
        """Raises PullError if there is no such thing."""

    def fetch(self, source: PulledSource, release: Release, file: RemoteFile, target: Path, progress: Progress) -> str:
        """Write a file to `target`; returns its sha256. Raises PullError, OSError."""


class Internet:
    """The hub, GitHub, and any https address."""

    def __init__(self, hub: str = DEFAULT_HUB, github: str = DEFAULT_GITHUB) -> None:
        self._hub = Downloader(hub)
        self._github = Downloader(github)

    def describe(self, source: PulledSource) -> Release:
        """Asks the hub; the catalog itself knows everything about the other kinds."""
        return self._ask_hub(source) if isinstance(source, HubSource) else pinned(source)

    def fetch(self, source: PulledSource, release: Release, file: RemoteFile, target: Path, progress: Progress) -> str:
        """Download."""
        quoted = urllib.parse.quote(file.path)
        if isinstance(source, HubSource):
            downloader, path = self._hub, f"{source.repository}/resolve/{release.commit}/{quoted}"
        elif isinstance(source, GithubSource):
            downloader, path = self._github, f"{source.repository}/{release.commit}/{quoted}"
        else:
            address, _, path = source.url.rpartition("/")
            downloader = Downloader(address)
        return downloader.file(path, target, file.path, file.size_bytes, progress)

    def _ask_hub(self, source: HubSource) -> Release:
        revision = urllib.parse.quote(source.revision, safe="")
        described = self._hub.json(f"api/models/{source.repository}/revision/{revision}?blobs=true")
        commit = str(described.get("sha"))
        if not _COMMIT.fullmatch(commit):
            raise PullError(f"{self._hub.base} gave no commit for {source.repository} at {source.revision}")
        if _COMMIT.fullmatch(source.revision) and commit != source.revision:
            raise PullError(f"{self._hub.base} answered commit {commit}, the catalog pins {source.revision}")
        known = {str(sibling.get("rfilename")): sibling for sibling in described.get("siblings", [])}
        files = []
        for name in chosen(source, known.keys(), f"{source.repository} at {commit}"):
            promised = known[name].get("lfs") or {}
            files.append(RemoteFile(name, int(known[name].get("size") or 0), str(promised.get("sha256") or "")))
        return Release(commit, tuple(files))


class Mirror:
    """A folder on this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def describe(self, source: PulledSource) -> Release:
        """Looks into the folder."""
        if not isinstance(source, HubSource):
            release = pinned(source)
            for file in release.files:
                self._path(source, release, file.path)
            return release
        commit = self._commit(source)
        folder = self._root / source.kind / source.repository / commit
        there = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        names = chosen(source, there.keys(), f"the mirror, in {folder},")
        return Release(commit, tuple(RemoteFile(name, there[name].stat().st_size, "") for name in names))

    def fetch(self, source: PulledSource, release: Release, file: RemoteFile, target: Path, progress: Progress) -> str:
        """Copy."""
        origin = self._path(source, release, file.path)
        part = target.with_name(f"{target.name}.part")  # what has its own name is whole
        shutil.copyfile(origin, part)
        part.rename(target)
        progress(file.path, target.stat().st_size, target.stat().st_size)
        return sha256_of(target)

    def _commit(self, source: HubSource) -> str:
        repository = self._root / source.kind / source.repository
        commits = sorted(path.name for path in repository.glob("*") if _COMMIT.fullmatch(path.name))
        if source.revision in commits:
            return source.revision
        if len(commits) == 1 and not _COMMIT.fullmatch(source.revision):
            return commits[0]
        raise AbsentError(f"the mirror has no {repository / source.revision}")

    def _path(self, source: PulledSource, release: Release, path: str) -> Path:
        found = self._root / source.kind / source.repository / release.commit / path
        if not found.is_file():
            raise AbsentError(f"the mirror has no {found}")
        return found


def pinned(source: GithubSource | UrlSource) -> Release:
    """What the catalog itself says of a source."""
    if isinstance(source, UrlSource):
        return Release(source.sha256, (RemoteFile(source.file_name, source.bytes, source.sha256),))
    return Release(source.revision, tuple(RemoteFile(file.path, file.bytes, file.sha256) for file in source.files))


def chosen(source: HubSource, there: Collection[str], where: str) -> list[str]:
    """Which files of a hub repository to fetch. Raises AbsentError if one is missing."""
    absent = [name for name in source.files if name not in there]
    if absent:
        raise AbsentError(f"{where} has no file {absent[0]}")
    weights = [name for name in source.one_of if name in there]
    if source.one_of and not weights:
        raise AbsentError(f"{where} has none of the files {', '.join(source.one_of)}")
    return [*source.files, *weights[:1]]
