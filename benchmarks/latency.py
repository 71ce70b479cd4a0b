"""What the way through the media worker adds to a packet's latency, at RTP level.

    python -m benchmarks.latency [--subscribers 16] [--seconds 5] [--runs 3]

Audio packets carry the time at which they were handed to `sendto`; three of the subscribers decrypt them and compare with the
kernel's time of arrival. The control run sends the same packets over the same kind of connection straight to a receiver, without
a server between them; it alternates with the real one, and its figure is the noise of the machine. See README.md.
"""

import argparse
import asyncio
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.load.candor import CandorServer
from benchmarks.load.direct import DirectPair
from benchmarks.load.media import record
from benchmarks.load.processes import cores
from benchmarks.load.session import Session
from benchmarks.load.srtp import GCM

REPORT = Path("build/bench/latency.json")
RECORDING_S = 4
WARM_UP_S = 1.0
P50_TARGET_MS = 1.0


@dataclass(frozen=True, slots=True)
class Latency:
    """Of one stretch, in milliseconds."""

    packets: int
    p50_ms: float
    p99_ms: float
    max_ms: float


def summarize(latencies_ns: list[int]) -> Latency:
    """Raises ValueError if nothing was measured."""
    if not latencies_ns:
        raise ValueError("no stamped packet arrived")
    ordered = sorted(latencies_ns)
    p99_ns = ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
    return Latency(len(ordered), ordered[len(ordered) // 2] / 1e6, p99_ns / 1e6, ordered[-1] / 1e6)


async def measure(subscribers: int, seconds: float, runs: int, *, recording_s: int = RECORDING_S) -> dict[str, Any]:
    """The whole benchmark; the report as it is written to JSON."""
    usable = os.sched_getaffinity(0)
    where = cores()
    recording = record(recording_s)
    session = Session(CandorServer(where.server), GCM, recording, stamped=True)
    direct = DirectPair(GCM, recording)
    os.sched_setaffinity(0, {where.load})
    through: list[list[int]] = []
    waited_ms = 0.0
    control: list[list[int]] = []
    try:
        await session.start()
        await session.grow(subscribers)
        for _ in range(runs):
            control.append(await direct.measure(seconds))
            latencies_ns, waited = await _through(session, seconds)
            through.append(latencies_ns)
            waited_ms += waited
    finally:
        direct.close()
        await session.close()
        os.sched_setaffinity(0, usable)
    return {
        "subscribers": subscribers,
        "sfu": _rounds(through),
        "control": _rounds(control),
        "waited_fraction": waited_ms / (1000 * seconds * runs),
        "shared_core": where.server == where.load,
    }


async def _through(session: Session, seconds: float) -> tuple[list[int], float]:
    """(latencies in ns, for how many ms the worker had to wait for its core)."""
    await session.play()
    await asyncio.sleep(WARM_UP_S)
    measured = await session.measure(seconds)
    latencies_ns = [latency for sink in session.sinks for latency in sink.latencies_ns]
    await session.pause()
    return latencies_ns, measured.waited_ms


def _rounds(rounds: list[list[int]]) -> dict[str, Any]:
    """All rounds together, and the best of them by its median."""
    best = min((summarize(latencies_ns) for latencies_ns in rounds), key=lambda latency: latency.p50_ms)
    everything = summarize([latency for latencies_ns in rounds for latency in latencies_ns])
    return {"all": asdict(everything), "best": asdict(best)}


def _print(report: dict[str, Any]) -> None:
    print("                    packets   p50 ms   p99 ms   max ms")
    for name in ("sfu", "control"):
        for part in ("all", "best"):
            figures = report[name][part]
            label = f"{name}, {'all rounds' if part == 'all' else 'best round'}"
            print(
                f"{label:19s} {figures['packets']:7d} {figures['p50_ms']:8.3f}"
                f" {figures['p99_ms']:8.3f} {figures['max_ms']:8.3f}"
            )


def main() -> int:
    """Run, print, write the report. The exit code does not depend on the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description="latency added by the SFU")
    parser.add_argument("--subscribers", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    report = asyncio.run(measure(arguments.subscribers, arguments.seconds, arguments.runs))
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(report, indent=1) + "\n")
    _print(report)
    print(f"the worker waited for its core {report['waited_fraction']:.0%} of the time (others use this machine)")
    print(f"audio with {arguments.subscribers} subscribers; goal p50 < {P50_TARGET_MS:g} ms; report: {REPORT}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
