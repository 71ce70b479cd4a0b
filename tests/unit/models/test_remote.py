"""The client over HTTP, against a server on loopback that answers what it is told to."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from pydantic import ValidationError

from models import remote, wire
from models.client import InferenceClient
from models.errors import EngineGoneError, FailedError, InferenceError, OverloadedError, RefusedError, UnavailableError
from models.inventory import NOT_REACHED, Elsewhere, described
from models.ray_settings import RaySettings
from models.remote import HttpTransport
from models.settings import ModelSettings
from models.store import Store
from tests.until import until

NOTHING = {"versions": {}, "missing": {}, "lock": {}}


class Fake:
    """A model service that answers everything in one way."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        self.answer: bytes | None = wire.encode(wire.answer({}))
        """None: never."""
        self.models = wire.encode(wire.answer(NOTHING))
        self.models_status = 200
        self.looked = 0
        self.free = asyncio.Event()
        self.free.set()
        """Cleared: who looks gets no answer."""
        self.authorizations: set[str] = set()
        self._runner = web.AppRunner(self._app(), handler_cancellation=True, shutdown_timeout=0.01)

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=wire.MAX_MESSAGE_BYTES)
        app.router.add_get("/engine/v1/models", self._models)
        app.router.add_post("/engine/v1/{operation}", self._answer)
        return app

    async def _models(self, request: web.Request) -> web.Response:
        self.looked += 1
        await self.free.wait()
        self.authorizations.add(request.headers.get("Authorization", ""))
        return web.Response(status=self.models_status, body=self.models)

    async def _answer(self, request: web.Request) -> web.Response:
        await request.read()
        if self.answer is None:
            await asyncio.Event().wait()
        return web.Response(status=self.status, body=self.answer)

    async def start(self, port: int = 0) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        await self._runner.cleanup()


@pytest.fixture
async def server() -> AsyncIterator[Fake]:
    server = Fake()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def client(server: Fake) -> AsyncIterator[InferenceClient]:
    client = InferenceClient(HttpTransport(server.url, "secret"))
    client.start()
    await until(lambda: "" if client.connected else "the service")
    yield client
    await client.close()


async def test_the_key_is_shown(client: InferenceClient, server: Fake) -> None:
    await client.stats()
    assert server.authorizations == {"Bearer secret"}


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, UnavailableError),
        (403, UnavailableError),
        (404, UnavailableError),
        (301, UnavailableError),
        (413, RefusedError),
        (429, OverloadedError),
        (500, EngineGoneError),
        (502, EngineGoneError),
    ],
)
async def test_what_another_status_means(
    client: InferenceClient, server: Fake, status: int, error: type[InferenceError]
) -> None:
    server.status = status
    with pytest.raises(InferenceError) as caught:
        await client.stats()
    assert type(caught.value) is error


@pytest.mark.parametrize(
    "answer", [b"", b"nonsense", wire.encode({"ok": False}), wire.encode(wire.answer([])), bytes(3 << 20)]
)
async def test_an_answer_that_is_none_is_a_failure(client: InferenceClient, server: Fake, answer: bytes) -> None:
    server.answer = answer
    with pytest.raises(FailedError):
        await client.stats()


async def test_the_error_that_was_sent_is_raised(client: InferenceClient, server: Fake) -> None:
    server.answer = wire.encode(wire.answer(UnavailableError("not here", "candor models pull x", retry_s=3)))
    with pytest.raises(UnavailableError, match="not here") as caught:
        await client.load("x")
    assert (caught.value.command, caught.value.retry_s) == ("candor models pull x", 3)


