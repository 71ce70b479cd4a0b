"""Writes to Redis what is noted of our rooms, and gives up those that have ended, behind everybody's back.

Bounds: one entry per room, of which the last state counts; a room is written at most every 100 ms. While Redis is away entries
wait; nobody waits for them but whoever opens a room of the same name anew.
"""

import asyncio
import contextlib
from dataclasses import dataclass

import structlog

from signaling.cluster.records import RoomRecord
from signaling.cluster.store import Store, StoreError
from signaling.rooms import Rooms

CALM_S = 0.1

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _GivenUp:
    """A room that was ours under `fence`. `state` is what its next machine shall know; None forgets it, "" leaves it as it is."""

    fence: int
    state: str | None


class Keeper:
    """Our rooms in Redis: under which number each is ours, and what is noted of it."""

    def __init__(self, store: Store, rooms: Rooms, retry_s: float) -> None:
        self.fences: dict[str, int] = {}
        self._store = store
        self._rooms = rooms
        self._retry_s = retry_s
        self._changed: dict[str, None] = {}
        self._given_up: dict[str, _GivenUp] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run(), name="cluster-keeper")

    async def close(self) -> None:
        """Stop writing; see `finish_all` for what is left. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def changed(self, room_id: str) -> None:
        """The notes on a room changed, or it ended."""
        if self._rooms.find(room_id) is None:
            self.give_up(room_id, None)
        elif room_id in self.fences:
            self._changed[room_id] = None
            self._wake.set()

    def give_up(self, room_id: str, state: str | None) -> None:
        """The room is not ours any more, if it was. `state`: for its next machine; None: it has ended; "": nothing new."""
        self._changed.pop(room_id, None)
        fence = self.fences.pop(room_id, None)
        if fence is not None:
            self._given_up[room_id] = _GivenUp(fence, state)
            self._wake.set()

    def lose(self, room_id: str) -> None:
        """The room is another machine's: write nothing more."""
        self.fences.pop(room_id, None)
        self._changed.pop(room_id, None)

    async def finish(self, room_id: str) -> None:
        """Wait until a room that was given up is free. Raises StoreError."""
        left = self._given_up.get(room_id)
        if left is None:
            return
        if left.state:
            await self._store.write(room_id, left.fence, left.state)
        await self._store.release(room_id, left.fence, forget=left.state is None)
        if self._given_up.get(room_id) is left:
            del self._given_up[room_id]

    async def finish_all(self) -> None:
        """Write what is left to be written, as far as Redis allows."""
        with contextlib.suppress(StoreError):
            await self._write_all()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._write_all()
                await asyncio.sleep(CALM_S)
            except StoreError:
                self._wake.set()
                await asyncio.sleep(self._retry_s)

    async def _write_all(self) -> None:
        for room_id in list(self._given_up):
            await self.finish(room_id)
        for room_id in list(self._changed):
            await self._write(room_id)

    async def _write(self, room_id: str) -> None:
        room, fence = self._rooms.find(room_id), self.fences.get(room_id)
        if room is None or fence is None:
            self._changed.pop(room_id, None)
            return
        state = RoomRecord.of(room).model_dump_json()
        self._changed.pop(room_id, None)  # before we wait: what changes meanwhile is written again
        try:
            if not await self._store.write(room_id, fence, state):
                log.warning("room_write_refused", room=room_id, fence=fence)  # the next beat says who has it
        except StoreError:
            if self.fences.get(room_id) == fence:
                self._changed[room_id] = None
            raise
