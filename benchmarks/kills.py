"""kill -9 of every process of a node in the middle of a meeting: what listeners notice, and how long it takes to come back.

    python -m benchmarks.kills [--kills 50] [--others 3] [--seed 3] [--no-chromium]

The real node with all its processes; two bots that speak without end (the demo's lines, one speaker with noise at 15 dB), a bot
that sees every RTP packet before any jitter buffer, and a Chromium that listens, if Debian's chromium and the built page are
there. The path host is killed in mid-speech, at random times; before each kill it has processed for 1.5 to 3.5 s. See README.md.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from av import AudioFrame
from playwright.async_api import Page

from benchmarks.bypass import MS, PACKET_SAMPLES, Studio, Voice
from benchmarks.seams import Peaks, Round, arrival_gap_ms, assess, timestamp_gap_ms
from bots import AudioPublication, BotState, MeetingBot, RawRtp
from bots.sources import audio_frame
from candor import logs
from candor.node import Node, node
from candor.settings import load
from candor.speech import CLEAN, NOISY, load_script
from tests.e2e.meeting_kit import COUNT_CONNECTIONS, Ear, enter
from tests.e2e.pages import CHROMIUM, chromium

REPORT = Path("build/bench/kills.json")
PAGE = Path(__file__).parents[1] / "web" / "dist" / "index.html"
ROOM = "kills"
NOBODY = "nobody"
"""The control."""
BETWEEN_LINES_S = 0.2
SETTLE_S = (1.5, 3.5)
AROUND_S = 1.2
"""Packets from so long before a kill until so long after what died is back belong to it."""
WATCHED_S = 4.0
"""From the kill on, at least."""
POLL_S = 0.05
NOTICED_S = 3.0
"""Within so much everybody has been told of a death."""
ON_THE_WAY_NS = 200 * MS
"""A worker's last packets have arrived so long after its death."""
PATIENCE_S = 60.0


class Speaker:
    """Says the same without end: an audio source."""

    def __init__(self, voice: Voice) -> None:
        self.voice = voice
        self._at = 0

    @property
    def speaking(self) -> bool:
        """Whether there is voice in the 20 ms that come next."""
        return self.voice.speech[self._at]

    async def __aiter__(self) -> AsyncIterator[AudioFrame]:
        pcm = np.clip(np.round(self.voice.sound * 32767), -32768, 32767).astype(np.int16)
        while True:
            yield audio_frame(pcm[self._at * PACKET_SAMPLES : (self._at + 1) * PACKET_SAMPLES])
            self._at = (self._at + 1) % len(self.voice.speech)


