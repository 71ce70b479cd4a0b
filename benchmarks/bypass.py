"""What listeners hear when the path host is late or dies: forced single misses, and deaths in mid-speech.

`python -m benchmarks.bypass [--misses 500] [--deaths 50] [--media DIR]` prints tables and writes build/bench/bypass.json.

The worker's state machine (`sfu.path.TrackPath`) and the host's track (`media_processors.streams.PathStream`: libopus, VAD,
RNNoise, guard) run in one process on a virtual clock, so only the seed decides what happens. Speech: the demo's committed lines and
the recordings in DIR, in a loop, as Opus of 32 kb/s with FEC. Not in it: sockets, the supervisor, the browser's own jitter buffer.

- *late*: the result comes 5 ms after its deadline. *skipped*: the host read the packet too late and only decoded it.
- *death*: at any time between two packets the host is gone with all its state; a new one is there `RESTART_NS` later.
- *return*: the first packet of the new host that is heard, in a pause of the speaker.

Peaks are those of 200 ms from the event on, against the louder of the raw and the uninterrupted processed sound in the same
200 ms, both decoded; below -60 dBFS nothing is a peak. Two listeners: one conceals with libopus, one leaves silence where neither
packet nor FEC is (as a browser whose concealment does not ask the decoder); the louder counts.
"""

import argparse
import asyncio
import heapq
import itertools
import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bots import play_file, read_pcm
from candor.speech import CLEAN, NOISY, load_script
from media_processors.audio.resample import Downsampler
from media_processors.audio.rnnoise import Rnnoise
from media_processors.audio.vad import SileroVad, SpeechGate
from media_processors.codec import RATE_HZ, OpusDecoder, OpusEncoder, packet_has_fec
from media_processors.streams import PathCounters, PathStream, level_of
from sfu.errors import DropReason
from sfu.path import DEADLINE_NS, AudioPacket, PathMode, TrackPath
from sfu.tap import OpenTrack, TapPacket, TapResult

Sound = NDArray[np.float32]

MS = 1_000_000
PACKET_SAMPLES = 960
PACKET_NS = 20 * MS
ANSWER_NS = 2 * MS
LATE_ANSWER_NS = DEADLINE_NS + 5 * MS
RESTART_NS = 1_500 * MS
"""The longest of four measured from `kill -9` to attached: 1.2, 1.2, 1.3, 1.5 s."""
WINDOW_PACKETS = 10
"""200 ms."""
SETTLE_PACKETS = 100
"""At the start, and after a return, before the next event: the guard has an opinion by then. A death comes up to so much later."""
SPACING_PACKETS = 15
"""Between two single misses at least; up to twice that by chance."""
PUBLISHER_BPS = 32_000
PUBLISHER_LOSS_PERCENT = 10
LOSS_PERCENTS = (0, 10)
"""What listeners report: without loss the host's encoder sends no FEC, so that a miss has to be concealed."""
SILENT_PEAK = 1e-3
SEED = 2
MAX_PEAK_DB = 6.0
MAX_GAP_MS = 60.0
MAX_BACK_S = 5.0


class Kind(Enum):
    """What is forced."""

    LATE = "late"
    SKIPPED = "skipped"
    DEATH = "death"


@dataclass(frozen=True, slots=True)
class Voice:
    """A recording, and for each of its packets whether somebody speaks in it."""

    name: str
    sound: Sound
    speech: list[bool]


@dataclass(frozen=True, slots=True)
class Event:
    """One event and what became of it."""

    kind: str
    voice: str
    loss_percent: int
    at_s: float
    """Virtual time since the start of the track."""
    peak_db: float
    """Of 200 ms, over the louder of raw and processed."""
    gap_ms: float
    """Largest step of RTP timestamps from one released packet to the next."""
    wait_ms: float
    """Longest time from one release to the next."""
    back_s: float
    """Until a processed packet is released again."""
    return_peak_db: float | None
    """After a death: the peak of 200 ms from the return on."""
    bare_peak_db: float
    """What `peak_db` would be without the silent packet from processed to raw sound."""


