"""The processes of a node: what they are told, and that none is left behind."""

from pathlib import Path

import pytest

from candor.node import node
from candor.settings import load
from tests.until import until

SECRET = "never-in-an-environment-0123456789abcdef"


async def test_children_get_no_secrets_and_end_with_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANDOR_SIGNALING__SECRET", SECRET)
    settings = load(arguments={"log_level": "warning", "signaling": {"port": 0, "open_rooms": False}})
    async with node(settings) as running:
        pids = {name: running.supervisor.pid(name) for name in running.supervisor.children}
        assert all(pids.values())
        for pid in pids.values():
            assert SECRET.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
            assert SECRET.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert running.run_dir.stat().st_mode & 0o777 == 0o700
        for path in running.run_dir.iterdir():
            assert path.stat().st_mode & 0o077 == 0, path.name
    left = [name for name, pid in pids.items() if Path(f"/proc/{pid}").exists()]
    await until(lambda: "" if not left else f"the end of {left}")
    assert not running.run_dir.exists()