@dataclass(frozen=True, slots=True)
class Heard:
    """What was noticed of one speaker."""

    voice: str
    timestamp_gap_ms: float | None
    """Largest step of RTP timestamps from one received packet to the next; 20 without loss. None after the death of a worker,
    whose successor numbers anew."""
    arrival_gap_ms: float
    peaks: Peaks


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill, or none, as a control."""

    killed: str
    back_s: float | None
    """Until the new process does its work; None for the control, or if it took longer than a minute."""
    processed_before: bool
    """Whether both speakers went through the path host when it happened. A busy machine may have led them around it."""
    watched_s: float
    concealed_ms: float | None
    """By Chromium in that time, of both speakers together (`concealedSamples` of W3C webrtc-stats); None without Chromium, and
    after the death of a worker, when connections are new."""
    received_ms: float | None
    """Of `totalSamplesReceived`, the same way."""
    load_average: float
    heard: list[Heard]


class Meeting:
    """Everybody in the room, and what they receive."""

    def __init__(self, running: Node, voices: list[Voice], page: Page | None) -> None:
        self.running = running
        self.page = page
        self.speakers = [Speaker(voice) for voice in voices]
        self.bots = [MeetingBot(running.url, ROOM, voice.name, subscribe=False) for voice in voices]
        self.microphones: list[AudioPublication] = []
        self.ear = Ear(running.url, ROOM)

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Everybody is in the room inside."""
        async with AsyncExitStack() as stack:
            for bot, speaker in zip(self.bots, self.speakers, strict=True):
                await stack.enter_async_context(bot)
                self.microphones.append(await bot.publish_audio(speaker))
            await stack.enter_async_context(self.ear)
            if self.page is not None:
                await enter(self.page, f"{self.running.url}/r/{ROOM}", "Viewer")
                for key in "mv":  # a viewer sends nothing
                    await self.page.keyboard.press(key)
            yield

    def received(self, microphone: AudioPublication, since_ns: int) -> list[RawRtp]:
        """The packets of a speaker's present track that arrived since then."""
        return [one for one in self.ear.packets.get(microphone.track_id, []) if one.arrival_ns >= since_ns]

    def track_ids(self) -> list[str]:
        """Under which names the speakers are published just now; a worker's death changes them."""
        return [microphone.track_id for microphone in self.microphones]

    def between(self, track_ids: set[str], since_ns: int, until_ns: int) -> list[RawRtp]:
        """The packets of tracks that arrived in that stretch of time, in the order of arrival."""
        packets = [one for name in track_ids for one in self.ear.packets.get(name, [])]
        return sorted((one for one in packets if since_ns <= one.arrival_ns < until_ns), key=lambda one: one.arrival_ns)

    def forget(self) -> None:
        """Forget all packets so far."""
        self.ear.packets.clear()

    async def audio_at_page(self) -> dict[str, int]:
        """Sums of Chromium's statistics over everybody it hears; empty without Chromium."""
        if self.page is None:
            return {}
        reports = [one for one in await self.page.evaluate("figures('inbound-rtp')") if one["kind"] == "audio"]
        names = ("concealedSamples", "totalSamplesReceived", "packetsReceived")
        return {name: sum(one.get(name, 0) for one in reports) for name in names}

    # --- what "back" means, by the process that died

    async def processed(self) -> bool:
        """Whether every speaker goes through the path host."""
        tracks: dict[str, dict[str, Any]] = {}
        for worker in await self.running.worker_stats():
            tracks |= worker["taps"]["tracks"]
        modes = [tracks.get(microphone.track_id, {}).get("mode") for microphone in self.microphones]
        return all(mode == "processed" for mode in modes)

    async def captioned(self) -> bool:
        """Whether captions are on for every speaker, as the listener is told."""
        statuses = self.ear.bot.room.processor_status
        found = [statuses.get((microphone.track_id, "captions")) for microphone in self.microphones]
        return all(status is not None and status.state == "on" for status in found)

    async def joined(self) -> bool:
        """Whether every bot is in the room."""
        return all(bot.state is BotState.JOINED for bot in (*self.bots, self.ear.bot))

    async def heard(self, since_ns: int) -> bool:
        """Whether the bot hears every speaker since then, and Chromium somebody."""
        page = await self.audio_at_page()
        return all(self.received(microphone, since_ns) for microphone in self.microphones) and (
            not page or page["packetsReceived"] > 0
        )

    def back(self, label: str, since_ns: int) -> Callable[[], Awaitable[bool]]:
        """Whether the work of a process that died before that time is done."""
        conditions: dict[str, Callable[[], Awaitable[bool]]] = {
            "path": self.processed,
            "watch": self.captioned,
            "engine": self.captioned,
            "signaling": self.joined,
            "worker-0": partial(self.heard, since_ns),
        }
        return conditions[label]


async def within(condition: Callable[[], Awaitable[bool]], limit_s: float = PATIENCE_S) -> bool:
    """Wait until a condition holds; whether it did in time."""
    began = time.monotonic()
    while not await condition():
        if time.monotonic() - began > limit_s:
            return False
        await asyncio.sleep(POLL_S)
    return True