@dataclass(frozen=True, slots=True)
class TrackSummary:
    """What the path counted on one track (see `sfu.path.PathCounters`)."""

    voice: str
    loss_percent: int
    packets: int
    processed: int
    dry: int
    bypassed: int
    dropped: int
    switches: int


@dataclass(frozen=True, slots=True)
class Release:
    """A packet that went on to the listeners."""

    packet: int
    at_ns: int
    processed: bool


class Clock:
    """Virtual time: what is due happens in order, at once."""

    def __init__(self) -> None:
        self.now_ns = 0
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, time_ns: int, action: Callable[[], None]) -> None:
        """Do something at a time; of two at one time, what was asked first comes first."""
        self._count += 1
        heapq.heappush(self._due, (time_ns, self._count, action))

    def run_until(self, time_ns: int) -> None:
        """Let time pass."""
        while self._due and self._due[0][0] <= time_ns:
            self.now_ns, _, action = heapq.heappop(self._due)
            action()
        self.now_ns = time_ns


class Listener:
    """One decoder over what was released. `sound` has a piece for every packet up to the last released one."""

    def __init__(self, conceals: bool) -> None:
        self.sound: list[Sound] = []
        self._conceals = conceals
        self._decoder = OpusDecoder()

    def hear(self, packet: int, payload: bytes) -> None:
        """The next released packet; what is missing before it is recovered from its FEC or concealed."""
        while len(self.sound) < packet:
            last = len(self.sound) == packet - 1
            if last and packet_has_fec(payload):
                self.sound.append(self._decoder.decode_fec(payload, PACKET_SAMPLES))
            elif self._conceals:
                self.sound.append(self._decoder.conceal(PACKET_SAMPLES))
            else:
                self.sound.append(np.zeros(PACKET_SAMPLES, np.float32))
        self.sound.append(self._decoder.decode(payload))


