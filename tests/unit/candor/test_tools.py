"""What a newcomer reads when something is missing."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "scripts" / "check_tools.py"


def run(path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT)], env={"PATH": path}, capture_output=True, text=True, check=False
    )


def fake_node(directory: Path, version: str) -> str:
    for name in ("node", "npm"):
        tool = directory / name
        tool.write_text(f"#!/bin/sh\necho {version}\n")
        tool.chmod(0o755)
    return f"{directory}{os.pathsep}/usr/bin{os.pathsep}/bin"


def test_all_there_is_silent(tmp_path: Path) -> None:
    done = run(fake_node(tmp_path, "v20.19.0"))
    assert (done.returncode, done.stderr) == (0, "")


def test_an_old_or_missing_node_is_named(tmp_path: Path) -> None:
    done = run(fake_node(tmp_path, "v18.2.0"))
    assert done.returncode == 1
    assert "20.19 or newer; this is v18.2.0" in done.stderr
    done = run(str(tmp_path / "nowhere"))
    assert done.returncode == 1
    assert "Node.js" in done.stderr
