"""The local store of weights, and the lock that says what they must be.

    <models_dir>/models.lock                              {"models": {name: {"repository", "commit", "files": {path: sha256}}}}
    <models_dir>/hf/<owner>/<repository>/<commit>/<path>  the files

Weights are found only here or inside a package, and only if the lock names them: nothing is ever fetched while serving.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from models.catalog import HubSource, ModelEntry, PackageSource

LOCK_NAME = "models.lock"


class LockedModel(BaseModel):
    """What was pulled for a model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repository: str
    commit: str
    files: dict[str, str]
    """Path inside the repository -> sha256, hexadecimal."""


class Lock(BaseModel):
    """The file `models.lock`."""

    model_config = ConfigDict(extra="forbid")

    models: dict[str, LockedModel] = {}


class CorruptModelError(Exception):
    """A file of the store is not what the lock says. The message names both hashes."""


@dataclass(frozen=True, slots=True)
class Located:
    """A model that can be loaded."""

    path: Path
    version: str
    """Commit (first 8 digits) or package version: the part behind `@` in `name@version`."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A model that cannot, why, and the command that would help."""

    reason: str
    command: str


class Store:
    """Weights on this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def lock(self) -> Lock:
        """The lock, empty if there is none. Raises CorruptModelError if it cannot be read."""
        path = self.root / LOCK_NAME
        try:
            return Lock.model_validate_json(path.read_text())
        except FileNotFoundError:
            return Lock()
        except ValidationError as error:
            raise CorruptModelError(f"{path} is not a lock file: {error.error_count()} errors") from error

    def put(self, name: str, locked: LockedModel) -> None:
        """Write a model into the lock, by rename."""
        lock = self.lock()
        lock.models[name] = locked
        temporary = self.root / f"{LOCK_NAME}.{os.getpid()}"
        temporary.write_text(lock.model_dump_json(indent=2) + "\n")
        temporary.replace(self.root / LOCK_NAME)

    def directory(self, source: HubSource, commit: str) -> Path:
        """Where the files of a hub model lie."""
        return self.root / "hf" / source.repository / commit

    def locate(self, entry: ModelEntry) -> Located | Missing:
        """Whether `entry` can be loaded here. Looks at names only; `verify` reads the files."""
        for module in entry.requires:
            if importlib.util.find_spec(module) is None:
                return Missing(f"the package {module} is not installed", "make models")
        if isinstance(entry.source, PackageSource):
            return _locate_package(entry.source)
        pull = f"candor models pull {entry.name}"
        try:
            locked = self.lock().models.get(entry.name)
        except CorruptModelError as error:
            return Missing(str(error), pull)
        if locked is None or locked.repository != entry.source.repository:
            return Missing("its weights have not been pulled", pull)
        path = self.directory(entry.source, locked.commit)
        absent = [name for name in locked.files if not (path / name).is_file()]
        if absent:
            return Missing(f"{absent[0]} is missing from the store", pull)
        return Located(path, locked.commit[:8])

    def verify(self, entry: ModelEntry) -> None:
        """Hash every file of a hub model. Raises CorruptModelError naming the first that differs and both hashes."""
        if isinstance(entry.source, PackageSource):
            return
        locked = self.lock().models[entry.name]
        directory = self.directory(entry.source, locked.commit)
        for name, expected in locked.files.items():
            actual = sha256_of(directory / name)
            if actual != expected:
                raise CorruptModelError(f"{entry.name}: {name} has sha256 {actual}, the lock says {expected}")


def _locate_package(source: PackageSource) -> Located | Missing:
    spec = importlib.util.find_spec(source.module or source.package)
    if spec is None or not spec.submodule_search_locations:
        return Missing(f"the package {source.package} is not installed", "make run")
    return Located(Path(spec.submodule_search_locations[0]), importlib.metadata.version(source.package))


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
