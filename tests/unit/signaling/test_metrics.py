"""What signaling counts, and tells the supervisor on its own socket."""

from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from sfu.channel import ChannelError, connect
from signaling.errors import RoomError
from signaling.gateway import Connection, Gateway
from signaling.metrics import SOCKET_NAME, Inspection, RequestCounters, SignalingMetrics
from signaling.participants import Outlet, Participant, Track
from signaling.protocol.codes import CloseReason, ErrorCode
from signaling.protocol.messages import Join, JoinResult, Message
from signaling.rooms import Rooms
from signaling.settings import SignalingSettings
from tests.until import until


class FullHouse:
    """Lets nobody in."""

    async def join(self, request: Join, outlet: Outlet, base_url: str) -> tuple[Participant, JoinResult]:
        raise RoomError(ErrorCode.ROOM_FULL, "full")

    def socket_lost(self, participant: Participant, outlet: Outlet) -> None:
        raise AssertionError("nobody was in")


async def nothing(participant: Participant, request: Message) -> Message | None:
    return None


def told(page: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def metrics_of(rooms: Rooms, counters: RequestCounters) -> SignalingMetrics:
    return SignalingMetrics(CollectorRegistry(), counters, rooms, lambda: 4, lambda: 2, {"old_epoch": 3})


async def test_requests_are_counted_by_their_result_and_never_by_what_a_client_calls_them() -> None:
    gateway = Gateway(SignalingSettings(), FullHouse(), nothing)
    request = make_mocked_request("GET", "/socket.io/", headers={"Host": "127.0.0.1"})
    connection = Connection("sid", request, SignalingSettings(), gateway.counters)
    await gateway.answer(connection, "join", ({"room_id": "r", "name": "Ada", "protocol_version": 1},))
    await gateway.answer(connection, "leave", ({},))
    await gateway.answer(connection, "hunter2", ({},))
    connection.participant = Participant("r", "Ada")
    await gateway.answer(connection, "leave", ({},))
    connection.cut("flood")
    page = metrics_of(Rooms(), gateway.counters).page()
    samples = told(page)
    assert samples["candor_joins_total", "room_full"] == 1
    assert samples["candor_requests_total", "join", "room_full"] == 1
    assert samples["candor_requests_total", "leave", "not_joined"] == 1
    assert samples["candor_requests_total", "leave", "ok"] == 1
    assert samples["candor_requests_total", "bad_message", "unknown"] == 1
    assert samples["candor_sockets_cut_total", "flood"] == 1
    assert samples["candor_join_seconds_count",] == 0
    assert "hunter2" not in page and "Ada" not in page


def test_people_tracks_and_ways_to_leave_are_told() -> None:
    rooms = Rooms()
    room = rooms.open("secret-room", 0)
    ada, bob, bot = Participant(room.id, "Ada"), Participant(room.id, "Bob"), Participant(room.id, "Bot", bot=True)
    for one in (ada, bob, bot):
        rooms.enter(room, one)
    bob.lose_socket()
    rooms.publish(ada, Track("t", ada.id, "camera", muted=False))
    bot.leave(CloseReason.REMOVED)
    rooms.remove(bot)
    rooms.remove(bot)
    page = metrics_of(rooms, RequestCounters()).page()
    samples = told(page)
    assert samples["candor_rooms",] == 1
    assert samples["candor_participants", "joining"] == 1
    assert samples["candor_participants", "away"] == 1
    assert samples["candor_bots",] == 0
    assert samples["candor_tracks", "camera"] == 1
    assert samples["candor_participants_left_total", "removed"] == 1
    assert samples["candor_participants_left_total", "left"] == 0
    assert samples["candor_findings_dropped_total", "old_epoch"] == 3
    assert (samples["candor_sockets",], samples["candor_ready_workers",]) == (4, 2)
    assert "secret-room" not in page


async def test_the_supervisor_is_answered_and_nobody_else_has_the_socket(tmp_path: Path) -> None:
    path = tmp_path / SOCKET_NAME
    metrics = metrics_of(Rooms(), RequestCounters())
    inspection = Inspection(path, metrics, lambda: 2)
    await inspection.start()
    assert path.stat().st_mode & 0o077 == 0
    channel = await connect(path)
    channel.start()
    try:
        assert await channel.request("health") == {"ready_workers": 2}

        async def measured() -> str:
            page: Any = await channel.request("metrics")
            return "" if told(page)["candor_event_loop_lag_seconds_count",] > 0 else "a look at the event loop"

        await until(measured)
        with pytest.raises(ChannelError, match="kick_everybody"):
            await channel.request("kick_everybody")
    finally:
        await channel.close()
        await inspection.close()
        await inspection.close()
