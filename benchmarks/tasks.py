"""What one answer of each task costs: load time, memory, seconds. Through the real store, loader, engine and socket.

`python -m benchmarks.tasks [--rounds 3] [--mirror DIR]` needs `make models`. Weights of the hub are **random numbers in the
published sizes**, made on the spot (3 GB in a temporary folder): speed and memory are those of the real ones, what they answer
means nothing. The small models have their real weights, from the mirror. Prints a table, writes build/bench/tasks.json.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models import catalog
from models.catalog import Catalog
from models.client import InferenceClient
from models.engine import SOCKET_NAME, Engine
from models.origins import Mirror
from models.pull import pull
from models.questions import Answer, Faces, Picture, Question, Scores, Sound, Summary, Text
from models.runners.loader import quiet
from models.runners.networks import sepformer
from models.runners.summariser import MAX_NEW_TOKENS
from models.settings import ModelSettings
from models.shelf import resident_bytes
from models.speech import Transcript, Utterance
from models.store import Missing, Store
from tests import tiny_models
from tests.until import until

OUTPUT = Path("build/bench/tasks.json")
MIRROR = Path(__file__).parents[2] / "shared" / "mirror"
DEADLINE_MS = 300_000
_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
PUBLISHED: dict[str, tiny_models.Sizes] = {
    "whisper": {
        "vocab_size": 51865,
        "d_model": 384,
        "encoder_layers": 4,
        "decoder_layers": 4,
        "encoder_attention_heads": 6,
        "decoder_attention_heads": 6,
        "encoder_ffn_dim": 1536,
        "decoder_ffn_dim": 1536,
    },
    "distilroberta": _BASE | {"vocab_size": 50265, "num_hidden_layers": 6},
    "wav2vec2": _BASE,
    "wavlm": _BASE,
    "vit": _BASE | {"image_size": 224, "patch_size": 16},
    "bart": {
        "vocab_size": 50264,
        "d_model": 1024,
        "encoder_layers": 6,
        "decoder_layers": 6,
        "encoder_attention_heads": 16,
        "decoder_attention_heads": 16,
        "encoder_ffn_dim": 4096,
        "decoder_ffn_dim": 4096,
        "max_position_embeddings": 1024,
    },
    "swin2sr": {"embed_dim": 180, "depths": [6] * 6, "num_heads": [6] * 6, "mlp_ratio": 2.0},
    "sepformer": {"shape": sepformer.PUBLISHED},
    "metricgan": {},
}
"""By architecture, as the configurations in the published repositories say."""


@dataclass(frozen=True, slots=True)
class Case:
    """A model of a task, and what it is asked."""

    task: str
    model: str
    asked: str
    question: Question
    wanted: type[Answer]


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured."""

    task: str
    model: str
    weights: str
    precision: str
    asked: str
    load_s: float
    """Reading, checking hashes, loading, first answer."""
    memory_mb: float
    """By how much the engine grew."""
    answer_s: float
    """Median."""
    cpu_s: float | None
    """Median of the CPU time that it took, which a busy machine stretches less; None if it was another process's."""


def noise(seconds: float) -> np.ndarray[Any, np.dtype[np.int16]]:
    """Quiet noise at 16 kHz."""
    return np.random.default_rng(1).normal(0, 1_000, round(seconds * 16_000)).astype(np.int16)


def picture(size: int) -> Picture:
    """A square of noise."""
    return Picture(np.random.default_rng(1).integers(0, 256, (size, size, 3), np.uint8))


def cases() -> list[Case]:
    """The seven tasks. A model made here knows only single bytes, so a text of 800 tokens is one of 800 letters."""
    spoken = Utterance("", "", "", noise(5), final=True, language="en")
    said = Text("we will meet tomorrow", "en")
    meeting = Text(("they agreed to meet again on friday and went home " * 16)[:798], "en")
    voice, window = Sound(noise(4)), Sound(noise(64_600 / 16_000))
    face, tile = picture(224), picture(64)
    return [
        Case("speech recognition", "pocketsphinx-en-us", "5 s", spoken, Transcript),
        Case("speech recognition", "whisper-tiny", "5 s, 128 tokens", spoken, Transcript),
        Case("emotion detection: text", "emotion-english-distilroberta-base", "23 tokens", said, Scores),
        Case("emotion detection: voice", "wav2vec2-base-superb-er", "4 s", voice, Scores),
        Case("emotion detection: face", "mini-xception", "one face", face, Scores),
        Case("text summarisation", "distilbart-cnn-6-6", f"800 tokens, {MAX_NEW_TOKENS} of summary", meeting, Summary),
        Case("audio denoising", "sepformer-wham16k-enhancement", "1 s", Sound(noise(1)), Sound),
        Case("audio denoising", "metricgan-plus-voicebank", "4 s", voice, Sound),
        Case("video enhancement", "swin2sr-classical-x2", "tile of 64 x 64", tile, Picture),
        Case("audio deepfake", "aasist", "4 s", window, Scores),
        Case("audio deepfake", "wavlm-test", "4 s", voice, Scores),
        Case("face deepfake", "meso-inception-4", "one face", face, Scores),
        Case("face deepfake", "deep-fake-detector-v2", "one face", face, Scores),
        Case("face detection", "yunet", "224 x 224", face, Faces),
    ]


