"""What participants are told about our relay: at join, at resume, and again before it expires."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.integration.signaling_kit import Meeting, meeting
from tests.until import until

TURN_SECRET = "t" * 32
URLS = ["turn:relay.example:3478", "turns:relay.example:443?transport=tcp"]
STUN = {"urls": ["stun:stun.example"]}
TTL_S = 120


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Meeting]:
    turn = {"urls": URLS, "secret": TURN_SECRET, "ttl_s": TTL_S}
    async with meeting(tmp_path, turn=turn, ice_servers=[STUN]) as one:
        yield one


def relay_of(servers: list[dict[str, Any]]) -> dict[str, Any]:
    """The one with credentials; checks the rest."""
    stun, turn = servers
    assert stun["urls"] == STUN["urls"]
    assert turn["urls"] == URLS
    return turn


def expiry_of(servers: list[dict[str, Any]]) -> int:
    return int(relay_of(servers)["username"].partition(":")[0])


async def test_join_and_resume_bring_credentials_that_are_fresh(room: Meeting) -> None:
    client = await room.client()
    before = int(time.time())
    joined = await client.join("Ada")
    assert before + TTL_S <= expiry_of(joined["ice_servers"]) <= time.time() + TTL_S
    assert "Ada" not in str(joined["ice_servers"])
    assert client.me not in str(joined["ice_servers"])
    await client.drop()
    again = await room.client()
    resumed = await again.join("Ada", session_key=client.key)
    assert resumed["resumed"]
    assert expiry_of(resumed["ice_servers"]) >= before + TTL_S


async def test_who_is_there_is_told_again_and_who_is_away_is_not(room: Meeting) -> None:
    ada, bert = await room.joined("Ada"), await room.joined("Bert")
    await bert.drop()
    seats = [seat for one in room.server.rooms for seat in one.participants.values()]
    await until(lambda: "" if sum(seat.present for seat in seats) == 1 else "Bert's loss")
    room.server.ice.renew()
    renewed = await ada.event("ice_servers_changed")
    assert expiry_of(renewed["ice_servers"]) >= time.time()


async def test_the_server_renews_by_itself_before_credentials_expire(
    room: Meeting, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    passing = asyncio.Event()
    real_sleep = asyncio.sleep

    async def sleep(delay: float, result: object = None) -> object:
        if delay < TTL_S / 4:  # not ours
            return await real_sleep(delay, result)
        waits.append(delay)
        await passing.wait()
        passing.clear()
        return result

    ada = await room.joined("Ada")
    await room.server.ice.close()
    monkeypatch.setattr("signaling.turn.asyncio.sleep", sleep)
    room.server.ice.start()
    passing.set()
    await ada.event("ice_servers_changed")
    await until(lambda: "" if len(waits) == 2 else "the next wait")
    assert all(wait < TTL_S for wait in waits)


async def test_before_joining_only_the_urls_are_told(room: Meeting) -> None:
    async with aiohttp.ClientSession() as http, http.get(f"{room.server.url}/api/v1/config") as response:
        config = await response.json()
    assert config["ice_servers"] == [STUN, {"urls": URLS}]
