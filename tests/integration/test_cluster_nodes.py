"""Two whole machines on one, each with all its processes: one of them is killed, or stopped for an update, in a meeting."""

import asyncio
import contextlib
import itertools
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest

from bots import MeetingBot
from bots.publication import AudioPublication
from bots.sources import SilenceSource
from tests.integration.cluster_kit import RedisServer, free_port, redis_server
from tests.until import until

pytestmark = pytest.mark.timeout(240)

UP_S = 90.0
BACK_S = 60.0
Record = Callable[[str, object], None]


class NodeProcess:
    """`candor serve` with everything that it starts, in a session of its own."""

    def __init__(self, redis: RedisServer, name: str, directory: Path) -> None:
        directory.mkdir()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("CANDOR_")},
            "TMPDIR": str(directory),  # so that a command finds this machine and not the other
            "CANDOR_LOG_LEVEL": "error",
            "CANDOR_SIGNALING__PORT": str(self.port),
            "CANDOR_SIGNALING__PUBLIC_URL": self.url,
            "CANDOR_OPERATOR__PORT": "off",
            "CANDOR_CLUSTER__REDIS_URL": redis.url,
            "CANDOR_CLUSTER__NODE_ID": name,
        }
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "candor.cli", "serve"),
            env=self._environment,
            start_new_session=True,
            stdout=asyncio.subprocess.DEVNULL,
        )

    async def ready(self) -> None:
        async with aiohttp.ClientSession() as http:

            async def missing() -> str:
                with contextlib.suppress(aiohttp.ClientError):
                    async with http.get(f"{self.url}/api/v1/health/ready") as response:
                        return "" if response.status == 200 else "a worker"
                return "an answer"

            await until(missing, UP_S)

    async def command(self, *arguments: str) -> tuple[int, str]:
        """What `candor` says in this node's environment."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "candor.cli", *arguments), env=self._environment, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        return process.returncode or 0, out.decode()

    async def kill(self) -> None:
        """All processes at once, as when the power fails."""
        process, self._process = self._process, None
        if process is None:
            return
        pids = [pid for pid in _pids() if _session(pid) == process.pid]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        await process.wait()

    async def stop(self) -> None:
        """As a service manager does."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            await process.wait()


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0


@pytest.fixture
async def nodes() -> AsyncIterator[list[NodeProcess]]:
    async with contextlib.AsyncExitStack() as stack:
        redis = await stack.enter_async_context(redis_server())
        home = stack.enter_context(tempfile.TemporaryDirectory(prefix="n-"))  # sockets need a short path
        both = [NodeProcess(redis, name, Path(home) / name) for name in ("a", "b")]
        try:
            for one in both:
                await one.start()
            for one in both:
                await one.ready()
            yield both
        finally:
            for one in both:
                await one.kill()


class Pair:
    """Somebody who sounds, and somebody who hears it."""

    def __init__(self, speaker: MeetingBot, music: AudioPublication, listener: MeetingBot) -> None:
        self.speaker, self.music, self.listener = speaker, music, listener
        self.heard_s: list[float] = []

    def hear(self, *_: object) -> None:
        self.heard_s.append(time.monotonic())

    async def goes_on(self, since_s: float) -> float:
        """Wait for the first packets after a moment; how long after it they came."""

        def missing() -> str:
            later = [at for at in self.heard_s if at > since_s]
            return "" if len(later) >= 10 else f"10 packets, are {len(later)}"

        await until(missing, BACK_S)
        return next(at for at in self.heard_s if at > since_s) - since_s

    def pause_s(self, since_s: float) -> float:
        """The longest silence from a moment on."""
        heard = [since_s, *(at for at in self.heard_s if at > since_s)]
        return max(later - earlier for earlier, later in itertools.pairwise(heard))


@contextlib.asynccontextmanager
async def meeting(first: str, second: str) -> AsyncIterator[Pair]:
    """Two who ask two machines for the same room."""
    speaker = MeetingBot(first, "weekly", "Speaker", subscribe=False)
    listener = MeetingBot(second, "weekly", "Listener")
    async with speaker:
        pair = Pair(speaker, await speaker.publish_audio(SilenceSource(), "music"), listener)
        listener.on_rtp(pair.hear)
        async with listener:
            await pair.goes_on(time.monotonic())
            yield pair


async def test_a_machine_is_killed_and_the_meeting_goes_on_elsewhere(
    nodes: list[NodeProcess], record_property: Record
) -> None:
    one, two = nodes
    async with meeting(one.url, two.url) as pair:
        assert pair.speaker._nodes.url == pair.listener._nodes.url
        seats = {pair.speaker.participant_id, pair.listener.participant_id}
        victim, other = (one, two) if pair.speaker._nodes.url == one.url else (two, one)
        died_s = time.monotonic()
        await victim.kill()
        killed_s = time.monotonic()
        await until(lambda: "" if pair.listener._nodes.url == other.url else "the listener elsewhere", BACK_S)
        await pair.goes_on(killed_s + 0.2)
        record_property("media_back_after_kill_s", round(pair.pause_s(died_s), 2))
        assert {pair.speaker.participant_id, pair.listener.participant_id} == seats
        assert set(pair.listener.room.participants) == seats


async def test_both_machines_are_replaced_in_turn_and_the_meeting_goes_on(
    nodes: list[NodeProcess], record_property: Record
) -> None:
    one, two = nodes
    async with meeting(one.url, two.url) as pair:
        seats = {pair.speaker.participant_id, pair.listener.participant_id}
        await pair.speaker.say("before")
        for victim in (one, two):
            began_s = time.monotonic()
            if victim is one:
                assert await victim.command("drain") == (0, "No room is left here.\n")
            await victim.stop()
            await pair.goes_on(time.monotonic())
            record_property(f"silence_{victim.port}_s", round(pair.pause_s(began_s), 2))
            await victim.start()
            await victim.ready()
        assert {pair.speaker.participant_id, pair.listener.participant_id} == seats
