"""What a label in the picture costs: the real video host on one core, with the benchmark as the worker on another.

`python -m benchmarks.derived [--seconds 8] [--tracks 1,2,4,6,8]` prints a table and writes build/bench/derived.json. Each track
is a camera of 30 pictures a second, VP8 at 800 kb/s. Latency is from the last packet of a picture into the tap until the last one
of what was made of it came back: decoding, label, encoding, and both sockets. A track that cannot keep up is given up by the host
after three seconds; it counts as given up, and its pictures only as long as there were any.
"""

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import select
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.load.processes import cores, scheduled, started_on
from benchmarks.watching import CLOCK_HZ, FRAMES_PER_S, packets
from media_processors import video_host
from media_processors.settings import ProcessingSettings
from models.settings import ModelSettings
from sfu.tap import Hello, OpenTrack, TapPacket, TapSocket, VideoResult, WantKeyframe, listen

SIZES = ((320, 180), (640, 360))
WARM_UP_S = 2.0
START_S = 20.0
TRANSFORM = "watermark"


@dataclass(frozen=True, slots=True)
class Row:
    """So many tracks at once."""

    size: str
    tracks: int
    pictures_in_per_s: float
    pictures_out_per_s: float
    """Of each track, on average."""
    core_percent_per_track: float
    latency_p50_ms: float
    latency_p99_ms: float
    kb_per_s: float
    """Of each track's derived video."""
    given_up: int
    waited_percent: float
    """How much of the time the host was ready to run but others had its core: what disturbs the figures."""


@dataclass(slots=True)
class Tally:
    """What came back in the time that counts."""

    pictures: int = 0
    bytes: int = 0
    latencies_ms: list[float] = field(default_factory=list)
    given_up: set[int] = field(default_factory=set)


def host(run_dir: Path) -> None:
    """The child: a video host with the label, and nothing else."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(
            video_host.run(ProcessingSettings(), ModelSettings(models_dir=run_dir / "store"), run_dir, 1, {TRANSFORM})
        )


def frames_of(width: int, height: int, seconds: int) -> list[list[TapPacket]]:
    """A camera's packets, by picture; only the first picture is a key frame."""
    frames: dict[int, list[TapPacket]] = {}
    for packet in packets("vp8", width, height, seconds):
        frames.setdefault(packet.timestamp, []).append(packet)
    return list(frames.values())


class Load:
    """The worker's end of the tap: sends every track its pictures when they are due, takes what comes back."""

    def __init__(self, link: TapSocket, frames: list[list[TapPacket]], tracks: int) -> None:
        self._link = link
        self._frames = frames
        self._tracks = tracks
        self._sent_ns: dict[tuple[int, int], int] = {}
        self._tally: Tally | None = None
        self._number = 0

    def open(self) -> None:
        """Tell the host of the tracks."""
        for handle in range(1, self._tracks + 1):
            opened = OpenTrack(
                handle=handle,
                track_id=f"track-{handle}",
                room_id="room",
                participant_id="participant",
                kind="video",
                source="camera",
                codec="vp8",
                clock_hz=CLOCK_HZ,
                processors={TRANSFORM: True},
                epoch=0,
                bitrate_bps=800_000,
            )
            self._link.send(opened)

    def run(self, seconds: float) -> Tally:
        """Send for so long; what came back of it."""
        self._tally = Tally()
        began_s = time.monotonic()
        first = self._number
        count = int(seconds * FRAMES_PER_S) * self._tracks
        for turn in range(count):
            due_s = began_s + turn / (FRAMES_PER_S * self._tracks)
            while (wait_s := due_s - time.monotonic()) > 0:
                self._take(wait_s)
            self._send(1 + turn % self._tracks, first + turn // self._tracks)
        self._number = first + count // self._tracks
        return self._tally

    def _send(self, handle: int, number: int) -> None:
        frame = self._frames[number]
        now_ns = time.monotonic_ns()
        for packet in frame:
            self._link.queue(packet._replace(handle=handle, arrival_ns=now_ns))
        self._link.flush()
        self._sent_ns[handle, frame[0].timestamp] = now_ns

    def _take(self, wait_s: float) -> None:
        if not select.select([self._link], [], [], wait_s)[0]:
            return
        now_ns = time.monotonic_ns()
        for frame in self._link.receive() or []:
            if isinstance(frame, VideoResult) and self._tally is not None:
                self._note(self._tally, frame, now_ns)

    def _note(self, tally: Tally, result: VideoResult, now_ns: int) -> None:
        if not result.payload:
            tally.given_up.add(result.handle)
            return
        tally.bytes += len(result.payload)
        if result.marker:
            tally.pictures += 1
            tally.latencies_ms.append((now_ns - self._sent_ns[result.handle, result.timestamp]) / 1e6)

    def want_keyframes(self) -> None:
        """As viewers do who join."""
        for handle in range(1, self._tracks + 1):
            self._link.send(WantKeyframe(handle))


def connected(run_dir: Path) -> TapSocket:
    """The host's end of a connection that is up. Raises TimeoutError."""
    listener = listen(run_dir / "worker-0.tap")
    until_s = time.monotonic() + START_S
    while time.monotonic() < until_s:
        select.select([listener], [], [], 0.1)
        with contextlib.suppress(BlockingIOError):
            link = TapSocket(listener.accept()[0])
            listener.close()
            select.select([link], [], [], START_S)
            if any(isinstance(frame, Hello) for frame in link.receive() or []):
                return link
    raise TimeoutError("the video host did not connect")


def measure(size: tuple[int, int], tracks: int, seconds: float, frames: list[list[TapPacket]]) -> Row:
    """So many tracks on one core."""
    on = cores()
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder)
        with started_on(on.server):
            child = multiprocessing.get_context("spawn").Process(target=host, args=(run_dir,), daemon=True)
            child.start()
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {on.load})
        try:
            link = connected(run_dir)
            load = Load(link, frames, tracks)
            load.open()
            warm = load.run(WARM_UP_S)
            load.want_keyframes()
            pid = child.pid or 0
            began, began_ns = scheduled(pid), time.monotonic_ns()
            tally = load.run(seconds)
            ended, passed_ns = scheduled(pid), time.monotonic_ns() - began_ns
            link.close()
        finally:
            os.sched_setaffinity(0, before)
            child.terminate()
            child.join()
    latencies = sorted(tally.latencies_ms) or [float("nan")]
    return Row(
        size=f"{size[0]}x{size[1]}",
        tracks=tracks,
        pictures_in_per_s=FRAMES_PER_S,
        pictures_out_per_s=round(tally.pictures / tracks / seconds, 1),
        core_percent_per_track=round((ended.cpu_ns - began.cpu_ns) * 100 / passed_ns / tracks, 1),
        latency_p50_ms=round(latencies[len(latencies) // 2], 1),
        latency_p99_ms=round(latencies[len(latencies) * 99 // 100], 1),
        kb_per_s=round(tally.bytes * 8 / 1000 / tracks / seconds),
        given_up=len(tally.given_up | warm.given_up),
        waited_percent=round((ended.waited_ns - began.waited_ns) * 100 / passed_ns, 1),
    )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--tracks", default="1,2,4,6,8")
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    for size in SIZES:
        frames = frames_of(*size, seconds=int(WARM_UP_S + options.seconds) + 1)
        rows += [asdict(measure(size, int(tracks), options.seconds, frames)) for tracks in options.tracks.split(",")]
    print(f"| {' | '.join(rows[0])} |\n|{'---|' * len(rows[0])}")
    for row in rows:
        print(f"| {' | '.join(str(value) for value in row.values())} |")
    out = Path("build/bench/derived.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
