"""A network that has only a loopback device with some private addresses, and Debian's coturn in it, started as we ship it.

coturn never relays to 127.0.0.0/8, so the media worker needs another address; the machine itself is left as it is.
"""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.until import until

ROOT = Path(__file__).resolve().parents[2]
START = ROOT / "deploy" / "coturn" / "start.sh"
WORKER, RELAY, STRANGER = "10.77.0.1", "10.77.0.2", "10.77.0.3"
"""Where media workers are, from where coturn reaches them, and another address of the same network."""
DOOR = "127.0.0.1"
"""Where coturn listens: of a loopback device Chromium knows no other address, and it uses no TCP from one that it does not know."""
PORT, TLS_PORT = 3478, 5349
SECRET = "relay-secret-relay-secret-relay-secret"
NETWORK = f"ip link set lo up && for a in {WORKER} {RELAY} {STRANGER}; do ip address add $a/32 dev lo; done"


def _can_make_networks() -> bool:
    ready = shutil.which("unshare") and shutil.which("ip")
    return (
        bool(ready) and subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode == 0
    )


needs_coturn = pytest.mark.skipif(
    shutil.which("turnserver") is None, reason="needs Debian's coturn: apt-get install coturn"
)
needs_network = pytest.mark.skipif(
    not _can_make_networks(), reason="needs `unshare --net` (root) and Debian's iproute2"
)


def run_inside(scene: Path, timeout_s: float, *options: str) -> None:
    """Run the tests in the file `scene` in such a network; fail with what they say."""
    pytest_here = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(scene), *options]
    command = ["unshare", "--net", "sh", "-c", f'{NETWORK}; exec "$@"', "sh", *pytest_here]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, f"\n{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
    assert " skipped" not in done.stdout, done.stdout[-2000:]


@asynccontextmanager
async def coturn(folder: Path, **environment: str) -> AsyncIterator[Path]:
    """coturn as our script starts it; its log."""
    log = folder / "coturn.log"
    settings = {
        "TURN_SECRET": SECRET,
        "TURN_REALM": "candor.test",
        "TURN_PEERS": WORKER,
        "TURN_PORT": str(PORT),
        "TURN_MIN_PORT": "49160",
        "TURN_MAX_PORT": "49400",
        "TURN_DIR": str(folder),
        "PATH": os.environ["PATH"],
        **environment,
    }
    where = [f"--listening-ip={DOOR}", f"--relay-ip={RELAY}", f"--userdb={folder}/db", f"--pidfile={folder}/pid"]
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(str(START), *where, env=settings, stdout=file, stderr=file)
    try:
        await until(lambda: "" if _listens() else f"coturn ({process.returncode}): {log.read_text()[-800:]}")
        yield log
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def _listens() -> bool:
    with socket.socket() as sock:
        return sock.connect_ex((DOOR, PORT)) == 0