async def test_beyond_the_bytes_that_may_be_on_their_way_the_newest_is_refused(
    client: InferenceClient, server: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "MAX_OUTSTANDING_BYTES", 2_500)
    server.answer = None
    waiting = [asyncio.create_task(client.request("ask", {"question": bytes(1_000)}, 60_000)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError, match="keep up"):
        await client.request("ask", {"question": bytes(1_000)}, 60_000)
    assert client.missed == 1
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    server.answer = wire.encode(wire.answer({}))
    assert await client.request("ask", {"question": bytes(1_000)}, 60_000) == {}


async def test_a_service_that_stops_is_gone_and_one_that_comes_is_found(client: InferenceClient, server: Fake) -> None:
    changes: list[bool] = []
    client.on_connection = changes.append
    server.answer = None
    asking = asyncio.create_task(client.stats())
    await until(lambda: "" if server.looked else "a look")
    port = int(server.url.rpartition(":")[2])
    await server.stop()
    with pytest.raises(EngineGoneError):
        await asking
    await until(lambda: "" if changes else "to be told")
    with pytest.raises(EngineGoneError):
        await client.stats()
    another = Fake()
    await another.start(port)
    await until(lambda: "" if client.connected else "the service")
    assert await client.stats() == {}
    assert changes == [False, True]
    await client.close()
    await another.stop()


async def test_a_key_that_is_not_taken_is_no_connection(server: Fake) -> None:
    server.models_status = 401
    client = InferenceClient(HttpTransport(server.url))
    client.start()
    await until(lambda: "" if server.looked > 1 else "two looks")
    assert not client.connected
    with pytest.raises(UnavailableError, match="key") as caught:
        await client.stats()
    assert "candor models key" in caught.value.command
    await client.close()


async def test_a_service_that_is_slow_is_gone_only_when_nothing_is_answered(
    server: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = InferenceClient(HttpTransport(server.url))
    client.start()
    await until(lambda: "" if client.connected else "the service")
    monkeypatch.setattr(remote, "LOOK_S", 0.3)
    transport = client._transport
    assert isinstance(transport, HttpTransport)
    server.free.clear()
    transport._look_now.set()
    looked = server.looked

    async def three_looks() -> str:
        assert await client.stats() == {}
        return "" if server.looked > looked + 2 else "looks"

    await until(three_looks)
    assert client.connected
    await until(lambda: "" if not client.connected else "that it is gone, as it answers nothing")
    server.free.set()
    await until(lambda: "" if client.connected else "the service")
    await client.close()


async def test_a_key_that_asks_too_much_is_no_reason_to_pause_everything(
    server: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "LOOK_S", 0.02)
    client = InferenceClient(HttpTransport(server.url))
    client.start()
    await until(lambda: "" if client.connected else "the service")
    server.models_status, looked = 429, server.looked
    await until(lambda: "" if server.looked > looked + 2 else "looks")
    assert client.connected
    assert await client.stats() == {}
    await client.close()


async def test_other_models_than_before_are_told(server: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "LOOK_S", 0.02)
    changes: list[bool] = []
    transport = HttpTransport(server.url)
    client = InferenceClient(transport)
    client.on_connection = changes.append
    client.start()
    await until(lambda: "" if server.looked > 2 else "looks")
    assert changes == [True]
    server.models = wire.encode(wire.answer(NOTHING | {"versions": {"yunet": "1"}}))
    await until(lambda: "" if len(changes) > 1 else "to be told")
    assert changes == [True, True]
    assert transport.inventory.lock().models == {}
    await client.close()


async def test_what_is_told_of_a_store_arrives(tmp_path: Path) -> None:
    store, there = Store(tmp_path), Elsewhere()
    entry = store.find("pocketsphinx-en-us")
    pulled = store.find("yunet")
    assert entry is not None
    assert pulled is not None
    assert there.locate(entry) == NOT_REACHED
    assert there.take(wire.decode(wire.encode(await described(store))))
    assert not there.take(await described(store))
    here = store.locate(entry)
    assert getattr(there.locate(entry), "version", None) == getattr(here, "version", "")
    assert there.locate(pulled) == store.locate(pulled)
    assert there.find("hal") is None
    with pytest.raises(ValueError, match="malformed"):
        there.take({"versions": 5})


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "needed"),
        ({"backend_url": "http://models.example.org"}, "https"),
        ({"backend_url": "ftp://models.example.org"}, "http"),
        ({"backend_url": "https://me@models.example.org"}, "http"),
        ({"backend_url": "https://models.example.org/?x"}, "http"),
    ],
)
def test_an_address_that_is_missing_or_not_safe_is_refused(values: dict[str, str], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        ModelSettings.model_validate({"backend": "http"} | values)


@pytest.mark.parametrize(
    "values",
    [
        {"backend_url": "https://models.example.org/serve/"},
        {"backend_url": "http://127.0.0.1:8090"},
        {"backend_url": "http://[::1]:8090"},
        {"backend_url": "http://10.0.0.7:8090", "backend_trusted_network": True},
    ],
)
def test_an_address_that_is_safe_is_taken(values: dict[str, object]) -> None:
    settings = ModelSettings.model_validate({"backend": "http"} | values)
    assert settings.backend_url == str(values["backend_url"]).rstrip("/")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"models": [{"name": "yunet"}]}, "api_keys"),
        ({"models": [{"name": "yunet"}, {"name": "yunet"}], "trusted_network": True}, "twice"),
        ({"models": [], "trusted_network": True}, "models"),
        ({"models": [{"name": "yunet", "max_replicas": 0}], "trusted_network": True}, "max_replicas"),
        ({"models": [{"name": "yunet", "min_replicas": 2}], "trusted_network": True}, "max_replicas"),
        ({"models": [{"name": "yunet", "live": {"precision": "fp7"}}], "trusted_network": True}, "precision"),
    ],
)
def test_an_application_for_ray_that_cannot_be_is_refused(values: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        RaySettings.model_validate({"models_dir": "/models"} | values)
