"""A supervised pool of decoder processes, for engines that hold the GIL.

A track sticks to the process that holds its decoder state as long as another track does not need that process more. A
process that dies fails the request that it worked on, and is replaced before the next one.
"""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import structlog

from models import wire
from models.errors import FailedError

log = structlog.get_logger()

STUCK_S = 30.0
"""A process that has neither answered nor computed anything for so long is killed. On a busy machine an answer may take longer."""
LONGEST_S = 120.0
"""A process that has not answered for so long is killed, whatever it does."""


def cpu_ticks(pid: int) -> int | None:
    """CPU time that a process has used so far, in clock ticks (proc(5), /proc/PID/stat, fields 14 and 15); None if nobody tells."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        user, system = stat.rpartition(")")[2].split()[11:13]
        return int(user) + int(system)
    except (OSError, ValueError):
        return None


class PoolWorker:
    """One process, one request at a time."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._process: Process | None = None
        self.session = ""
        """What its decoder is in the middle of; empty if nothing."""
        self.track_id = ""
        self.used = 0

    @property
    def alive(self) -> bool:
        """Whether the process is there, as far as we know."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start (or start again) the process and wait until it has loaded its model. Raises FailedError if it does not."""
        await self.close()
        self.session = self.track_id = ""
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", self._module, stdin=PIPE, stdout=PIPE, env=environment, limit=wire.MAX_MESSAGE_BYTES
        )
        await self.call({})

    async def call(self, message: dict[str, Any]) -> dict[str, Any]:
        """Ask the process. Raises FailedError if it dies, babbles or hangs; it is dead then."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise FailedError("the decoder is not running")
        try:
            return await _unless_stuck(process.pid, _exchange(process.stdin, process.stdout, message))
        except (asyncio.IncompleteReadError, ConnectionError, ValueError, TimeoutError) as error:
            log.warning("decoder_died", pid=process.pid, error=type(error).__name__)
            await self.close()
            raise FailedError("the decoder died") from error

    async def close(self) -> None:
        """End the process; idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        await process.wait()

    @property
    def pid(self) -> int | None:
        """The process id, None while there is none."""
        return self._process.pid if self._process else None


async def _exchange(
    requests: asyncio.StreamWriter, replies: asyncio.StreamReader, message: dict[str, Any]
) -> dict[str, Any]:
    requests.write(wire.pack(message))
    await requests.drain()
    return await wire.read(replies)


async def _unless_stuck(pid: int, exchange: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """What comes of `exchange`. Raises TimeoutError if the process makes no progress, or takes too long altogether."""
    asking = asyncio.create_task(exchange, name="decoder-exchange")
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + LONGEST_S
    try:
        used = cpu_ticks(pid)
        while not (await asyncio.wait((asking,), timeout=STUCK_S))[0]:
            before, used = used, cpu_ticks(pid)
            if loop.time() >= give_up_s or (used is not None and used == before):
                raise TimeoutError
        return asking.result()
    finally:
        asking.cancel()


class Pool:
    """At most `size` processes, started when first needed."""

    def __init__(self, module: str, size: int) -> None:
        self.size = size
        self.restarts = 0
        self._idle = [PoolWorker(module) for _ in range(size)]
        self._busy: set[PoolWorker] = set()
        self._turn = 0

    async def start(self) -> None:
        """Start the first process, so that a broken installation shows at once. Raises FailedError."""
        await self._idle[0].start()

    async def call(self, track_id: str, session: str, ends: bool, message: dict[str, Any]) -> dict[str, Any]:
        """Ask the process that suits `session` best. At most `size` calls may be made at a time. Raises FailedError."""
        worker = self._take(track_id, session)
        self._busy.add(worker)
        try:
            if not worker.alive:
                self.restarts += worker.used > 0
                await worker.start()
            self._turn += 1
            worker.used, worker.track_id, worker.session = self._turn, track_id, session
            reply = await worker.call(message)
        except asyncio.CancelledError:
            await worker.close()  # its answer would be taken for the next one's
            raise
        finally:
            self._busy.discard(worker)
            self._idle.append(worker)
        if ends:
            worker.session = ""
        return reply

    def _take(self, track_id: str, session: str) -> PoolWorker:
        """The one that has this session; else a free one, of this track if possible; else the one unused for longest."""

        def unsuitable(worker: PoolWorker) -> tuple[bool, bool, bool, bool, int]:
            free = not worker.session
            return (worker.session != session, not free, worker.track_id != track_id, not worker.alive, worker.used)

        worker = min(self._idle, key=unsuitable)
        self._idle.remove(worker)
        return worker

    def pids(self) -> list[int]:
        """Of the processes that run."""
        return [worker.pid for worker in (*self._idle, *self._busy) if worker.pid is not None]

    async def close(self) -> None:
        """End all processes; idempotent."""
        await asyncio.gather(*(worker.close() for worker in (*self._idle, *self._busy)))
