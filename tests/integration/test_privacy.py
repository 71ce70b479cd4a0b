"""A meeting with names, chat, captions and mistakes; then its log is searched for anything that belongs to a person."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from bots import BotError, MeetingBot
from signaling.protocol.codes import ErrorCode
from tests.e2e.meeting_kit import Ear, mistakes, next_caption, speech
from tests.until import until

NAMES = ("Zephyrine Quackenbush", "Ottoline Featherstonehaugh")
CHAT = "The launch code is marmalade."
JUNK = "tangerine-in-a-broken-packet"
ADDRESS = re.compile(r"\b\d{1,3}(\.\d{1,3}){3}\b|\b[0-9a-f]{1,4}(:[0-9a-f]{0,4}){4,7}\b", re.IGNORECASE)


@asynccontextmanager
async def served(log: Path) -> AsyncIterator[str]:
    """`candor serve` at its most talkative, all of its processes logging into one file; its address."""
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "candor.cli", "serve", "--port", "0"),
            stdout=asyncio.subprocess.PIPE,
            stderr=file,
            env={**os.environ, "CANDOR_LOG_LEVEL": "debug"},
        )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            while not (found := re.search(rb"http\S+?(?=/?\s)", await process.stdout.readline())):
                pass
        yield found.group().decode()
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 30)


async def send_junk(url: str) -> None:
    """HTTP headers and Socket.IO packets that the libraries themselves stumble over, with words of a person in them."""
    for header in ("Host: [::1", f"Host: 127.0.0.1\r\nContent-Length: {JUNK}"):
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
        writer.write(f"GET /{JUNK} HTTP/1.1\r\n{header}\r\n\r\n".encode())
        assert (await reader.readline()).split()[1] in (b"400", b"421")
        writer.close()
    for packet in (
        f"4{JUNK}",
        f'42["chat",{{"text":"{JUNK}"',
        f'4512-["{JUNK}"]',
        f'42["connect","{JUNK}"]',
        f"b{JUNK}",
    ):
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(f"{url}/socket.io/?EIO=4&transport=websocket") as socket,
        ):
            await socket.receive()
            await socket.send_str("40")
            await socket.receive()
            await socket.send_str(packet)
            await socket.send_str(f'421["chat",{{"text":"{JUNK}","{JUNK}":1}}]')


@pytest.mark.timeout(240)
async def test_no_log_line_holds_a_name_a_word_or_an_address(tmp_path: Path) -> None:
    log = tmp_path / "serve.log"
    async with served(log) as url:
        async with (
            MeetingBot(url, "private", NAMES[0], subscribe=False) as speaker,
            Ear(url, "private", NAMES[1]) as ear,
        ):
            await speaker.publish_audio(await speech())
            await speaker.say(CHAT)
            await until(lambda: "" if ear.bot.room.chat else "the line of chat")
            with pytest.raises(BotError) as refused:
                await speaker.set_processor(JUNK, True)
            assert refused.value.code is ErrorCode.NO_SUCH_PROCESSOR
            caption = await next_caption(ear.bot, speaker.participant_id)
        await send_junk(url)
        async with MeetingBot(url, "private", NAMES[0]):  # by now the server has read all that came before
            pass
    text = log.read_text()
    assert len(text.splitlines()) > 20, "hardly anything was logged, so this proves nothing"
    secrets = [word for name in NAMES for word in name.split()] + ["marmalade", "tangerine", caption]
    assert [secret for secret in secrets if secret.lower() in text.lower()] == []
    assert [line for line in text.splitlines() if ADDRESS.search(line)] == []
    assert mistakes(log) == []
