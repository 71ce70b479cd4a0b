"""A media worker with the hosts beside it: path host, watch host, engine; driven by its channel as signaling would."""

import asyncio
import contextlib
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.load.candor import ROOM, CandorServer
from benchmarks.load.processes import Scheduled, scheduled
from candor.settings import Settings, dump
from models.client import InferenceClient
from models.engine import SOCKET_NAME as ENGINE_SOCKET
from sfu.channel import Channel, connect

HOSTS = ("engine", "path", "watch")
START_TIMEOUT_S = 60.0


class PerceivedServer(CandorServer):
    """`people` join by `enter`; what runs on them is said by `process`."""

    def __init__(self, core: int, settings: Settings) -> None:
        super().__init__(core)
        self.findings = Counter[str]()
        self._settings = settings
        self._hosts: dict[str, subprocess.Popen[bytes]] = {}
        self._watch: Channel | None = None
        self._engine = InferenceClient(Path(self._run_dir.name) / ENGINE_SOCKET)
        self._epoch = 0

    async def start(self) -> None:
        """See `Server`; the hosts are there as well."""
        await super().start()
        for role in HOSTS:
            self._hosts[role] = await asyncio.to_thread(self._spawn, role)
        self._engine.start()
        async with asyncio.timeout(START_TIMEOUT_S):
            while self._watch is None:
                with contextlib.suppress(OSError):
                    self._watch = await connect(Path(self._run_dir.name) / "watch.sock")
                await asyncio.sleep(0.1)
            self._watch.on_notify = self._noticed
            self._watch.start()
            while not {"path", "watch"} <= set((await self.statistics())["taps"]["hosts"]):  # noqa: ASYNC110  # elsewhere
                await asyncio.sleep(0.1)

    def _spawn(self, role: str) -> subprocess.Popen[bytes]:
        arguments = [sys.executable, "-m", "candor.process", role, "0", self._run_dir.name, "0"]
        host = subprocess.Popen(arguments, stdin=subprocess.PIPE, process_group=0)  # nosec B603
        assert host.stdin is not None
        host.stdin.write(dump(self._settings, secrets=False).encode() + b"\n\n")
        host.stdin.flush()
        return host

    def _noticed(self, event: str, params: dict[str, Any]) -> None:
        if event == "finding":
            self.findings[str(params["kind"])] += 1

    async def enter(self, person: str, offer: str, *, camera: bool) -> str:
        """The answer to a person's offer."""
        await self._request("put_participant", room_id=ROOM, participant_id=person, state={})
        tracks = [{"mid": "0", "track_id": f"{person}-voice", "source": "microphone"}]
        if camera:
            tracks.append({"mid": "1", "track_id": f"{person}-face", "source": "camera"})
        answer = await self._request("publish_offer", room_id=ROOM, participant_id=person, sdp=offer, tracks=tracks)
        return str(answer["sdp"])

    async def leave(self, person: str) -> None:
        """A person is gone."""
        await self._request("drop_participant", participant_id=person, reason="left")

    async def process(self, person: str, voice: dict[str, bool], face: dict[str, bool] | None) -> None:
        """What runs on somebody."""
        self._epoch += 1
        for track, processors in ((f"{person}-voice", voice), (f"{person}-face", face)):
            if processors is not None:
                await self._request("set_processing", track_id=track, processors=processors, epoch=self._epoch)

    async def load_models(self, names: tuple[str, ...]) -> None:
        """Have them ready."""
        for name in names:
            await self._engine.load(name)

    async def watching(self) -> dict[str, Any]:
        """The watch host's counters."""
        assert self._watch is not None
        return dict(await self._watch.request("stats"))

    async def models(self) -> dict[str, Any]:
        """The engine's counters, by model."""
        return await self._engine.stats()

    def cpu(self) -> dict[str, Scheduled]:
        """Of every process."""
        return {"worker": self.scheduled()} | {role: scheduled(host.pid) for role, host in self._hosts.items()}

    async def close(self) -> None:
        """See `Server`."""
        await self._engine.close()
        if self._watch is not None:
            await self._watch.close()
        for host in self._hosts.values():
            host.terminate()
        for host in self._hosts.values():
            await asyncio.to_thread(host.wait, 10)
            if host.stdin is not None:
                host.stdin.close()
        await super().close()
