"""Fetching what somebody else has told us, from a server that means harm. Real sockets and TLS; only names are made up."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from candor.lan import certificate
from models.outgoing import Outgoing, OutgoingError, OutgoingRules, is_public

GOOD = "models.example"
HERE = "127.0.0.1"
INSIDE = "127.0.0.2"
"""Stands for an address that is not public."""

Serve = Callable[[str, asyncio.StreamWriter], Awaitable[None]]


class Names:
    """A resolver whose answers change."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


@asynccontextmanager
async def server(
    tmp_path: Path, serve: Serve, address: str = HERE, port: int = 0
) -> AsyncIterator[tuple[int, list[str]]]:
    """(port, requested paths) of a server of `models.example`."""
    cert, key = certificate(tmp_path, HERE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    paths: list[str] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            paths.append(head.split()[1])
            await serve(paths[-1], writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has seen enough
        finally:
            writer.close()

    listening = await asyncio.start_server(handle, address, port, ssl=context)
    async with listening:
        yield listening.sockets[0].getsockname()[1], paths


def outgoing(
    tmp_path: Path, names: Names | None = None, *, max_bytes: int = 1_000, timeout_s: float = 10.0
) -> Outgoing:
    """Fetches from `models.example`, which is here; every address but 127.0.0.2 counts as public."""
    cert, _ = certificate(tmp_path, HERE)
    tls = ssl.create_default_context(cafile=str(cert))
    tls.check_hostname = False  # the certificate is for the address
    rules = OutgoingRules(frozenset({GOOD}), max_bytes, timeout_s)
    return Outgoing(rules, names or Names([HERE]), lambda address: address != INSIDE, tls)


async def answer(writer: asyncio.StreamWriter, body: bytes, *headers: str, status: str = "200 OK") -> None:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    await writer.drain()


async def fetched(fetch: Outgoing, url: str) -> bytes:
    pieces: list[bytes] = []
    length = await fetch.fetch(url, pieces.append)
    body = b"".join(pieces)
    assert len(body) == length
    return body


async def test_what_may_be_fetched_comes(tmp_path: Path) -> None:
    async def serve(path: str, writer: asyncio.StreamWriter) -> None:
        if path == "/moved":
            await answer(writer, b"", "Location: /file", status="302 Found")
        else:
            await answer(writer, b"weights")

    async with server(tmp_path, serve) as (port, paths):
        assert await fetched(outgoing(tmp_path), f"https://{GOOD}:{port}/moved") == b"weights"
        assert paths == ["/moved", "/file"]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://models.example/", "https only"),
        ("file:///etc/passwd", "https only"),
        ("https://other.example/", "not on the list"),
        ("https://127.0.0.1/", "not on the list"),
        ("https://models.example.evil.example/", "not on the list"),
        ("https://me:secret@models.example/", "name or password"),
        ("https://[::1", "no address"),
        ("", "https only"),
    ],
)
async def test_an_address_that_may_not_be_asked_is_not(tmp_path: Path, url: str, reason: str) -> None:
    names = Names([HERE])
    with pytest.raises(OutgoingError, match=reason):
        await fetched(outgoing(tmp_path, names), url)
    assert names.asked == []


@pytest.mark.parametrize(
    "location", [f"https://{INSIDE}/", "https://other.example/", "http://models.example/", "//[", ""]
)
async def test_a_redirect_leads_nowhere_else(tmp_path: Path, location: str) -> None:
    async def serve(path: str, writer: asyncio.StreamWriter) -> None:
        await answer(writer, b"", f"Location: {location}", status="307 Temporary Redirect")

    async with server(tmp_path, serve) as (port, paths):
        with pytest.raises(OutgoingError):
            await fetched(outgoing(tmp_path), f"https://{GOOD}:{port}/")
        assert len(paths) <= outgoing(tmp_path)._rules.max_redirects + 1


async def test_a_redirect_to_a_name_that_is_inside_by_now_is_refused(tmp_path: Path) -> None:
    async def serve(path: str, writer: asyncio.StreamWriter) -> None:
        await answer(writer, b"", "Location: /inside", status="302 Found")

    async with server(tmp_path, serve) as (port, paths):
        names = Names([HERE], [INSIDE])
        with pytest.raises(OutgoingError, match="not at a public address"):
            await fetched(outgoing(tmp_path, names), f"https://{GOOD}:{port}/")
        assert (paths, len(names.asked)) == (["/"], 2)


