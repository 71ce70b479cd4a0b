"""Unpacking an archive that somebody else made: nothing outside the folder, nothing but plain files, no more than expected."""

import zipfile
import zlib
from pathlib import Path, PurePosixPath

from models.download import PullError

MAX_FILES = 10_000
MAX_RATIO = 50
"""Unpacked bytes for each packed one. Weights hardly compress at all."""
_KIND_MASK, _LINK = 0o170000, 0o120000


def unzip(archive: Path, folder: Path) -> list[str]:
    """Unpack into `folder`, without the one folder that is at the archive's top; returns the files' paths.

    Raises PullError if it is not a zip, or holds links, absolute or climbing paths, too many files or too much.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            members = [info for info in packed.infolist() if not info.is_dir()]
            _check_sizes(archive, members)
            top = {PurePosixPath(info.filename).parts[:1] for info in members}
            names = [_inside(info, strip=len(top) == 1) for info in members]
            if len(set(names)) != len(names):
                raise PullError(f"{archive.name} holds one path twice")
            for info, name in zip(members, names, strict=True):
                _unpack(packed, info, folder / name)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise PullError(f"{archive.name} is not a zip archive that can be read: {error}") from error
    return sorted(names)


def _check_sizes(archive: Path, members: list[zipfile.ZipInfo]) -> None:
    if not members or len(members) > MAX_FILES:
        raise PullError(f"{archive.name} holds {len(members)} files")
    total = sum(info.file_size for info in members)
    if total > MAX_RATIO * archive.stat().st_size:
        raise PullError(f"{archive.name} would unpack to {total} bytes")


def _inside(info: zipfile.ZipInfo, strip: bool) -> str:
    path = PurePosixPath(info.filename)
    parts = path.parts[1:] if strip and len(path.parts) > 1 else path.parts
    if path.is_absolute() or ".." in path.parts or "\\" in info.filename or not parts:
        raise PullError(f"the archive holds a path that leaves its folder: {info.filename!r}")
    if (info.external_attr >> 16) & _KIND_MASK == _LINK:
        raise PullError(f"the archive holds a link: {info.filename!r}")
    return PurePosixPath(*parts).as_posix()


def _unpack(packed: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    """At most as many bytes as the archive's directory says: zipfile stops there, and checks the CRC."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with packed.open(info) as source, target.open("xb") as file:
        while block := source.read(1 << 20):
            file.write(block)
