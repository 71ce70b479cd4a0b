"""What forwarding costs: CPU of the media worker per forwarded packet, against a bare `sendto` of the same sizes.

    python -m benchmarks.forward [--subscribers 1,4,16,48] [--seconds 4] [--runs 3] [--layers] [--against janus]

One publisher (VP8 1 Mb/s and Opus), server on one core, load on another. Every run measures one after the other: bare `sendto`,
each server, bare `sendto` again; the best of the runs counts, since on a shared machine others only ever add. See README.md.
"""

import argparse
import asyncio
import json
import os
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.load import janus
from benchmarks.load.bare import BareSender
from benchmarks.load.candor import CandorServer
from benchmarks.load.media import Recording, record
from benchmarks.load.processes import Cores, cores
from benchmarks.load.session import Measurement, Session
from benchmarks.load.srtp import CM, GCM

REPORT = Path("build/bench/forward.json")
FLOOD_PACKETS = 12_000
RECORDING_S = 4
WARM_UP_S = 1.0
RATIO_TARGET = 4.0
JANUS_TARGET = 0.6


@dataclass(slots=True)
class Run:
    """One round: the cost of a bare `sendto` before and after, in both ways, and each server's measurement."""

    flood_us: list[float] = field(default_factory=list)
    paced_us: list[float] = field(default_factory=list)
    servers: dict[str, Measurement] = field(default_factory=dict)


async def measure(
    subscribers: list[int],
    seconds: float,
    runs: int,
    *,
    layers: bool = False,
    against_janus: bool = False,
    recording_s: int = RECORDING_S,
) -> dict[str, Any]:
    """The whole benchmark; the report as it is written to JSON."""
    usable = os.sched_getaffinity(0)
    where = cores()
    recording = record(recording_s)
    sessions = _sessions(where, recording, layers=layers, against_janus=against_janus)
    bare = BareSender(where.server, recording)
    bare.start()
    os.sched_setaffinity(0, {where.load})
    rows = []
    try:
        for session in sessions.values():
            await session.start()
        for count in subscribers:
            for session in sessions.values():
                await session.grow(count)
            rounds = [await _round(bare, sessions, count, seconds) for _ in range(runs)]
            rows.append(_row(count, rounds))
            _print_row(rows[-1])
    finally:
        for session in sessions.values():
            await session.close()
        await bare.close()
        os.sched_setaffinity(0, usable)
    return {"seconds": seconds, "runs": runs, "shared_core": where.server == where.load, "rows": rows}


def _sessions(where: Cores, recording: Recording, *, layers: bool, against_janus: bool) -> dict[str, Session]:
    sessions = {"candor": Session(CandorServer(where.server), GCM, recording)}
    if layers:
        sessions["candor_layers"] = Session(CandorServer(where.server), GCM, recording, layers=True)
    if against_janus:
        sessions["janus"] = Session(janus.JanusServer(where.server), GCM, recording)
        sessions["candor_cm"] = Session(CandorServer(where.server), CM, recording)
        sessions["janus_cm"] = Session(janus.JanusServer(where.server), CM, recording)
    return sessions


async def _round(bare: BareSender, sessions: dict[str, Session], subscribers: int, seconds: float) -> Run:
    run = Run()
    await _bare(bare, run, subscribers, seconds)
    for name, session in sessions.items():
        await session.play()
        await asyncio.sleep(WARM_UP_S)
        run.servers[name] = await session.measure(seconds)
        await session.pause()
    await _bare(bare, run, subscribers, seconds)
    return run


async def _bare(bare: BareSender, run: Run, subscribers: int, seconds: float) -> None:
    run.flood_us.append(await bare.flood_us(subscribers, FLOOD_PACKETS))
    run.paced_us.append(await bare.paced_us(subscribers, seconds / 2))


