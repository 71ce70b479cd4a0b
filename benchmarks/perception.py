"""What observers cost media, and what they get done: sixteen voices and eight faces as RTP through the real processes.

    python -m benchmarks.perception [--people 16] [--cameras 8] [--seconds 20] [--rounds 2] [--times 4]

Worker, path host, watch host and engine with what `make models` pulled. Everybody is denoised all the time; the observers are off
and on in turns. Beside them one sends music that is not processed, by which forwarding is measured. In the end there are
`--times` as many people for a while: what is shed, what forwarding notices, and how long until everything is back.
"""

import argparse
import asyncio
import contextlib
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.latency import summarize
from benchmarks.load import sdp
from benchmarks.load.dtls import make_identity
from benchmarks.load.link import Link
from benchmarks.load.media import record
from benchmarks.load.people import Cast, cast
from benchmarks.load.perceived import PerceivedServer
from benchmarks.load.processes import cores
from benchmarks.load.publisher import Publisher, PublisherFeedback
from benchmarks.load.session import Session
from benchmarks.load.srtp import GCM
from candor.settings import load
from candor.speech import load_script

REPORT = Path("build/bench/perception.json")
LISTENERS = 4
SETTLE_S = 3.0
OVERLOAD_S = 40.0
RECOVERY_S = 150.0
VOICE = ("captions", "prosody", "voice_authenticity")
FACE = ("faces", "expression", "face_authenticity")
MODELS = ("pocketsphinx-en-us", "yunet", "mini-xception", "meso-inception-4", "aasist")


class Crowd:
    """People who are in the room."""

    def __init__(self, server: PerceivedServer, parts: Cast) -> None:
        self.names: list[str] = []
        self._cameras: set[str] = set()
        self._server = server
        self._parts = parts
        self._identity = make_identity()
        self._links: dict[str, Link] = {}
        self._publishers: dict[str, Publisher] = {}

    async def grow(self, people: int, cameras: int) -> None:
        """Until there are so many, and so many cameras."""
        for number in range(len(self.names), people):
            name, camera = f"person-{number}", len(self._cameras) < cameras
            link = Link(self._identity, GCM, PublisherFeedback(), controlling=True)
            answer = await self._server.enter(name, sdp.publish_offer(link.local, layers=False), camera=camera)
            await link.connect(sdp.read(answer))
            self._links[name] = link
            self._publishers[name] = Publisher(link, self._parts.person(number, camera=camera))
            self._publishers[name].play()
            self.names.append(name)
            if camera:
                self._cameras.add(name)

    async def watch(self, on: bool) -> None:
        """Switch every observer of everybody."""
        for name in self.names:
            voice = {"denoise": True} | dict.fromkeys(VOICE, on)
            await self._server.process(name, voice, dict.fromkeys(FACE, on) if name in self._cameras else None)

    async def shrink(self, people: int) -> None:
        """The last ones leave."""
        for name in self.names[people:]:
            await self._publishers.pop(name).pause()
            await self._server.leave(name)
            self._links.pop(name).close()
            self._cameras.discard(name)
        del self.names[people:]


async def snapshot(server: PerceivedServer) -> dict[str, Any]:
    """All counters, as they are now."""
    tracks = (await server.statistics())["taps"]["tracks"].values()
    packets = {name: sum(track[name] for track in tracks) for name in ("processed", "dry", "bypassed", "dropped")}
    watching = await server.watching()
    return {
        "at_s": time.monotonic(),
        "packets": Counter(packets),
        "cpu_ns": {role: used.cpu_ns for role, used in server.cpu().items()},
        "findings": Counter(server.findings),
        "pictures": watching["seeing"]["pictures"],
        "dropped": watching["dropped"],
        "models": await server.models(),
    }


def difference(before: dict[str, Any], after: dict[str, Any], people: int, cameras: int) -> dict[str, Any]:
    """What happened between the two."""
    seconds = after["at_s"] - before["at_s"]
    packets = after["packets"] - before["packets"]
    missed = packets["bypassed"] + packets["dropped"]
    cpu = {role: round((after["cpu_ns"][role] - used) / 1e7 / seconds, 1) for role, used in before["cpu_ns"].items()}
    observing = cpu["watch"] + cpu["engine"]
    models = {}
    for name, now in after["models"].items():
        then = before["models"].get(name, {})
        batches = now["batches"] - then.get("batches", 0)
        answered = now["answered"] - then.get("answered", 0)
        models[name] = {
            "answers_per_s": round(answered / seconds, 2),
            "batch": round(answered / batches, 2) if batches else None,
            "shed": now["shed"] - then.get("shed", 0),
            "late": now["late"] - then.get("late", 0),
            "longest_wait_ms": round(now["longest_wait_ms"]),
        }
    return {
        "seconds": round(seconds, 1),
        "missed_percent": round(100 * missed / max(1, packets.total()), 2),
        "cpu_percent": cpu,
        "cpu_ms_per_track_second": round(10 * observing / (people + cameras), 2),
        "findings_per_s": {kind: round(n / seconds, 2) for kind, n in (after["findings"] - before["findings"]).items()},
        "pictures_per_s": round((after["pictures"] - before["pictures"]) / seconds, 2),
        "dropped_by_watch": after["dropped"] - before["dropped"],
        "models": models,
    }


