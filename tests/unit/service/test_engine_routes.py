"""A node that asks the service by the engine's wire: scopes, bounds, and the rules of the service."""

import io
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import aiohttp
import numpy as np
import pytest

from models import wire
from models.client import InferenceClient
from models.engine import Engine
from models.errors import EngineGoneError, InferenceError, OverloadedError, RefusedError, UnavailableError
from models.questions import Faces, Picture, Sound
from models.remote import PREFIX, HttpTransport
from models.service.auth import new_key
from models.service.server import ModelService
from tests.unit.service.kit import Http, Runner
from tests.unit.service.test_contract import DEPLOY, MODEL
from tests.until import until

MODEL_ID = DEPLOY["config"]["model_id"]
NODE, NODE_KEPT = new_key("node", ["models:infer"])
MANAGER, MANAGER_KEPT = new_key("manager", ["models:infer", "models:manage"])
READER, READER_KEPT = new_key("reader", ["models:read"])
SLOW, SLOW_KEPT = new_key("slow", ["models:infer"])
KEYS = {
    "api_keys": [
        NODE_KEPT.model_copy(update={"requests_per_s": 1_000.0}),
        MANAGER_KEPT,
        READER_KEPT,
        SLOW_KEPT.model_copy(update={"requests_per_s": 0.001}),
    ],
    "request_burst": 2_000,
}
FACE = Picture(np.zeros((40, 40, 3), np.uint8))
Connect = Callable[[str], AbstractAsyncContextManager[InferenceClient]]
with_keys = pytest.mark.parametrize("options", [KEYS])


@pytest.fixture
def connected(service: ModelService) -> Connect:
    """A client with this key."""

    @asynccontextmanager
    async def connect(key: str) -> AsyncIterator[InferenceClient]:
        client = InferenceClient(HttpTransport(service.url, key))
        client.start()
        await until(lambda: "" if client.connected else "the service")
        yield client
        await client.close()

    return connect


async def ask(client: InferenceClient) -> str:
    return (await client.ask("yunet", FACE, Faces, room_id="room", deadline_ms=5_000)).model


@with_keys
async def test_a_node_asks_and_has_models_loaded(connected: Connect) -> None:
    async with connected(NODE) as client:
        assert await client.load("yunet") == "1"
        assert await ask(client) == "yunet@1"
        largest = Picture(np.zeros((640, 640, 3), np.uint8))
        assert (await client.ask("yunet", largest, Faces, room_id="room", deadline_ms=5_000)).answer.boxes
        assert (await client.stats())["yunet"]["answered"] == 2


@with_keys
async def test_what_the_engine_refuses_is_refused(connected: Connect) -> None:
    async with connected(NODE) as client:
        with pytest.raises(RefusedError, match="takes no sound"):
            await client.ask("yunet", Sound(np.zeros(8, np.int16)), Faces, room_id="room", deadline_ms=5_000)
        with pytest.raises(UnavailableError, match="no model 'hal'"):
            await client.load("hal")


@with_keys
@pytest.mark.parametrize("deadline_ms", [0, -1, float("nan"), float("inf"), 1e9, "soon", None])
async def test_a_deadline_that_is_none_is_refused(connected: Connect, deadline_ms: object) -> None:
    async with connected(NODE) as client:
        fields = {"model": "yunet", "room_id": "room", "deadline_ms": deadline_ms, "question": FACE.to_wire()}
        with pytest.raises(RefusedError, match="malformed"):
            await client.request("ask", fields, 5_000)


@with_keys
async def test_only_a_manager_changes_models_and_it_is_written_down(
    connected: Connect, capsys: pytest.CaptureFixture[str]
) -> None:
    async with connected(NODE) as client:
        for change in (client.unload, client.reload):
            with pytest.raises(UnavailableError, match="or not for this"):
                await change("yunet")
    async with connected(MANAGER) as client:
        assert await client.reload("yunet") == "1"
        await client.unload("yunet")
        assert await client.stats() == {}
    lines = [line for line in capsys.readouterr().out.splitlines() if "engine_changed" in line]
    assert ["key:manager" in line for line in lines] == [True, True]


@with_keys
async def test_the_rules_of_the_service_hold(
    connected: Connect, service: ModelService, runners: dict[str, Runner]
) -> None:
    async with connected(MANAGER) as client:
        await ask(client)
        assert (await Http(service.url, MANAGER)("POST", "/api/v1/models/deploy", DEPLOY))[0] == 201
        with pytest.raises(RefusedError, match="deployed at the model service"):
            await client.unload(MODEL_ID)
        assert (await Http(service.url, MANAGER)("DELETE", MODEL))[0] == 200
        with pytest.raises(UnavailableError) as caught:
            await client.load(MODEL_ID)
        assert caught.value.command == f"candor models deploy {MODEL_ID}"
    assert runners[MODEL_ID].closed


@with_keys
async def test_who_asks_too_much_is_told_so(connected: Connect) -> None:
    async with connected(SLOW) as client:
        with pytest.raises(OverloadedError, match="this key"):
            for _ in range(5):
                await client.stats()
        assert client.missed == 1


@with_keys
async def test_a_dead_engine_is_told_and_found_again(connected: Connect, engine: Engine) -> None:
    async with connected(NODE) as client:
        await ask(client)
        await engine.close()

        async def gone() -> str:
            try:
                await ask(client)
            except EngineGoneError:
                return ""
            except InferenceError as error:
                return f"engine_gone, not {error.code}"
            return "the engine to be gone"

        await until(gone)
        await engine.start()

        async def back() -> str:
            try:
                await ask(client)
            except InferenceError as error:
                return f"an answer: {error.code}"
            return ""

        await until(back)


@with_keys
@pytest.mark.parametrize(
    ("method", "operation", "key", "body", "status"),
    [
        ("POST", "ask", "", b"", 401),
        ("POST", "ask", "cmk_wrong", b"", 401),
        ("POST", "ask", READER, b"", 403),
        ("GET", "models", READER, None, 403),
        ("GET", "ask", NODE, None, 404),
        ("POST", "models", NODE, b"", 404),
        ("POST", "metrics", NODE, b"", 404),
        ("POST", "ask", NODE, bytes(wire.MAX_MESSAGE_BYTES + 1), 413),
        ("POST", "ask", NODE, b"no map", 200),
        ("POST", "ask", NODE, wire.encode({}), 200),
    ],
)
async def test_bad_requests(
    service: ModelService, method: str, operation: str, key: str, body: bytes | None, status: int
) -> None:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    data = io.BytesIO(body) if body is not None else None
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"{service.url}{PREFIX}/{operation}", data=data, headers=headers) as response,
    ):
        assert response.status == status
        content = await response.read()
    if status == 200:
        with pytest.raises(RefusedError, match="malformed"):
            wire.result_of(wire.decode(content))
