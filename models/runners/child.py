"""A process that is asked one thing at a time: requests on its stdin, replies on its stdout, a length in front of each.

Whatever it does, whoever asks gets an answer or an error: one that dies, babbles or hangs is ended, and the request fails.
"""

import asyncio
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import Coroutine, Sequence
from pathlib import Path

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


class Child:
    """One process, one request at a time. Libraries in it compute in one thread."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._process: Process | None = None

    @property
    def alive(self) -> bool:
        """Whether the process is there, as far as we know."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        """The process id, None while there is none."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Start (or start again) the process. Raises FailedError if the system cannot."""
        await self.close()
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=PIPE, stdout=PIPE, env=environment, limit=wire.MAX_MESSAGE_BYTES
            )
        except OSError as error:
            log.warning("child_not_started", error=type(error).__name__)
            raise FailedError("its process cannot be started") from error

    async def exchange(self, request: bytes) -> bytes:
        """Ask the process. Raises FailedError if it dies, babbles or hangs; it is dead then. So it is if nobody waits any more."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise FailedError("its process is not running")
        try:
            return await _unless_stuck(process.pid, _exchange(process.stdin, process.stdout, request))
        except (asyncio.IncompleteReadError, ConnectionError, ValueError, TimeoutError) as error:
            log.warning("child_died", pid=process.pid, error=type(error).__name__)
            await self.close()
            raise FailedError("its process died") from error
        except asyncio.CancelledError:
            await self.close()  # its answer would be taken for the next one's
            raise

    async def close(self) -> None:
        """End the process; idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _exchange(requests: asyncio.StreamWriter, replies: asyncio.StreamReader, request: bytes) -> bytes:
    requests.write(wire.frame(request))
    await requests.drain()
    return await wire.read_frame(replies)


async def _unless_stuck(pid: int, exchange: Coroutine[None, None, bytes]) -> bytes:
    """What comes of `exchange`. Raises TimeoutError if the process makes no progress, or takes too long altogether."""
    asking = asyncio.create_task(exchange, name="child-exchange")
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
