"""The demo: bots talk in a room, one listens, and what it hears is measured.

Three bots speak: one clean, one with pink noise at 15 dB, one plays a passage with noise at 5 dB twice, with denoise off and
on. They use the product as anybody does, through the protocol; the listener measures packets as they arrive. Then, if models
are here for it, a face and a voice are observed (`candor.demo_perception`).
"""

import asyncio
import contextlib
import sys
import time
import wave
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bots import AudioPublication, BotError, MeetingBot, RawRtp, SilenceSource
from candor import demo_report as report
from candor.demo_perception import perceive
from candor.machine import CpuMeter
from candor.measure import OpusPacket, assess, count_packets, decode
from candor.speech import CLEAN, NOISY, PASSAGE, RATE_HZ, Line, Script, Sound, load_script
from media_processors.findings import Caption, ProcessorStatus
from signaling.protocol import messages as wire

DENOISE = "denoise"
LISTENER = "Listener"
CLEAN_GROUP = f"{CLEAN} (clean)"
NOISY_GROUP = f"{NOISY} (pink noise, 15 dB)"

BETWEEN_TURNS_S = 0.6
FIRST_PACKET_WAIT_S = 10.0
SWITCH_WAIT_S = 5.0
CAPTION_WAIT_S = 10.0
CAPTION_QUIET_S = 3.0
PLAYS_MAX = 3
"""How often the passage is played, at most, until this computer has not disturbed it."""
OVERHEAD_S = 100.0
PACKETS_KEPT = 100_000  # per track, half an hour; later ones are not recorded

Stats = Callable[[], Awaitable[report.PathStats]]
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class HeardPassage:
    """The passage at the listener: decoded, and denoise's states meanwhile."""

    sound: Sound
    states: list[str]
    stalled_ms: int
    """How much of it its bot could not send in time."""
    disturbance: str
    """What this computer did to it; empty if nothing."""


@dataclass(slots=True)
class Recording:
    """What the listener has seen so far."""

    packets: dict[str, list[OpusPacket]] = field(default_factory=dict)
    first_packet_ns: int | None = None
    captions: list[report.HeardCaption] = field(default_factory=list)
    models: dict[str, str] = field(default_factory=dict)
    speakers: list[report.NamedSpeakers] = field(default_factory=list)
    played: list[report.PlayedTurn] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def on_rtp(self, packet: RawRtp) -> None:
        """Keep an audio packet."""
        if packet.kind != "audio":
            return
        self.first_packet_ns = self.first_packet_ns or packet.arrival_ns
        kept = self.packets.setdefault(packet.track_id, [])
        if len(kept) < PACKETS_KEPT:
            kept.append(OpusPacket(packet.sequence_number, packet.timestamp, packet.payload, packet.arrival_ns))

    def between(self, track_id: str, start_ns: int, end_ns: int) -> list[OpusPacket]:
        """The packets of a track that arrived in a stretch of time."""
        return [packet for packet in self.packets.get(track_id, []) if start_ns <= packet.arrival_ns <= end_ns]


