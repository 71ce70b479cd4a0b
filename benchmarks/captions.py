"""Captions of paced speech, through the real watch host and engine: word error rate and latency.

`python -m benchmarks.captions [--media DIR]` plays the demo's lines (flite's voices, one of them with pink noise at 15 dB) and,
from DIR, recordings of people, at the pace of speech, one after the other, not denoised; prints a table and writes
build/bench/captions.json.
"""

import argparse
import asyncio
import json
import os
import re
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import jiwer
import numpy as np

from candor.speech import VOICES, load_script
from media_processors.base import Samples
from tests.integration.caption_rig import Rig, load_wav, silence
from tests.until import until

OUTPUT = Path("build/bench/captions.json")
MEDIA = Path(__file__).parents[2] / "shared" / "media"
PAUSE_S = 1.2
WAIT_S = 30.0
RECORDINGS = {
    "jfk.wav": "and so my fellow americans ask not what your country can do for you ask what you can do for your country",
    "speech_wideband_16k.wav": "one zero zero zero one nine oh two one oh zero one eight zero three",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One speaker."""

    speaker: str
    model: str
    words: int
    word_error_rate: float
    interim_latency_p50_ms: int
    final_latency_p50_ms: int
    final_latency_max_ms: int
    load_average: float
    """Of the machine at the end, over one minute: latency on a busy one says little."""
    heard: str


def plain(text: str) -> str:
    """Lower case, no punctuation."""
    return re.sub(r"[^a-z' ]", "", text.lower())


async def measure(rig: Rig, handle: int, speaker: str, lines: list[tuple[str, Samples]]) -> Row:
    """Play lines on a track of their own and wait for their captions."""
    rig.open(handle)
    track = f"track-{handle}"
    for _, sound in lines:
        await rig.say(np.concatenate((sound, silence(PAUSE_S))), handle, realtime=True)
    await until(lambda: "" if rig.settled(track) else "the last final", WAIT_S)
    rig.close_track(handle)
    heard, said = plain(rig.text(track)), plain(" ".join(text for text, _ in lines))
    finals = [caption.latency_ms for caption in rig.finals(track)]
    interims = [c.latency_ms for c in rig.captions if c.track_id == track and not c.final] or [0]
    return Row(
        speaker=speaker,
        model=rig.finals(track)[0].model,
        words=len(said.split()),
        word_error_rate=round(jiwer.wer(said, heard), 3),
        interim_latency_p50_ms=int(np.median(interims)),
        final_latency_p50_ms=int(np.median(finals)),
        final_latency_max_ms=max(finals),
        load_average=round(os.getloadavg()[0], 1),
        heard=heard,
    )


async def run(media: Path) -> list[Row]:
    """All rows."""
    turns = (await load_script()).turns
    cases = [(name, [(turn.text, turn.sound) for turn in turns if turn.name == name]) for name in VOICES.values()]
    for name, text in RECORDINGS.items():
        if (media / name).exists():
            cases.append((name, [(text, load_wav(media / name))]))
    with tempfile.TemporaryDirectory(prefix="candor-") as folder:
        async with Rig(Path(folder)) as rig:
            return [await measure(rig, index, *case) for index, case in enumerate(cases, start=1)]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--media", type=Path, default=MEDIA)
    rows = asyncio.run(run(parser.parse_args().media))
    print(f"{'speaker':<24} {'WER':>5} {'interim p50':>12} {'final p50':>10} {'final max':>10} {'load':>5}  model")
    for row in rows:
        latencies = (
            f"{row.interim_latency_p50_ms:>9} ms {row.final_latency_p50_ms:>7} ms {row.final_latency_max_ms:>7} ms"
        )
        print(f"{row.speaker:<24} {row.word_error_rate:>5.2f} {latencies} {row.load_average:>5.1f}  {row.model}")
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    print(f"written to {OUTPUT}")


if __name__ == "__main__":
    main()
