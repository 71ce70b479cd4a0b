"""The local store of weights, and the lock that says what they must be.

    <models_dir>/models.lock                              {"models": {name: {kind, repository, commit, files: {path: sha256}}}},
                                                          and the same of versions before, newest first: {"earlier": {name: [...]}}
    <models_dir>/hf/<owner>/<repository>/<commit>/<path>  the files; also `github/...` and `url/<host>/<hash>/...`
    <models_dir>/local/<name>/<hash>/<path>               of a head that was trained here; the lock says on what and how well
    <models_dir>/environments/<name>/                     see `models.environments`

Weights are found only here or inside a package, and only if the lock names them: nothing is ever fetched while serving.
"""

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from models import catalog, environments
from models.catalog import DerivedSource, EnvironmentSource, LocalSource, ModelEntry, PackageSource, PulledSource, Task
from models.traffic import Route, RoutesFile, parsed
from models.trained import TrainedModel

LOCK_NAME = "models.lock"
WEIGHTS_NAME = "weights.pth"
"""Of a head that was trained here, the file that a runner loads."""
_INSTALL = {"vosk": "pip install vosk"}
"""Packages that `make models` does not bring."""


class LockedModel(BaseModel):
    """What was pulled for a model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["hf", "github", "url", "local"] = "hf"
    repository: str
    """Of an archive: the host it came from. Of a head that was trained here: its name."""
    commit: str
    """Of an archive: its sha256. Of a head that was trained here: the first 40 digits of its weights' sha256."""
    files: dict[str, str]
    """Path inside the repository -> sha256, hexadecimal."""
    random: bool = False
    """Weights that a test made up: the right architecture, nothing learned. No store of the product opens them."""

    @property
    def folder(self) -> PurePosixPath:
        """Where in the store the files lie, perhaps beside those of another model."""
        return PurePosixPath(self.kind, self.repository, self.commit)

    @property
    def version(self) -> str:
        """What stands behind `@` in `name@version`."""
        return self.commit[:8]


class Lock(BaseModel):
    """The file `models.lock`."""

    model_config = ConfigDict(extra="forbid")

    models: dict[str, LockedModel] = {}
    earlier: dict[str, list[LockedModel]] = {}
    """What was there before, newest first, as far as it was kept."""
    trained: dict[str, TrainedModel] = {}
    """Of those models that were trained here."""
    preferred: dict[Task, str] = {}
    """Which model a meeting asks, where somebody chose it."""

    @property
    def everything(self) -> list[LockedModel]:
        """Every version of every model."""
        return [*self.models.values(), *(locked for earlier in self.earlier.values() for locked in earlier)]

    def versions(self, name: str) -> list[LockedModel]:
        """All of a model that is here, newest first."""
        return [*([self.models[name]] if name in self.models else []), *self.earlier.get(name, [])]


class CorruptModelError(Exception):
    """A file of the store is not what the lock says. The message names both hashes."""


class CorruptRoutesError(CorruptModelError):
    """The file of routes is none."""


@dataclass(frozen=True, slots=True)
class Located:
    """A model that can be loaded."""

    path: Path
    version: str
    """Commit (first 8 digits) or package version: the part behind `@` in `name@version`."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Of a pulled model, below `path`: what the lock says their sha256 is."""
    links: Mapping[str, str] | None = None
    """Of an environment: its links. It may have nothing that neither they nor `files` name."""
    base: "Located | None" = None
    """Of a head that was trained here on a base that stayed as it was: the base."""

    @property
    def file(self) -> Path:
        """The file of a model that has one. Raises ValueError if it has more, or none."""
        [name] = self.files
        return self.path / name

    def verify(self) -> None:
        """Hash every file. Raises CorruptModelError naming the first that differs and both hashes, OSError."""
        if self.links is not None and (wrong := environments.stranger(self.path, self.files, self.links)):
            raise CorruptModelError(wrong)
        for name, expected in self.files.items():
            actual = sha256_of(self.path / name)
            if actual != expected:
                raise CorruptModelError(f"{name} has sha256 {actual}, the lock says {expected}")
        if self.base is not None:
            self.base.verify()


@dataclass(frozen=True, slots=True)
class Missing:
    """A model that cannot, why, and the command that would help."""

    reason: str
    command: str


class Busy(Exception):  # noqa: N818  # an answer, not a fault
    """Somebody else changes the store."""