class Demo:
    """One run: the bots, what they play, and what the listener records."""

    def __init__(self, url: str, room: str, script: Script, tell: Tell) -> None:
        self.recording = Recording()
        self.join_ns = 0
        self._script = script
        self._tell = tell
        self.bots = {name: MeetingBot(url, room, name, subscribe=False) for name in (CLEAN, NOISY, PASSAGE)}
        self.listener = MeetingBot(url, room, LISTENER)
        self.mics: dict[str, AudioPublication] = {}
        self.listener.on_rtp(self.recording.on_rtp)
        self.listener.on(wire.ActiveSpeakers, self._on_speakers)
        self.listener.on(wire.FindingEvent, self._on_finding)

    @contextlib.asynccontextmanager
    async def in_room(self) -> AsyncIterator[None]:
        """Everybody is in the room inside, and the listener hears every microphone or a problem says so."""
        async with contextlib.AsyncExitStack() as stack:
            for name, bot in self.bots.items():
                await stack.enter_async_context(bot)
                self.mics[name] = await bot.publish_audio(SilenceSource())
            self.join_ns = time.monotonic_ns()
            await stack.enter_async_context(self.listener)
            await self._reached(
                lambda: all(mic.track_id in self.recording.packets for mic in self.mics.values()),
                FIRST_PACKET_WAIT_S,
                "media: the listener did not hear every microphone within 10 s",
            )
            yield

    async def turns(self, until_ns: int) -> None:
        """Speak in turn, as many lines as end before `until_ns`."""
        groups = {CLEAN: CLEAN_GROUP, NOISY: NOISY_GROUP}
        for line in self._script.turns:
            if time.monotonic_ns() + (len(line.sound) / RATE_HZ + BETWEEN_TURNS_S) * 1e9 > until_ns:
                return
            await self._speak(line, groups[line.name])
            await asyncio.sleep(BETWEEN_TURNS_S)

    async def passage(self, denoise_on: bool) -> tuple[HeardPassage, list[str]]:
        """Play the noisy passage with denoise on or off, again if this computer disturbed it.

        Returns how it was heard in the end, and for each time before what had disturbed it.
        """
        await self._switch_denoise(denoise_on)
        disturbances: list[str] = []
        while True:
            heard = await self._play_passage(denoise_on)
            if not heard.disturbance or len(disturbances) == PLAYS_MAX - 1:
                break
            self._tell(f"      {heard.disturbance}; once more")
            disturbances.append(heard.disturbance)
        if heard.stalled_ms:
            self.recording.problems.append(
                f"this computer is too busy: the passage with denoise {_on_off(denoise_on)} stalled for {heard.stalled_ms} ms "
                "before it was sent, so its figures say nothing"
            )
        return heard, disturbances

    async def _play_passage(self, denoise_on: bool) -> HeardPassage:
        bot, mic = self.bots[PASSAGE], self.mics[PASSAGE]
        meter, stalled_before_ns = CpuMeter(), mic.skipped_ns
        states: list[str] = []
        key = (mic.track_id, DENOISE)
        watch = asyncio.create_task(_collect_states(bot, key, states))
        try:
            turn = await self._speak(self._script.passage, f"passage, pink noise 5 dB, denoise {_on_off(denoise_on)}")
            await asyncio.sleep(BETWEEN_TURNS_S)
        finally:
            watch.cancel()
        stalled_ms = (mic.skipped_ns - stalled_before_ns) // 1_000_000
        shares = meter.shares()
        disturbance = ""
        if stalled_ms:
            disturbance = f"its bot stalled for {stalled_ms} ms ({shares or 'load unknown'})"
        elif denoise_on and "bypass" in states and shares is not None and shares.busy:
            disturbance = f"it was bypassed on a busy computer ({shares})"
        packets = self.recording.between(mic.track_id, turn.start_ns, time.monotonic_ns())
        return HeardPassage(await asyncio.to_thread(decode, packets), states, stalled_ms, disturbance)

    async def last_captions(self) -> None:
        """Wait until no caption has come for 3 s, at most 10 s."""
        deadline = time.monotonic() + CAPTION_WAIT_S
        seen, quiet_since = -1, time.monotonic()
        while time.monotonic() < min(deadline, quiet_since + CAPTION_QUIET_S):
            if len(self.recording.captions) != seen:
                seen, quiet_since = len(self.recording.captions), time.monotonic()
            await asyncio.sleep(0.1)

    async def _speak(self, line: Line, group: str) -> report.PlayedTurn:
        self._tell(f"  {line.name}: {line.text}")
        mic = self.mics[line.name]
        start_ns = time.monotonic_ns()
        mic.play(line.source())
        await mic.finished()
        participant_id = self.bots[line.name].participant_id
        turn = report.PlayedTurn(participant_id, line.name, group, line.text, start_ns, time.monotonic_ns())
        self.recording.played.append(turn)
        return turn

    async def _switch_denoise(self, on: bool) -> None:
        bot = self.bots[PASSAGE]
        key = (self.mics[PASSAGE].track_id, DENOISE)
        wanted = {"on", "guard"} if on else {"off"}
        try:
            await bot.set_processor(DENOISE, on)
        except BotError as error:
            self.recording.problems.append(f"denoise: switching it {_on_off(on)} was refused: {error.code.value}")
            return
        await self._reached(
            lambda: key in bot.room.processor_status and bot.room.processor_status[key].state in wanted,
            SWITCH_WAIT_S,
            f"denoise: not {_on_off(on)} within 5 s of being switched",
        )

    async def _reached(self, condition: Callable[[], bool], within_s: float, problem: str) -> None:
        deadline = time.monotonic() + within_s
        while not condition():
            if time.monotonic() > deadline:
                self.recording.problems.append(problem)
                return
            await asyncio.sleep(0.02)

    def _on_speakers(self, event: wire.ActiveSpeakers) -> None:
        ids = frozenset(speaker.participant_id for speaker in event.speakers)
        self.recording.speakers.append(report.NamedSpeakers(time.monotonic_ns(), ids))

    def _on_finding(self, event: wire.FindingEvent) -> None:
        caption = event.finding
        if not isinstance(caption, Caption):
            return
        self.recording.models[caption.model] = caption.quality
        if not caption.final or not caption.text:
            return
        end_ns = time.monotonic_ns() - caption.latency_ms * 1_000_000
        heard = report.HeardCaption(
            participant_id=caption.participant_id,
            name=self.listener.room.name_of(caption.participant_id) or caption.participant_id,
            text=caption.text,
            start_ns=end_ns - (caption.end_ms - caption.start_ms) * 1_000_000,
            end_ns=end_ns,
            latency_ms=caption.latency_ms,
        )
        self.recording.captions.append(heard)
        self._tell(f"      captioned {heard.name}: {heard.text}")


