"""A bot against a scripted Socket.IO server: what it does when it is refused, cut off, moved or sent away.

The real server is in test_bots.py; here the test decides what the server says, and when.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import socketio
from aiohttp import web

from bots import BotClosed, BotError, BotState, ConnectionLost, MeetingBot, SilenceSource
from signaling.protocol import messages as wire
from signaling.protocol.codes import CloseReason, ErrorCode
from tests.integration.test_bots_media import FarEnd
from tests.until import until

NOW = "2026-01-01T00:00:00Z"


class ScriptedServer:
    """Answers joins with an empty room, publishes with an aiortc connection, and keeps what it was asked."""

    def __init__(self) -> None:
        self.socket = socketio.AsyncServer(async_mode="aiohttp", cors_allowed_origins=[])
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.refusals: dict[str, list[ErrorCode]] = {}
        self.hangs_up_on = ""
        self.far_ends: list[FarEnd] = []
        self.sid = ""
        self.url = ""
        self._runner: web.AppRunner | None = None
        self.socket.on("*", self._on_request)

    async def start(self) -> None:
        app = web.Application()
        self.socket.attach(app)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    async def close(self) -> None:
        for end in self.far_ends:
            await end.connection.close()
        await self.socket.shutdown()
        if self._runner is not None:
            await self._runner.cleanup()

    def requests(self, name: str) -> list[dict[str, Any]]:
        return [body for asked, body in self.asked if asked == name]

    async def emit(self, name: str, event: wire.Message) -> None:
        await self.socket.emit(name, event.model_dump(mode="json"), to=self.sid)

    async def cut(self) -> None:
        await self.socket.disconnect(self.sid)

    async def _on_request(self, name: str, sid: str, body: dict[str, Any]) -> dict[str, Any]:
        self.sid = sid
        self.asked.append((name, body))
        if name == self.hangs_up_on:
            await self.cut()
            return {}
        if self.refusals.get(name):
            code = self.refusals[name].pop(0)
            return {"ok": False, "error": {"code": code.value, "message": "scripted", "retryable": False}}
        if name == "join":
            return {"ok": True, "result": self._join(body).model_dump(mode="json")}
        if name == "publish":
            self.far_ends.append(FarEnd())
            answer = await self.far_ends[-1].request(wire.Publish.model_validate(body))
            return {"ok": True, "result": answer.model_dump(mode="json")}
        return {"ok": True, "result": None}

    def _join(self, body: dict[str, Any]) -> wire.JoinResult:
        joins = len(self.requests("join"))
        snapshot = wire.RoomSnapshot(
            room_id=body["room_id"], locked=False, participants=[], processors=[], processor_status=[], chat=[]
        )
        return wire.JoinResult(
            participant_id="p1" if body["session_key"] or joins == 1 else f"p{joins}",
            host=False,
            resumed=body["session_key"] is not None,
            session_key=f"key{joins}",
            room=snapshot,
            ice_servers=[],
            protocol_version=wire.PROTOCOL_VERSION,
            invite_url="",
            nodes=[],
        )


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedServer]:
    server = ScriptedServer()
    await server.start()
    yield server
    await server.close()


async def test_join_says_what_an_aiortc_client_needs(scripted: ScriptedServer) -> None:
    async with MeetingBot(scripted.url, "room", "Bot", token="grant", subscribe=False) as bot:
        assert bot.participant_id == "p1"
        assert bot.state is BotState.JOINED
        await bot.say("hello")
        await bot.set_processor("denoise", False)
    (join,) = scripted.requests("join")
    assert (join["stable_ssrcs"], join["bot"], join["token"], join["name"]) == (True, True, "grant", "Bot")
    assert scripted.requests("subscribe")[0]["auto"] is False
    assert scripted.requests("chat") == [{"text": "hello"}]
    assert scripted.requests("set_processor") == [{"processor": "denoise", "on": False}]
    assert len(scripted.requests("leave")) == 1
    assert await bot.closed() is CloseReason.LEFT
    with pytest.raises(BotClosed):
        await bot.publish_audio(SilenceSource())


async def test_a_refused_join_is_the_caller_s_error(scripted: ScriptedServer) -> None:
    scripted.refusals["join"] = [ErrorCode.ROOM_LOCKED]
    with pytest.raises(BotError) as refused:
        await MeetingBot(scripted.url, "room", "Bot").start()
    assert refused.value.code is ErrorCode.ROOM_LOCKED


async def test_no_server_is_a_lost_connection() -> None:
    with pytest.raises(ConnectionLost):
        await MeetingBot("http://127.0.0.1:9", "room", "Bot").start()


async def test_events_arrive_in_order_and_unknown_ones_are_skipped(scripted: ScriptedServer) -> None:
    async with MeetingBot(scripted.url, "room", "Bot") as bot:
        seen: list[str] = []
        bot.on(wire.ChatMessage, lambda event: seen.append(event.line.text))
        bot.on(wire.ChatMessage, lambda _: [].pop())  # a mistake of the caller
        await scripted.socket.emit("from_the_future", {"x": 1}, to=scripted.sid)
        await scripted.socket.emit("room_changed", {"locked": "neither"}, to=scripted.sid)
        for number in range(50):
            line = wire.ChatLine(participant_id="x", name="X", text=f"{number}", sent_at=NOW)
            await scripted.emit("chat_message", wire.ChatMessage(line=line))
        await until(lambda: "" if len(seen) == 50 else f"50 lines, have {len(seen)}")
        assert seen == [str(number) for number in range(50)]
        assert bot.callback_errors == 50, "a callback that fails is counted and ends nothing"
        assert not bot.room.locked


async def test_after_a_cut_the_bot_resumes_and_keeps_working_transports(scripted: ScriptedServer) -> None:
    async with MeetingBot(scripted.url, "room", "Bot") as bot:
        await bot.publish_audio(SilenceSource())
        await scripted.cut()
        await until(lambda: "" if len(scripted.requests("join")) == 2 else "a second join")
        await until(lambda: "" if bot.state is BotState.JOINED else "the bot in the room")
        again = scripted.requests("join")[1]
        assert (again["session_key"], again["fresh_transports"]) == ("key1", False)
        assert len(scripted.requests("publish")) == 1, "nothing is published again"
        await bot.say("back")
        assert scripted.requests("chat") == [{"text": "back"}]


async def test_a_refused_resume_becomes_a_new_join_that_publishes_again(scripted: ScriptedServer) -> None:
    async with MeetingBot(scripted.url, "room", "Bot") as bot:
        await bot.publish_audio(SilenceSource())
        scripted.refusals["join"] = [ErrorCode.RESUME_REFUSED]
        await scripted.cut()
        await until(lambda: "" if len(scripted.requests("publish")) == 2 else "a second publish")
        assert [join["session_key"] for join in scripted.requests("join")] == [None, "key1", None]
        assert bot.participant_id == "p3"


async def test_a_resume_refused_for_good_ends_the_bot(scripted: ScriptedServer) -> None:
    async with MeetingBot(scripted.url, "room", "Bot") as bot:
        captions = bot.captions()
        scripted.refusals["join"] = [ErrorCode.TOKEN_EXPIRED]
        await scripted.cut()
        assert await bot.closed() is CloseReason.CONNECTION_LOST
        assert [caption async for caption in captions] == []


async def test_an_ack_that_cannot_come_any_more_is_not_waited_for(scripted: ScriptedServer) -> None:
    async with MeetingBot(scripted.url, "room", "Bot") as bot:
        scripted.hangs_up_on = "chat"
        with pytest.raises(ConnectionLost, match="lost before the answer"):
            await bot.say("hello?")


async def test_replaced_transports_are_built_anew(scripted: ScriptedServer) -> None:
    async with MeetingBot(scripted.url, "room", "Bot") as bot:
        microphone = await bot.publish_audio(SilenceSource())
        await until(lambda: "" if scripted.far_ends[0].remote else "the first track")
        await scripted.emit("transport_replace", wire.TransportReplace())
        await until(lambda: "" if len(scripted.far_ends) == 2 else "a second publish transport")
        await until(lambda: "" if scripted.far_ends[1].remote else "the track on the new transport")
        await scripted.far_ends[1].remote[0].recv()
        assert microphone.track_id
        assert len(scripted.requests("join")) == 1


async def test_a_transport_that_the_server_drops_is_replaced_by_a_resume(scripted: ScriptedServer) -> None:
    async with MeetingBot(scripted.url, "room", "Bot") as bot:
        await bot.publish_audio(SilenceSource())
        await until(lambda: "" if scripted.far_ends[0].remote else "the first track")
        await scripted.far_ends[0].remote[0].recv()
        await scripted.far_ends[0].connection.close()
        await until(lambda: "" if len(scripted.requests("publish")) == 2 else "a second publish")
        again = scripted.requests("join")[1]
        assert (again["session_key"], again["fresh_transports"]) == ("key1", True)


async def test_sent_away_means_gone(scripted: ScriptedServer) -> None:
    async with MeetingBot(scripted.url, "room", "Bot") as bot:
        findings = bot.findings()
        await scripted.emit("closed", wire.Closed(reason=CloseReason.REMOVED))
        assert await bot.closed() is CloseReason.REMOVED
        assert [finding async for finding in findings] == []
        assert bot.state is BotState.CLOSED
    assert len(scripted.requests("join")) == 1
    assert scripted.requests("leave") == []


async def test_a_host_s_mute_silences_the_publication(scripted: ScriptedServer) -> None:
    async with MeetingBot(scripted.url, "room", "Bot") as bot:
        microphone = await bot.publish_audio(SilenceSource())
        await scripted.emit("track_muted", wire.TrackMuted(track_id=microphone.track_id, muted=True, by_host=True))
        await until(lambda: "" if microphone.muted else "mute")
        await bot.mute(microphone, False)
        assert not microphone.muted
        assert scripted.requests("mute") == [{"track_id": microphone.track_id, "muted": False}]


async def test_the_packet_hook_is_set_before_joining(scripted: ScriptedServer) -> None:
    async with MeetingBot(scripted.url, "room", "Bot") as bot:
        with pytest.raises(RuntimeError, match="before"):
            bot.on_rtp(lambda _: None)
