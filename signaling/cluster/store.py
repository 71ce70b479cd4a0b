"""The cluster's memory: typed calls of the scripts, each with a time limit. Nothing here is logged: notes hold names."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from signaling.cluster import scripts
from signaling.cluster.settings import ClusterSettings


class StoreError(Exception):
    """Redis cannot be reached, is too slow, or answers what it should not."""


class Load(BaseModel):
    """How busy a machine is."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    participants: int = Field(default=0, ge=0)
    workers: int = Field(default=1, ge=0)
    draining: bool = False

    @property
    def weight(self) -> float:
        """Participants per media worker; infinite without a worker."""
        return self.participants / self.workers if self.workers else float("inf")


class _Registered(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    url: str
    incarnation: str


@dataclass(frozen=True, slots=True)
class Node:
    """Another machine, or this one."""

    id: str
    url: str
    load: Load


@dataclass(frozen=True, slots=True)
class Beat:
    """What a machine hears when it says how it is."""

    lease_left_ms: int
    """0 if the lease is over, or not begun."""
    settled: bool
    """Whether a room whose machine is silent can be taken now."""
    nodes: list[Node]
    fences: dict[str, int]
    """Of the rooms that are ours."""
    lost: dict[str, str]
    """Rooms that are somebody else's: room -> url."""
    origins: list[str]
    """Of the machines of the last day, at most 256."""


@dataclass(frozen=True, slots=True)
class Owned:
    """The room is ours, under this number; `state` is what was noted of it, empty if nothing."""

    fence: int
    state: str


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The room is on the machine at `url`."""

    url: str


@dataclass(frozen=True, slots=True)
class Free:
    """Nobody has the room, and we did not take it."""


@dataclass(frozen=True, slots=True)
class Settling:
    """Nobody may take a room for so long: it may have an owner who has not come back yet."""

    wait_ms: int


Claim = Owned | Elsewhere | Free | Settling


class Store:
    """One machine's view of Redis. Every method raises StoreError.

    What keeps a lease has half a beat for it, so that there is time left to act on its failure; the rest has a lease.
    """

    def __init__(self, settings: ClusterSettings) -> None:
        """Raises ValueError without `redis_url`, or if it cannot be read; the message does not repeat it."""
        if settings.redis_url is None:
            raise ValueError("cluster.redis_url: not set")
        self._settings = settings
        self._me = (settings.node_id or "", settings.incarnation)
        try:
            self._redis = Redis.from_url(
                settings.redis_url.get_secret_value(),
                decode_responses=True,
                socket_timeout=settings.lease_s,
                socket_connect_timeout=settings.lease_s,
                retry=Retry(NoBackoff(), 0),  # whoever asks knows when to ask again
                max_connections=32,
            )
        except ValueError:
            raise ValueError("cluster.redis_url: cannot be read") from None
        self._scripts = {text: self._redis.register_script(text) for text in _ALL}

    async def close(self) -> None:
        """Let go of the connections."""
        await self._redis.aclose()

    async def ping(self) -> None:
        """Raises StoreError unless Redis answers."""
        try:
            async with asyncio.timeout(self._settings.beat_s / 2):
                await self._redis.ping()
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreError(type(error).__name__) from None

    # --- the machine

    async def renew(self, url: str) -> bool:
        """Say that this machine lives, for another lease. False if another one had its name until now."""
        before = await self._soon(scripts.RENEW, *self._me, url, self._settings.lease_ms)
        return before in ("", self._me[1])

    async def resign(self) -> None:
        """Say that this machine is gone."""
        await self._run(scripts.RESIGN, *self._me)

    async def beat(self, load: Load, rooms: Mapping[str, int]) -> Beat:
        """Say how busy we are and which rooms we hold (room -> fence, 0 if forgotten); hear of the others.

        Rooms that nobody else holds are ours again, under a new number where Redis has forgotten the old one.
        """
        held = [part for room, fence in rooms.items() for part in (room, fence)]
        answer = await self._soon(scripts.BEAT, *self._me, self._settings.lease_ms, load.model_dump_json(), *held)
        try:
            left_ms, settled, nodes, claims, origins = answer
            return Beat(
                lease_left_ms=max(0, int(left_ms)),
                settled=bool(settled),
                nodes=[_node(*node) for node in nodes],
                fences={room: int(fence) for room, fence, _ in claims if fence},
                lost={room: url for room, fence, url in claims if not fence},
                origins=list(origins),
            )
        except (ValueError, TypeError, ValidationError) as error:
            raise StoreError(type(error).__name__) from None

    # --- rooms

    async def claim(self, room_id: str, *, may_take: bool) -> Claim:
        """Who has a room; we, if nobody has it and `may_take`."""
        answer = await self._run(scripts.CLAIM, *self._me, room_id, int(may_take))
        match answer:
            case ["owned", fence, state]:
                return Owned(int(fence), state)
            case ["elsewhere", url]:
                return Elsewhere(url)
            case ["free"]:
                return Free()
            case ["settling", wait_ms]:
                return Settling(int(wait_ms))
        raise StoreError("claim")

    async def write(self, room_id: str, fence: int, state: str) -> bool:
        """Keep notes on a room. False if it is not ours under this number."""
        return bool(await self._run(scripts.WRITE, *self._me, room_id, fence, state))

    async def release(self, room_id: str, fence: int, *, forget: bool) -> bool:
        """Give a room up, and with `forget` its notes. False if it is not ours under this number."""
        return bool(await self._run(scripts.RELEASE, *self._me, room_id, fence, int(forget)))

    async def _soon(self, script: str, *arguments: str | int) -> Any:
        return await self._within(self._settings.beat_s / 2, script, arguments)

    async def _run(self, script: str, *arguments: str | int) -> Any:
        return await self._within(self._settings.lease_s, script, arguments)

    async def _within(self, limit_s: float, script: str, arguments: tuple[str | int, ...]) -> Any:
        try:
            async with asyncio.timeout(limit_s):
                return await self._scripts[script](keys=[self._settings.prefix], args=arguments)
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreError(type(error).__name__) from None


_ALL = (scripts.RENEW, scripts.RESIGN, scripts.BEAT, scripts.CLAIM, scripts.WRITE, scripts.RELEASE)


def _node(node_id: str, registered: str, load: str) -> Node:
    """Raises ValidationError. A machine whose signaling has not said anything yet takes no new rooms."""
    url = _Registered.model_validate_json(registered).url
    return Node(node_id, url, Load.model_validate_json(load) if load else Load(workers=0))
