"""Render the demo's speech once: `python scripts/render_demo_speech.py`. Needs Debian's `flite` and this project's environment.

Reads `candor/assets/lines.json` and writes the Opus files that it names: 48 kHz mono, 32 kb/s, 20 ms packets, in Ogg.
Each sentence is rendered by itself and cut to its sound; between sentences and at both ends there is digital silence, so
that a measurement knows exactly where nobody speaks.
"""

import json
import re
import subprocess
import tempfile
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

ASSETS = Path(__file__).parent.parent / "candor" / "assets"
RATE_HZ = 48_000
BIT_RATE_BPS = 32_000
EDGE_S = 0.25  # silence before and after a turn
PASSAGE_GAP_S = 0.6  # silence around and between the sentences of the passage: where the noise is measured
SPEECH_RMS = 0.08  # -22 dBFS, about what a headset delivers

Samples = npt.NDArray[np.float32]


def sentence(voice: str, text: str) -> Samples:
    """One sentence, float32 in [-1, 1] at 48 kHz, without the silence that flite puts around it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sentence.wav"
        subprocess.run(["flite", "-voice", voice, "-t", text, "-o", str(path)], check=True)
        samples = read(path)
    loud = np.flatnonzero(np.abs(samples) > 0.01 * np.abs(samples).max())
    samples = samples[loud[0] : loud[-1] + 1]
    return (samples * SPEECH_RMS / np.sqrt(np.mean(samples**2))).astype(np.float32)


def read(path: Path) -> Samples:
    """A sound file as float32 mono at 48 kHz."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE_HZ)
    with av.open(str(path)) as container:
        frames = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
    frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])


def join(sentences: list[Samples], gap_s: float) -> Samples:
    """The sentences with `gap_s` of digital silence before, between and after them."""
    gap = np.zeros(round(gap_s * RATE_HZ), np.float32)
    parts = [gap]
    for samples in sentences:
        parts += [samples, gap]
    return np.concatenate(parts)


def write(path: Path, samples: Samples) -> None:
    """Encode float32 mono at 48 kHz as Ogg Opus."""
    with av.open(str(path), "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=RATE_HZ, layout="mono", bit_rate=BIT_RATE_BPS)
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="flt", layout="mono")
        frame.sample_rate = RATE_HZ
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


def main() -> None:
    """Render every line of `lines.json`."""
    lines = json.loads((ASSETS / "lines.json").read_text())
    for line in [*lines["turns"], lines["passage"]]:
        texts = re.split(r"(?<=[.?!]) ", line["text"])
        gap_s = PASSAGE_GAP_S if line is lines["passage"] else EDGE_S
        write(ASSETS / line["file"], join([sentence(line["voice"], text) for text in texts], gap_s))


if __name__ == "__main__":
    main()