async def test_a_name_that_changes_after_the_check_changes_nothing(tmp_path: Path) -> None:
    async def outside(path: str, writer: asyncio.StreamWriter) -> None:
        await answer(writer, b"outside")

    async def inside(path: str, writer: asyncio.StreamWriter) -> None:
        await answer(writer, b"inside")

    async with server(tmp_path, outside) as (port, _), server(tmp_path, inside, INSIDE, port) as (_, reached):
        names = Names([HERE], [INSIDE])
        assert await fetched(outgoing(tmp_path, names), f"https://{GOOD}:{port}/") == b"outside"
        assert (reached, len(names.asked)) == ([], 1)


async def test_one_address_inside_spoils_the_others(tmp_path: Path) -> None:
    with pytest.raises(OutgoingError, match="not at a public address"):
        await fetched(outgoing(tmp_path, Names([HERE, INSIDE])), f"https://{GOOD}/")
    with pytest.raises(OutgoingError, match="not at a public address"):
        await fetched(outgoing(tmp_path, Names([])), f"https://{GOOD}/")


async def test_a_certificate_of_somebody_else_is_refused(tmp_path: Path) -> None:
    async def serve(path: str, writer: asyncio.StreamWriter) -> None:
        await answer(writer, b"weights")

    async with server(tmp_path, serve) as (port, paths):
        rules = OutgoingRules(frozenset({GOOD}), 1_000, 10.0)
        with pytest.raises(OutgoingError, match="Certificate"):
            await fetched(Outgoing(rules, Names([HERE]), lambda address: True), f"https://{GOOD}:{port}/")
        assert paths == []


async def test_a_body_that_says_it_is_huge_is_not_begun(tmp_path: Path) -> None:
    async def serve(path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n")
        await writer.drain()

    async with server(tmp_path, serve) as (port, _):
        with pytest.raises(OutgoingError, match="more than 1000 bytes"):
            await fetched(outgoing(tmp_path), f"https://{GOOD}:{port}/")


async def test_a_body_without_end_is_cut(tmp_path: Path) -> None:
    async def serve(path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"40\r\n" + b"x" * 64 + b"\r\n")
            await writer.drain()

    taken: list[bytes] = []
    async with server(tmp_path, serve) as (port, _):
        with pytest.raises(OutgoingError, match="more than 1000 bytes"):
            await outgoing(tmp_path).fetch(f"https://{GOOD}:{port}/", taken.append)
    assert sum(map(len, taken)) <= 1_000


async def test_a_body_that_drips_is_left(tmp_path: Path) -> None:
    async def serve(path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx")
        await writer.drain()
        await asyncio.Event().wait()

    async with server(tmp_path, serve) as (port, _):
        with pytest.raises(OutgoingError, match=r"longer than 0\.5 s"):
            await fetched(outgoing(tmp_path, timeout_s=0.5), f"https://{GOOD}:{port}/")


async def test_a_body_that_ends_early_is_no_body(tmp_path: Path) -> None:
    async def serve(path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx")
        await writer.drain()

    async with server(tmp_path, serve) as (port, _):
        with pytest.raises(OutgoingError, match="cannot be fetched"):
            await fetched(outgoing(tmp_path), f"https://{GOOD}:{port}/")


async def test_a_compressed_body_is_not_unpacked(tmp_path: Path) -> None:
    async def serve(path: str, writer: asyncio.StreamWriter) -> None:
        await answer(writer, b"\x1f\x8b bomb", "Content-Encoding: gzip")

    async with server(tmp_path, serve) as (port, _):
        with pytest.raises(OutgoingError, match="compressed"):
            await fetched(outgoing(tmp_path), f"https://{GOOD}:{port}/")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1%eth0",
        "fd00::1",
        "ff02::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "2002:a00:1::1",
        "2001::1",
    ],
)
def test_what_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "2606:4700::1111", "64:ff9b::101:101", "2002:101:101::1", "::ffff:1.1.1.1"]
)
def test_what_is(address: str) -> None:
    assert is_public(address)
