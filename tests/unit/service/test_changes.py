"""A change is made to its end or not at all, whoever hangs up and whatever the disk says; and it is written down."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from models.engine import SOCKET_NAME, Engine
from models.service import wishes
from models.service.server import ModelService
from models.service.settings import ServiceSettings
from models.settings import ModelSettings
from tests.unit.service.conftest import HereStore
from tests.unit.service.kit import Http
from tests.unit.service.test_contract import DEPLOY, GLAD, MODEL
from tests.until import until

MODEL_ID = DEPLOY["config"]["model_id"]
DEPLOYING = ("POST", "/api/v1/models/deploy", DEPLOY)
UP, DOWN = ("POST", f"{MODEL}/scale", {"replicas": 1}), ("POST", f"{MODEL}/scale", {"replicas": 0})
UPDATING, DELETING = ("PUT", MODEL, {}), ("DELETE", MODEL, None)

CHANGES = [
    ([], DEPLOYING, "deployed", "model_deployed"),
    ([DEPLOYING, DOWN], UP, "deployed", "model_scaled"),
    ([DEPLOYING], DOWN, "stopped", "model_scaled"),
    ([DEPLOYING], UPDATING, "deployed", "model_updated"),
    ([DEPLOYING], DELETING, "stopped", "model_deleted"),
]
"""What comes before, the change, the state after it, and the line that says so."""
EACH = pytest.mark.parametrize(("before", "change", "state", "line"), CHANGES)


def on_disk(store: HereStore) -> tuple[set[str], list[str]]:
    """What a service would find that starts now: deployed, stopped."""
    found = json.loads((store.root / wishes.FILE_NAME).read_text())
    return set(found["deployed"]), found["stopped"]


@pytest.fixture
def held(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[asyncio.Event, asyncio.Event]]:
    """The engine begins nothing until the second is set; the first says that it was told to."""
    told, released = asyncio.Event(), asyncio.Event()

    def holding(asked: Callable[..., Any]) -> Callable[..., Any]:
        async def hold(*arguments: Any) -> Any:
            told.set()
            await released.wait()
            return await asked(*arguments)

        return hold

    released.set()
    for name in ("get_in", "reload", "unload"):
        monkeypatch.setattr(engine.shelf, name, holding(getattr(engine.shelf, name)))
    yield told, released
    released.set()


async def hang_up_during(service: ModelService, change: tuple[str, str, Any], told: asyncio.Event) -> None:
    """Ask for a change and be gone as soon as the engine hears of it."""
    method, path, body = change
    _, writer = await asyncio.open_connection("127.0.0.1", int(service.url.rpartition(":")[2]))
    data = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    await asyncio.wait_for(told.wait(), 10)
    writer.close()
    await writer.wait_closed()


@EACH
async def test_who_hangs_up_does_not_leave_a_change_half_made(
    service: ModelService,
    http: Http,
    store: HereStore,
    held: tuple[asyncio.Event, asyncio.Event],
    capsys: pytest.CaptureFixture[str],
    before: list[tuple[str, str, Any]],
    change: tuple[str, str, Any],
    state: str,
    line: str,
) -> None:
    for step in before:
        assert (await http(*step))[0] < 300
    capsys.readouterr()
    told, released = held
    told.clear()
    released.clear()
    await hang_up_during(service, change, told)
    await http("GET", "/api/v1/health/live")  # answered after it was noticed that the other is gone
    released.set()

    async def made() -> str:
        now = (await http("GET", f"{MODEL}/status"))[1]["state"]
        return "" if now == state else f"{state} after {now}"

    await until(made)
    deployed, stopped = on_disk(store)
    assert (MODEL_ID in deployed and MODEL_ID not in stopped) is (state == "deployed")
    await until(lambda: "" if line in capsys.readouterr().out else "the line of the audit")


@EACH
async def test_a_store_that_cannot_be_written_leaves_everything_as_it_was(
    http: Http,
    engine: Engine,
    store: HereStore,
    before: list[tuple[str, str, Any]],
    change: tuple[str, str, Any],
    state: str,
    line: str,
) -> None:
    for step in before:
        await http(*step)
    earlier = (await http("GET", f"{MODEL}/status"))[1]
    loaded, file = engine.shelf.loaded(), store.root / wishes.FILE_NAME
    text = file.read_text() if before else None
    obstacle = store.root / f"{wishes.FILE_NAME}.new"
    obstacle.mkdir()
    status, problem = await http(*change)
    assert (status, problem["code"]) == (503, "store_unwritable")
    assert (await http("GET", f"{MODEL}/status"))[1] == earlier
    assert engine.shelf.loaded() == loaded
    assert (file.read_text() if file.exists() else None) == text
    action = {"POST": line.removeprefix("model_"), "PUT": "updated", "DELETE": "deleted"}[change[0]]
    action = {"deployed": "deploy", "scaled": "scale", "updated": "update", "deleted": "delete"}[action]
    counted = f'ai_model_deployments_total{{action="{action}",model="{MODEL_ID}",result="store_unwritable"}} 1.0'
    assert counted in (await http("GET", "/metrics"))[1]
    obstacle.rmdir()
    assert (await http(*change))[0] < 300
    assert (await http("GET", f"{MODEL}/status"))[1]["state"] == state


async def test_a_change_that_the_disk_refuses_at_last_does_not_count(http: Http, store: HereStore) -> None:
    folder = store.root / wishes.FILE_NAME / "in the way"
    folder.mkdir(parents=True)
    assert (await http(*DEPLOYING))[1]["code"] == "store_unwritable"
    assert (await http("GET", f"{MODEL}/status"))[1]["state"] == "available"
    assert not (store.root / f"{wishes.FILE_NAME}.new").exists()


async def test_a_mistake_of_ours_is_not_counted_as_made(http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(wishes.Wishes, "_prepare", fail)
    assert (await http(*DEPLOYING))[0] == 500
    assert f'action="deploy",model="{MODEL_ID}",result="failed"}} 1.0' in (await http("GET", "/metrics"))[1]


async def test_the_service_ends_after_the_change_that_is_being_made(
    service: ModelService, http: Http, store: HereStore, held: tuple[asyncio.Event, asyncio.Event]
) -> None:
    told, released = held
    released.clear()
    await hang_up_during(service, DEPLOYING, told)
    closing = asyncio.create_task(service.close())

    async def deaf() -> str:
        try:
            await http("GET", "/api/v1/health/live")
        except aiohttp.ClientError:
            return ""
        return "the service to listen no more"

    await until(deaf)
    released.set()
    await closing
    assert on_disk(store) == ({MODEL_ID}, [])


async def test_a_change_that_waits_when_the_service_ends_is_refused(
    service: ModelService, http: Http, held: tuple[asyncio.Event, asyncio.Event]
) -> None:
    told, released = held
    released.clear()
    await hang_up_during(service, DEPLOYING, told)
    waiting = asyncio.create_task(http("DELETE", "/api/v1/models/aasist"))
    await http("GET", "/api/v1/health/live")
    closing = asyncio.create_task(service.close())
    await asyncio.sleep(0)
    released.set()
    status, problem = await waiting
    assert (status, problem["code"]) == (503, "stopping")
    await closing


async def test_two_services_do_not_share_a_store(service: ModelService, store: HereStore, tmp_path: Path) -> None:
    settings = ModelSettings(models_dir=store.root, service=ServiceSettings(port=0))
    second = ModelService(settings, tmp_path / SOCKET_NAME, store)
    with pytest.raises(ValueError, match="another model service has the store"):
        await second.start()
    await second.close()
    await service.close()
    third = ModelService(settings, tmp_path / SOCKET_NAME, store)
    await third.start()
    await third.close()


@pytest.mark.parametrize("options", [{"in_flight": 1}])
async def test_who_waits_while_a_model_is_deleted_does_not_have_it_loaded_again(
    http: Http, engine: Engine, runners: dict[str, Any]
) -> None:
    runner = runners[MODEL_ID]
    runner.held.clear()
    asking = [asyncio.create_task(http("POST", f"{MODEL}/inference", GLAD)) for _ in range(2)]

    async def waits() -> str:
        page = (await http("GET", "/metrics"))[1]
        return "" if f'model="{MODEL_ID}",resource="waiting"}} 1.0' in page and runner.asked else "one to wait"

    await until(waits)
    assert (await http(*DELETING))[0] == 200
    runner.held.set()
    answers = sorted([status, answer.get("code")] for status, answer in await asyncio.gather(*asking))
    assert answers == [[200, None], [503, "unavailable"]]
    assert MODEL_ID not in engine.shelf.loaded()
