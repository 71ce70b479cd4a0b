"""The two bots of the demo room: they hold their conversation over and over, so that a newcomer has something to hear."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import structlog

from bots import AudioPublication, BotError, MeetingBot, PcmSource, SilenceSource
from candor.portrait import RATE_PER_S, Portrait
from candor.speech import Line, load_script

log = structlog.get_logger()

BETWEEN_TURNS_S = 0.8
BETWEEN_ROUNDS_S = 4.0
RETRY_S = 3.0


async def talk(url: str, room: str, token: Callable[[], str | None]) -> None:
    """Talk until cancelled; if the connection is lost for good, come back, with a fresh token."""
    script = await load_script()
    while True:
        try:
            await _converse(url, room, token(), script.turns)
        except (BotError, OSError) as error:
            log.warning("talkers_lost", error=type(error).__name__)
        await asyncio.sleep(RETRY_S)


@dataclass(frozen=True, slots=True)
class Talker:
    """One of the two."""

    microphone: AudioPublication
    portrait: Portrait

    async def speak(self, line: Line) -> None:
        """Say a line, and wait until it is said."""
        self.portrait.say(line.sound)
        self.microphone.play(PcmSource(np.clip(np.round(line.sound * 32767), -32768, 32767).astype(np.int16)))
        await self.microphone.finished()


async def _converse(url: str, room: str, token: str | None, turns: list[Line]) -> None:
    async with contextlib.AsyncExitStack() as stack:
        talkers: dict[str, Talker] = {}
        for name in dict.fromkeys(line.name for line in turns):
            bot = MeetingBot(url, room, name, token, subscribe=False, verify_tls=False)
            await stack.enter_async_context(bot)
            talkers[name] = Talker(await bot.publish_audio(SilenceSource()), Portrait(name))
            await bot.publish_video(talkers[name].portrait, rate_hz=RATE_PER_S)
        while True:
            for line in turns:
                await talkers[line.name].speak(line)
                await asyncio.sleep(BETWEEN_TURNS_S)
            await asyncio.sleep(BETWEEN_ROUNDS_S)
