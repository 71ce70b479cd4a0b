"""A supervised pool of decoder processes, for engines that hold the GIL.

A track sticks to the process that holds its decoder state as long as another track does not need that process more. A
process that dies fails the request that it worked on, and is replaced before the next one.
"""

import asyncio
import sys
from typing import Any

import structlog

from models import wire
from models.errors import FailedError
from models.runners.child import Child

log = structlog.get_logger()


class PoolWorker(Child):
    """One decoder process and what it is in the middle of."""

    def __init__(self, module: str) -> None:
        super().__init__((sys.executable, "-m", module))
        self.session = ""
        """What its decoder is in the middle of; empty if nothing."""
        self.track_id = ""
        self.used = 0

    async def start(self) -> None:
        """Start (or start again) the process and wait until it has loaded its model. Raises FailedError if it does not."""
        await super().start()
        self.session = self.track_id = ""
        await self.call({})

    async def call(self, message: dict[str, Any]) -> dict[str, Any]:
        """Ask the process. Raises FailedError if it dies, babbles or hangs; it is dead then."""
        reply = await self.exchange(wire.encode(message))
        try:
            return wire.decode(reply)
        except ValueError as error:
            log.warning("decoder_babbles", pid=self.pid)
            await self.close()
            raise FailedError("its process babbles") from error


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