async def kill(meeting: Meeting, label: str) -> float | None:
    """kill -9, and wait until a new process does the same work; the seconds until then, None if more than a minute."""
    supervisor = meeting.running.supervisor
    pid = supervisor.pid(label)
    if pid is None:
        return None
    began = time.monotonic()
    back = meeting.back(label, time.monotonic_ns() + ON_THE_WAY_NS)
    os.kill(pid, signal.SIGKILL)

    async def noticed() -> bool:
        return not await back()

    async def replaced() -> bool:
        return supervisor.pid(label) not in (None, pid)

    await within(noticed, NOTICED_S)  # until then the old process's work looks done
    done = await within(replaced) and await within(back)
    return round(time.monotonic() - began, 2) if done else None


async def settled(meeting: Meeting, seconds: float) -> None:
    """Wait until both speakers were processed for so long without a break, or for a minute: a busy machine breaks it."""
    began = time.monotonic()
    since = began
    while time.monotonic() - since < seconds and time.monotonic() - began < PATIENCE_S:
        if not await meeting.processed():
            since = time.monotonic()
        await asyncio.sleep(POLL_S)


async def observe(meeting: Meeting, label: str, rounds: list[Round], rng: random.Random) -> Kill:
    """Wait until all is well and both speak, kill, wait until it is back, and see what was noticed."""
    meeting.forget()
    await settled(meeting, rng.uniform(*SETTLE_S))
    before = await meeting.audio_at_page()
    while not all(speaker.speaking for speaker in meeting.speakers):  # noqa: ASYNC110  # asked at random times
        await asyncio.sleep(rng.uniform(0.01, 0.03))
    processed_before, names = await meeting.processed(), meeting.track_ids()
    at_ns = time.monotonic_ns()
    back_s = None if label == NOBODY else await kill(meeting, label)
    await asyncio.sleep(max(AROUND_S, WATCHED_S - (time.monotonic_ns() - at_ns) / 1e9))
    end_ns = time.monotonic_ns()
    after = await meeting.audio_at_page()
    same = label != "worker-0"  # whose clients make new connections, which count anew
    grown = {name: after[name] - before[name] for name in after} if same else {}
    heard = []
    for old, new, told in zip(names, meeting.track_ids(), rounds, strict=True):
        packets = meeting.between({old, new}, at_ns - round(AROUND_S * 1e9), end_ns)
        heard.append(await asyncio.to_thread(judge, packets, told, at_ns, end_ns, same and old == new))
    return Kill(
        killed=label,
        back_s=back_s,
        processed_before=processed_before,
        watched_s=round((end_ns - at_ns) / 1e9, 2),
        concealed_ms=round(grown["concealedSamples"] / 48, 1) if grown else None,
        received_ms=round(grown["totalSamplesReceived"] / 48, 1) if grown else None,
        load_average=round(os.getloadavg()[0], 1),
        heard=heard,
    )


def judge(packets: list[RawRtp], told: Round, at_ns: int, end_ns: int, same: bool) -> Heard:
    """One speaker's packets around a kill and until the end; `same` if they are all of one stream."""
    since_ns = at_ns - 100 * MS
    arrival_ms = arrival_gap_ms(packets, since_ns, end_ns)
    if not same:
        return Heard(told.name, None, arrival_ms, Peaks(None, None))
    around = [packet for packet in packets if packet.arrival_ns > since_ns]
    return Heard(told.name, timestamp_gap_ms(around), arrival_ms, assess(packets, told, at_ns))


async def load_voices(studio: Studio) -> list[Voice]:
    """The demo's two speakers, each with all lines, nearly without pauses."""
    script = await load_script()
    pause = np.zeros(round(BETWEEN_LINES_S * 48_000), np.float32)
    voices = []
    for name in (CLEAN, NOISY):
        lines = [turn.sound for turn in script.turns if turn.name == name]
        voices.append(studio.voice(name, np.concatenate([part for line in lines for part in (line, pause)])))
    return voices


