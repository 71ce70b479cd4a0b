"""A server as a client sees it from another computer: certificate, readiness, a room, and media from one end to the other."""

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from urllib.parse import SplitResult, urlsplit

import aiohttp
import numpy as np

from bots.bot import MeetingBot
from bots.errors import BotError
from bots.probe import acknowledged
from bots.sources import RATE_HZ, PcmSource
from candor.doctor.line import Line
from candor.settings import ConfigurationError, OperatorSettings

TIMEOUT_S = 10.0
CLOCK_OFF_S = 30.0
"""Tokens are refused when clocks differ by much; an answer takes a second itself."""
EXPIRES_SOON_DAYS = 14.0
DAY_S = 86_400
MEETING_S = 30.0
"""From the first message to the server's report; ICE alone may take ten seconds where much is blocked."""
POLL_S = 0.1
TONE_HZ, TONE_S, TONE_LEVEL = 440, 30, 3_000
OPERATOR_PORT = OperatorSettings().port


async def look(url: str, token: str | None, room: str) -> AsyncIterator[Line]:
    """All of it. Without an answer the rest is left out. Raises ConfigurationError for what is no address of a server."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError("--from-outside takes http(s)://host[:port]")
    if parts.scheme == "https":
        certificate = await asyncio.to_thread(_certificate, parts)
        yield certificate
        if certificate.level == "fix":
            return
    else:
        yield Line("note", "certificate", "none: browsers give no camera over plain http, but on localhost")
    reached = True
    async for line in _answers(url):
        yield line
        reached = reached and line.level != "fix"
    if not reached:
        return
    yield await _operator_port(parts)
    yield await _meeting(url, token, room)


def _certificate(parts: SplitResult) -> Line:
    address = (str(parts.hostname), parts.port or 443)
    try:
        with (
            socket.create_connection(address, TIMEOUT_S) as raw,
            ssl.create_default_context().wrap_socket(raw, server_hostname=address[0]) as sock,
        ):
            told = sock.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        return Line("fix", "certificate", error.verify_message, "one that browsers trust, for this name")
    except OSError as error:
        return Line("fix", "connection", f"{address[0]}:{address[1]}: {error.strerror or type(error).__name__}")
    days = (ssl.cert_time_to_seconds(str(told["notAfter"])) - time.time()) / DAY_S
    if days < EXPIRES_SOON_DAYS:
        return Line("note", "certificate", f"trusted, for {days:.0f} more days", "renew it")
    return Line("ok", "certificate", f"trusted, for {days:.0f} more days")


async def _answers(url: str) -> AsyncIterator[Line]:
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as http,
            http.get(f"{url.rstrip('/')}/api/v1/health/ready") as response,
        ):
            status, date = response.status, response.headers.get("Date", "")
    except (aiohttp.ClientError, TimeoutError) as error:
        yield Line("fix", "server", f"no answer: {type(error).__name__}", "is it running, and its port open?")
        return
    if status != 200:
        yield Line("fix", "server", f"not ready: HTTP {status}", "candor doctor on the server itself")
        return
    yield Line("ok", "server", "ready")
    try:
        off_s = abs(parsedate_to_datetime(date).timestamp() - time.time())
    except (TypeError, ValueError):
        return  # whatever is in front of it tells no time
    if off_s > CLOCK_OFF_S:
        yield Line("fix", "clock", f"the server's and this computer's differ by {off_s:.0f} s", "synchronise both")
    else:
        yield Line("ok", "clock", "the same as here")


async def _operator_port(parts: SplitResult) -> Line:
    """It asks for no key, so nobody may reach it from elsewhere."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            _, writer = await asyncio.open_connection(parts.hostname, int(OPERATOR_PORT))
    except (OSError, TimeoutError):
        return Line("ok", "operator's port", f"{OPERATOR_PORT} cannot be reached")
    writer.close()
    remedy = "if that is Candor's, bind it to an address that strangers do not reach (operator.host)"
    return Line("note", "operator's port", f"something answers at {OPERATOR_PORT}", remedy)


async def _meeting(url: str, token: str | None, room: str) -> Line:
    """Send a tone, as music so that nothing is processed, until the server reports that it arrived."""
    times = np.arange(round(TONE_S * RATE_HZ)) / RATE_HZ
    tone = (TONE_LEVEL * np.sin(2 * np.pi * TONE_HZ * times)).astype(np.int16)
    try:
        async with asyncio.timeout(MEETING_S), MeetingBot(url, room, "Candor's doctor", token) as bot:
            began_s = time.monotonic()
            await bot.publish_audio(PcmSource(tone), "music")
            while not await acknowledged(bot):  # noqa: ASYNC110  # the server is elsewhere
                await asyncio.sleep(POLL_S)
            return Line(
                "ok", "meeting", f"joined; media arrived, as the server said {time.monotonic() - began_s:.1f} s later"
            )
    except TimeoutError:
        remedy = "open the UDP ports (sfu.port and up), announce the right address (sfu.announced_host), or set up TURN"
        return Line("fix", "meeting", f"no media arrived within {MEETING_S:.0f} s", remedy)
    except BotError as error:
        remedy = "candor token ROOM doctor, and --room ROOM --token TOKEN" if token is None else ""
        return Line("fix", "meeting", str(error), remedy)
