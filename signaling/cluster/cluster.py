"""A machine among others: which rooms are its own, where the rest are, and when it must let go.

Every quarter of a lease it says how busy it is and which rooms it holds, and hears of the others (`Store.beat`). Joins of rooms
that it holds never ask Redis.
"""

import asyncio
import weakref
from collections.abc import Callable

import structlog
from aiohttp import web
from pydantic import ValidationError

from signaling.cluster.keeper import Keeper
from signaling.cluster.lease import Lease
from signaling.cluster.peers import PATH, Peers
from signaling.cluster.records import RoomRecord
from signaling.cluster.settings import ClusterSettings
from signaling.cluster.store import Beat, Elsewhere, Free, Load, Node, Owned, Settling, Store, StoreError
from signaling.errors import MediaError
from signaling.protocol.codes import ErrorCode
from signaling.rooms import Room, Rooms

PACE_S = 0.02
"""From one room that moves to the next: its people all knock at another door."""
FAREWELL_S = 2.0
ORIGINS_MAX = 256

OUT_OF_TOUCH = "this server has lost touch with the others; try again in a moment"

log = structlog.get_logger()

Restore = Callable[[str, RoomRecord], None]
HandOver = Callable[[Room, str | None], None]


class Cluster:
    """This machine's part of a cluster (`Claims`). `attach` closes the circle: whoever acts asks us, too."""

    def __init__(self, settings: ClusterSettings, url: str, rooms: Rooms, ready_workers: Callable[[], int]) -> None:
        """`settings` as prepared; `url`: where clients reach this machine. Raises ValueError if Redis' address cannot be read."""
        self._settings = settings
        self._url = url
        self._rooms = rooms
        self._ready_workers = ready_workers
        self._store = Store(settings)
        self._keeper = Keeper(self._store, rooms, settings.beat_s)
        self._peers = Peers(settings.beat_s / 2)
        self._lease = Lease(settings.lease_s)
        self._nodes: list[Node] = []
        self._origins: list[str] = []
        self._in_touch = True
        self._draining = False
        self._turns: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._pinging: asyncio.Task[bool] | None = None
        self._beating: asyncio.Task[None] | None = None
        self._restore: Restore
        self._hand_over: HandOver

    def attach(self, restore: Restore, hand_over: HandOver, app: web.Application) -> None:
        """Who opens a room from notes, who sends everybody elsewhere (None: to any other machine), and where we answer."""
        self._restore = restore
        self._hand_over = hand_over
        app.router.add_get(PATH, self._say_what_is_seen)

    def start(self) -> None:
        """Begin to beat and to write."""
        self._keeper.start()
        self._beating = asyncio.create_task(self._beat_for_ever(), name="cluster-beat")

    async def close(self) -> None:
        """Move the rooms to other machines, if there are any, and stop. Idempotent."""
        task, self._beating = self._beating, None
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await self.drain()
        for room in self._rooms:  # nobody took it; but somebody may soon
            self._keeper.give_up(room.id, RoomRecord.of(room).model_dump_json())
        await self._keeper.close()
        try:
            async with asyncio.timeout(FAREWELL_S):
                await self._keeper.finish_all()
        except TimeoutError:
            log.warning("cluster_notes_lost", rooms=len(self._keeper.fences))
        if self._pinging is not None:
            self._pinging.cancel()
            await asyncio.gather(self._pinging, return_exceptions=True)
        await self._store.close()

    # --- what the lobby asks

    @property
    def others(self) -> list[str]:
        """Addresses of the other machines that take rooms."""
        return [node.url for node in self._nodes if not self._is_me(node) and not node.load.draining]

    @property
    def origins(self) -> list[str]:
        """Where pages may come from: the machines of the last day, or all that we have heard of since we started."""
        return self._origins

    async def claim(self, room_id: str, hops: int) -> str | None:
        """Make sure that a room is ours; else where it is.

        Raises `MediaError` while Redis cannot be asked, or the cluster does not settle within a lease.
        """
        if self._rooms.find(room_id) is not None:
            return None
        turn = self._turns.setdefault(room_id, asyncio.Lock())
        async with turn:
            if self._rooms.find(room_id) is not None:
                return None
            try:
                async with asyncio.timeout(self._settings.lease_s + self._settings.beat_s):
                    await self._keeper.finish(room_id)
                    return await self._claim(room_id, hops)
            except (StoreError, TimeoutError):
                raise MediaError(ErrorCode.MEDIA_UNAVAILABLE, OUT_OF_TOUCH) from None

    async def _claim(self, room_id: str, hops: int) -> str | None:
        while True:
            best = self._best()
            mine = best is None or self._is_me(best) or (hops > 0 and not self._draining)
            match await self._store.claim(room_id, may_take=mine):
                case Owned(fence, state):
                    self._keeper.fences[room_id] = fence
                    self._go_on(room_id, state)
                    return None
                case Elsewhere(url):
                    return url
                case Free() if best is not None:
                    return best.url
                case Settling(wait_ms):
                    await asyncio.sleep(wait_ms / 1000)

    def _go_on(self, room_id: str, state: str) -> None:
        """Open a room as its last machine left it."""
        if not state:
            return
        try:
            record = RoomRecord.model_validate_json(state)
        except ValidationError:  # its text holds names
            log.error("room_record_malformed", room=room_id)
            return
        log.info("room_taken_over", room=room_id, participants=len(record.participants))
        self._restore(room_id, record)

    def unused(self, room_id: str) -> None:
        """Nobody got in: give the room up, unless it is open."""
        if self._rooms.find(room_id) is None:
            self._keeper.give_up(room_id, "")

    def changed(self, room_id: str) -> None:
        """What is noted of a room changed, or it ended."""
        self._keeper.changed(room_id)

    # --- placement

    def _is_me(self, node: Node) -> bool:
        return node.id == self._settings.node_id

    def _load(self) -> Load:
        participants = sum(len(room.participants) for room in self._rooms)
        return Load(participants=participants, workers=self._ready_workers(), draining=self._draining)

    def _best(self) -> Node | None:
        """The machine for a new room: the least busy one, we before others; None if nobody but us is known."""
        me = Node(self._settings.node_id or "", self._url, self._load())
        candidates = [me, *(node for node in self._nodes if not self._is_me(node))]
        ready = [node for node in candidates if node.load.workers and not node.load.draining]
        return min(ready, key=lambda node: node.load.weight) if ready else None

    # --- moving away

    async def drain(self) -> int:
        """Take no new rooms, and move those that are here; how many had to stay, because there is no other machine."""
        self._draining = True
        await self._beat(asyncio.get_running_loop().time())  # who has come in the meantime?
        for room in self._rooms:
            best = self._best()
            if best is not None and self._rooms.find(room.id) is room:
                self._move(room, best.url)
                await asyncio.sleep(PACE_S)
        left = len(list(self._rooms))
        log.info("cluster_drained", node=self._settings.node_id, rooms=left)
        return left

    def _move(self, room: Room, url: str) -> None:
        """In one step, so that nothing that is decided in the room is lost between note and end."""
        self._keeper.give_up(room.id, RoomRecord.of(room).model_dump_json())
        self._hand_over(room, url)

    # --- the beat

    async def _beat_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began_s = loop.time()
            try:
                stop_by_s = await self._beat(began_s)
            except (
                Exception
            ) as error:  # our own mistake must not end the beat, after which two machines could have a room
                log.error("cluster_beat_broken", error=type(error).__name__)
                stop_by_s = self._lease.doubt(began_s)
            next_s = began_s + self._settings.beat_s
            if stop_by_s is not None and stop_by_s < next_s:
                await asyncio.sleep(stop_by_s - loop.time())
                self._let_go()
            await asyncio.sleep(next_s - loop.time())

    async def _beat(self, now_s: float) -> float | None:
        """One beat: when we must have stopped, if there is reason to."""
        held = {room.id: self._keeper.fences.get(room.id, 0) for room in self._rooms}
        try:
            beat = await self._store.beat(self._load(), held)
        except StoreError as error:
            return await self._out_of_touch(now_s, str(error))
        self._set_in_touch(True)
        self._nodes = beat.nodes
        self._origins = list(dict.fromkeys([*beat.origins, *self._origins]))[
            :ORIGINS_MAX
        ]  # Redis may have forgotten some
        self._heard_of_rooms(held, beat)
        if beat.lease_left_ms:
            self._lease.renewed(now_s + beat.lease_left_ms / 1000)
            return None
        if not beat.settled:
            self._lease.for_nobody()
            return None
        return self._lease.doubt(now_s)

    async def _out_of_touch(self, now_s: float, error: str) -> float | None:
        self._set_in_touch(False, error)
        if await self._peers.redis_is_gone(node.url for node in self._nodes if not self._is_me(node)):
            self._lease.for_nobody()
            return None
        return self._lease.doubt(now_s)

    def _heard_of_rooms(self, held: dict[str, int], beat: Beat) -> None:
        for room_id, fence in beat.fences.items():
            if self._rooms.find(room_id) is not None and self._keeper.fences.get(room_id, 0) == held[room_id] != fence:
                self._keeper.fences[room_id] = fence
                self._keeper.changed(room_id)
                log.info("room_claimed_again", room=room_id, fence=fence)
        for room_id, url in beat.lost.items():
            room = self._rooms.find(room_id)
            if room is not None and self._keeper.fences.get(room_id, 0) == held[room_id]:
                self._lose(room, url)

    def _let_go(self) -> None:
        """Our lease ends: whoever has it next must find nobody here."""
        for room in self._rooms:
            self._lose(room, None)

    def _lose(self, room: Room, url: str | None) -> None:
        log.error("room_lost", room=room.id, participants=len(room.participants))
        self._keeper.lose(room.id)
        self._hand_over(room, url)

    def _set_in_touch(self, in_touch: bool, error: str = "") -> None:
        if in_touch is self._in_touch:
            return
        self._in_touch = in_touch
        if in_touch:
            log.info("redis_back", node=self._settings.node_id)
        else:
            log.warning("redis_away", node=self._settings.node_id, error=error)

    # --- what other machines ask

    async def _say_what_is_seen(self, _: web.Request) -> web.Response:
        """Whether Redis answers now; who asks meanwhile shares the answer."""
        if self._pinging is None or self._pinging.done():
            self._pinging = asyncio.create_task(self._ping(), name="cluster-ping")
        return web.json_response({"redis": await asyncio.shield(self._pinging)}, headers={"Cache-Control": "no-store"})

    async def _ping(self) -> bool:
        try:
            await self._store.ping()
        except StoreError:
            return False
        return True
