"""Machines of a cluster, their workers scripted: where joins land, what a machine's death, Redis' death, and a lost room do."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from sfu.channel.messages import DropRoom
from signaling.cluster.store import Store
from tests.integration.cluster_kit import (
    LEASE_S,
    Machine,
    RedisServer,
    came_back,
    knows,
    machines,
    redis_server,
)
from tests.integration.signaling_kit import ROOM, SECRET, Client
from tests.until import until


@pytest.fixture
async def redis() -> AsyncIterator[RedisServer]:
    async with redis_server() as server:
        yield server


@pytest.fixture
async def pair(tmp_path: Path, redis: RedisServer) -> AsyncIterator[list[Machine]]:
    async with machines(tmp_path, redis) as two:
        yield two


def own(machine: Machine) -> dict[str, int]:
    """The rooms that a machine holds, with their numbers."""
    assert machine.server.cluster is not None
    return machine.server.cluster._keeper.fences


async def noted(redis: RedisServer, room_id: str = ROOM) -> dict[str, object]:
    """What Redis knows of a room; empty if nothing."""
    async with redis.client() as client:
        text = await client.get(f"candor:state:{room_id}")
    return dict(json.loads(text)) if text else {}


async def in_redis(redis: RedisServer, client: Client) -> None:
    """Wait until somebody is among the notes, with the key that they hold."""

    async def missing() -> str:
        people = (await noted(redis)).get("participants", {})
        return "" if isinstance(people, dict) and client.me in people else "the seat in the notes"

    await until(missing)


async def cut_off(store: Store) -> None:
    """For this machine alone Redis is gone: it asks where nobody listens."""
    await store._redis.aclose()
    nowhere = Redis.from_url("unix:///nonexistent/redis.sock", retry=Retry(NoBackoff(), 0))
    store._scripts = {text: nowhere.register_script(text) for text in store._scripts}
    store._redis = nowhere


async def asked(machine: Machine, **fields: object) -> dict[str, object]:
    """The answer to a join."""
    client = await machine.client()
    return dict(await client.result("join", {"room_id": ROOM, "name": "Ada", **fields}))


# --- where joins land


async def test_a_join_anywhere_leads_to_the_machine_that_has_the_room(pair: list[Machine]) -> None:
    one, two = pair
    ada = await one.joined("Ada", hops=1)
    assert await asked(two) == {"redirect": one.url}
    assert await asked(two, hops=3) == {"redirect": one.url}
    assert await asked(two, session_key=ada.key) == {"redirect": one.url}
    bert = await one.client()
    result = await bert.join("Bert", hops=1)
    assert result["nodes"] == [two.url]
    assert len(result["room"]["participants"]) == 2
    assert not two.server.rooms.find(ROOM)


async def test_a_new_room_goes_to_the_machine_that_is_less_busy(pair: list[Machine]) -> None:
    one, two = pair
    await one.joined("Ada")
    await until(lambda: "" if two.server.cluster and two.server.cluster._best().id == "m1" else "the load of m0")
    other = {"room_id": "other", "name": "Bert"}
    assert await (await one.client()).result("join", other) == {"redirect": two.url}
    assert (await (await two.client()).result("join", other))["resumed"] is False


async def test_two_who_ask_two_machines_at_once_meet(pair: list[Machine]) -> None:
    answers = await asyncio.gather(*(asked(machine, hops=1) for machine in pair))
    redirects = [answer["redirect"] for answer in answers if "redirect" in answer]
    owner = next(machine for machine in pair if machine.seats())
    assert redirects == [owner.url]


async def test_who_may_not_come_in_leaves_the_room_free(tmp_path: Path, redis: RedisServer) -> None:
    async with machines(tmp_path, redis, open_rooms=False, secret=SECRET) as (one, two):
        stranger = await one.client()
        assert await stranger.code("join", {"room_id": ROOM, "name": "x", "hops": 1}) == "bad_token"
        key = {"room_id": ROOM, "name": "x", "hops": 1, "session_key": "p_1.x"}
        assert await stranger.code("join", key) == "resume_refused"
        await until(lambda: (own(one) and "the end of the claim") or "")
        await two.joined("Ada", token=two.token("ada"), hops=1)
        assert ROOM in own(two)


async def test_a_room_that_has_ended_is_forgotten(pair: list[Machine], redis: RedisServer) -> None:
    one, two = pair
    ada = await one.joined("Ada", hops=1)
    await in_redis(redis, ada)
    await ada.result("leave")
    again = await two.joined("Bert", hops=1) if not await noted(redis) else None
    if again is None:

        async def missing() -> str:
            return "the end of the notes" if await noted(redis) else ""

        await until(missing)
        again = await two.joined("Bert", hops=1)
    assert two.seats() == {again.me}


async def test_pages_of_other_machines_may_connect(pair: list[Machine]) -> None:
    one, two = pair
    await one.client(Origin=two.url)
    await two.die()
    await knows(one, 0)
    await one.client(Origin=two.url)  # a page that came from the machine that has died
    with pytest.raises(Exception, match="Connection error"):
        await one.client(Origin="http://elsewhere.test")


# --- a machine dies


async def test_who_was_on_a_machine_that_died_goes_on_on_another(tmp_path: Path, redis: RedisServer) -> None:
    async with machines(tmp_path, redis, open_rooms=False, secret=SECRET) as (one, two):
        ada = await one.joined("Ada", token=one.token("ada", host=True), hops=1)
        bert = await one.joined("Bert", token=one.token("bert"), hops=1)
        eve = await one.joined("Eve", token=one.token("eve"), hops=1)
        await bert.result("set_processor", {"processor": "captions", "on": False})
        await ada.result("moderate", {"action": "remove", "participant_id": eve.me})
        await ada.result("moderate", {"action": "lock"})
        await in_redis(redis, bert)
        fence = own(one)[ROOM]

        async def missing() -> str:
            return (
                "" if dict(await noted(redis))["room"] == one.server.rooms.find(ROOM).notes().model_dump() else "lock"
            )

        await until(missing)
        await one.die()
        back, result = await came_back(two, bert)
        assert result["resumed"] and result["participant_id"] == bert.me
        assert [person["name"] for person in result["room"]["participants"]] == ["Ada", "Bert"]
        assert result["room"]["locked"]
        assert own(two)[ROOM] > fence
        track_id = (await back.publish())["0"]
        assert not two.worker.requests(DropRoom)
        tracks = two.server.rooms.find(ROOM).participants[bert.me].tracks
        assert tracks[track_id].processors["captions"] is False
        banned = {"room_id": ROOM, "name": "Eve", "token": two.token("eve")}
        assert await (await two.client()).code("join", banned) == "forbidden"
        stranger = {"room_id": ROOM, "name": "Fay", "token": two.token("fay")}
        assert await (await two.client()).code("join", stranger) == "room_locked"
        _, host = await came_back(two, ada)
        assert host["host"]


async def test_who_believes_in_their_old_transports_is_told_to_make_new_ones(
    pair: list[Machine], redis: RedisServer
) -> None:
    one, two = pair
    ada = await one.joined("Ada", hops=1)
    await in_redis(redis, ada)
    await one.die()
    back, _ = await came_back(two, ada, fresh_transports=False)
    await back.event("transport_replace")


# --- Redis dies


async def test_redis_dies_and_comes_back_empty_and_nobody_notices(pair: list[Machine], redis: RedisServer) -> None:
    one, two = pair
    ada, bert = await one.joined("Ada", hops=1), await two.joined("Bert", room="other", hops=1)
    await in_redis(redis, ada)
    before = own(one)[ROOM]
    await redis.kill()
    await until(lambda: "" if not any(m.server.cluster._in_touch for m in pair) else "the loss")
    await ada.result("chat", {"text": "still here"})
    await one.joined("Cleo", hops=1)  # a room that is ours needs no Redis
    new = {"room_id": "new", "name": "Dora"}
    assert await (await one.client()).code("join", new) == "media_unavailable"
    deadline = asyncio.get_running_loop().time() + LEASE_S + 1
    await until(lambda: "" if asyncio.get_running_loop().time() > deadline else "a lease without Redis")
    await redis.start()
    await in_redis(redis, ada)
    await until(lambda: "" if own(one)[ROOM] > before else "the room under a new number")
    assert one.seats() >= {ada.me} and two.seats("other") == {bert.me}
    assert not ada.events("moved") and not bert.events("moved")
    assert not one.worker.requests(DropRoom) and not two.worker.requests(DropRoom)
    await knows(one, 1)
    assert await asked(two) == {"redirect": one.url}


async def test_a_machine_that_is_cut_off_lets_go_before_another_takes_its_room(
    pair: list[Machine], redis: RedisServer
) -> None:
    one, two = pair
    ada = await one.joined("Ada", hops=1)
    await in_redis(redis, ada)
    for store in (one.server.cluster._store, one.membership._store):
        await cut_off(store)
    when_moved: list[bool] = []
    ada.sio.on("moved", lambda _: when_moved.append(ROOM in own(two)))
    back, result = await came_back(two, ada)
    assert when_moved == [False], "two machines had the room at once"
    assert not one.seats()
    assert one.worker.requests(DropRoom)
    assert result["resumed"] and back.me == ada.me
    assert await (await one.client()).code("join", {"room_id": "new", "name": "x"}) == "media_unavailable"


async def test_a_machine_whose_room_is_taken_closes_it(pair: list[Machine], redis: RedisServer) -> None:
    one, two = pair
    ada = await one.joined("Ada", hops=1)
    await in_redis(redis, ada)
    incarnation = two.cluster.incarnation
    async with redis.client() as client:
        room = {"node": "m1", "incarnation": incarnation, "fence": own(one)[ROOM] + 5}
        await client.hset(f"candor:room:{ROOM}", mapping=room)
    assert await ada.event("moved") == {"url": two.url}
    assert not one.seats()
    await until(lambda: "" if one.worker.requests(DropRoom) else "the end of its media")
    assert ROOM in dict(json.loads(json.dumps({ROOM: await noted(redis)}))), "what is noted is the other's now"


# --- a machine leaves


async def test_a_machine_that_stops_sends_its_rooms_elsewhere(pair: list[Machine]) -> None:
    one, two = pair
    ada = await one.joined("Ada", hops=1)
    await ada.result("moderate", {"action": "lock"})
    await one.server.close()
    assert ada.events("moved") == [{"url": two.url}]
    back, result = await came_back(two, ada, hops=0)
    assert result["room"]["locked"] and back.me == ada.me


async def test_a_machine_that_drains_takes_no_new_rooms_and_keeps_running(pair: list[Machine]) -> None:
    one, two = pair
    ada = await one.joined("Ada", hops=1)
    assert one.server.cluster is not None
    await one.server.cluster.drain()
    assert await ada.event("moved") == {"url": two.url}
    await came_back(two, ada, hops=0)
    new = {"room_id": "new", "name": "x", "hops": 1}
    assert await (await one.client()).result("join", new) == {"redirect": two.url}
    await until(lambda: "" if two.server.cluster.others == [] else "m1 to hear of it")


async def test_the_last_machine_keeps_its_rooms_when_it_drains(pair: list[Machine]) -> None:
    one, two = pair
    await two.close()
    await knows(one, 0)
    ada = await one.joined("Ada")
    await one.server.cluster.drain()
    await ada.result("chat", {"text": "still here"})
    assert not ada.events("moved")


# --- what is said about people


async def test_neither_names_nor_the_password_are_logged(
    pair: list[Machine], redis: RedisServer, capfd: pytest.CaptureFixture[str]
) -> None:
    one, two = pair
    ada = await one.joined("Ada Lovelace", hops=1)
    await in_redis(redis, ada)
    async with redis.client() as client:
        await client.set(f"candor:state:{ROOM}", '{"room": "Ada Lovelace"}')
    await one.die()
    await until(lambda: "" if not own(one) else "the end")

    async def missing() -> str:
        client = await two.client()
        answer = await client.ask("join", {"room_id": ROOM, "name": "Ada Lovelace", "hops": 1})
        return "" if answer["ok"] and "redirect" not in answer["result"] else "a seat"

    await until(missing)
    await redis.kill()
    await until(lambda: "" if not two.server.cluster._in_touch else "the loss")
    logged = "".join(capfd.readouterr())
    assert "room_record_malformed" in logged and "redis_away" in logged
    assert "Lovelace" not in logged and "redis-password" not in logged
