"""How many machines so many people need: arithmetic from measured unit costs, not a measurement.

    python -m benchmarks.scale [--write]

`COSTS` are figures of the other benchmarks (each says which), `HABITS` are assumptions about people. Without arguments it prints
the table; `--write` puts it into deploy/SIZING.md between its marks (a test compares). JSON: build/bench/scale.json.
"""

import argparse
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

SIZING = Path(__file__).parent.parent / "deploy" / "SIZING.md"
REPORT = Path("build/bench/scale.json")
BEGIN, END = "<!-- benchmarks.scale: begin -->", "<!-- benchmarks.scale: end -->"
PEOPLE = (100, 10_000, 1_000_000)
PAYLOAD_BITS = 1_100 * 8
"""Of a packet of video. A packet of sound is counted with its headers in `Habits.sound_bps`."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of one virtual core (Xeon with AMX, shared with strangers) unless the name says otherwise."""

    forwarded_packet_us: float = 45.6
    """`benchmarks.forward`, 48 viewers of simulcast, AES-128-GCM, feedback and reports included."""
    denoised_packet_ms: float = 1.2
    """media_processors/README.md: a 20 ms packet of a speaker through decode, VAD, guard, RNNoise, encode."""
    heard_packet_ms: float = 0.2
    """The same table: decode, resample, VAD, in the watch host."""
    recognised_s: float = 0.33
    """`benchmarks.tasks`: PocketSphinx, 1.63 s for 5 s of speech, so per second of speech."""
    voice_judged_s: float = 0.24
    """`benchmarks.tasks`: AASIST, 1.22 s for each 5 s of speech."""
    decoded_frame_ms: float = 0.61
    """`benchmarks.watching`: VP8, 320x180."""
    looked_at_picture_ms: float = 122.0
    """`benchmarks.tasks`: YuNet 25, mini-XCEPTION 17, MesoInception-4 two faces at 40."""


@dataclass(frozen=True, slots=True)
class Habits:
    """What people do. All of it is assumed; change it to what yours do."""

    rooms: tuple[tuple[int, float], ...] = ((2, 0.25), (4, 0.30), (8, 0.25), (16, 0.12), (30, 0.08))
    """(People in a room, share of all people who are in rooms of that size)."""
    cameras: float = 0.7
    """Share of people whose camera is on."""
    tiles: int = 9
    """Cameras that a viewer sees at once, the largest of them in the top layer."""
    speakers: float = 1.1
    """Who speaks at once in a room."""
    sound_bps: int = 45_000
    """A speaker, with headers; who is silent sends next to nothing (DTX)."""
    silent_packets_per_s: float = 2.5
    layers_bps: tuple[int, int] = (150_000, 1_200_000)
    """A tile's and the large one's, as the page's encoder is told."""
    published_bps: int = 1_750_000
    """All three layers of a camera."""
    watched: float = 0.2
    """Share of people who let themselves be observed (voice, face) beyond captions and denoising."""
    frames_per_s: float = 30.0
    looks_per_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Machine:
    """What a node is."""

    cores: int = 16
    used: float = 0.6
    """Of the cores, at the busiest moment: media needs the reserve."""
    network_bps: float = 10e9
    network_used: float = 0.5


@dataclass(frozen=True, slots=True)
class Load:
    """Of so many people, at once."""

    people: int
    rooms: int
    packets_per_s: float
    out_bps: float
    in_bps: float
    forwarding_cores: float
    path_cores: float
    hearing_cores: float
    seeing_cores: float
    engine_speech_cores: float
    engine_observer_cores: float

    @property
    def cores(self) -> float:
        """All of it on CPUs."""
        names = ("forwarding", "path", "hearing", "seeing", "engine_speech", "engine_observer")
        return sum(float(getattr(self, f"{name}_cores")) for name in names)

    def nodes(self, machine: Machine) -> int:
        """By cores or by network, whichever is scarcer."""
        by_cores = self.cores / (machine.cores * machine.used)
        by_network = max(self.in_bps, self.out_bps) / (machine.network_bps * machine.network_used)
        return math.ceil(max(by_cores, by_network))


