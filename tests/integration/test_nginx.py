"""Debian's nginx with the configuration that we ship, before a signaling server of ours."""

import asyncio
import io
import os
import re
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import socketio

from candor.lan import certificate
from tests.integration.signaling_kit import Meeting, meeting
from tests.until import until

START = Path(__file__).resolve().parents[2] / "deploy" / "nginx" / "start.sh"
PUBLIC_URL = "https://meet.example.org:8443"
TOKEN = "eyJhbGciOiJIUzI1NiJ9.secret"

pytestmark = pytest.mark.skipif(
    shutil.which("nginx") is None, reason="needs Debian's nginx: apt-get install nginx-light"
)


@dataclass
class Proxy:
    """A running nginx."""

    http: str
    https: str
    trusting: ssl.SSLContext
    log: Path


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def ours(folder: Path, http: int, https: int) -> tuple[Path, Path]:
    """A copy of our files, in which only places differ: ports, folders, certificate. The script, and the certificate."""
    cert, key = certificate(folder / "tls", "127.0.0.1")
    for name in ("start.sh", "nginx.conf"):
        shutil.copy(START.with_name(name), folder / name)
    config = folder / "nginx.conf"
    text = config.read_text()
    for old, new in {
        " /tmp/": f" {folder}/",
        "/etc/candor/certificates/fullchain.pem": str(cert),
        "/etc/candor/certificates/privkey.pem": str(key),
        "listen 8080": f"listen 127.0.0.1:{http}",
        "listen 8443": f"listen 127.0.0.1:{https}",
    }.items():
        assert old in text
        text = text.replace(old, new)
    root = "user root;\n" if os.geteuid() == 0 else ""  # who would else become somebody who may not write to our folder
    config.write_text(root + text)
    return folder / "start.sh", cert


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Meeting]:
    async with meeting(tmp_path, public_url=PUBLIC_URL) as one:
        web = tmp_path / "web"
        (web / "assets").mkdir(parents=True)
        (web / "index.html").write_text("<!doctype html>the page")
        (web / "assets" / "a-1.js").write_text("1")
        yield one


@pytest.fixture
async def proxy(room: Meeting, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Proxy]:
    folder = tmp_path_factory.mktemp("nginx")
    http, https = free_port(), free_port()
    script, cert = ours(folder, http, https)
    settings = {
        "PUBLIC_URL": PUBLIC_URL,
        "NODE": room.server.url.removeprefix("http://"),
        "NGINX_DIR": str(folder / "rendered"),
        "PATH": f"{os.environ['PATH']}:/usr/sbin",
    }
    (folder / "rendered").mkdir()
    tested = await asyncio.create_subprocess_exec(str(script), "-t", env=settings, stderr=asyncio.subprocess.PIPE)
    _, said = await tested.communicate()
    assert tested.returncode == 0, said.decode()
    log = folder / "log"
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(str(script), env=settings, stdout=file, stderr=file)
    try:
        await until(lambda: "" if answers(https) else f"nginx ({process.returncode}): {log.read_text()}")
        trusting = ssl.create_default_context(cafile=str(cert))
        yield Proxy(f"http://127.0.0.1:{http}", f"https://127.0.0.1:{https}", trusting, log)
    finally:
        process.terminate()
        await process.wait()


def answers(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


async def test_the_page_comes_over_tls_with_its_headers(proxy: Proxy) -> None:
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{proxy.https}/r/weekly", params={"token": TOKEN}, ssl=proxy.trusting) as response:
            assert response.status == 200
            assert "the page" in await response.text()
            assert response.headers["Content-Security-Policy"].startswith("default-src 'self'")
            assert response.headers["Strict-Transport-Security"]
            assert response.headers["Server"] != f"nginx/{response.version}"
        for _ in range(2):
            async with http.get(f"{proxy.https}/assets/a-1.js", ssl=proxy.trusting) as response:
                assert await response.text() == "1"
                assert "immutable" in response.headers["Cache-Control"]
                assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_plain_http_is_sent_to_the_public_url(proxy: Proxy) -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{proxy.http}/r/weekly?token={TOKEN}", allow_redirects=False) as response,
    ):
        assert response.status == 308
        assert response.headers["Location"] == f"{PUBLIC_URL}/r/weekly?token={TOKEN}"


async def test_a_meeting_goes_through_with_its_origin(proxy: Proxy, room: Meeting) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=proxy.trusting)) as http:
        for origin, admitted in ((PUBLIC_URL, True), ("https://elsewhere.example", False)):
            client = socketio.AsyncClient(reconnection=False, http_session=http)
            try:
                await client.connect(proxy.https, transports=["websocket"], headers={"Origin": origin})
                joined = await client.call("join", {"room_id": "weekly", "name": "Ada"}, timeout=10)
                assert joined["ok"]
                assert admitted
                assert joined["result"]["invite_url"].startswith(PUBLIC_URL)
                await client.disconnect()
            except socketio.exceptions.ConnectionError:
                assert not admitted


async def test_too_many_requests_are_refused_and_too_large_ones(proxy: Proxy) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=proxy.trusting, limit=8)) as http:

        async def status() -> int:
            async with http.get(f"{proxy.https}/api/v1/health/live") as response:
                return response.status

        found = await asyncio.gather(*(status() for _ in range(250)))
        assert set(found) == {200, 429}
        assert found.count(200) >= 100
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=proxy.trusting)) as http,
        http.post(f"{proxy.https}/assets/x", data=io.BytesIO(bytes((1 << 20) + 1))) as response,
    ):
        assert response.status in (413, 429)


async def test_no_token_and_no_address_is_in_the_log(proxy: Proxy, room: Meeting) -> None:
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{proxy.https}/r/weekly?token={TOKEN}", ssl=proxy.trusting):
            pass
        await room.server.close()  # so that nginx has something to complain of
        async with http.get(f"{proxy.https}/r/gone?token={TOKEN}", ssl=proxy.trusting) as response:
            assert response.status == 502
    await until(lambda: "" if "/r/gone 502" in proxy.log.read_text() else "the line of the request")
    log = proxy.log.read_text()
    assert "GET /r/weekly 200" in log
    assert TOKEN not in log
    assert not re.search(r"127\.0\.0\.1", log)


async def test_the_operators_routes_are_not_there(proxy: Proxy) -> None:
    async with aiohttp.ClientSession() as http:
        for path in ("/metrics", "/health/detailed", "/health/ready"):
            async with http.get(f"{proxy.https}{path}", ssl=proxy.trusting) as response:
                assert response.status == 404, path
