"""Whatever a client sends, it gets an ack, and nothing raises."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
import socketio
from aiohttp.test_utils import make_mocked_request
from hypothesis import given, settings
from hypothesis import strategies as st

from signaling.errors import RoomError, SignalingError
from signaling.events import Event
from signaling.gateway import (
    JOIN_BURST,
    OUTBOX_MAX,
    PENDING_MAX,
    Connection,
    Gateway,
    TextPacket,
    origin_allowed,
    parse,
)
from signaling.metrics import RequestCounters
from signaling.participants import Outlet, Participant
from signaling.protocol.codes import ErrorCode
from signaling.protocol.messages import REQUESTS, Ack, Join, JoinResult, Message, RoomChanged
from signaling.settings import SignalingSettings

SETTINGS = SignalingSettings()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=6,
)
FIELDS = sorted({name for request, _ in REQUESTS.values() for name in request.model_fields})
PAYLOADS = st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=5)


class NoLobby:
    """Lets nobody in."""

    async def join(self, request: Join, outlet: Outlet, base_url: str) -> tuple[Participant, JoinResult]:
        raise RoomError(ErrorCode.ROOM_FULL, "full")

    def socket_lost(self, participant: Participant, outlet: Outlet) -> None:
        raise AssertionError("nobody was in")


async def fail(participant: Participant, request: Message) -> Message | None:
    raise RuntimeError("a mistake of ours")


def connection(inside: bool = True) -> Connection:
    one = Connection(
        "sid", make_mocked_request("GET", "/socket.io/", headers={"Host": "127.0.0.1"}), SETTINGS, RequestCounters()
    )
    one.participant = Participant("r", "Ada") if inside else None
    return one


@pytest.fixture(scope="module")
def gateway() -> Gateway:
    return Gateway(SETTINGS, NoLobby(), fail)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """One event loop for all examples."""
    with asyncio.Runner() as one:
        yield one


@settings(max_examples=100, deadline=None)
@given(
    event=st.sampled_from([*REQUESTS, "nonsense", "*", "message"]),
    arguments=st.lists(PAYLOADS | JSON, max_size=2).map(tuple) | PAYLOADS.map(lambda payload: (payload,)),
    inside=st.booleans(),
)
def test_every_request_gets_an_ack_that_is_an_ack(
    gateway: Gateway, runner: asyncio.Runner, event: str, arguments: tuple[Any, ...], inside: bool
) -> None:
    answer = runner.run(gateway.answer(connection(inside), event, arguments))
    ack = Ack.model_validate(answer)
    assert not ack.ok and ack.error is not None and ack.error.message
    json.dumps(answer, allow_nan=False)


@given(st.sampled_from(sorted(REQUESTS)), PAYLOADS)
def test_refusals_never_repeat_a_value(event: str, payload: dict[str, Any]) -> None:
    secret = "hunter2-hunter2"
    with pytest.raises(SignalingError) as refused:
        parse(event, ({**payload, "text": secret, "name": secret, "room_id": f"{secret} !", "token": [secret]},))
    assert secret not in refused.value.message


@pytest.mark.parametrize(
    ("event", "payload"),
    [
        ("subscribe_answer", {"sdp": "v=0", "version": 10**25}),
        ("report_quality", {"loss_percent": 0, "freezes": 10**25}),
        ("join", {"room_id": "r", "name": "Ada", "protocol_version": 10**25}),
        ("subscribe", {"tiles": [{"track_id": "t", "width": 10**25, "height": 1}]}),
    ],
)
def test_numbers_that_no_worker_could_be_sent_are_refused(event: str, payload: dict[str, Any]) -> None:
    with pytest.raises(SignalingError) as refused:
        parse(event, (payload,))
    assert refused.value.code is ErrorCode.BAD_MESSAGE


@pytest.mark.parametrize(
    "name",
    ["\u202e\u200b", "Ada\u202egro.live", "A\x00da", "Ada\n Host", "\u2066Ada\u2069", "\u200d", "\u200c \u200d", "  "],
)
def test_names_that_show_nothing_or_turn_text_around_are_refused(name: str) -> None:
    with pytest.raises(SignalingError) as refused:
        parse("join", ({"room_id": "r", "name": name},))
    assert refused.value.code is ErrorCode.BAD_MESSAGE
    assert name.strip() == "" or name not in refused.value.message


@pytest.mark.parametrize(
    "name", ["Ada L.", "\N{MAN}\N{ZERO WIDTH JOINER}\N{PERSONAL COMPUTER}", "Ma\u200cma", "\u0645\u06cc\u200c\u062e"]
)
def test_names_as_people_write_them_pass(name: str) -> None:
    request = parse("join", ({"room_id": "r", "name": name},))
    assert isinstance(request, Join) and request.name == name


async def test_attempts_to_join_have_a_limit_of_their_own(gateway: Gateway) -> None:
    one = connection(inside=False)
    codes = [
        (await gateway.answer(one, "join", ({"room_id": "r", "name": "Ada"},)))["error"]["code"]
        for _ in range(JOIN_BURST + 1)
    ]
    assert codes == ["room_full"] * JOIN_BURST + ["rate_limited"]


def test_every_number_in_a_request_has_bounds() -> None:
    for request, _ in REQUESTS.values():
        for field in json.dumps(request.model_json_schema()).split("{"):
            assert '"type": "integer"' not in field or ('"maximum"' in field and '"minimum"' in field), field


def test_a_mistake_of_ours_is_internal(gateway: Gateway, runner: asyncio.Runner) -> None:
    answer = runner.run(gateway.answer(connection(), "leave", ({},)))
    assert answer["error"] == {"code": "internal", "message": "something went wrong on the server", "retryable": False}


async def test_requests_of_one_socket_run_in_order_and_only_so_many_wait() -> None:
    order: list[str] = []
    gate = asyncio.Event()

    async def handle(participant: Participant, request: Any) -> Message | None:
        if request.text == "0":  # the first is slow; those after it would overtake it if they could
            await gate.wait()
        order.append(request.text)
        return None

    slow = Gateway(SETTINGS, NoLobby(), handle)
    one = connection()
    asked = [asyncio.create_task(slow.answer(one, "chat", ({"text": str(number)},))) for number in range(PENDING_MAX)]
    await asyncio.sleep(0)
    over = await slow.answer(one, "chat", ({"text": "one too many"},))
    assert over["error"]["code"] == "rate_limited"
    gate.set()
    answers = await asyncio.gather(*asked)
    assert all(answer["ok"] for answer in answers)
    assert order == [str(number) for number in range(PENDING_MAX)]
    assert one.pending == 0


def test_a_client_that_does_not_read_is_cut() -> None:
    one, changed = connection(), Event.of(RoomChanged(locked=True))
    for _ in range(OUTBOX_MAX):
        one.send(changed)
    assert not one.closed
    one.send(changed)
    assert one.closed
    one.send(changed)
    assert len(one.outbox) == OUTBOX_MAX


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("http://127.0.0.1:8080", True),
        ("https://127.0.0.1:8080", True),
        ("https://meet.example", True),
        ("http://127.0.0.1:9", False),
        ("http://127.0.0.1", False),
        ("https://evil.example", False),
        ("https://meet.example.evil.example", False),
        ("null", False),
        ("", False),
        ("file://127.0.0.1:8080", False),
        ("http://[", False),
    ],
)
def test_origins(origin: str | None, allowed: bool) -> None:
    assert origin_allowed(origin, "127.0.0.1:8080", ["https://meet.example"]) is allowed


@pytest.mark.parametrize(
    "text",
    [
        '51-["chat",{"_placeholder":true,"num":0}]',
        '61-["chat"]',
        '2999999999-["chat"]',
        '2["connect",{}]',
        '2["disconnect"]',
        *("2[7]", "2[]", "2{}", "2", "2null", "2[", "5", "x"),
    ],
)
def test_packets_that_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        TextPacket(encoded_packet=text)


@given(st.text(max_size=60) | st.builds("2{}".format, JSON.map(json.dumps)))
def test_any_packet_is_understood_or_a_value_error(text: str) -> None:
    try:
        packet = TextPacket(encoded_packet=text)
    except ValueError:
        return
    assert packet.attachment_count == 0
    if packet.packet_type == socketio.packet.EVENT and packet.data is not None:
        assert isinstance(packet.data[0], str)