class Stage:
    """The server, the music by which forwarding is measured, the people."""

    def __init__(self, people: int, cameras: int, parts: Cast) -> None:
        self.people, self.cameras = people, cameras
        self.server = PerceivedServer(cores().server, load(arguments={"log_level": "error"}))
        self.session = Session(self.server, GCM, record(4), stamped=True)
        self.crowd = Crowd(self.server, parts)
        self._calm = asyncio.Event()
        """Nothing is shed."""

    async def phase(self, seconds: float) -> dict[str, Any]:
        """Counters and latencies of a stretch."""
        before = await snapshot(self.server)
        await self.session.measure(seconds)
        latency = summarize([ns for sink in self.session.sinks for ns in sink.latencies_ns])
        after = await snapshot(self.server)
        row = difference(before, after, len(self.crowd.names), self.cameras)
        return row | {"music_p50_ms": round(latency.p50_ms, 3), "music_p99_ms": round(latency.p99_ms, 2)}

    async def overload(self, times: int) -> dict[str, Any]:
        """`times` as many people, then as many as before: what is shed meanwhile and when it is back."""
        await self.crowd.grow(self.people * times, self.cameras * times)
        await self.crowd.watch(True)
        rungs: list[tuple[float, int]] = []
        watching = asyncio.create_task(self._rungs(rungs))
        try:
            row = await self.phase(OVERLOAD_S)
            await self.crowd.shrink(self.people)
            calm_s = time.monotonic()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._calm.wait(), RECOVERY_S)
        finally:
            watching.cancel()
        back_s = round(rungs[-1][0] - calm_s, 1) if rungs and rungs[-1][1] == 0 else None
        began_s = rungs[0][0] if rungs else 0.0
        shown = [(round(at_s - began_s, 1), level) for at_s, level in rungs]
        return row | {"people": self.people * times, "rungs": shown, "everything_back_s": back_s}

    async def _rungs(self, seen: list[tuple[float, int]]) -> None:
        while True:
            level = (await self.server.watching())["shed_rungs"]
            if not seen or seen[-1][1] != level:
                seen.append((time.monotonic(), level))
            if level:
                self._calm.clear()
            else:
                self._calm.set()
            await asyncio.sleep(0.1)


async def measure(people: int, cameras: int, seconds: float, rounds: int, times: int) -> dict[str, Any]:
    """The whole benchmark; the report as it is written to JSON."""
    stage = Stage(people, cameras, await asyncio.to_thread(cast, await load_script()))
    report: dict[str, Any] = {"people": people, "cameras": cameras, "off": [], "on": []}
    try:
        await stage.session.start()
        await stage.session.grow(LISTENERS)
        await stage.session.play()
        await stage.server.load_models(MODELS)
        await stage.crowd.grow(people, cameras)
        for _ in range(rounds):
            for name, on in (("off", False), ("on", True)):
                await stage.crowd.watch(on)
                await asyncio.sleep(SETTLE_S)
                report[name].append(await stage.phase(seconds))
                print(name, json.dumps(report[name][-1]), flush=True)
        if times > 1:
            report["overload"] = await stage.overload(times)
            print("overload", json.dumps(report["overload"]), flush=True)
    finally:
        await stage.crowd.shrink(0)
        await stage.session.close()
    return report


def main() -> int:
    """Run, print, write the report. The exit code does not depend on the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.perception", description="what observers cost and do")
    parser.add_argument("--people", type=int, default=16)
    parser.add_argument("--cameras", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each stretch")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--times", type=int, default=4, help="as many people in the end; 1: no overload")
    given = parser.parse_args()
    report = asyncio.run(measure(given.people, given.cameras, given.seconds, given.rounds, given.times))
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(report, indent=1) + "\n")
    print(f"report: {REPORT}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
