"""An archive is somebody else's: what would leave the folder, link, or swell is refused."""

import stat
import zipfile
from pathlib import Path

import pytest

from models.download import PullError
from models.unzip import unzip


def packed(folder: Path, *members: tuple[str, bytes], mode: int = 0, compress: bool = False) -> Path:
    path = folder / "a.zip"
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = method
            file.writestr(info, content)
    return path


def test_a_plain_archive_keeps_its_folders(tmp_path: Path) -> None:
    path = packed(tmp_path, ("a/x", b"1"), ("b/y", b"2"))
    assert unzip(path, tmp_path / "out") == ["a/x", "b/y"]
    assert (tmp_path / "out" / "b" / "y").read_bytes() == b"2"


def test_the_only_folder_at_the_top_is_left_out(tmp_path: Path) -> None:
    assert unzip(packed(tmp_path, ("top/a/x", b"1"), ("top/y", b"2")), tmp_path / "out") == ["a/x", "y"]


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "a\\..\\x", "top/../x"])
def test_a_path_that_climbs_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(PullError, match="leaves its folder"):
        unzip(packed(tmp_path, (name, b"1"), ("other/y", b"2")), tmp_path / "out")
    assert not (tmp_path / "x").exists()


def test_a_link_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PullError, match="link"):
        unzip(packed(tmp_path, ("a/x", b"/etc/passwd"), mode=stat.S_IFLNK | 0o777), tmp_path / "out")


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PullError, match="would unpack to"):
        unzip(packed(tmp_path, ("a/x", bytes(10_000_000)), compress=True), tmp_path / "out")


@pytest.mark.filterwarnings("ignore:Duplicate name")  # zipfile warns the one who writes it
def test_a_path_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PullError, match="twice"):
        unzip(packed(tmp_path, ("a/x", b"1"), ("a/x", b"2")), tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 but not really"])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(PullError, match="not a zip archive"):
        unzip(tmp_path / "a.zip", tmp_path / "out")


def test_a_damaged_member_is_refused(tmp_path: Path) -> None:
    path = packed(tmp_path, ("a/x", b"weights" * 100))
    content = bytearray(path.read_bytes())
    content[60] ^= 1
    path.write_bytes(content)
    with pytest.raises(PullError, match="not a zip archive"):
        unzip(path, tmp_path / "out")