def all_rows() -> Catalog:
    """The catalog, and WavLM with a classifier."""
    return Catalog(model=[*catalog.load().model, *tiny_models.wavlm_rows()])


def fill(root: Path, mirror: Path) -> None:
    """Real weights where the mirror has them, random ones of the published size where the hub would be needed."""
    quiet()
    root.mkdir(parents=True)
    store, rows = Store(root), all_rows()
    for case in cases():
        entry = rows.get(case.model)
        if entry.source.kind == "github":
            pull(entry, store, Mirror(mirror), lambda *_: None, budget_bytes=10**10)
        elif entry.source.kind == "hf":
            tiny_models.install(root, entry, sizes=PUBLISHED)


async def measure(case: Case, rows: Catalog, engine: Engine, client: InferenceClient, rounds: int) -> Row:
    """Load a model, then ask it. Raises InferenceError."""
    before, began = resident_bytes(), time.perf_counter()
    await client.load(case.model, timeout_ms=DEADLINE_MS)
    load_s = time.perf_counter() - began
    seconds, spent = [], []
    for _ in range(rounds):
        began, used = time.perf_counter(), time.process_time()
        await client.ask(case.model, case.question, case.wanted, room_id="room", deadline_ms=DEADLINE_MS)
        seconds.append(time.perf_counter() - began)
        spent.append(time.process_time() - used)
    runner = engine.shelf.loaded()[case.model].runner
    placement = getattr(runner, "placement", None)
    return Row(
        task=case.task,
        model="WavLM base with a classifier" if case.model == "wavlm-test" else case.model,
        weights="random" if rows.get(case.model).source.kind == "hf" else "real",
        precision=f"{placement.precision}, {placement.device}" if placement else "fp32, cpu",
        asked=case.asked,
        load_s=round(load_s, 2),
        memory_mb=round((resident_bytes() - before) / 1e6),
        answer_s=round(statistics.median(seconds), 3),
        cpu_s=None if runner.isolated else round(statistics.median(spent), 3),
    )


async def run(root: Path, rounds: int) -> dict[str, Any]:
    """All tasks, in one engine, which keeps every model."""
    rows, store = all_rows(), Store(root / "store", allow_random=True)
    if isinstance(missing := store.locate(rows.get("whisper-tiny")), Missing):
        raise SystemExit(f"{missing.reason}: {missing.command}")
    engine = Engine(root / SOCKET_NAME, ModelSettings(models_dir=store.root, memory_budget_gb=64), rows, store)
    await engine.start()
    client = InferenceClient(root / SOCKET_NAME)
    client.start()
    await until(lambda: "" if client.connected else "the engine")
    try:
        empty_mb = round(resident_bytes() / 1e6)
        measured = []
        for case in cases():
            measured.append(await measure(case, rows, engine, client, rounds))
            print(line(measured[-1]), flush=True)
        return {
            "rows": [asdict(row) for row in measured],
            "empty_mb": empty_mb,
            "together_mb": round(resident_bytes() / 1e6),
            "slowest_answer_s": max(row.answer_s for row in measured),
            "cores": os.cpu_count(),
            "load_average": os.getloadavg()[0],
        }
    finally:
        await client.close()
        await engine.close()


def line(row: Row) -> str:
    """Of the table."""
    cells = (row.task, row.model, row.weights, row.precision, row.asked, row.load_s, row.memory_mb, row.answer_s)
    return "| " + " | ".join(map(str, cells)) + f" | {'another process' if row.cpu_s is None else row.cpu_s} |"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mirror", type=Path, default=MIRROR)
    arguments = parser.parse_args()
    print("| task | model | weights | precision | asked | load s | memory MB | answer s | CPU s |")
    print("|---" * 9 + "|")
    with tempfile.TemporaryDirectory() as folder:
        maker = multiprocessing.get_context("spawn").Process(  # what it needs of memory is not what the engine needs
            target=fill, args=(Path(folder) / "store", arguments.mirror)
        )
        maker.start()
        maker.join()
        result = asyncio.run(run(Path(folder), arguments.rounds))
    together = f"together {result['together_mb']} MB, of which {result['empty_mb']} before the first model"
    print(f"\n{together}; slowest answer {result['slowest_answer_s']} s; load average {result['load_average']:.1f}")
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
