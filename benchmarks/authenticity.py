"""What voice authenticity says of real and synthetic voices, and what the model alone would have claimed without its gate.

    python -m benchmarks.authenticity [--speech 30]

Each clip is played over and over through Opus, the watch host, the gate and the engine with the weights that were pulled, until so
much of it was spoken. Clips whose source is not here (recordings beside the repository, Debian's flite, espeak-ng, festival) are
left out, and that is said. See README.md.
"""

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import wave
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import scipy.signal

from candor import logs
from candor.settings import load
from media_processors import registry
from media_processors.audio.authenticity import NAME, VoiceAuthenticityObserver, VoiceAuthenticityStream
from media_processors.audio.windows import STEP_MS
from media_processors.base import Emit, Samples
from media_processors.findings import VoiceAuthenticity
from media_processors.frames import TrackRef
from models.choosing import choose
from models.store import Missing, Store
from tests.integration.caption_rig import RATE_HZ, SHARED_MEDIA, Rig, silence
from tests.until import until

REPORT = Path("build/bench/authenticity.json")
TEXT = (
    "The committee will meet again on Thursday afternoon to talk about the new building. Everybody who wants to speak should "
    "send a short note before Wednesday. We have looked at three different places, and none of them is quite right. The first "
    "is too far away from the station, and the second has no garden. Please think about it and tell us what you would like."
)


class UngatedStream(VoiceAuthenticityStream):
    """Judges everything."""

    def refusal(self) -> str:
        """Nothing is refused."""
        return ""


class UngatedObserver(VoiceAuthenticityObserver):
    """The same model without the gate before it."""

    def open(self, track: TrackRef, emit: Emit) -> VoiceAuthenticityStream:
        """Evidence about one track."""
        return UngatedStream(self.choice, track, emit)


@dataclass(frozen=True, slots=True)
class Row:
    """A clip, and the last finding of each observer."""

    clip: str
    truth: str
    verdict: str
    reason: str
    likelihood: float | None
    score: float | None
    evidence_s: float
    ungated_verdict: str
    ungated_likelihood: float | None
    ungated_score: float | None


def clips(folder: Path) -> Iterator[tuple[str, str, Samples]]:
    """Name, truth and sound at 48 kHz of what is here."""
    for name in ("speech_wideband_16k.wav", "jfk.wav", "noisy_speech_16k.wav"):
        if (path := SHARED_MEDIA / name).exists():
            yield name, "real", read(path)
        else:
            print(f"without {name}: it is not beside the repository")
    path = folder / "speech.wav"
    speakers: dict[str, Callable[[], list[str]]] = {
        "espeak-ng": lambda: ["espeak-ng", "-w", str(path), TEXT],
        "flite": lambda: ["flite", "-voice", "slt", "-t", TEXT, "-o", str(path)],
        "text2wave": lambda: ["text2wave", "-o", str(path)],
    }
    for program, command in speakers.items():
        if shutil.which(program) is None:
            print(f"without {program}: it is not installed (Debian has it)")
            continue
        subprocess.run(command(), input=TEXT.encode(), check=True, capture_output=True)
        yield {"flite": "flite slt", "text2wave": "festival"}.get(program, program), "synthetic", read(path)


def read(path: Path) -> Samples:
    """A mono WAV of any rate, at 48 kHz."""
    with wave.open(str(path)) as file:
        pcm = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32_768
        rate_hz = file.getframerate()
    common = int(np.gcd(rate_hz, RATE_HZ))
    return np.asarray(scipy.signal.resample_poly(pcm, RATE_HZ // common, rate_hz // common), np.float32)


async def judge(store: Path, observer: VoiceAuthenticityObserver, sound: Samples, speech_s: float) -> VoiceAuthenticity:
    """Play a clip until the observer has looked at enough windows; the last finding."""
    wanted = int(speech_s * 1000 // STEP_MS)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "models").symlink_to(store)
        async with Rig(Path(folder), {NAME: registry.Loaded(observer.info(), observer)}) as rig:
            rig.open()
            for _ in range(wanted):
                await until_next(rig, sound)
            return findings(rig)[-1]


async def until_next(rig: Rig, sound: Samples) -> None:
    """Play the clip until there is one more finding: at most a minute of it."""
    before = len(findings(rig))
    for _ in range(int(60 / (len(sound) / RATE_HZ)) + 1):
        await rig.say(np.concatenate([sound, silence(0.3)]))
        if await settled(rig, before):
            return
    raise RuntimeError("a minute of this clip gave no finding")


async def settled(rig: Rig, before: int) -> bool:
    """Whether a finding came; waits while the engine may be at it."""
    try:
        await until(lambda: "" if len(findings(rig)) > before else "a finding", 3)
    except AssertionError:
        return False
    return True


def findings(rig: Rig) -> list[VoiceAuthenticity]:
    """All so far."""
    return [finding for finding in rig.findings if isinstance(finding, VoiceAuthenticity)]


async def measure(store: Path, speech_s: float) -> list[Row]:
    """The whole benchmark."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for clip, truth, sound in clips(Path(folder)):
            with_gate = await judge(store, VoiceAuthenticityObserver(), sound, speech_s)
            alone = await judge(store, UngatedObserver(), sound, speech_s)
            rows.append(
                Row(
                    clip,
                    truth,
                    with_gate.verdict,
                    with_gate.reason,
                    with_gate.likelihood,
                    with_gate.score,
                    with_gate.evidence_ms / 1000,
                    alone.verdict,
                    alone.likelihood,
                    alone.score,
                )
            )
            print(line(rows[-1]), flush=True)
    return rows


HEAD = "| clip | truth | finding | likelihood synthetic | score | s of evidence | the model alone | its likelihood | score |"


def line(row: Row) -> str:
    """A row of the table."""
    verdict = row.verdict + (f" ({row.reason})" if row.reason else "")
    cells = [row.clip, row.truth, verdict, row.likelihood, row.score, round(row.evidence_s)]
    cells += [row.ungated_verdict, row.ungated_likelihood, row.ungated_score]
    return f"| {' | '.join('' if cell is None else str(cell) for cell in cells)} |"


def main() -> int:
    """Run, print, write the report. The exit code does not depend on the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.authenticity", description="real and synthetic voices")
    parser.add_argument("--speech", type=float, default=30.0, help="seconds of speech of each clip")
    arguments = parser.parse_args()
    logs.configure("error", "benchmark")
    settings = load()
    store = Store(settings.models.store_dir)
    if isinstance(choose("voice_authenticity", store), Missing):
        print("no model for voice authenticity is here: run `make models`", file=sys.stderr)
        return 1
    print(f"{HEAD}\n{'|---' * 9}|")
    rows = asyncio.run(measure(settings.models.store_dir, arguments.speech))
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    print(f"report: {REPORT}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