class Store:
    """Weights on this machine.

    `allow_random` is for tests alone: no setting, no command and no environment variable can ask for it.
    """

    def __init__(self, root: Path, *, allow_random: bool = False) -> None:
        self.root = root
        self._allow_random = allow_random

    def lock(self) -> Lock:
        """The lock, empty if there is none. Raises CorruptModelError if it cannot be read."""
        path = self.root / LOCK_NAME
        try:
            return Lock.model_validate_json(path.read_text())
        except FileNotFoundError:
            return Lock()
        except ValidationError as error:
            raise CorruptModelError(f"{path} is not a lock file: {error.error_count()} errors") from error
        except (OSError, UnicodeDecodeError) as error:
            raise CorruptModelError(f"{path} cannot be read: {type(error).__name__}") from error

    def find(self, name: str) -> ModelEntry | None:
        """The model `name` of the catalog, or one that was trained here; None if neither has it. Raises CorruptModelError."""
        for entry in catalog.load().model:
            if entry.name == name:
                return entry
        trained = self.lock().trained.get(name)
        return trained.entry(name) if trained else None

    def put(self, name: str, locked: LockedModel, trained: TrainedModel | None = None, keep: int = 0) -> None:
        """Write a model into the lock, by rename; files of an earlier commit that nobody has any more are deleted.

        `keep`: so many of those before it stay, and as many more as a route names (`models.traffic`). Raises CorruptModelError.
        """
        lock = self.lock()
        before = lock.versions(name)
        others = [other for other in before if other.commit != locked.commit]
        routed = self._routed(name)
        earlier = [other for index, other in enumerate(others) if index < keep or other.version in routed]
        lock.models[name] = locked
        lock.earlier.pop(name, None)
        if earlier:
            lock.earlier[name] = earlier
        if trained is not None:
            lock.trained[name] = trained
        self._write(lock)
        for other in before:
            self._delete(other)

    def _routed(self, name: str) -> set[str]:
        """Versions that a route needs. Raises CorruptModelError."""
        route = self.route(name)
        return {parsed(arm)[0] for arm in route.needed} if route else set()

    def prefer(self, entry: ModelEntry) -> None:
        """From now on a meeting asks this model about its task."""
        lock = self.lock()
        lock.preferred[entry.task] = entry.name
        self._write(lock)

    def remove(self, name: str) -> int:
        """Forget a model, and delete its files unless another model has them too; returns the bytes that are free now.

        Raises KeyError if the lock does not name it.
        """
        lock = self.lock()
        gone = [lock.models.pop(name), *lock.earlier.pop(name, [])]
        lock.trained.pop(name, None)
        lock.preferred = {task: preferred for task, preferred in lock.preferred.items() if preferred != name}
        return self._forget(lock, gone)

    def remove_version(self, name: str, version: str) -> int:
        """Forget one of the versions before the newest; returns the bytes that are free now.

        Raises KeyError if there is none, ValueError if a route needs it.
        """
        lock = self.lock()
        gone = [other for other in lock.earlier.get(name, []) if other.version == version]
        if not gone:
            raise KeyError(f"{name}@{version}")
        if version in self._routed(name):
            raise ValueError(f"{name}@{version} is asked: `candor models rollback {name}`, or `split`, changes that")
        lock.earlier[name] = [other for other in lock.earlier[name] if other.version != version]
        return self._forget(lock, gone)

    def _forget(self, lock: Lock, gone: list[LockedModel]) -> int:
        self._write(lock)
        before = self.size_bytes()
        for locked in gone:
            self._delete(locked)
        return before - self.size_bytes()

    def _delete(self, locked: LockedModel) -> None:
        kept = {other.folder / file for other in self.lock().everything for file in other.files}
        for path in {locked.folder / file for file in locked.files} - kept:
            (self.root / path).unlink(missing_ok=True)
            self._prune((self.root / path).parent)

    def _prune(self, folder: Path) -> None:
        """Delete a folder and those around it, as long as they are empty."""
        while folder != self.root and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent

    def _write(self, lock: Lock) -> None:
        temporary = self.root / f"{LOCK_NAME}.{os.getpid()}"
        temporary.write_text(lock.model_dump_json(indent=2) + "\n")
        temporary.replace(self.root / LOCK_NAME)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else changes the store meanwhile. Raises Busy if somebody does."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".busy").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Busy(f"another command changes {self.root} just now") from error
            yield

    def size_bytes(self) -> int:
        """What the store takes on the disk."""
        return sum(path.lstat().st_size for path in self.root.rglob("*") if path.is_file())

    def versions(self, entry: ModelEntry) -> list[str]:
        """Of a model that can be loaded here, newest first; none if none can. Raises CorruptModelError."""
        located = self.locate(entry)
        if isinstance(located, Missing):
            return []
        earlier = self.lock().earlier.get(entry.name, [])
        return [located.version, *(locked.version for locked in earlier)]

    def route(self, name: str) -> Route | None:
        """Which versions of a model answer; None: what is newest. Raises CorruptRoutesError."""
        try:
            return RoutesFile(self.root).read().get(name)
        except ValueError as error:
            raise CorruptRoutesError(str(error)) from error

    def locate(self, entry: ModelEntry, version: str | None = None) -> Located | Missing:
        """Whether `entry` can be loaded here, its newest version unless one is named.

        Looks at names only; `verify` reads the files.
        """
        newest = self._locate(entry)
        if version is None or (isinstance(newest, Located) and newest.version == version):
            return newest
        pull = f"candor models pull {entry.name}"
        try:
            earlier = self.lock().earlier.get(entry.name, [])
        except CorruptModelError as error:
            return Missing(str(error), pull)
        for locked in earlier:
            if locked.version == version:
                return self._whole(locked, locked.files, pull)
        return Missing(f"its version {version} is not here", pull)

    def _locate(self, entry: ModelEntry) -> Located | Missing:
        for module in entry.requires:
            if importlib.util.find_spec(module) is None:
                return Missing(f"the package {module} is not installed", _INSTALL.get(module, "make models"))
        match entry.source:
            case PackageSource() as source:
                return _locate_package(source)
            case DerivedSource() as source:
                return self._locate_all(source)
            case EnvironmentSource() as source:
                return self._locate_environment(source)
            case LocalSource() as source:
                return self._locate_trained(entry.name, source)
            case source:
                return self._locate_pulled(entry.name, source)

    def _locate_all(self, source: DerivedSource) -> Located | Missing:
        found = [(name, self.locate(catalog.load().get(name))) for name in source.models]
        versions = []
        for name, located in found:
            if isinstance(located, Missing):
                return Missing(f"{name}: {located.reason}", located.command)
            versions.append(f"{name}-{located.version}")
        return Located(self.root, "+".join(versions))

    def _locate_pulled(self, name: str, source: PulledSource) -> Located | Missing:
        pull = f"candor models pull {name}"
        try:
            locked = self.lock().models.get(name)
        except CorruptModelError as error:
            return Missing(str(error), pull)
        if locked is None or (locked.kind, locked.repository) != (source.kind, source.repository):
            return Missing("its weights have not been pulled", pull)
        return self._whole(locked, locked.files, pull)

    def _locate_environment(self, source: EnvironmentSource) -> Located | Missing:
        reason = environments.missing(self.root, source)
        installed = None if reason else environments.read(self.root, source)
        if installed is None:
            return Missing(reason, environments.command(source))
        version = source.package.partition("==")[2]
        return Located(environments.folder(self.root, source), version, installed.files, installed.links)

    def _locate_trained(self, name: str, source: LocalSource) -> Located | Missing:
        lock = self.lock()
        trained, base = lock.trained[name], lock.models.get(source.base)
        again = f"candor models remove {name}, then train it again"
        located = self._whole(lock.models[name], {WEIGHTS_NAME: lock.models[name].files[WEIGHTS_NAME]}, again)
        if isinstance(located, Missing) or not trained.base_files:
            return located
        pull = f"candor models pull {source.base}"
        if base is None or base.commit != trained.base_commit:
            return Missing(f"it needs {source.base}@{trained.base_commit[:8]}, on which it was trained", pull)
        below = self._whole(base, trained.base_files, pull)
        return below if isinstance(below, Missing) else replace(located, base=below)

    def _whole(self, locked: LockedModel, files: Mapping[str, str], command: str) -> Located | Missing:
        if locked.random and not self._allow_random:
            return Missing("its weights are random numbers that a test made up", command)
        path = self.root / locked.folder
        absent = [file for file in files if not (path / file).is_file()]
        if absent:
            return Missing(f"{absent[0]} is missing from the store", command)
        return Located(path, locked.version, files)

    def verify(self, entry: ModelEntry, version: str | None = None) -> None:
        """Hash every file of a model that was fetched or trained here, of its newest version unless another is named.

        Raises CorruptModelError naming the first that differs.
        """
        if isinstance(entry.source, EnvironmentSource):
            found = self.locate(entry)
            if isinstance(found, Missing):
                raise CorruptModelError(f"{entry.name}: {found.reason}: {found.command}")
        elif isinstance(entry.source, PulledSource | LocalSource):
            lock = self.lock()
            earlier = [other for other in lock.earlier.get(entry.name, []) if other.version == version]
            [locked, *_] = earlier or [lock.models[entry.name]]
            found = Located(self.root / locked.folder, locked.version, locked.files)
        else:
            return
        try:
            found.verify()
        except CorruptModelError as error:
            raise CorruptModelError(f"{entry.name}: {error}") from error


def _locate_package(source: PackageSource) -> Located | Missing:
    spec = importlib.util.find_spec(source.module or source.package)
    if spec is None or not spec.submodule_search_locations:
        return Missing(f"the package {source.package} is not installed", "make run")
    return Located(Path(spec.submodule_search_locations[0]), importlib.metadata.version(source.package))


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
