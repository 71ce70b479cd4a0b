"""`candor backup`: what a machine keeps that cannot be had again, in one archive; `candor.restore` puts it back.

    manifest.json            format, Candor's version, and of each file that follows its size and sha256
    config.toml              the file of --config
    tls/<address>.crt, .key  the certificates that --lan made
    models/<name>            of the models directory: models.lock, deployments.json, precision.json, locks of environments
    models/local/...         the heads that were trained here; with `all_weights` also what was pulled: models/hf/... and so on

A tar (ustar, regular files only) within gzip. What came from the environment is not in it, secrets least of all; but keys of
certificates and what the TOML file says are, in clear, so the archive is for its owner alone (mode 0600).
"""

import contextlib
import gzip
import hashlib
import importlib.metadata
import io
import os
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, Field

from candor.lan import CERTIFICATES
from models import environments, precision, traffic
from models.catalog import Sha256
from models.service import wishes
from models.store import LOCK_NAME, CorruptModelError, Lock, Store, sha256_of

FORMAT: Literal[1] = 1
MANIFEST_NAME = "manifest.json"
CONFIG_NAME = "config.toml"
SMALL_MAX_BYTES = 16 << 20
"""Of the manifest and of every file that is no weights: they are read whole."""
COMPRESSION = 1
"""Weights hardly get smaller, whatever the effort."""
STDIO = Path("-")
Weights = Literal["none", "trained", "all"]


class BackupError(Exception):
    """It cannot be made, or not be restored; the message says why. Nothing was changed."""


class Stated(BaseModel):
    """What the manifest says of a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes: int = Field(ge=0)
    sha256: Sha256


class Manifest(BaseModel):
    """The first file of an archive."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1]
    candor: str
    files: dict[str, Stated]


@dataclass(frozen=True, slots=True)
class Kept:
    """A file that goes into the archive."""

    name: str
    content: bytes | Path
    """Small ones as they were read, once."""
    stated: Stated

    @classmethod
    def small(cls, name: str, path: Path) -> "Kept":
        """Raises BackupError if it is far larger than such a file can be, OSError."""
        content = path.read_bytes()
        if len(content) > SMALL_MAX_BYTES:
            raise BackupError(f"{path} has {len(content)} bytes: it is not what it should be")
        return cls(name, content, Stated(bytes=len(content), sha256=hashlib.sha256(content).hexdigest()))

    def open(self) -> BinaryIO:
        """For reading."""
        return io.BytesIO(self.content) if isinstance(self.content, bytes) else self.content.open("rb")


class _Hashing:
    """A file that is hashed while it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """As of the file."""
        data = self._file.read(size)
        self.sha256.update(data)
        return data


def state_names() -> tuple[str, ...]:
    """Of the models directory, what is small and no weights."""
    locks = (f"{name}.lock" for name in environments.names())
    return (LOCK_NAME, wishes.FILE_NAME, traffic.FILE_NAME, precision.FILE_NAME, *locks)


def make(path: Path, store: Store, config: Path | None, weights: Weights) -> list[str]:
    """Write the archive to a new file, or to standard output for `-`; returns the names of what is in it.

    Raises BackupError, Busy if somebody changes the store, OSError. A file that could not be finished is not there.
    """
    with store.alone() if store.root.is_dir() else contextlib.nullcontext():
        try:
            kept = [*_config(config), *_certificates(), *_of_store(store, weights)]
        except CorruptModelError as error:
            raise BackupError(str(error)) from error
        if not kept:
            raise BackupError(f"there is nothing to keep: no --config, no certificates, nothing in {store.root}")
        with _output(path) as out:
            _write(out, kept)
    return [one.name for one in kept]


def _config(path: Path | None) -> Iterator[Kept]:
    if path is not None:
        yield Kept.small(CONFIG_NAME, path)


def _certificates() -> Iterator[Kept]:
    folder = CERTIFICATES.expanduser()
    for path in sorted((*folder.glob("*.crt"), *folder.glob("*.key"))):
        yield Kept.small(f"tls/{path.name}", path)


def _of_store(store: Store, weights: Weights) -> Iterator[Kept]:
    for name in state_names():
        if (path := store.root / name).is_file():
            yield Kept.small(f"models/{name}", path)
    files = weights_of(store.lock(), weights)
    for name, sha256 in sorted(files.items()):
        path = store.root / name
        if not path.is_file():
            raise BackupError(f"{path} is missing, though {LOCK_NAME} names it: candor models verify")
        yield Kept(f"models/{name}", path, Stated(bytes=path.stat().st_size, sha256=sha256))


def weights_of(lock: Lock, weights: Weights) -> dict[str, str]:
    """Path below the models directory -> sha256, of the weights of this lock that are asked for."""
    return {
        f"{locked.folder}/{name}": sha256
        for locked in lock.everything
        for name, sha256 in locked.files.items()
        if weights == "all" or (weights == "trained" and locked.kind == "local")
    }


@contextlib.contextmanager
def _output(path: Path) -> Iterator[BinaryIO]:
    """A file that has its name when it is whole."""
    if path == STDIO:
        if sys.stdout.isatty():
            raise BackupError("an archive is nothing for a terminal: candor backup - > FILE")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if path.exists():
        raise BackupError(f"{path} is there already")
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    unfinished = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _write(out: BinaryIO, kept: Sequence[Kept]) -> None:
    """Raises BackupError for weights that are not what the lock says, and for a path that a ustar header has no room for."""
    files = {one.name: one.stated for one in kept}
    manifest = Manifest(format=FORMAT, candor=importlib.metadata.version("candor"), files=files)
    text = manifest.model_dump_json(indent=1).encode()
    with (
        gzip.GzipFile(filename="", fileobj=out, mode="wb", compresslevel=COMPRESSION) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.USTAR_FORMAT) as archive,
    ):
        archive.addfile(_header(MANIFEST_NAME, len(text)), io.BytesIO(text))
        for one in kept:
            _add(archive, one)


def _add(archive: tarfile.TarFile, kept: Kept) -> None:
    with kept.open() as file:
        hashing = _Hashing(file)
        try:
            archive.addfile(_header(kept.name, kept.stated.bytes), hashing)
        except ValueError as error:
            raise BackupError(f"{kept.name}: {error}") from error
    if hashing.sha256.hexdigest() != kept.stated.sha256:
        raise BackupError(f"{kept.name} is not what {LOCK_NAME} says: candor models verify")


def _header(name: str, size_bytes: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.size = size_bytes
    header.mode = 0o600
    return header


def is_same(path: Path, stated: Stated) -> bool:
    """Whether the file at `path` is the one that a manifest speaks of."""
    return path.is_file() and path.stat().st_size == stated.bytes and sha256_of(path) == stated.sha256
