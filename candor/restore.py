"""`candor restore`: what `candor backup` kept, put back.

All of an archive is unpacked into a folder of its own inside the models directory and examined there, before any file of the
machine is touched: it has to be what its manifest says, and of its files only those are taken that `candor backup` would write.
Hashes find damage, not malice: an archive is trusted as much as the machine that it came from, its heads are loaded and its
configuration obeyed.
"""

import gzip
import hashlib
import json
import os
import re
import shutil
import sys
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from pydantic import BaseModel, ValidationError

from candor.backup import (
    CONFIG_NAME,
    FORMAT,
    MANIFEST_NAME,
    SMALL_MAX_BYTES,
    STDIO,
    BackupError,
    Manifest,
    Stated,
    is_same,
    state_names,
    weights_of,
)
from candor.lan import CERTIFICATES
from candor.settings import ConfigurationError, load
from models import environments, precision, traffic
from models.environments import InstalledEnvironment
from models.precision import PrecisionFile
from models.service import wishes
from models.service.wishes import Wanted, Wishes
from models.settings import ModelSettings
from models.store import LOCK_NAME, Lock, Missing, Store
from models.traffic import Routes

STAGING_NAME = ".restore"
CHUNK_BYTES = 1 << 20
_CERTIFICATE = re.compile(r"tls/\d{1,3}(\.\d{1,3}){3}\.(crt|key)")
_SHOWN = 5
"""Names of files that are there already, in a message."""


@dataclass(frozen=True, slots=True)
class Step:
    """A file and where it goes."""

    name: str
    staged: Path
    target: Path
    stated: Stated


class _Regular(tarfile.TarInfo):
    """A header of an archive of ours. Links, devices, folders, and the headers that tell of longer names or sizes (which Python
    would read into memory, as long as they say they are) are refused when they are seen."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Regular":
        header = super().frombuf(buf, encoding, errors)
        if header.type != tarfile.REGTYPE:
            raise BackupError(f"{header.name!r} is no regular file")
        return header


def restore(path: Path, settings: ModelSettings, config: Path | None, *, force: bool) -> list[str]:
    """Put everything back; returns lines that say what was done and what is still missing.

    `config`: where the TOML file goes; without it, it is left out. Raises BackupError if the archive is not whole, or if files
    would be overwritten and `force` is not set; Busy and ValueError if another command or a model service has the store; OSError.
    Each file is replaced whole; if the machine stops in between, the same command ends what it began.
    """
    store = Store(settings.store_dir)
    with store.alone(), _right_to_wishes(store.root), _staging(store.root) as staging:
        with _input(path) as stream:
            manifest = _unpack(stream, staging, settings.store_budget_bytes - store.size_bytes())
        _examine(staging, manifest, settings)
        steps = list(_steps(staging, manifest, store.root, config))
        changed = _changed(steps, force)
        for step in changed:
            _put(step)
    lines = [f"{len(changed)} files put back, {len(steps) - len(changed)} were there already."]
    if config is None and CONFIG_NAME in manifest.files:
        lines.append("The configuration was left out: candor --config PATH restore ... says where it goes.")
    return [*lines, *_missing(store)]


@contextmanager
def _right_to_wishes(root: Path) -> Iterator[None]:
    """A service that runs would write over what we restore."""
    right = Wishes(root)
    right.take()
    try:
        yield
    finally:
        right.close()


@contextmanager
def _staging(root: Path) -> Iterator[Path]:
    """A folder for us alone. What somebody left who was killed is removed; the store's lock says that they no longer run."""
    folder = root / STAGING_NAME
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _input(path: Path) -> Iterator[BinaryIO]:
    if path == STDIO:
        yield sys.stdin.buffer
        return
    with path.open("rb") as file:
        yield file