def load(people: int, costs: Costs, habits: Habits) -> Load:
    """What `people` cost. Raises ValueError if the shares of rooms are not the whole."""
    if not math.isclose(sum(share for _, share in habits.rooms), 1.0):
        raise ValueError("rooms: the shares must sum to 1")
    rooms = cameras = speakers = packets = out_bps = in_bps = 0.0
    for size, share in habits.rooms:
        count = people * share / size
        speaking = min(habits.speakers, size)
        silent = size - speaking
        on = habits.cameras * size
        seen = min(habits.cameras * (size - 1), habits.tiles)
        sound = 50 * speaking + habits.silent_packets_per_s * silent
        video_bps = layer_bits(seen, habits)
        rooms += count
        cameras += count * on
        speakers += count * speaking
        packets += count * (sound * (size - 1) + size * video_bps / PAYLOAD_BITS)
        out_bps += count * (habits.sound_bps * speaking * (size - 1) + size * video_bps)
        in_bps += count * (habits.sound_bps * speaking + on * habits.published_bps)
    watched_cameras, watched_speakers = cameras * habits.watched, speakers * habits.watched
    heard = speakers * 50 + (people - speakers) * habits.silent_packets_per_s
    return Load(
        people=people,
        rooms=math.ceil(rooms),
        packets_per_s=packets,
        out_bps=out_bps,
        in_bps=in_bps,
        forwarding_cores=packets * costs.forwarded_packet_us / 1e6,
        path_cores=heard * costs.denoised_packet_ms / 1e3,
        hearing_cores=heard * costs.heard_packet_ms / 1e3,
        seeing_cores=watched_cameras * habits.frames_per_s * costs.decoded_frame_ms / 1e3,
        engine_speech_cores=speakers * costs.recognised_s,
        engine_observer_cores=watched_speakers * costs.voice_judged_s
        + watched_cameras * habits.looks_per_s * costs.looked_at_picture_ms / 1e3,
    )


def layer_bits(seen: float, habits: Habits) -> float:
    """Bits a second to a viewer of `seen` cameras: one large, the others small."""
    small, large = habits.layers_bps
    return min(1.0, seen) * large + max(0.0, seen - 1) * small


def tables(costs: Costs, habits: Habits, machine: Machine) -> str:
    """As Markdown."""
    loads = [load(people, costs, habits) for people in PEOPLE]
    head = " | ".join(f"{people:,}".replace(",", " ") for people in PEOPLE)
    rows = [
        ("rooms", [f"{one.rooms}" for one in loads]),
        ("packets forwarded a second", [_si(one.packets_per_s) for one in loads]),
        ("bandwidth out", [f"{_si(one.out_bps)}b/s" for one in loads]),
        ("bandwidth in", [f"{_si(one.in_bps)}b/s" for one in loads]),
        ("cores: forwarding", [f"{one.forwarding_cores:.1f}" for one in loads]),
        ("cores: denoising", [f"{one.path_cores:.1f}" for one in loads]),
        ("cores: hearing, seeing", [f"{one.hearing_cores + one.seeing_cores:.1f}" for one in loads]),
        ("cores: captions (PocketSphinx)", [f"{one.engine_speech_cores:.1f}" for one in loads]),
        ("cores: observers' models", [f"{one.engine_observer_cores:.1f}" for one in loads]),
        ("cores in all", [f"{one.cores:.1f}" for one in loads]),
        ("nodes, all of it on CPUs", [f"{one.nodes(machine)}" for one in loads]),
    ]
    lines = [f"| people at once | {head} |", "|---" * (len(PEOPLE) + 1) + "|"]
    return "\n".join([*lines, *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows)])


def _si(value: float) -> str:
    for factor, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value:.0f} "


def _document(text: str, table: str) -> str:
    """`text` with the table between the marks. Raises ValueError if the marks are not there."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{SIZING.name} has lost its marks")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def main() -> int:
    """Print, perhaps write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description="how many machines people need")
    parser.add_argument("--write", action="store_true", help="put the table into deploy/SIZING.md")
    given = parser.parse_args()
    costs, habits, machine = Costs(), Habits(), Machine()
    table = tables(costs, habits, machine)
    if given.write:
        SIZING.write_text(_document(SIZING.read_text(), table))
    print(table)
    loads = [asdict(load(people, costs, habits)) for people in PEOPLE]
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    report = {"costs": asdict(costs), "habits": asdict(habits), "machine": asdict(machine), "loads": loads}
    REPORT.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
