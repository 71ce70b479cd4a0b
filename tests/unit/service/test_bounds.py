"""What is heavy, large or slow has bounds, and nothing else waits for it."""

import asyncio
import gzip
import io
import json
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from models.errors import DeadlineError, OverloadedError
from models.service import media, workbench
from models.service.server import ModelService
from models.service.workbench import Workbench
from tests.unit.service.kit import Http, packed, png, wav
from tests.unit.service.test_contract import GLAD, MODEL
from tests.until import until

FACE = {"input_data": {"image": packed(png(400, 300))}}


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Nothing is unpacked before the end of the test; grows with every picture that is begun."""
    begun: list[int] = []
    released = threading.Event()

    def picture(*_: Any) -> media.Rgb:
        begun.append(1)
        released.wait(30)
        return np.zeros((8, 8, 3), np.uint8)

    monkeypatch.setattr(media, "picture", picture)
    yield begun
    released.set()


async def test_pictures_that_take_long_end_in_time_and_delay_nobody_else(http: Http, stuck: list[int]) -> None:
    faces = {"requests": [FACE] * 40, "timeout": 0.3}
    batch = asyncio.create_task(http("POST", "/api/v1/models/meso-inception-4/batch_inference", faces))
    await until(lambda: "" if stuck else "a picture to be unpacked")
    assert (await http("GET", f"{MODEL}/status"))[0] == 200
    assert (await http("POST", f"{MODEL}/inference", GLAD))[0] == 200
    status, answer = await batch
    assert (status, {result["error"]["code"] for result in answer["results"]}) == (200, {"timeout"})
    assert len(stuck) <= workbench.THREADS
    assert (await http("POST", "/inference/face_deepfake", FACE | {"timeout": 0.1}))[1]["code"] == "timeout"
    assert len(stuck) <= workbench.THREADS


async def test_a_thread_that_is_late_keeps_its_place_and_more_than_can_wait_are_shed() -> None:
    bench, loop = Workbench(), asyncio.get_running_loop()
    released = threading.Event()
    began: list[int] = []

    def work() -> None:
        began.append(1)
        released.wait(30)

    for _ in range(workbench.THREADS):
        with pytest.raises(DeadlineError):
            await bench.do(work, loop.time() + 0.01, 5)
    waiting = [asyncio.create_task(bench.do(work, loop.time() + 30, 5)) for _ in range(workbench.MAX_WAITING)]
    await asyncio.sleep(0)
    assert len(began) == workbench.THREADS
    with pytest.raises(OverloadedError):
        await bench.do(work, loop.time() + 30, 5)
    released.set()
    await asyncio.gather(*waiting)
    assert len(began) == workbench.THREADS + workbench.MAX_WAITING
    bench.close()


async def test_who_gives_up_before_its_turn_costs_nothing() -> None:
    bench, loop = Workbench(), asyncio.get_running_loop()
    released = threading.Event()
    busy = [asyncio.create_task(bench.do(lambda: released.wait(30), loop.time() + 30, 5)) for _ in range(2)]
    await asyncio.sleep(0)
    began: list[int] = []
    with pytest.raises(DeadlineError):
        await bench.do(lambda: began.append(1), loop.time() + 0.01, 5)
    released.set()
    await asyncio.gather(*busy)
    await bench.do(lambda: None, loop.time() + 30, 5)
    assert not began
    bench.close()


def test_a_sound_is_not_unpacked_beyond_its_time() -> None:
    with pytest.raises(DeadlineError):
        media.sound(wav(1.0), 16_000, until_s=0.0)


async def test_a_picture_for_a_model_is_not_unpacked_if_it_is_too_large_for_it(
    http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked: list[int] = []
    decode = media.cv2.imdecode
    monkeypatch.setattr(media.cv2, "imdecode", lambda *arguments: unpacked.append(1) or decode(*arguments))
    body = {"input_data": {"image": packed(png(900, 900))}}
    assert (await http("POST", "/inference/video_enhancement", body))[1]["code"] == "too_many_pixels"
    assert not unpacked


async def begun(service: ModelService, length: int, sent: bytes = b"") -> tuple[asyncio.StreamReader, Any]:
    """A request whose body does not come, or not all of it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(service.url.rpartition(":")[2]))
    head = f"POST {MODEL}/inference HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {length}\r\n\r\n".encode() + sent)
    return reader, writer


@pytest.mark.parametrize("options", [{"max_body_bytes": 20_000, "max_bodies_bytes": 30_000}])
async def test_bodies_have_a_bound_together(service: ModelService, http: Http) -> None:
    large = GLAD | {"input_data": "x" * 19_000}
    assert (await http("POST", f"{MODEL}/inference", large))[0] == 200
    _, writer = await begun(service, 15_000)

    async def full() -> str:
        status, problem = await http("POST", f"{MODEL}/inference", large)
        return "" if (status, problem.get("code")) == (503, "overloaded") else "a body too many"

    await until(full)
    assert (await http("POST", f"{MODEL}/inference", GLAD))[0] == 200
    writer.close()
    await writer.wait_closed()

    async def room() -> str:
        return "" if (await http("POST", f"{MODEL}/inference", large))[0] == 200 else "room again"

    await until(room)


@pytest.mark.parametrize("options", [{"max_body_bytes": 20_000, "max_bodies_bytes": 20_000}])
async def test_a_body_of_which_nobody_tells_the_size_counts_as_the_largest(service: ModelService, http: Http) -> None:
    _, writer = await begun(service, 1_000)

    json_type = {"Content-Type": "application/json"}
    small = gzip.compress(json.dumps(GLAD).encode())

    async def chunks() -> Any:
        yield json.dumps(GLAD).encode()

    async def full(data: Any, headers: dict[str, str]) -> str:
        status, problem = await http("POST", f"{MODEL}/inference", data=data, headers=json_type | headers)
        return "" if (status, problem.get("code")) == (503, "overloaded") else "a body too many"

    await until(lambda: full(chunks(), {}))
    await until(lambda: full(small, {"Content-Encoding": "gzip"}))
    assert (await http("POST", f"{MODEL}/inference", GLAD))[0] == 200
    writer.close()


@pytest.mark.parametrize("options", [{"body_timeout_s": 0.1}])
async def test_a_body_that_does_not_come_is_not_waited_for(service: ModelService) -> None:
    reader, writer = await begun(service, 1_000, b'{"input_data":')
    head = await asyncio.wait_for(reader.readuntil(b"\r\n"), 10)
    assert head == b"HTTP/1.1 408 Request Timeout\r\n"
    assert b'"too_slow"' in await asyncio.wait_for(reader.readuntil(b"}"), 10)
    writer.close()


async def test_a_body_of_a_million_values_is_not_read(http: Http) -> None:
    headers = {"Content-Type": "application/json"}
    data = b'{"requests": [' + b"{}," * 600_000 + b"{}]}"
    status, problem = await http("POST", f"{MODEL}/batch_inference", data=io.BytesIO(data), headers=headers)
    assert (status, problem["code"]) == (413, "too_large")
