"""Signaling against clients that do not behave: over HTTP, over Socket.IO, in a hurry, or deaf."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import socketio
import structlog

from signaling.events import Event
from signaling.gateway import UNREAD_MAX_BYTES, Connection
from signaling.participants import CHAT_BURST
from signaling.protocol.messages import REQUESTS, ChatLine, ChatMessage
from tests.integration.signaling_kit import IMG, ROOM, SECRET, Meeting, caption, meeting
from tests.until import until


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Meeting]:
    """Open rooms, as in development."""
    async with meeting(tmp_path) as one:
        yield one


# --- HTTP


async def test_http(room: Meeting) -> None:
    url = room.server.url
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url}/r/{ROOM}") as page:
            assert page.status == 503 and "make run" in await page.text()
            assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
            assert page.headers["Referrer-Policy"] == "no-referrer"
        async with session.get(f"{url}/api/v1/config") as config:
            assert (await config.json())["open_rooms"] is True
        async with session.get(f"{url}/api/v1/health/ready") as ready:
            assert ready.status == 200
        async with session.get(f"{url}/", headers={"Host": "evil.example"}) as rebound:
            assert rebound.status == 421
        for name in ("/assets/..%2f..%2fetc%2fpasswd", "/..%2fsecret", "/nothing.txt"):
            async with session.get(url + name) as missing:
                assert missing.status == 404


@pytest.mark.parametrize(
    ("header", "status"),
    [("Host: [::1", 421), ("Host: 127.0.0.1\r\nContent-Length: jam", 400), ("Host: 127.0.0.1\r\nSp ace: jam", 400)],
)
async def test_broken_headers_are_refused_and_not_logged(
    room: Meeting, caplog: pytest.LogCaptureFixture, header: str, status: int
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(room.server.url).port)
    writer.write(f"GET / HTTP/1.1\r\n{header}\r\n\r\n".encode())
    assert (await reader.readline()).split()[1] == str(status).encode()
    writer.close()
    await writer.wait_closed()
    assert caplog.text == ""


async def test_a_mistake_of_ours_in_a_page_names_its_place_alone(
    room: Meeting, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path, __: str) -> None:
        raise RuntimeError("jam")

    monkeypatch.setattr(Path, "glob", fail)
    with structlog.testing.capture_logs() as lines:
        async with aiohttp.ClientSession() as session, session.get(f"{room.server.url}/x.txt") as answer:
            assert answer.status == 500
    assert [(line["event"], line["error"]) for line in lines] == [("http_failed", "RuntimeError")]
    assert "jam" not in repr(lines) + caplog.text


async def test_a_foreign_origin_is_refused(room: Meeting) -> None:
    with pytest.raises(socketio.exceptions.ConnectionError):
        await room.client(Origin="https://evil.example")
    own = await room.client(Origin=room.server.url)
    assert (await own.join())["participant_id"]


# --- Socket.IO


# --- abuse


async def test_an_oversized_message_ends_only_its_own_socket(room: Meeting) -> None:
    ada, bert = await room.joined("Ada"), await room.joined("Bert")
    await bert.sio.emit("chat", {"text": "x" * (2 << 20)})
    await until(lambda: "the end of Bert's socket" if bert.sio.connected else "")
    await ada.result("chat", {"text": "still here"})
    back = await room.client()
    assert (await back.join("Bert", session_key=bert.key))["resumed"] is True


async def test_too_many_messages_are_refused(tmp_path: Path) -> None:
    async with meeting(tmp_path, messages_per_s=0.001, message_burst=4) as one:
        ada = await one.joined()
        codes = [(await ada.ask("chat", {"text": "again"})).get("error") for _ in range(5)]
        assert [error and error["code"] for error in codes] == [None, None, None, "rate_limited", "rate_limited"]
        assert codes[-1]["retryable"] is True
        for _ in range(3):
            await ada.sio.emit("chat", {"text": "flood"})
        await until(lambda: "the end of a flooding socket" if ada.sio.connected else "")


async def test_a_new_socket_is_not_a_new_allowance(tmp_path: Path) -> None:
    async with meeting(tmp_path, open_rooms=False, secret=SECRET, messages_per_s=0.001, message_burst=5) as one:
        token = one.token("ada")
        ada = await one.joined("Ada", token=token)
        for _ in range(4):
            await ada.result("chat", {"text": "again"})
        assert await ada.code("chat", {"text": "again"}) == "rate_limited"
        resumed, anew = await one.client(), await one.client()
        await resumed.join("Ada", session_key=ada.key)
        assert await resumed.code("chat", {"text": "again"}) == "rate_limited"
        await anew.join("Ada", token=token)
        assert await anew.code("chat", {"text": "again"}) == "rate_limited"


async def test_chat_has_a_limit_of_its_own_also_across_sockets(room: Meeting) -> None:
    ada = await room.joined("Ada")
    for _ in range(CHAT_BURST):
        await ada.result("chat", {"text": "again"})
    again = await room.client()
    await again.join("Ada", session_key=ada.key)
    while (answer := await again.ask("chat", {"text": "again"}))["ok"]:  # what came in since at 2 a second
        assert len(again.events("chat_message")) < CHAT_BURST
    assert (answer["error"]["code"], answer["error"]["retryable"]) == ("rate_limited", True)
    await again.result("report_quality", {"loss_percent": 0})


async def test_a_client_that_reads_nothing_is_cut_when_it_owes_two_mebibytes(room: Meeting) -> None:
    ada, deaf = await room.joined("Ada"), await room.joined("Deaf")
    seat = room.server.rooms.participant(deaf.me)
    assert seat is not None and isinstance(seat.outlet, Connection)
    deaf.stop_reading()
    waiting = room.server.gateway._unread_bytes
    line = Event.of(ChatMessage(line=ChatLine(participant_id=ada.me, name="Ada", text="x" * 4000, sent_at="now")))
    peak = 0
    socket = seat.outlet
    while seat.present:
        if not socket.outbox:
            socket.send(line)
        await asyncio.sleep(0)
        peak = max(peak, waiting(socket.sid))
    assert UNREAD_MAX_BYTES // 2 < peak < UNREAD_MAX_BYTES + 100_000
    await ada.result("chat", {"text": "still here"})
    deaf.read_on()


async def test_malformed_payloads_of_every_request_are_refused_over_the_wire(tmp_path: Path) -> None:
    hostile: list[Any] = [
        None,
        7,
        "text",
        [],
        {"sdp": {}},
        {"__proto__": {}},
        {"action": "explode"},
        {"text": "\x00" * 5000},
    ]
    async with meeting(tmp_path, message_burst=500) as one:
        ada = await one.joined()
        for event in REQUESTS:
            for payload in hostile:
                answer = await ada.sio.call(event, payload, timeout=10)
                assert answer["error"]["code"] in ("bad_message", "too_large"), (event, payload)
        await ada.result("chat", {"text": "still here"})


@pytest.mark.parametrize(
    "packet",
    ['451-["chat",{"_placeholder":true,"num":0}]', '2["disconnect","x"]', '2[{"not":"a name"}]', "2not json"],
)
async def test_a_packet_that_no_client_sends_costs_its_sender_the_connection_alone(room: Meeting, packet: str) -> None:
    ada, bert = await room.joined("Ada"), await room.joined("Bert")
    assert await ada.code("no_such_request", {}) == "bad_message"
    seat = room.server.rooms.participant(bert.me)
    assert seat is not None
    await bert.sio.eio.send(packet)
    await until(lambda: "the end of Bert's connection" if seat.present else "")
    await ada.result("chat", {"text": "still here"})


async def test_no_personal_value_reaches_the_log(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as lines:
        async with meeting(tmp_path, open_rooms=False, secret=SECRET) as one:
            token = one.token("ada@identity.example", host=True)
            ada = await one.joined("Ada-Personal", token=token)
            track_id = (await ada.publish())["0"]
            await ada.result("chat", {"text": "text-personal"})
            one.watch_host.notify("finding", caption(ada.me, track_id, epoch=0))
            await ada.event("finding")
            one.worker.notify_raw("offer", {"participant_id": ada.me, "sdp": ["192.0.2.77"]})
            one.watch_host.notify("finding", {"text": "text-personal"})
            assert await ada.code("join", {"room_id": ROOM, "name": "Ada-Personal", "token": token}) == "already_joined"
            await ada.drop()
    log = repr(lines)
    assert ada.me in log
    for personal in (
        "Ada-Personal",
        "text-personal",
        "identity.example",
        IMG,
        token,
        ada.key,
        "192.0.2.77",
        "127.0.0.1",
    ):
        assert personal not in log
