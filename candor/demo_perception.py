"""The part of the demo that looks and listens: a real face and a voice of which everybody knows that it is made.

A bot shows scikit-image's astronaut and speaks with flite's voice `slt`. It switches the observers of its own face and voice
on, as every person would have to, and keeps what they find. What is not installed is said to be unavailable.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable

import numpy as np

from bots import BotError, MeetingBot
from candor.astronaut import RATE_PER_S, Astronaut, NoAstronautError, astronaut
from candor.perception_report import FACE, VOICE, Observed, PerceptionReport, Unavailable
from candor.speech import CLEAN, RATE_HZ, Line, Script
from media_processors.findings import AnyFinding, Authenticity, Expression, Faces, ProcessorInfo
from signaling.protocol import messages as wire

NAME = "Astronaut"
OBSERVERS = ("faces", "expression", FACE, VOICE)
SPEECH_MAX_S = 75.0
"""A likelihood for a voice takes at least 10 s of speech in windows of 4 s; longer, and something is wrong."""
OVERHEAD_S = 30.0
PAUSE_S = 0.3
COMMAND = "make models"

Tell = Callable[[str], None]


async def perceive(
    url: str, room: str, script: Script, processors: dict[str, ProcessorInfo], tell: Tell
) -> PerceptionReport:
    """What the observers of the server at `url` find; what went wrong is in the report."""
    try:
        async with asyncio.timeout(SPEECH_MAX_S + OVERHEAD_S):
            return await Perception(url, room, script, tell).run(processors)
    except (BotError, TimeoutError) as error:
        return PerceptionReport(problems=[f"perception could not be shown: {error or 'it took too long'}"])


class Perception:
    """One run of it."""

    def __init__(self, url: str, room: str, script: Script, tell: Tell) -> None:
        self.bot = MeetingBot(url, room, NAME, subscribe=False)
        self.bot.on(wire.FindingEvent, self._on_finding)
        self._script = script
        self._tell = tell
        self._began_s = 0.0
        self._told: dict[str, AnyFinding] = {}
        self._observed: list[Observed] = []
        self._wanted: set[str] = set()
        self._answered = asyncio.Event()

    async def run(self, processors: dict[str, ProcessorInfo]) -> PerceptionReport:
        """Show and speak until every observer has said something, authenticities a likelihood, or time is up. Raises BotError."""
        wanted = [processors.get(name) for name in OBSERVERS]
        missing = [
            Unavailable(name=name, reason=info.reason if info else "unknown", command=info.command if info else COMMAND)
            for name, info in zip(OBSERVERS, wanted, strict=True)
            if info is None or not info.available
        ]
        available = [info for info in wanted if info is not None and info.available]
        if not available:
            return PerceptionReport(unavailable=missing)
        try:
            astronaut()
        except NoAstronautError as error:
            return PerceptionReport(unavailable=missing, problems=[str(error)])
        self._wanted = {info.name for info in available}
        self._tell("A real face is shown and a synthetic voice speaks; the observers of both are switched on")
        async with self.bot:
            for info in available:
                await self.bot.set_processor(info.name, True)
            self._began_s = time.monotonic()
            await self.bot.publish_video(Astronaut(), rate_hz=RATE_PER_S)
            await self._speak()
        models = {info.name: info.model for info in available}
        return PerceptionReport(unavailable=missing, models=models, observed=self._observed)

    async def _speak(self) -> None:
        await self.bot.publish_audio(self._line().source())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._answered.wait(), SPEECH_MAX_S)

    def _line(self) -> Line:
        """All that the voice has to say, over and over."""
        parts = [line.sound for line in self._script.turns if line.name == CLEAN] + [self._script.passage_clean]
        once = np.concatenate([np.pad(part, (0, round(PAUSE_S * RATE_HZ))) for part in parts])
        return Line(NAME, "", np.tile(once, 1 + round(SPEECH_MAX_S * RATE_HZ / len(once))))

    def _on_finding(self, event: wire.FindingEvent) -> None:
        finding = event.finding
        if finding.kind not in OBSERVERS or finding.participant_id != self.bot.participant_id:
            return
        if not _news(self._told.get(finding.kind), finding):
            return
        self._told[finding.kind] = finding
        observed = Observed(after_s=round(time.monotonic() - self._began_s, 1), finding=finding)
        self._observed.append(observed)
        if all(_says_something(self._told.get(name)) for name in self._wanted):
            self._answered.set()
        self._tell(f"      {observed.after_s:5.1f} s  {observed.sentence}")


def _says_something(finding: AnyFinding | None) -> bool:
    """Of evidence, when it has come to an end: a likelihood alone may still be on its way."""
    if isinstance(finding, Authenticity):
        return finding.verdict in ("likely_genuine", "likely_synthetic")
    return finding is not None


def _news(before: AnyFinding | None, finding: AnyFinding) -> bool:
    """Whether it is worth a line: more or other evidence, another expression, another number of faces or a head that turned."""
    if isinstance(finding, Authenticity) and isinstance(before, Authenticity):
        if finding.verdict in ("likely_genuine", "likely_synthetic"):
            return finding.verdict != before.verdict
        return (finding.verdict, finding.reason, finding.windows) != (before.verdict, before.reason, before.windows)
    if isinstance(finding, Expression) and isinstance(before, Expression):
        return finding.label != before.label
    if isinstance(finding, Faces) and isinstance(before, Faces) and finding.faces and before.faces:
        turned = abs(finding.faces[0].roll_degrees - before.faces[0].roll_degrees)
        return len(finding.faces) != len(before.faces) or turned > 10
    return True