class Studio:
    """The weights, shared by all tracks."""

    def __init__(self) -> None:
        self._denoise = Rnnoise()
        self._vad = SileroVad()

    def stream(self, loss_percent: int) -> PathStream:
        """A track as a path host opens it."""
        opened = OpenTrack(
            handle=1,
            track_id="t",
            room_id="r",
            participant_id="p",
            kind="audio",
            source="microphone",
            codec="opus",
            clock_hz=RATE_HZ,
            processors={"denoise": True},
            epoch=0,
            bitrate_bps=PUBLISHER_BPS,
            loss_percent=loss_percent,
        )
        return PathStream(opened, {"denoise": self._denoise}, self._vad.open(), PathCounters())

    def voice(self, name: str, sound: Sound) -> Voice:
        """A recording with its speech found; at least 1 s long."""
        vad, gate, downsampler = self._vad.open(), SpeechGate(), Downsampler()
        pieces = np.split(sound[: len(sound) // PACKET_SAMPLES * PACKET_SAMPLES], len(sound) // PACKET_SAMPLES)
        speech = [gate.update(vad.push(downsampler.push(piece)), 20) for piece in pieces]
        return Voice(name, np.concatenate(pieces), speech)


class Host:
    """One life of a path host: it answers in order, each packet `ANSWER_NS` after it came at the earliest."""

    def __init__(self, stream: PathStream) -> None:
        self.alive = True
        self._stream = stream
        self._free_ns = 0

    def take(self, packet: AudioPacket, restart: bool, fate: Kind | None, now_ns: int) -> tuple[TapResult, int]:
        """The result and when it leaves."""
        tapped = TapPacket(
            1, 0, 0, packet.seq_ext & 0xFFFF, packet.timestamp, now_ns, 0, packet.level, int(restart), packet.payload
        )
        result = self._stream.push(tapped, late=fate is Kind.SKIPPED)
        took_ns = LATE_ANSWER_NS if fate is Kind.LATE else ANSWER_NS
        self._free_ns = max(self._free_ns, now_ns + took_ns)
        return result, self._free_ns


class Track:
    """A publisher who speaks without end, the worker's path, a mortal host, the listeners, and the two sounds to compare with."""

    def __init__(self, studio: Studio, voice: Voice, loss_percent: int) -> None:
        self.voice = voice
        self.loss_percent = loss_percent
        self.clock = Clock()
        self.path = TrackPath(self._send, self._release, self._drop, self._changed)
        self.listeners = (Listener(conceals=True), Listener(conceals=False))
        self.bare = Listener(conceals=True)
        """Hears at a death what would have been heard if the path did not put silence between the two encoders."""
        self.references = (Listener(conceals=True), Listener(conceals=True))
        """Raw, and processed without interruption."""
        self.releases: list[Release] = []
        self.count = 0
        """Packets so far."""
        self._studio = studio
        self._encoder = OpusEncoder(bitrate_bps=PUBLISHER_BPS)
        self._encoder.set_fec(True, PUBLISHER_LOSS_PERCENT)
        self._steady = studio.stream(loss_percent)
        self._host: Host | None = None
        self._fate: Kind | None = None
        self._attach()

    @property
    def in_speech(self) -> bool:
        """Whether somebody speaks in the next packet."""
        return self.voice.speech[self.count % len(self.voice.speech)]

    def step(self, fate: Kind | None = None) -> None:
        """20 ms: the next packet is published; `fate` says which miss it is to be, if any."""
        at = self.count % len(self.voice.speech) * PACKET_SAMPLES
        sound = self.voice.sound[at : at + PACKET_SAMPLES]
        now_ns = self.clock.now_ns
        packet = AudioPacket(
            seq_ext=self.count,
            marker=0,
            timestamp=self.count * PACKET_SAMPLES,
            level=level_of(sound),
            arrival_ns=now_ns,
            payload=self._encoder.encode(sound),
        )
        steady = TapPacket(1, 0, 0, self.count & 0xFFFF, packet.timestamp, 0, 0, packet.level, 0, packet.payload)
        self.references[0].hear(self.count, packet.payload)
        self.references[1].hear(self.count, self._steady.push(steady, late=False).payload)
        self._fate = fate
        self.path.submit(packet, now_ns)
        self.count += 1
        self.clock.run_until(now_ns + PACKET_NS)

    def kill(self, after_ns: int) -> None:
        """The host will die so much later, and another one take its place."""

        def die() -> None:
            if self._host is not None:
                self._host.alive = False
            self._host = None
            self.path.detach("host is gone")

        self.clock.at(self.clock.now_ns + after_ns, die)
        self.clock.at(self.clock.now_ns + after_ns + RESTART_NS, self._attach)

    def first_processed(self, after_ns: int) -> Release | None:
        """The first processed packet released after a time, if there was one yet."""
        later = itertools.takewhile(lambda release: release.at_ns > after_ns, reversed(self.releases))
        return next((release for release in reversed(list(later)) if release.processed), None)

    def _attach(self) -> None:
        self._host = Host(self._studio.stream(self.loss_percent))
        self.path.attach()

    def _send(self, packet: AudioPacket, restart: bool) -> bool:
        host = self._host
        if host is None:
            return False
        now_ns = self.clock.now_ns
        result, ready_ns = host.take(packet, restart, self._fate, now_ns)

        def answer() -> None:
            if host.alive:
                self.path.result(result.seq, result.payload, result.level, bool(result.dry), self.clock.now_ns)

        self.clock.at(ready_ns, answer)
        self.clock.at(now_ns + DEADLINE_NS, lambda: self.path.expire(self.clock.now_ns))
        return True

    def _release(self, packet: AudioPacket, payload: bytes, level: int, processed: bool) -> None:
        self.releases.append(Release(packet.seq_ext, self.clock.now_ns, processed))
        for listener in self.listeners:
            listener.hear(packet.seq_ext, payload)
        self.bare.hear(packet.seq_ext, payload if processed else packet.payload)

    def _drop(self, reason: DropReason) -> None:
        """The path's own counters say it too."""

    def _changed(self, mode: PathMode, reason: str) -> None:
        """Statuses are for people; the releases say the same."""


def peak_db(track: Track, listeners: tuple[Listener, ...], packet: int) -> float:
    """The loudest listener's peak in the 200 ms from a packet on, over that of the louder reference."""
    window = slice(packet, packet + WINDOW_PACKETS)
    heard, references = ([listener.sound[window] for listener in group] for group in (listeners, track.references))
    return over_db(heard, references)


def over_db(heard: list[list[Sound]], references: list[list[Sound]]) -> float:
    """The highest peak of any that was heard over the highest of the references; each is a list of the sound of packets."""
    peak, reference = (
        max(float(np.abs(np.concatenate(sound)).max()) for sound in group) for group in (heard, references)
    )
    return round(20 * float(np.log10(max(peak, SILENT_PEAK) / max(reference, SILENT_PEAK))), 2)


def force(track: Track, kind: Kind, after_ns: int) -> Event:
    """Let one thing happen in the next packet (a death so much later), go on until it is over, and measure."""
    first, at_ns = track.count, track.clock.now_ns
    before = len(track.releases) - 1
    if kind is Kind.DEATH:
        at_ns += after_ns
        track.kill(after_ns)
    track.step(None if kind is Kind.DEATH else kind)
    while (back := track.first_processed(at_ns)) is None:
        track.step()
    for _ in range(SETTLE_PACKETS if kind is Kind.DEATH else WINDOW_PACKETS):
        track.step()
    pairs = list(itertools.pairwise(track.releases[before:]))
    return Event(
        kind=kind.value,
        voice=track.voice.name,
        loss_percent=track.loss_percent,
        at_s=round(at_ns / 1e9, 3),
        peak_db=peak_db(track, track.listeners, first),
        gap_ms=max((after.packet - packet.packet) * PACKET_NS / MS for packet, after in pairs),
        wait_ms=round(max(after.at_ns - packet.at_ns for packet, after in pairs) / MS, 1),
        back_s=round((back.at_ns - at_ns) / 1e9, 3),
        return_peak_db=peak_db(track, track.listeners, back.packet) if kind is Kind.DEATH else None,
        bare_peak_db=peak_db(track, (track.bare,), first),
    )


def perform(track: Track, kinds: list[Kind], rng: np.random.Generator) -> list[Event]:
    """Everything that is to happen to one track, each in mid-speech. Raises ValueError if nobody ever speaks."""
    if not any(track.voice.speech):
        raise ValueError(f"{track.voice.name}: no speech found")
    for _ in range(SETTLE_PACKETS):
        track.step()
    events = []
    for kind in kinds:
        for _ in range(int(rng.integers(SETTLE_PACKETS if kind is Kind.DEATH else SPACING_PACKETS))):
            track.step()
        while not track.in_speech:
            track.step()
        events.append(force(track, kind, int(rng.integers(PACKET_NS))))
    return events


def measure(studio: Studio, voices: list[Voice], misses: int, deaths: int) -> tuple[list[Event], list[TrackSummary]]:
    """Spread all events over the voices, with and without FEC for the listeners; the same ones every time."""
    rng = np.random.default_rng(SEED)
    kinds = [Kind.LATE, Kind.SKIPPED] * (misses // 2) + [Kind.LATE] * (misses % 2) + [Kind.DEATH] * deaths
    kinds = [kinds[index] for index in rng.permutation(len(kinds))]
    settings = [(voice, loss_percent) for voice in voices for loss_percent in LOSS_PERCENTS]
    events: list[Event] = []
    summaries: list[TrackSummary] = []
    for index, (voice, loss_percent) in enumerate(settings):
        track = Track(studio, voice, loss_percent)
        events += perform(track, kinds[index :: len(settings)], rng)
        counters = track.path.counters
        summaries.append(
            TrackSummary(
                voice=voice.name,
                loss_percent=loss_percent,
                packets=track.count,
                processed=counters.processed,
                dry=counters.dry,
                bypassed=counters.bypassed,
                dropped=counters.dropped,
                switches=counters.switches,
            )
        )
    return events, summaries


def beyond_limits(events: list[Event]) -> list[Event]:
    """Those that are worse than they may be."""
    return [
        event
        for event in events
        if max(event.peak_db, event.return_peak_db or 0.0) > MAX_PEAK_DB
        or event.gap_ms > MAX_GAP_MS
        or event.back_s >= MAX_BACK_S
    ]


async def load_voices(studio: Studio, media: Path) -> list[Voice]:
    """The demo's speech, and the recordings of a folder if it is there."""
    script = await load_script()
    sounds = {
        "demo, clean": np.concatenate([turn.sound for turn in script.turns if turn.name == CLEAN]),
        "demo, noise at 15 dB": np.concatenate([turn.sound for turn in script.turns if turn.name == NOISY]),
        "demo, noise at 5 dB": script.passage.sound,
    }
    for path in sorted(media.glob("*.wav")):
        source = play_file(path).audio
        if source is not None:
            sounds[path.name] = np.asarray(await read_pcm(source), np.float32) / np.float32(32768)
    return [studio.voice(name, sound) for name, sound in sounds.items()]


def row(name: str, events: list[Event]) -> str:
    """The worst of each, as a line of the table."""
    peaks = sorted(event.peak_db for event in events)
    returns = [event.return_peak_db for event in events if event.return_peak_db is not None]
    cells = [
        name,
        str(len(events)),
        f"{peaks[len(peaks) // 2]:.1f}, {peaks[-1]:.1f}",
        f"{max(event.bare_peak_db for event in events):.1f}" if returns else "",
        f"{max(returns):.1f}" if returns else "",
        f"{max(event.gap_ms for event in events):.0f}",
        f"{max(event.wait_ms for event in events):.0f}",
        f"{statistics.median(event.back_s for event in events):.2f}, {max(event.back_s for event in events):.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def report(events: list[Event]) -> str:
    """Two Markdown tables: by what happened, and deaths by voice."""
    heads = ["", "events", "peak dB: median, worst", "without the silence", "at the return", "RTP gap ms", "wait ms"]
    lines = [f"| {' | '.join([*heads, 'processed again after s: median, worst'])} |", "|---" * 8 + "|"]
    for kind, loss_percent in itertools.product(Kind, LOSS_PERCENTS):
        chosen = [event for event in events if (event.kind, event.loss_percent) == (kind.value, loss_percent)]
        lines += [row(f"{kind.value}, {'FEC' if loss_percent else 'no FEC'}", chosen)] if chosen else []
    deaths = [event for event in events if event.kind == Kind.DEATH.value]
    for voice in dict.fromkeys(event.voice for event in deaths):
        lines.append(row(f"death, {voice}", [event for event in deaths if event.voice == voice]))
    limits = f"peak {MAX_PEAK_DB:.0f} dB, gap {MAX_GAP_MS:.0f} ms, back in {MAX_BACK_S:.0f} s"
    return "\n".join(
        [*lines, "", f"{len(beyond_limits(events))} of {len(events)} events beyond the limits ({limits})."]
    )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--misses", type=int, default=500)
    parser.add_argument("--deaths", type=int, default=50)
    parser.add_argument("--media", type=Path, default=Path("../shared/media"))
    arguments = parser.parse_args()
    studio = Studio()
    voices = asyncio.run(load_voices(studio, arguments.media))
    events, summaries = measure(studio, voices, arguments.misses, arguments.deaths)
    print(report(events))
    out = Path("build/bench/bypass.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    found = {"tracks": [asdict(summary) for summary in summaries], "events": [asdict(event) for event in events]}
    out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
