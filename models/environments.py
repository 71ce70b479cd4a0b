"""Packages that cannot live beside ours: each in an environment of its own in the store, with a lock of its own.

    <models_dir>/environments/<name>/          a virtual environment: its interpreter, and nothing that Candor imports
    <models_dir>/<name>.lock                   what was installed: versions, and the sha256 of every file

`models.setup` makes them. As with weights: an environment is here only if its lock says so, every file is hashed before a process
is started in it, and nothing is ever installed while serving. It may have no file and no link that the lock does not name.
"""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from models import catalog
from models.catalog import EnvironmentSource, ModelEntry

REQUIREMENTS = Path(__file__).resolve().parent / "requirements"
"""What is installed, with its hashes."""


class InstalledEnvironment(BaseModel):
    """The lock of an environment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    package: str
    """name==version of what it was made for."""
    python: str
    """Version of its interpreter."""
    requirements_sha256: str
    packages: dict[str, str]
    """Name -> version of all that was installed."""
    files: dict[str, str]
    """Path inside the environment -> sha256, hexadecimal."""
    links: dict[str, str]
    """Path inside the environment -> where it leads. The interpreter is one, to a file that is not ours to lock."""


def _all() -> list[tuple[ModelEntry, EnvironmentSource]]:
    """Of the catalog."""
    return [(entry, entry.source) for entry in catalog.load().model if isinstance(entry.source, EnvironmentSource)]


def names() -> list[str]:
    """Of all environments that the catalog has."""
    return [source.name for _, source in _all()]


def get(name: str) -> tuple[ModelEntry, EnvironmentSource]:
    """The model that lives in the environment `name`, or is called so itself. Raises KeyError."""
    for entry, source in _all():
        if name in (entry.name, source.name):
            return entry, source
    raise KeyError(f"no environment {name!r}")


def installed(root: Path) -> list[ModelEntry]:
    """Models whose environment is in the store `root`, whole or not."""
    return [entry for entry, source in _all() if is_here(root, source)]


def command(source: EnvironmentSource) -> str:
    """What makes an environment."""
    return f"candor models setup {source.name}"


def folder(root: Path, source: EnvironmentSource) -> Path:
    """Where in the store `root` an environment lies."""
    return root / "environments" / source.name


def python(environment: Path) -> Path:
    """The interpreter of the environment at this path."""
    return environment / "bin" / "python"


def requirements(source: EnvironmentSource) -> Path:
    """The list from which an environment is made."""
    return REQUIREMENTS / f"{source.name}.txt"


def read(root: Path, source: EnvironmentSource) -> InstalledEnvironment | None:
    """What is installed; None if nothing is. Raises ValueError if the lock cannot be read."""
    path = _lock(root, source)
    try:
        return InstalledEnvironment.model_validate_json(path.read_text())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise ValueError(f"{path} is not the lock of an environment: {error.error_count()} errors") from error


def write(root: Path, source: EnvironmentSource, installed: InstalledEnvironment) -> None:
    """From now on the environment is here."""
    temporary = _lock(root, source).with_suffix(".new")
    temporary.write_text(installed.model_dump_json(indent=2) + "\n")
    temporary.replace(_lock(root, source))


def is_here(root: Path, source: EnvironmentSource) -> bool:
    """Whether there is anything of an environment, whole or not."""
    return _lock(root, source).exists() or folder(root, source).exists()


def remove(root: Path, source: EnvironmentSource) -> bool:
    """Delete an environment; whether there was one, whole or not."""
    was_here = is_here(root, source)
    _lock(root, source).unlink(missing_ok=True)
    shutil.rmtree(folder(root, source), ignore_errors=True)
    return was_here


def missing(root: Path, source: EnvironmentSource) -> str:
    """Why an environment cannot be used; empty if it can. Looks at names only."""
    try:
        installed = read(root, source)
    except ValueError as error:
        return str(error)
    if installed is None:
        return f"{source.package} is not installed; it needs an environment of its own"
    try:
        wanted = sha256_of_requirements(source)
    except OSError:
        return f"{requirements(source)} cannot be read"
    if (installed.package, installed.requirements_sha256) != (source.package, wanted):
        return f"{installed.package} was installed from another list than this release's"
    path = folder(root, source)
    if not python(path).exists():
        return f"its interpreter, Python {installed.python}, is gone"
    absent = next((file for file in installed.files if not (path / file).is_file()), "")
    return f"{absent} is missing from its environment" if absent else ""


def links(path: Path) -> dict[str, str]:
    """Those of the environment at `path`, and where each leads."""
    return {str(link.relative_to(path)): str(link.readlink()) for link in path.rglob("*") if link.is_symlink()}


def stranger(path: Path, files: Mapping[str, str], known_links: Mapping[str, str]) -> str:
    """What the environment at `path` has, or has otherwise, that its lock does not name; empty if nothing. Reads no file."""
    found = links(path)
    if changed := sorted(link for link in {*found, *known_links} if found.get(link) != known_links.get(link)):
        return f"{changed[0]} leads to {found.get(changed[0], 'nothing')}, the lock says {known_links.get(changed[0], 'nothing')}"
    others = (one for one in path.rglob("*") if not one.is_dir() and not one.is_symlink())
    unknown = sorted(name for one in others if (name := str(one.relative_to(path))) not in files)
    return f"{unknown[0]} is not in the lock" if unknown else ""


def sha256_of_requirements(source: EnvironmentSource) -> str:
    """Of the list from which it is made now. Raises OSError."""
    return hashlib.sha256(requirements(source).read_bytes()).hexdigest()


def _lock(root: Path, source: EnvironmentSource) -> Path:
    return root / f"{source.name}.lock"
