"""The link between processes."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from sfu.channel import Channel, ChannelClosedError, ChannelError, connect, pair, serve
from tests.until import until


@pytest_asyncio.fixture
async def ends() -> AsyncIterator[tuple[Channel, Channel]]:
    left, right = await pair()
    yield left, right
    await left.close()
    await right.close()


async def test_a_request_is_answered(ends: tuple[Channel, Channel]) -> None:
    left, right = ends

    async def answer(method: str, params: dict[str, Any]) -> Any:
        return {"method": method, **params}

    right.on_request = answer
    left.start()
    right.start()
    assert await left.request("hello", {"a": b"\x00"}) == {"method": "hello", "a": b"\x00"}


async def test_errors_keep_their_code(ends: tuple[Channel, Channel]) -> None:
    left, right = ends

    async def refuse(method: str, params: dict[str, Any]) -> Any:
        if method == "bug":
            raise RuntimeError("secret detail")
        raise ChannelError("full", "come back later", retryable=True)

    right.on_request = refuse
    left.start()
    right.start()
    with pytest.raises(ChannelError) as refused:
        await left.request("anything")
    assert (refused.value.code, refused.value.message, refused.value.retryable) == ("full", "come back later", True)
    with pytest.raises(ChannelError) as failed:
        await left.request("bug")
    assert (failed.value.code, failed.value.message) == ("internal", "RuntimeError")


async def test_notifications_arrive_in_order(ends: tuple[Channel, Channel]) -> None:
    left, right = ends
    heard: list[int] = []

    def note(event: str, params: dict[str, Any]) -> None:
        heard.append(params["n"])
        if params["n"] == 3:
            raise RuntimeError("a handler's mistake does not end the link")

    right.on_notify = note
    left.start()
    right.start()
    for n in range(50):
        left.notify("count", {"n": n})
    await until(lambda: "" if len(heard) == 50 else "50 notifications")
    assert heard == list(range(50))


async def test_the_other_sides_end_fails_what_waits(ends: tuple[Channel, Channel]) -> None:
    left, right = ends
    asked = asyncio.Event()

    async def never(method: str, params: dict[str, Any]) -> Any:
        asked.set()
        await asyncio.Event().wait()

    right.on_request = never
    left.start()
    right.start()
    request = asyncio.create_task(left.request("x"))
    await asked.wait()
    await right.close()
    with pytest.raises(ChannelClosedError):
        await request
    await left.closed.wait()
    with pytest.raises(ChannelClosedError):
        await left.request("y")
    left.notify("z", {})


async def test_a_request_times_out_with_a_code(ends: tuple[Channel, Channel]) -> None:
    left, _right = ends
    left.start()
    with pytest.raises(ChannelError) as timed_out:
        await left.request("x", timeout_s=0.01)
    assert (timed_out.value.code, timed_out.value.retryable) == ("timeout", True)


async def test_garbage_ends_the_link_and_nothing_else(tmp_path: Path) -> None:
    accepted: list[Channel] = []

    def accept(channel: Channel) -> None:
        accepted.append(channel)
        channel.start()

    path = tmp_path / "x.sock"
    server = await serve(path, accept)
    assert path.stat().st_mode & 0o777 == 0o600
    for garbage in (b"\xff\xff\xff\xff", b"\x00\x00\x00\x03abc", b"\x00\x00\x00\x01\x93", b"\x00\x00\x00\x02\x91\x09"):
        _, writer = await asyncio.open_unix_connection(path)
        writer.write(garbage)
        count = len(accepted)
        await until(lambda count=count: "" if len(accepted) > count - 1 and accepted else "the connection")
        writer.write_eof()
        await until(lambda: "" if accepted and accepted[-1].closed.is_set() else "the link's end")
        writer.close()
    healthy = await connect(path)
    healthy.start()
    with pytest.raises(ChannelError) as refused:
        await healthy.request("x")
    assert refused.value.code == "no_such_method"
    await healthy.close()
    for channel in accepted:
        await channel.close()
    server.close()