def _row(subscribers: int, rounds: list[Run]) -> dict[str, Any]:
    """The best figures of all rounds, and everything they were taken from."""
    flood_us = min(us for run in rounds for us in run.flood_us)
    paced_us = min(us for run in rounds for us in run.paced_us)
    servers: dict[str, Any] = {}
    for name in rounds[0].servers:
        measured = [run.servers[name] for run in rounds]
        best_us = min(one.cpu_us_per_packet for one in measured)
        in_round = [run.servers[name].cpu_us_per_packet / statistics.mean(run.paced_us) for run in rounds]
        servers[name] = {
            "cpu_us_per_packet": best_us,
            "ratio_to_flood": best_us / flood_us,
            "ratio_to_paced": best_us / paced_us,
            "ratio_to_paced_median": statistics.median(in_round),
            "packets_per_s": sum(m.forwarded for m in measured) / sum(m.seconds for m in measured),
            "forwarded": sum(m.forwarded for m in measured),
            "lost": sum(m.lost for m in measured),
            "repaired": sum(m.repaired for m in measured),
            "rejected": sum(m.rejected for m in measured),
            "waited_fraction": sum(m.waited_ms for m in measured) / sum(m.seconds * 1000 for m in measured),
            "rounds": [asdict(one) for one in measured],
        }
    row: dict[str, Any] = {
        "subscribers": subscribers,
        "bare_flood_us": flood_us,
        "bare_paced_us": paced_us,
        "bare_rounds_us": [{"flood": run.flood_us, "paced": run.paced_us} for run in rounds],
        **servers,
    }
    if "janus" in servers:
        row["ratio_to_janus"] = servers["candor"]["cpu_us_per_packet"] / servers["janus"]["cpu_us_per_packet"]
    return row


def _print_row(row: dict[str, Any]) -> None:
    for name in ("candor", "candor_layers", "janus", "candor_cm", "janus_cm"):
        if (server := row.get(name)) is not None:
            print(
                f"{row['subscribers']:11d}  {name:13s} {server['packets_per_s']:9.0f} {server['lost']:6d}"
                f" {server['cpu_us_per_packet']:10.1f} {row['bare_flood_us']:9.2f} {row['bare_paced_us']:9.2f}"
                f" {server['ratio_to_flood']:8.1f} {server['ratio_to_paced']:8.1f} {server['waited_fraction']:7.0%}",
                flush=True,
            )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forward", description="CPU per forwarded packet")
    parser.add_argument("--subscribers", default="1,4,16,48", help="comma-separated, rising")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--layers", action="store_true", help="measure viewers of simulcast too: they report on every packet"
    )
    parser.add_argument("--against", choices=["janus"], help="measure Janus in the same runs (Debian package janus)")
    return parser.parse_args()


def main() -> int:
    """Run, print, write the report. The exit code does not depend on the figures."""
    arguments = _arguments()
    against_janus = arguments.against == "janus"
    if against_janus and not janus.installed():
        print("janus is not installed; on Debian: apt-get install --no-install-recommends janus")
        return 2
    subscribers = sorted(int(number) for number in arguments.subscribers.split(","))
    print(
        "subscribers  server        packets/s   lost  us/packet  flood us  paced us  x flood  x paced  waited",
        flush=True,
    )
    report = asyncio.run(
        measure(subscribers, arguments.seconds, arguments.runs, layers=arguments.layers, against_janus=against_janus)
    )
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(report, indent=1) + "\n")
    largest = report["rows"][-1]
    flood, paced = largest["candor"]["ratio_to_flood"], largest["candor"]["ratio_to_paced"]
    print(f"at {largest['subscribers']}: {flood:.1f} x a flood of bare sendto, {paced:.1f} x a paced one", end="; ")
    print(f"goal at 48: {RATIO_TARGET}")
    if against_janus:
        print(f"at {largest['subscribers']}: {largest['ratio_to_janus']:.2f} x Janus; goal at 48 {JANUS_TARGET}")
    print(f"report: {REPORT}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
