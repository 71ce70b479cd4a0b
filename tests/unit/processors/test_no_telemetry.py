"""ONNX Runtime tells nobody what runs here."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
USE = "from media_processors.audio.vad import SileroVad; SileroVad()"


def test_nothing_is_kept_for_a_report_and_nothing_sent(tmp_path: Path) -> None:
    """It would make an id below the home directory as soon as a session is made. Under CI it would not: so not under CI."""
    quiet = ("CI", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in quiet}
    done = subprocess.run(
        [sys.executable, "-c", USE],
        cwd=ROOT,
        env={**environment, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("*")) == []
