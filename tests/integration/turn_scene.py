"""What our coturn grants and refuses. Runs in a network of its own: `test_turn_server.py` starts it."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aioice import turn
from aioice.stun import TransactionFailed

from bots.media import SubscribeConnection
from candor.lan import certificate
from signaling.protocol.messages import IceServer
from signaling.turn import credentials
from tests.integration.turn_kit import DOOR, PORT, RELAY, SECRET, STRANGER, TLS_PORT, WORKER, coturn
from tests.until import until

VALID_S = 60
USER_QUOTA = 64


@pytest.fixture
async def relay(tmp_path: Path) -> AsyncIterator[Path]:
    async with coturn(tmp_path) as log:
        yield log


class Mailbox(asyncio.DatagramProtocol):
    """Keeps what arrives, and from where."""

    def __init__(self) -> None:
        self.got: list[tuple[bytes, Any]] = []
        self.closed = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.got.append((data, addr))


def fresh(ttl_s: int = VALID_S, who: str = "p_1") -> tuple[str, str]:
    return credentials(SECRET, who, int(time.time()) + ttl_s)


async def allocate(username: str, password: str, **options: Any) -> tuple[Any, Mailbox]:
    """A relayed address. Raises TransactionFailed if it is refused."""
    server = (DOOR, options.pop("port", PORT))
    transport, mailbox = await turn.create_turn_endpoint(
        Mailbox, server_addr=server, username=username, password=password, **options
    )
    return transport, mailbox


async def release(*allocated: tuple[Any, Mailbox]) -> None:
    """Give relayed addresses back."""
    for transport, _ in allocated:
        transport.close()
    await until(lambda: "" if all(mailbox.closed for _, mailbox in allocated) else "the end of an allocation")


async def listen(host: str) -> tuple[Any, Mailbox]:
    loop = asyncio.get_running_loop()
    return await loop.create_datagram_endpoint(Mailbox, local_addr=(host, 0))


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_the_relay_leads_to_the_media_workers(relay: Path, transport: str) -> None:
    worker, inbox = await listen(WORKER)
    ours, answers = await allocate(*fresh(), transport=transport)
    ours.sendto(b"hello", worker.get_extra_info("sockname"))
    await until(lambda: "" if inbox.got else "what was relayed")
    data, sender = inbox.got[0]
    assert (data, sender) == (b"hello", ours.get_extra_info("sockname"))
    worker.sendto(b"welcome", sender)
    await until(lambda: "" if answers.got else "the answer")
    assert answers.got[0][0] == b"welcome"
    await release((ours, answers))
    worker.close()


@pytest.mark.parametrize(
    "host", [STRANGER, RELAY, "127.0.0.1", "192.168.1.1", "169.254.169.254", "203.0.113.7", "224.0.0.1"]
)
async def test_the_relay_leads_nowhere_else(relay: Path, host: str) -> None:
    ours, answers = await allocate(*fresh())
    inner = ours._TurnTransport__inner_protocol  # there is no public way to hear of the refusal
    with pytest.raises(TransactionFailed) as refused:
        await inner.channel_bind(0x4000, (host, 4000))
    assert refused.value.response.attributes["ERROR-CODE"][0] == 403
    await release((ours, answers))


async def test_nobody_gets_an_address_with_what_has_expired_or_is_made_up(relay: Path) -> None:
    username, password = fresh()
    for name, word in (fresh(-1), (username, "guessed"), (f"{int(time.time()) + 60}:someone", password)):
        with pytest.raises(TransactionFailed) as refused:
            await allocate(name, word)
        assert refused.value.response.attributes["ERROR-CODE"][0] == 401


async def test_an_address_outlives_the_credentials_it_was_got_with(relay: Path) -> None:
    """On this rests that a call through the relay may be longer than `ttl_s`."""
    username, password = fresh(2)
    worker, inbox = await listen(WORKER)
    ours, answers = await allocate(username, password, lifetime=6)
    expires = time.time() + 3

    async def refused_to_others() -> str:
        if time.time() < expires:
            return "the end of the credentials"
        with pytest.raises(TransactionFailed):
            await allocate(username, password)
        return ""

    await until(refused_to_others)
    for lifetime_s in (3, 5):  # refreshed by aioice when 5/6 of 6 s are over
        over = time.time() + lifetime_s
        await until(lambda over=over: "" if time.time() > over else "another refresh")  # type: ignore[misc]
        before = len(inbox.got)
        ours.sendto(b"still here", worker.get_extra_info("sockname"))
        await until(lambda before=before: "" if len(inbox.got) > before else "what was relayed")  # type: ignore[misc]
    await release((ours, answers))
    worker.close()


async def test_one_participant_gets_only_so_many_addresses(relay: Path) -> None:
    """`user-quota`, under however many credentials of theirs."""
    got: list[tuple[Any, Mailbox]] = []
    with pytest.raises(TransactionFailed) as refused:
        for ttl_s in range(VALID_S, VALID_S + 2 * USER_QUOTA):
            got.append(await allocate(*fresh(ttl_s)))
    assert refused.value.response.attributes["ERROR-CODE"][0] == 486
    assert len(got) == USER_QUOTA
    await release(*got, await allocate(*fresh(who="p_2")))


async def test_tls_where_there_is_a_certificate(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, DOOR)
    trusting = ssl.create_default_context(cafile=str(cert))
    settings = {"TURN_CERT": str(cert), "TURN_KEY": str(key), "TURN_TLS_PORT": str(TLS_PORT)}
    async with coturn(tmp_path, **settings):
        ours, answers = await allocate(*fresh(), port=TLS_PORT, transport="tcp", ssl=trusting)
        assert ours.get_extra_info("sockname")[0] == RELAY
        await release((ours, answers))


async def test_a_bot_gathers_with_the_latest_credentials(relay: Path) -> None:
    """aiortc reads the configuration that it was given when it begins to gather, not before."""
    urls = [f"turn:{DOOR}:{PORT}"]
    old, new = ((IceServer(urls=urls, username=u, credential=p)) for u, p in (fresh(-1), fresh()))
    connection = SubscribeConnection(None, [old], use_loopback=True, on_track=lambda _: None)  # type: ignore[arg-type]  # never asked
    connection.use_ice_servers([new])
    connection.connection.createDataChannel("so that there is something to gather for")
    await connection.connection.setLocalDescription(await connection.connection.createOffer())
    assert "typ relay" in connection.connection.localDescription.sdp
    await connection.close()


async def test_the_secret_is_in_a_file_of_our_own(relay: Path) -> None:
    rendered = relay.parent / "turnserver.conf"
    assert rendered.stat().st_mode & 0o077 == 0
    assert SECRET in rendered.read_text()
    assert SECRET not in relay.read_text()