def _unpack(stream: BinaryIO, staging: Path, room_bytes: int) -> Manifest:
    """Write every file of the archive below `staging`, and see that it is what the manifest says."""
    try:
        with (
            gzip.GzipFile(fileobj=stream) as plain,
            tarfile.open(fileobj=plain, mode="r|", tarinfo=_Regular) as archive,
        ):
            manifest = _manifest(archive)
            _check_names(manifest)
            _check_room(sum(stated.bytes for stated in manifest.files.values()), room_bytes, staging)
            expected = dict(manifest.files)
            while header := archive.next():
                stated = expected.pop(header.name, None)
                if stated is None or header.size != stated.bytes:
                    raise BackupError(f"{header.name!r} is not what the manifest says")
                _extract(archive, header, staging / header.name, stated)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BackupError(f"it is damaged, or nothing that candor backup made: {error}") from error
    if expected:
        raise BackupError(f"{min(expected)!r} is missing from it")
    return manifest


def _manifest(archive: tarfile.TarFile) -> Manifest:
    header = archive.next()
    if header is None or header.name != MANIFEST_NAME or header.size > SMALL_MAX_BYTES:
        raise BackupError(f"it does not begin with {MANIFEST_NAME}: candor backup did not make it")
    try:
        told = json.loads(_opened(archive, header).read())
        version = told["format"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BackupError(f"{MANIFEST_NAME} cannot be read") from error
    if version != FORMAT:
        raise BackupError(f"its format is {version!r}, and this Candor knows {FORMAT}: use the Candor that made it")
    try:
        return Manifest.model_validate(told)
    except ValidationError as error:
        raise BackupError(f"{MANIFEST_NAME} has {error.error_count()} errors") from error


def _opened(archive: tarfile.TarFile, header: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(header)
    if file is None:
        raise BackupError(f"{header.name!r} is no regular file")
    return file


def _check_names(manifest: Manifest) -> None:
    for name, stated in manifest.files.items():
        if not _is_plain(name):
            raise BackupError(f"{name!r} is no path of an archive")
        weights = name.count("/") > 1
        if not weights and stated.bytes > SMALL_MAX_BYTES:
            raise BackupError(f"{name!r} has {stated.bytes} bytes: it is not what it should be")


def _is_plain(path: str) -> bool:
    """Relative, and downwards only."""
    parts = path.split("/")
    return path.isprintable() and "\\" not in path and not {"", ".", ".."} & set(parts)


def _check_room(needed_bytes: int, room_bytes: int, folder: Path) -> None:
    if needed_bytes > room_bytes:
        raise BackupError(
            f"it needs {needed_bytes / 1e9:.2f} GB, and models.max_store_gb leaves {max(room_bytes, 0) / 1e9:.2f}"
        )
    free = shutil.disk_usage(folder).free
    if needed_bytes > free:
        raise BackupError(f"it needs {needed_bytes / 1e9:.2f} GB, and the disk has {free / 1e9:.2f}")


def _extract(archive: tarfile.TarFile, header: tarfile.TarInfo, path: Path, stated: Stated) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sha256 = hashlib.sha256()
    source = _opened(archive, header)
    with path.open("xb") as file:
        while data := source.read(CHUNK_BYTES):
            sha256.update(data)
            file.write(data)
    if sha256.hexdigest() != stated.sha256:
        raise BackupError(f"{header.name!r} is damaged: its sha256 is not what the manifest says")


def _examine(staging: Path, manifest: Manifest, settings: ModelSettings) -> None:
    """Every file is one that `candor backup` writes, and says what this version understands."""
    lock = _examine_state(staging, manifest)
    for locked in lock.everything:
        for file in locked.files:
            if not _is_plain(f"{locked.kind}/{locked.repository}/{locked.commit}/{file}"):
                raise BackupError(f"{LOCK_NAME} names {file!r} of {locked.repository!r}, which is no path of a store")
    weights = {f"models/{name}": sha256 for name, sha256 in weights_of(lock, "all").items()}
    state = {f"models/{name}" for name in state_names()}
    for name, stated in manifest.files.items():
        known = name == CONFIG_NAME or name in state or _CERTIFICATE.fullmatch(name)
        if not known and weights.get(name) != stated.sha256:
            raise BackupError(f"{name!r} is nothing that belongs into a backup, or not what its {LOCK_NAME} says")
    if CONFIG_NAME in manifest.files:
        _examine_config(staging / CONFIG_NAME, settings)


def _examine_state(staging: Path, manifest: Manifest) -> Lock:
    kinds: dict[str, type[BaseModel]] = {f"{name}.lock": InstalledEnvironment for name in environments.names()}
    kinds |= {wishes.FILE_NAME: Wanted, precision.FILE_NAME: PrecisionFile, LOCK_NAME: Lock}
    kinds |= {traffic.FILE_NAME: Routes}
    lock = Lock()
    for name, kind in kinds.items():
        if f"models/{name}" not in manifest.files:
            continue
        try:
            told = kind.model_validate_json((staging / "models" / name).read_bytes())
        except ValidationError as error:
            made_by = f"Candor {manifest.candor} made it"
            raise BackupError(
                f"this version does not understand its {name} ({made_by}): {error.error_count()} errors"
            ) from error
        if isinstance(told, Lock):
            lock = told
    return lock


def _examine_config(staged: Path, settings: ModelSettings) -> None:
    try:
        wanted = load(staged).models.store_dir
    except ConfigurationError as error:
        raise BackupError(f"this version does not take its {CONFIG_NAME}: {error}") from error
    if wanted != settings.store_dir:
        raise BackupError(
            f"its {CONFIG_NAME} has models in {wanted}: set CANDOR_MODELS__MODELS_DIR={wanted} for this command"
        )


def _steps(staging: Path, manifest: Manifest, root: Path, config: Path | None) -> Iterator[Step]:
    """What names other files comes after them, so that nobody who stops in between leaves a lock without its weights."""
    for name in sorted(manifest.files, key=lambda name: (-name.count("/"), name == f"models/{LOCK_NAME}", name)):
        folder, _, rest = name.partition("/")
        target = {"models": root / rest, "tls": CERTIFICATES.expanduser() / rest}.get(folder, config)
        if target is not None:
            yield Step(name, staging / name, target, manifest.files[name])


def _changed(steps: list[Step], force: bool) -> list[Step]:
    """Those that are not there already. Raises BackupError if others are in their place."""
    changed = [step for step in steps if not is_same(step.target, step.stated)]
    for step in changed:
        if step.target.is_dir():
            raise BackupError(f"{step.target} is a folder")
    there = [str(step.target) for step in changed if os.path.lexists(step.target)]
    if there and not force:
        more = f" and {len(there) - _SHOWN} more" if len(there) > _SHOWN else ""
        raise BackupError(f"these would be overwritten, which --force allows: {', '.join(there[:_SHOWN])}{more}")
    return changed


def _put(step: Step) -> None:
    """Replace a file, whole: on the disk first, then by its name."""
    is_public = step.name.startswith("models/") or step.name.endswith(".crt")
    step.target.parent.mkdir(parents=True, exist_ok=True, mode=0o777 if is_public else 0o700)
    beside = step.target.with_name(f".{step.target.name}.restored")
    _write_out(step.staged, beside, 0o644 if is_public else 0o600)
    beside.replace(step.target)


def _write_out(staged: Path, beside: Path, mode: int) -> None:
    staged.chmod(mode)
    shutil.move(staged, beside)  # perhaps to another file system
    with beside.open("rb") as file:
        os.fsync(file.fileno())


def _missing(store: Store) -> Iterator[str]:
    """What the restored locks name and nobody kept."""
    for name in sorted(store.lock().models):
        entry = store.find(name)
        found = (
            store.locate(entry) if entry else Missing("this version does not know it", f"candor models remove {name}")
        )
        if isinstance(found, Missing):
            yield f"{name}: {found.reason}: {found.command}"
    for entry in environments.installed(store.root):
        if isinstance(found := store.locate(entry), Missing):
            yield f"{entry.name}: {found.reason}: {found.command}"
