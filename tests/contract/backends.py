"""Engines in processes of their own, behind each way there is to one: this machine's socket, a model service, Ray Serve."""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Protocol

from candor.settings import load
from candor.supervisor import Role, Supervisor
from models.backends import connect
from models.client import InferenceClient
from models.engine import SOCKET_NAME
from models.inventory import Inventory
from models.ray_settings import RaySettings, ScaledModel
from models.service.auth import new_key
from models.settings import ModelSettings
from tests.until import until

ROOT = Path(__file__).parents[2]
RAY_PYTHON = ROOT / "build" / "ray" / "bin" / "python"
NO_RAY = "" if RAY_PYTHON.exists() else "needs the environment of Ray Serve (make ray)"
DEPLOYED = ("yunet", "pocketsphinx-en-us")
MAX_QUEUED = 4
DECODERS = 2
START_S = 90.0


class Backend(Protocol):
    """One way to an engine."""

    async def start(self) -> None:
        """Until it can be asked."""

    def connect(self, key: str | None = None) -> tuple[InferenceClient, Inventory]:
        """A client that is not started; `key` instead of the right one."""

    def kill(self) -> None:
        """Kill what the client talks to."""

    async def revive(self) -> None:
        """What whoever runs it does after a death, unless it comes back by itself."""

    async def end(self) -> None:
        """With all its processes."""


class Local:
    """The engine of a node, kept running by its supervisor."""

    def __init__(self, store: Path, folder: Path, max_queued: int = MAX_QUEUED) -> None:
        self._socket = folder / SOCKET_NAME
        models = {"models_dir": store, "max_queued": max_queued, "pocketsphinx_decoders": DECODERS}
        settings = load(arguments={"log_level": "error", "models": models})
        self._models = settings.models
        self._supervisor = Supervisor(settings, folder, [Role("engine")])

    async def start(self) -> None:
        await self._supervisor.start()

    def connect(self, key: str | None = None) -> tuple[InferenceClient, Inventory]:
        del key  # the socket is for one user, who needs none
        return connect(self._models, self._socket)

    def kill(self) -> None:
        pid = self._supervisor.pid("engine")
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    async def revive(self) -> None:
        """The supervisor does."""

    async def end(self) -> None:
        await self._supervisor.stop()


class Remote:
    """What the two over HTTP have in common."""

    def __init__(self, store: Path, max_queued: int = MAX_QUEUED) -> None:
        self.store = store
        self.max_queued = max_queued
        self.key, self.kept = new_key("node", ["models:infer"])
        self.kept = self.kept.model_copy(update={"requests_per_s": 10_000.0})
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: asyncio.subprocess.Process | None = None

    def connect(self, key: str | None = None) -> tuple[InferenceClient, Inventory]:
        settings = ModelSettings.model_validate(
            {"backend": "http", "backend_url": self.url, "backend_key": self.key if key is None else key}
        )
        return connect(settings, Path("unused"))


class Service(Remote):
    """`candor models serve`, with its own engine."""

    async def start(self) -> None:
        environment = os.environ | {
            "CANDOR_MODELS__MODELS_DIR": str(self.store),
            "CANDOR_MODELS__MAX_QUEUED": str(self.max_queued),
            "CANDOR_MODELS__POCKETSPHINX_DECODERS": str(DECODERS),
            "CANDOR_MODELS__SERVICE__API_KEYS": f"[{self.kept.model_dump_json()}]",
            "CANDOR_LOG_LEVEL": "error",
        }
        arguments = [sys.executable, "-m", "candor.cli", "models", "serve", "--port", str(self.port)]
        self.process = await asyncio.create_subprocess_exec(
            *arguments, env=environment, stdout=asyncio.subprocess.DEVNULL
        )

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()

    async def revive(self) -> None:
        assert self.process is not None
        await self.process.wait()
        await self.start()

    async def end(self) -> None:
        assert self.process is not None
        self.process.terminate()
        await self.process.wait()


class Ray(Remote):
    """Ray Serve in its own environment, on this machine alone."""

    def __init__(self, store: Path, folder: Path, max_queued: int = MAX_QUEUED) -> None:
        super().__init__(store, max_queued)
        self._folder = folder

    async def start(self) -> None:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "HOME": str(self._folder),  # where Ray keeps the token without which nobody may talk to it
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",  # of 10: how soon its killed door is noticed
        }
        self.process = await asyncio.create_subprocess_exec(
            str(RAY_PYTHON),
            str(Path(__file__).with_name("ray_process.py")),
            str(self.port),
            str(self._folder),
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        await self.deploy(self.settings())

    def settings(self) -> RaySettings:
        """Of both models, one replica each."""
        return RaySettings(
            models=[ScaledModel(name=name) for name in DEPLOYED],
            models_dir=self.store,
            max_queued=self.max_queued,
            pocketsphinx_decoders=DECODERS,
            api_keys=[self.kept],
        )

    async def deploy(self, settings: RaySettings) -> None:
        """Until Ray says that it is done."""
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(settings.model_dump_json().encode() + b"\n")
        async with asyncio.timeout(START_S):
            async for line in self.process.stdout:
                if line == b"deployed\n":
                    return
        raise AssertionError("Ray Serve has ended")

    def kill(self) -> None:
        """Its door; Ray makes another."""
        self.kill_actor("ray::ProxyActor")

    def kill_actor(self, title: str) -> None:
        """Every process of this Ray whose title begins so."""
        pids = [pid for pid in self.processes() if command_of(pid).startswith(title)]
        assert pids, title
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    def processes(self) -> list[int]:
        """All that have our folder as their home."""
        return [pid for pid in all_pids() if f"HOME={self._folder}".encode() in environment_of(pid)]

    async def revive(self) -> None:
        """Ray does."""

    async def end(self) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.close()
        async with asyncio.timeout(START_S):
            await self.process.wait()
        await until(lambda: f"Ray to end: {left}" if (left := self.processes()) else "", 30)


def free_port() -> int:
    """On loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def all_pids() -> list[int]:
    """Of this machine (proc(5))."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def command_of(pid: int) -> str:
    """As `ps` shows it; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def environment_of(pid: int) -> list[bytes]:
    """With which it was started; empty if it is gone, or not ours."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
