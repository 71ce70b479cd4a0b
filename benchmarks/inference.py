"""What the way to a model costs: this machine's socket, HTTP to a model service, Ray Serve. All three at once, asked in turns.

`python -m benchmarks.inference [--rounds 5] [--calls 100] [--mirror DIR]` needs `make ray` and the weights of YuNet in the mirror.
Every question carries 64 KB. Two kinds: a *refusal* (a sound, which YuNet's runner looks at and does not take) goes the whole way
to the loaded model and back without any work there, so it is the way alone; an *answer* is YuNet looking for faces in a picture
of 148 x 148. In each round each way is asked by 1, 8 and 32 at a time; the table has medians over the rounds, and the ratio to
the socket. Everything runs on this machine, with the load: on another the network comes on top. Writes build/bench/inference.json.
"""

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from models import catalog
from models.client import InferenceClient
from models.errors import InferenceError, RefusedError
from models.origins import Mirror
from models.pull import pull
from models.questions import Faces, Picture, Question, Sound
from models.store import Store
from tests.contract.backends import NO_RAY, START_S, Backend, Local, Ray, Service
from tests.until import until

OUTPUT = Path("build/bench/inference.json")
MIRROR = Path(__file__).parents[2] / "shared" / "mirror"
CONCURRENT = (1, 8, 32)
MAX_QUEUED = 64
DEADLINE_MS = 60_000
MODEL = "yunet"
PAYLOAD_BYTES = 65_536

Kind = Literal["refusal", "answer"]
QUESTIONS: dict[Kind, Question] = {
    "refusal": Sound(np.zeros(PAYLOAD_BYTES // 2, np.int16)),
    "answer": Picture(np.random.default_rng(1).integers(0, 256, (148, 148, 3), np.uint8)),
}


@dataclass(frozen=True, slots=True)
class Run:
    """Questions of one round, by so many at a time."""

    p50_ms: float
    p95_ms: float
    calls_per_s: float


@dataclass(frozen=True, slots=True)
class Row:
    """A way, over all rounds."""

    way: str
    kind: Kind
    concurrent: int
    p50_ms: float
    p95_ms: float
    calls_per_s: float
    ratio_p50: float
    """To the socket."""
    rounds: list[Run]


async def ask(client: InferenceClient, kind: Kind) -> None:
    """One question. Raises InferenceError if what comes back is not what this kind of question gets."""
    asking = client.ask(MODEL, QUESTIONS[kind], Faces, room_id="room", deadline_ms=DEADLINE_MS)
    if kind == "answer":
        await asking
        return
    try:
        await asking
    except RefusedError as error:
        if "takes no sound" in error.message:
            return
        raise
    raise InferenceError("a sound was answered")


async def one_run(client: InferenceClient, kind: Kind, concurrent: int, calls: int) -> Run:
    """`calls` questions in all; each of `concurrent` askers has one open at a time."""
    took_ms: list[float] = []
    left = iter(range(calls))

    async def asker() -> None:
        for _ in left:
            began = time.perf_counter()
            await ask(client, kind)
            took_ms.append((time.perf_counter() - began) * 1000)

    began = time.perf_counter()
    await asyncio.gather(*(asker() for _ in range(concurrent)))
    seconds = time.perf_counter() - began
    took_ms.sort()
    p95 = took_ms[min(len(took_ms) - 1, round(0.95 * (len(took_ms) - 1)))]
    return Run(round(statistics.median(took_ms), 2), round(p95, 2), round(calls / seconds, 1))


async def measure(clients: dict[str, InferenceClient], rounds: int, calls: int) -> list[Row]:
    """In turns, the first way again after the last; before that each is asked a little, and nothing is counted."""
    for client in clients.values():
        for kind in QUESTIONS:
            await one_run(client, kind, max(CONCURRENT), 2 * max(CONCURRENT))
    found: dict[tuple[str, Kind, int], list[Run]] = {}
    for _ in range(rounds):
        for kind in QUESTIONS:
            for concurrent in CONCURRENT:
                for way, client in clients.items():
                    runs = found.setdefault((way, kind, concurrent), [])
                    runs.append(await one_run(client, kind, concurrent, calls))
    first = next(iter(clients))
    return [row(key, runs, found[first, key[1], key[2]]) for key, runs in found.items()]


def row(key: tuple[str, Kind, int], runs: list[Run], compared: Sequence[Run]) -> Row:
    """Medians. The ratio is the median of each round's own, for what the machine does meanwhile is in both."""
    ratios = [run.p50_ms / other.p50_ms for run, other in zip(runs, compared, strict=True)]
    return Row(
        *key,
        p50_ms=round(statistics.median(run.p50_ms for run in runs), 2),
        p95_ms=round(statistics.median(run.p95_ms for run in runs), 2),
        calls_per_s=round(statistics.median(run.calls_per_s for run in runs), 1),
        ratio_p50=round(statistics.median(ratios), 1),
        rounds=runs,
    )


async def is_ready(client: InferenceClient) -> None:
    """Connected, and the model loaded."""
    await until(lambda: "" if client.connected else "a connection", START_S)
    await client.load(MODEL)


async def run(folder: Path, mirror: Path, rounds: int, calls: int) -> list[Row]:
    """Start all three, ask, end them."""
    store = folder / "store"
    pull(catalog.load().get(MODEL), Store(store), Mirror(mirror), lambda *_: None, budget_bytes=10**9)
    ways: dict[str, Backend] = {
        "socket": Local(store, folder, MAX_QUEUED),
        "HTTP": Service(store, MAX_QUEUED),
        "Ray Serve": Ray(store, folder, MAX_QUEUED),
    }
    async with AsyncExitStack() as stack:
        clients: dict[str, InferenceClient] = {}
        for way, backend in ways.items():
            await backend.start()
            stack.push_async_callback(backend.end)
            client, _ = backend.connect()
            client.start()
            stack.push_async_callback(client.close)
            await is_ready(client)
            clients[way] = client
        return await measure(clients, rounds, calls)


def report(rows: list[Row]) -> dict[str, Any]:
    """As it is written."""
    return {
        "payload_bytes": PAYLOAD_BYTES,
        "rows": [asdict(row) for row in rows],
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=100, help="per round, way, kind and number of askers")
    parser.add_argument("--mirror", type=Path, default=MIRROR)
    options = parser.parse_args()
    if NO_RAY:
        raise SystemExit(NO_RAY)
    with tempfile.TemporaryDirectory(prefix="candor-") as folder:
        rows = asyncio.run(run(Path(folder), options.mirror, options.rounds, options.calls))
    print("| | way | at a time | p50 ms | p95 ms | calls/s | p50 to the socket's |\n|" + "---|" * 7)
    for row in sorted(rows, key=lambda row: (row.kind != "refusal", row.concurrent)):
        cells = (row.kind, row.way, row.concurrent, row.p50_ms, row.p95_ms, row.calls_per_s, f"{row.ratio_p50} x")
        print("| " + " | ".join(map(str, cells)) + " |")
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(report(rows), indent=2) + "\n")


if __name__ == "__main__":
    main()
