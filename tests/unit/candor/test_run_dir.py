"""Run directories are removed by their owner, or by the next one."""

import subprocess
import sys
from pathlib import Path

import pytest

from candor.run_dir import OWNER, run_directory

KILLED = """
import os, signal
from candor.run_dir import run_directory
with run_directory() as path:
    (path / "worker-0.sock").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_it_is_ours_alone_and_gone_afterwards(temporary: Path) -> None:
    with run_directory() as path:
        assert path.parent == temporary
        assert path.stat().st_mode & 0o777 == 0o700
        assert (path / OWNER).exists()
    assert list(temporary.iterdir()) == []


def test_what_a_killed_owner_left_is_removed_by_the_next_one(temporary: Path) -> None:
    assert subprocess.run([sys.executable, "-c", KILLED], check=False).returncode == -9
    (left,) = temporary.iterdir()
    assert (left / "worker-0.sock").exists()
    with run_directory() as path:
        assert list(temporary.iterdir()) == [path]


def test_what_somebody_uses_or_is_not_ours_stays(temporary: Path) -> None:
    stranger = temporary / "candor-recordings"
    stranger.mkdir()
    (temporary / "candor-notes.txt").touch()
    elsewhere = temporary / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / OWNER).touch()
    with run_directory() as first, run_directory() as second:
        assert first.exists() and second.exists()
    assert sorted(path.name for path in temporary.iterdir()) == ["candor-notes.txt", "candor-recordings", "elsewhere"]
