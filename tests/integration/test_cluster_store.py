"""The scripts in a real Redis: who has a room, and who may write about it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from signaling.cluster.settings import ClusterSettings, prepared_cluster
from signaling.cluster.store import Elsewhere, Free, Load, Owned, Settling, Store, StoreError
from signaling.settings import SignalingSettings
from tests.integration.cluster_kit import RedisServer, redis_server
from tests.until import until

LEASE_S = 60.0
"""Longer than any test: what a lease's end does is shown by taking its key away, but for one test that waits for it."""
LOAD = Load(participants=3, workers=2)


@pytest.fixture
async def redis() -> AsyncIterator[RedisServer]:
    async with redis_server() as server:
        yield server


@asynccontextmanager
async def store(redis: RedisServer, node_id: str, lease_s: float = LEASE_S) -> AsyncIterator[Store]:
    """A machine's view, without a lease yet."""
    wanted = ClusterSettings.model_validate({"redis_url": redis.url, "node_id": node_id, "lease_s": lease_s})
    one = Store(prepared_cluster(wanted, SignalingSettings(public_url=f"http://{node_id}.test")))
    try:
        yield one
    finally:
        await one.close()


async def insisted(call: Callable[[], Awaitable[object]]) -> None:
    """Until it is done: with a short lease Redis has little time to answer, less than a busy machine may need."""

    async def missing() -> str:
        try:
            await call()
        except StoreError as error:
            return f"an answer, got {error}"
        return ""

    await until(missing)


async def over(redis: RedisServer, *leases: str) -> None:
    """The end of leases, by name of their keys."""
    async with redis.client() as client:
        await client.delete(*(f"candor:{name}" for name in leases))


async def taken(redis: RedisServer, one: Store, room: str = "room", url: str = "http://x.test") -> Owned:
    """Take a room in a cluster that has settled."""
    await one.renew(url)
    await over(redis, "settling")
    claim = await one.claim(room, may_take=True)
    assert isinstance(claim, Owned), claim
    return claim


async def test_a_room_has_one_owner_as_long_as_its_lease_lives(redis: RedisServer) -> None:
    async with store(redis, "a") as a, store(redis, "b") as b:
        first = await taken(redis, a, url="http://a.test")
        assert first.state == ""
        assert await a.claim("room", may_take=True) == Owned(first.fence, "")
        await b.renew("http://b.test")
        assert await b.claim("room", may_take=True) == Elsewhere("http://a.test")
        assert await b.claim("other", may_take=False) == Free()
        assert await a.write("room", first.fence, "notes")
        await over(redis, "node:a")
        second = await taken(redis, b)
        assert second.fence > first.fence
        assert second.state == "notes"


async def test_a_stale_owner_can_neither_write_nor_release(redis: RedisServer) -> None:
    async with store(redis, "a") as a, store(redis, "b") as b:
        old = await taken(redis, a)
        await over(redis, "node:a")
        new = await taken(redis, b)
        assert not await a.write("room", old.fence, "too late")
        assert not await a.write("room", new.fence, "not mine")
        assert not await a.release("room", old.fence, forget=True)
        assert await b.claim("room", may_take=False) == Owned(new.fence, "")
        heard = await a.beat(LOAD, {"room": old.fence})
        assert heard.fences == {}
        assert list(heard.lost) == ["room"]


async def test_a_machine_that_started_anew_is_another_one(redis: RedisServer) -> None:
    async with store(redis, "a") as before, store(redis, "a") as after:
        old = await taken(redis, before)
        assert not await after.renew("http://a.test"), "somebody had the name"
        new = await taken(redis, after)
        assert new.fence > old.fence
        await before.resign()  # must not take the lease of its successor
        assert (await after.beat(LOAD, {})).lease_left_ms > 0


async def test_releasing_keeps_the_notes_or_forgets_them(redis: RedisServer) -> None:
    async with store(redis, "a") as a, store(redis, "b") as b:
        owned = await taken(redis, a)
        await a.write("room", owned.fence, "notes")
        assert await a.release("room", owned.fence, forget=False)
        moved = await taken(redis, b)
        assert moved.state == "notes"
        assert await b.release("room", moved.fence, forget=True)
        assert (await taken(redis, a)).state == ""


async def test_without_a_lease_nobody_takes_a_room(redis: RedisServer) -> None:
    async with store(redis, "a") as a, store(redis, "b") as b:
        assert isinstance(await a.claim("room", may_take=True), Settling)
        await taken(redis, b, "another")
        assert isinstance(await a.claim("room", may_take=True), Settling)


async def test_a_redis_that_forgot_everything_gives_owners_one_lease_to_come_back(redis: RedisServer) -> None:
    async with store(redis, "a") as a, store(redis, "b") as b:
        owned = await taken(redis, a)
        async with redis.client() as client:
            await client.flushall()
        await b.renew("http://b.test")
        claim = await b.claim("room", may_take=True)
        assert isinstance(claim, Settling) and 0 < claim.wait_ms <= LEASE_S * 1000
        nothing = await a.beat(LOAD, {"room": owned.fence})
        assert (nothing.lease_left_ms, nothing.settled, nothing.fences) == (0, False, {})
        await a.renew("http://a.test")
        heard = await a.beat(LOAD, {"room": owned.fence})
        assert heard.fences["room"] > owned.fence
        assert await b.claim("room", may_take=True) == Elsewhere("http://a.test")


async def test_a_redis_that_remembers_old_times_does_not_bring_back_old_owners(redis: RedisServer) -> None:
    async with store(redis, "a") as a, store(redis, "b") as b:
        owned = await taken(redis, a)
        await b.renew("http://b.test")
        async with redis.client() as client:  # from a copy in which b had it before a
            await client.hset("candor:room:room", mapping={"node": "b", "incarnation": b._me[1], "fence": 0})
            await client.delete("candor:fence")
        heard = await a.beat(LOAD, {"room": owned.fence})
        assert heard.fences["room"] > owned.fence


async def test_machines_hear_of_each_other_and_of_the_end(redis: RedisServer) -> None:
    async with store(redis, "a") as a, store(redis, "b") as b:
        await a.renew("http://a.test")
        await b.renew("http://b.test")
        await b.beat(LOAD, {})
        nodes = {node.id: node for node in (await a.beat(Load(), {})).nodes}
        assert nodes["b"].url == "http://b.test"
        assert nodes["b"].load == LOAD
        await b.resign()
        assert [node.id for node in (await a.beat(Load(), {})).nodes] == ["a"]


async def test_a_machine_is_dead_when_its_lease_is_over(redis: RedisServer) -> None:
    async with store(redis, "a", lease_s=1.0) as a, store(redis, "b") as b:
        await insisted(lambda: a.renew("http://a.test"))

        async def missing() -> str:
            await b.renew("http://b.test")
            ids = [node.id for node in (await b.beat(LOAD, {})).nodes]
            return "" if ids == ["b"] else f"only b, are {ids}"

        await until(missing)


async def test_a_redis_that_is_gone_is_an_error_that_names_no_password(redis: RedisServer) -> None:
    async with store(redis, "a") as a:
        await a.renew("http://a.test")
        await redis.kill()
        for call in (a.ping(), a.renew("http://a.test"), a.claim("room", may_take=True), a.write("room", 1, "x")):
            with pytest.raises(StoreError) as caught:
                await call
            assert "password" not in str(caught.value)
            assert caught.value.__cause__ is None
        await redis.start()
        await a.ping()
