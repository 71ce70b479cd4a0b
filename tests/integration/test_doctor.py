"""What the doctor says of a machine before a start, beside a server, and from outside. Redis is real, and so is the server."""

import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from candor.doctor import network, outside, report, services, system
from candor.doctor.line import Line
from candor.node import Node, node
from candor.settings import ConfigurationError, Settings, load
from signaling import auth
from tests.integration.cluster_kit import RedisServer, free_port

shared = pytest.mark.asyncio(loop_scope="module")
SECRET = "0123456789abcdef0123456789abcdef"


@contextlib.contextmanager
def taken(kind: socket.SocketKind) -> Iterator[int]:
    """A port that a stranger has."""
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[Node]:
    settings = {
        "log_level": "error",
        "signaling": {"port": 0, "open_rooms": False, "secret": SECRET},
        "sfu": {"port": free_port(), "workers": 1},
        "operator": {"port": 0},
    }
    async with node(load(arguments=settings)) as running:
        yield running


def configured(**sections: Any) -> Settings:
    return load(arguments=sections)


def only(lines: list[Line], what: str) -> Line:
    (line,) = [one for one in lines if one.what == what]
    return line


def test_what_serve_would_refuse_is_said() -> None:
    (line,) = network.configuration(configured(signaling={"host": "0.0.0.0"}))
    assert (line.level, "secret" in line.found) == ("fix", True)


def test_an_address_that_only_clients_themselves_have_is_said() -> None:
    closed = {"host": "0.0.0.0", "secret": SECRET, "open_rooms": False}
    assert only(network.configuration(configured(signaling=closed)), "media address").level == "fix"
    announced = configured(signaling=closed, sfu={"host": "0.0.0.0", "announced_host": "192.0.2.7"})
    assert [line.level for line in network.configuration(announced)] == ["ok"]


async def test_ports_that_strangers_have_are_said() -> None:
    with taken(socket.SOCK_STREAM) as tcp, taken(socket.SOCK_DGRAM) as udp:
        settings = configured(signaling={"port": tcp}, sfu={"port": udp, "workers": 1}, operator={"port": "off"})
        lines = await network.ports(settings)
    assert [(line.what, line.level) for line in lines] == [("page and signaling", "fix"), ("UDP port", "fix")]
    assert "choose another signaling.port" in lines[0].remedy
    free = configured(signaling={"port": free_port()}, sfu={"port": free_port(), "workers": 1})
    assert {line.level for line in await network.ports(free)} == {"ok"}


@shared
async def test_beside_a_running_server_its_ports_are_fine(served: Node) -> None:
    lines = await network.ports(served.settings)
    assert "answers" in only(lines, "page and signaling").found
    assert only(lines, "UDP port").level == "ok"
    assert "in use" in only(lines, "UDP port").found


@shared
async def test_from_outside_a_tone_arrives(served: Node) -> None:
    token = auth.mint(SECRET, room="doctor", identity="doctor", name=None, host=False, ttl_s=60)
    lines = [line async for line in outside.look(served.url, token, "doctor")]
    assert only(lines, "server").level == "ok"
    assert only(lines, "clock").level == "ok"
    assert only(lines, "meeting").found.startswith("joined; media arrived")


@shared
async def test_from_outside_a_closed_door_is_said(served: Node) -> None:
    line = only([line async for line in outside.look(served.url, None, "doctor")], "meeting")
    assert (line.level, "bad_token" in line.found) == ("fix", True)
    assert "candor token" in line.remedy


async def test_from_outside_no_server_is_said() -> None:
    (certificate,) = [line async for line in outside.look(f"https://127.0.0.1:{free_port()}", None, "doctor")]
    assert (certificate.level, certificate.what) == ("fix", "connection")
    _, line = [line async for line in outside.look(f"http://127.0.0.1:{free_port()}", None, "doctor")]
    assert (line.level, line.what) == ("fix", "server")
    with pytest.raises(ConfigurationError, match="from-outside"):
        _ = [line async for line in outside.look("ftp://meet.example", None, "doctor")]


async def test_redis_that_answers_and_one_that_does_not(tmp_path: Path) -> None:
    redis = RedisServer(tmp_path)
    await redis.start()
    settings = configured(cluster={"redis_url": redis.url})
    assert [line.level for line in await services.redis(settings)] == ["ok"]
    await redis.kill()
    (line,) = await services.redis(settings)
    assert line.level == "fix"
    assert "redis-password" not in str(line)


def test_models_that_are_here_and_those_that_are_not(tmp_path: Path) -> None:
    settings = configured(models={"models_dir": str(tmp_path)})
    lines = services.models(settings)
    assert (lines[0].level, lines[0].found) == ("note", "none of the default ones is here")
    assert only(lines, "model yunet").remedy == "candor models pull yunet"
    (tmp_path / "models.lock").write_text("{")
    (line,) = services.models(settings)
    assert (line.level, line.remedy) == ("fix", "candor models pull")


async def test_the_machine_is_looked_at() -> None:
    lines = [system.files(), system.disk(configured()), system.clock(), system.gpu(), network.buffers()]
    assert [line.what for line in lines] == ["open files", "disk", "clock", "GPU", "socket buffers"]
    assert (await system.cores()).what == "cores"


async def test_the_exit_code_says_whether_there_is_something_to_fix(capsys: pytest.CaptureFixture[str]) -> None:
    with taken(socket.SOCK_STREAM) as port:
        assert await report.examine(configured(signaling={"port": port}), None, None, "doctor") == 1
    told = capsys.readouterr().out
    assert f"127.0.0.1:{port}: Address already in use" in told
    assert told.endswith("1 to fix.\n")