@asynccontextmanager
async def viewer(wanted: bool) -> AsyncIterator[Page | None]:
    """An empty page of Chromium; None where there is none, and that it is missing, or if none is wanted."""
    if not wanted:
        yield None
        return
    if not CHROMIUM.exists() or not PAGE.exists():
        print("without Chromium: it needs Debian's chromium and the built page (make test builds it)")
        yield None
        return
    async with chromium() as browser:
        context = await browser.new_context()
        await context.add_init_script(COUNT_CONNECTIONS)
        yield await context.new_page()


async def measure(kills: int, others: int, seed: int, with_chromium: bool = True) -> list[Kill]:
    """The whole benchmark."""
    studio, rng = Studio(), random.Random(seed)
    voices = await load_voices(studio)
    rounds = [Round(studio, voice) for voice in voices]
    plan = [NOBODY] * (2 * others) + ["path"] * kills
    plan += [label for label in ("watch", "engine", "signaling", "worker-0") for _ in range(others)]
    found = []
    settings = load(arguments={"log_level": "error", "signaling": {"port": 0}, "sfu": {"workers": 1}})
    async with node(settings) as running, viewer(with_chromium) as page:
        meeting = Meeting(running, voices, page)
        async with meeting.held():
            for number, label in enumerate(plan, start=1):
                found.append(await observe(meeting, label, rounds, rng))
                print(f"{number} of {len(plan)}: {line(label, found[-1:])}", flush=True)
                write(found)
    return found


HEADS = [
    "killed",
    "times",
    "back after s",
    "RTP gap ms by timestamp",
    "by arrival",
    "peak dB to raw",
    "peak dB back",
    "Chromium concealed ms",
    "watched s",
]


def spread(values: Iterable[float | None], digits: int = 0) -> str:
    """Median and worst."""
    there = [value for value in values if value is not None]
    return f"{statistics.median(there):.{digits}f}, {max(there):.{digits}f}" if there else ""


def line(label: str, kills: list[Kill]) -> str:
    """A row of the table: medians and worst."""
    heard = [one for kill in kills for one in kill.heard]
    cells = [
        label,
        str(len(kills)),
        spread((kill.back_s for kill in kills), 1),
        spread(one.timestamp_gap_ms for one in heard),
        spread(one.arrival_gap_ms for one in heard),
        spread((one.peaks.away_db for one in heard), 1),
        spread((one.peaks.return_db for one in heard), 1),
        spread(kill.concealed_ms for kill in kills),
        spread((kill.watched_s for kill in kills), 1),
    ]
    return f"| {' | '.join(cells)} |"


def report(kills: list[Kill]) -> str:
    """A Markdown table, and what was missing."""
    labels = dict.fromkeys(kill.killed for kill in kills)
    rows = [line(label, [kill for kill in kills if kill.killed == label]) for label in labels]
    lost = sum(kill.back_s is None for kill in kills if kill.killed != NOBODY)
    return "\n".join(
        [f"| {' | '.join(HEADS)} |", "|---" * len(HEADS) + "|", *rows, "", f"median, worst; {lost} never came back"]
    )


def write(kills: list[Kill]) -> None:
    """After every kill, so that a run that is interrupted is not lost."""
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps([asdict(kill) for kill in kills], indent=1) + "\n")


def main() -> int:
    """Run, print, write the report. The exit code does not depend on the figures."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kills", description="kill -9 in the middle of a meeting"
    )
    parser.add_argument("--kills", type=int, default=50, help="of the path host")
    parser.add_argument("--others", type=int, default=3, help="of each other process; twice as many controls")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--no-chromium", action="store_true", help="it takes a third of a core")
    arguments = parser.parse_args()
    logs.configure("error", "benchmark")
    kills = asyncio.run(measure(arguments.kills, arguments.others, arguments.seed, not arguments.no_chromium))
    print(report(kills))
    print(f"report: {REPORT}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