async def _collect_states(bot: MeetingBot, key: tuple[str, str], states: list[str]) -> None:
    while True:
        status = bot.room.processor_status.get(key)
        if status is not None and (not states or states[-1] != status.state):
            states.append(status.state)
        await asyncio.sleep(0.05)


def _on_off(on: bool) -> str:
    return "on" if on else "off"


def _tell_stdout(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def run_demo(
    url: str,
    room: str = "demo",
    seconds: float = 40.0,
    out_dir: Path = Path("build/demo"),
    stats: Stats | None = None,
    tell: Tell = _tell_stdout,
) -> int:
    """Run the demo against the server at `url` and write `report.json` and WAV files to `out_dir`.

    About `seconds` of speech: the passage twice, and as many turns as fit. `stats` gives the server's own counts, which the
    protocol does not carry. Returns 0 if everything that the report checks is as it should be, else 1.
    """
    script = await load_script()
    demo = Demo(url, room, script, tell)
    try:
        async with asyncio.timeout(seconds + OVERHEAD_S):
            result = await _play_and_measure(demo, script, seconds, out_dir, stats, tell)
    except (BotError, TimeoutError) as error:
        tell(f"FAILED  the demo could not run: {error or 'it took too long'}")
        return 1
    processors = {info.name: info for info in result.processors}
    result = report.with_perception(result, await perceive(url, room, script, processors, tell))
    out_dir.mkdir(parents=True, exist_ok=True)
    (out_dir / "report.json").write_text(result.model_dump_json(indent=2))
    tell(report.render(result))
    tell(f"\n{out_dir / 'report.json'}")
    return 1 if result.failed else 0


async def _play_and_measure(
    demo: Demo, script: Script, seconds: float, out_dir: Path, stats: Stats | None, tell: Tell
) -> report.DemoReport:
    started_ns, meter = time.monotonic_ns(), CpuMeter()
    passages_s = 2 * (len(script.passage.sound) / RATE_HZ + BETWEEN_TURNS_S)
    async with demo.in_room():
        tell("Bots speak in turn")
        await demo.turns(started_ns + round((seconds - passages_s) * 1e9))
        denoise = await _measure_denoise(demo, script, out_dir, tell)
        tell("Waiting for the last captions")
        await demo.last_captions()
        path = await stats() if stats is not None else None
        played_s = (time.monotonic_ns() - started_ns) / 1e9
        processors = list(demo.listener.room.processors.values())
        status = list(demo.listener.room.processor_status.values())
    shares = meter.shares()
    machine = None if shares is None else report.MachineLine(idle=shares.idle, stolen=shares.stolen)
    return _report(demo, denoise, path, played_s, processors, status).model_copy(update={"machine": machine})


async def _measure_denoise(demo: Demo, script: Script, out_dir: Path, tell: Tell) -> report.DenoiseLine:
    """The passage off, then on; or why that cannot be measured."""
    info = demo.bots[PASSAGE].room.processors.get(DENOISE)
    if info is None or not info.available:
        reason = info.reason if info else "the server does not know it"
        return report.DenoiseLine(available=False, reason=reason, command=info.command if info else "")
    heard: dict[str, Sound] = {"clean": script.passage_clean, "noisy": script.passage.sound}
    qualities: dict[str, report.SoundQuality | None] = {}
    states: list[str] = []
    repeated: list[str] = []
    for on in (False, True):
        tell(f"A passage with pink noise at 5 dB, denoise {_on_off(on)}")
        passage, disturbances = await demo.passage(on)
        states = passage.states
        repeated += [f"denoise {_on_off(on)}: {disturbance}" for disturbance in disturbances]
        heard[_on_off(on)] = passage.sound
        try:
            qualities[_on_off(on)] = await asyncio.to_thread(assess, script.passage_clean, passage.sound)
        except ValueError as error:
            demo.recording.problems.append(f"denoise: the passage with denoise {_on_off(on)} was not heard ({error})")
    await asyncio.to_thread(_write_wavs, out_dir, heard)
    return report.DenoiseLine(
        available=True, on=qualities.get("on"), off=qualities.get("off"), states_while_on=states, repeated=repeated
    )


def _write_wavs(out_dir: Path, sounds: dict[str, Any]) -> None:
    out_dir.mkdir(parents=True, exist_ok=True)
    for name, sound in sounds.items():
        with wave.open(str(out_dir / f"passage_{name}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE_HZ)
            file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())


def _report(
    demo: Demo,
    denoise: report.DenoiseLine,
    path: report.PathStats | None,
    seconds: float,
    processors: list[Any],
    status: list[ProcessorStatus],
) -> report.DemoReport:
    recording = demo.recording
    first_ns = recording.first_packet_ns
    turns, wrongly_named = report.turn_lines(recording.speakers, recording.played)
    packets = []
    for name, mic in demo.mics.items():
        count = count_packets(recording.packets.get(mic.track_id, []))
        packets.append(
            report.PacketLine(
                name=name,
                received=count.received,
                lost=count.lost,
                duplicates=count.duplicates,
                stalled_ms=mic.skipped_ns // 1_000_000,
            )
        )
    result = report.DemoReport(
        seconds=seconds,
        join_to_first_packet_ms=None if first_ns is None else (first_ns - demo.join_ns) / 1e6,
        packets=packets,
        denoise=denoise,
        path=path,
        captions_model=", ".join(recording.models),
        captions_quality=", ".join(dict.fromkeys(recording.models.values())),
        captions=report.caption_lines(recording.captions, recording.played),
        texts=report.text_lines(recording.captions, recording.played),
        turns=turns,
        wrongly_named_speakers=wrongly_named,
        processors=processors,
        processor_status=status,
        problems=recording.problems,
    )
    return result.model_copy(update={"failed": report.failed_conditions(result, CLEAN_GROUP)})
