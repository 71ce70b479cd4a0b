"""What denoising does, in the order of the path: Opus of the publisher, path host's chain, Opus to the listener.

`python -m benchmarks.denoise [--media DIR]` prints tables and writes build/bench/denoise.json. Speech: flite's voices, if flite is
installed, and the recordings in DIR (see its README), if it is there. On and off go through the same codecs; off is the
delay-aligned dry path, so the two are compared sample by sample.
"""

import argparse
import json
import shutil
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from pystoi import stoi
from scipy.signal import correlate, resample_poly

from media_processors.audio.rnnoise import Rnnoise
from media_processors.audio.vad import RATE_HZ as VAD_RATE_HZ
from media_processors.audio.vad import SileroVad
from media_processors.codec import RATE_HZ, OpusDecoder, OpusEncoder
from media_processors.streams import PathCounters, PathStream
from sfu.tap import OpenTrack, TapPacket

Sound = NDArray[np.float32]
Mask = NDArray[np.bool_]

PACKET = 960
TEXT = (
    "Good morning everybody. The meeting starts at nine. Please send me the report before noon. "
    "We will talk about the budget, and then about the plan for the next year."
)
SPEECH_DB = -25.0
PAUSE_ABOVE_FLOOR_DB = 4.0
LOWEST_FLOOR_DB = -49.0
EDGE_PACKETS = 4
RATES_BPS = (24_000, 32_000, 48_000, 64_000)
LEVELS = (0.1, 0.3, 0.7)
HALF_SECOND = RATE_HZ // 2
HOP = RATE_HZ // 10


@dataclass(frozen=True, slots=True)
class Heard:
    """What came out of the path."""

    sound: Sound
    dry_share: float
    trips: int
    guard: str
    us_per_packet: float


@dataclass(frozen=True, slots=True)
class DenoiseRow:
    """One speaker in noise, denoise off and on. Noise in pauses is relative to the speech of the same recording."""

    speaker: str
    snr_db: float
    pause_off_db: float
    pause_on_db: float
    stoi_off: float
    stoi_on: float
    si_sdr_off_db: float
    si_sdr_on_db: float
    dry_share: float


@dataclass(frozen=True, slots=True)
class GuardRow:
    """A speaker without noise: how much the worst half-second of speech lost."""

    speaker: str
    bitrate_bps: int
    level: float
    worst_db: float
    lost_share: float
    unguarded_worst_db: float
    trips: int
    guard: str


def load(path: Path) -> Sound:
    """A sound file as float32 mono at 48 kHz, peak 1."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE_HZ)
    with av.open(str(path)) as container:
        frames = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
    sound = np.concatenate([frame.to_ndarray()[0] for frame in [*frames, *resampler.resample(None)]])
    return np.asarray(sound / np.abs(sound).max(), np.float32)


def flite(voice: str) -> Sound:
    """Synthetic speech, with a pause before it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        subprocess.run(["flite", "-voice", voice, "-t", TEXT, "-o", str(path)], check=True)
        return np.concatenate((np.zeros(RATE_HZ // 2, np.float32), load(path)))


def pink_noise(samples: int, seed: int) -> Sound:
    """Unit power, falling 3 dB per octave from 20 Hz."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(samples))
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 20 * samples / RATE_HZ)), samples)
    return np.asarray(noise / np.sqrt(np.mean(np.square(noise))), np.float32)


def si_sdr_db(clean: Sound, heard: Sound) -> float:
    """Le Roux et al., "SDR - half-baked or well done?" (2019), equation 3."""
    target = clean * (np.dot(heard, clean) / np.dot(clean, clean))
    return float(10 * np.log10(np.sum(target**2) / (np.sum((heard - target) ** 2) + 1e-12)))


def packets(sound: Sound) -> list[Sound]:
    """In pieces of 20 ms."""
    return [sound[at : at + PACKET] for at in range(0, len(sound) - PACKET + 1, PACKET)]


class Rig:
    """The weights, shared by all runs."""

    def __init__(self) -> None:
        self.denoise = Rnnoise()
        self.vad = SileroVad()

    def through(self, sound: Sound, bitrate_bps: int, on: bool, guarded: bool = True) -> Heard:
        """Publisher's Opus, path, listener's Opus."""
        opened = OpenTrack(
            handle=1,
            track_id="t",
            room_id="r",
            participant_id="p",
            kind="audio",
            source="microphone",
            codec="opus",
            clock_hz=RATE_HZ,
            processors={"denoise": on},
            epoch=0,
            bitrate_bps=bitrate_bps,
        )
        stream = PathStream(opened, {"denoise": self.denoise}, self.vad.open(), PathCounters())
        guard = stream.chain.stages[0].guard
        if not guarded:
            guard.allows = lambda *_: True  # type: ignore[method-assign]  # shows what would happen without it
        encoder, decoder = OpusEncoder(bitrate_bps=bitrate_bps), OpusDecoder()
        heard, dry, took_ns = [], 0, 0
        for index, piece in enumerate(packets(sound)):
            payload = encoder.encode(piece)
            packet = TapPacket(1, 0, 0, index & 0xFFFF, index * PACKET, 0, 0, 0, 0, payload)
            started_ns = time.thread_time_ns()
            result = stream.push(packet, late=False)
            took_ns += time.thread_time_ns() - started_ns
            heard.append(decoder.decode(result.payload))
            dry += result.dry
        verdict = f"{guard.state.value} {guard.reason}".strip()
        return Heard(np.concatenate(heard), dry / len(heard), guard.trips, verdict, took_ns / len(heard) / 1000)


def levels_db(sound: Sound) -> Sound:
    """Level of each packet, smoothed over three."""
    power = np.array([np.mean(np.square(piece)) for piece in packets(sound)])
    return np.asarray(10 * np.log10(np.convolve(power, np.ones(3) / 3, mode="same") + 1e-12), np.float32)


def masks(clean: Sound) -> tuple[Mask, Mask]:
    """Packets of speech, and of pauses without their edges, of a clean recording, which may have a noise floor of its own."""
    level = levels_db(clean)
    level = level - np.percentile(level, 95)
    floor_db = max(LOWEST_FLOOR_DB, float(np.percentile(level, 10)))
    busy = np.convolve(level > floor_db + PAUSE_ABOVE_FLOOR_DB, np.ones(2 * EDGE_PACKETS + 1), mode="same") > 0
    return level > SPEECH_DB, ~busy


def pause_noise_db(heard: Sound, speech: Mask, pause: Mask) -> float:
    """Level of pauses relative to speech."""
    power = np.array([np.mean(np.square(piece)) for piece in packets(heard)])
    count = min(len(power), len(speech))
    return float(10 * np.log10(power[:count][pause[:count]].mean() / power[:count][speech[:count]].mean() + 1e-12))


def delayed(clean: Sound, heard: Sound) -> Sound:
    """`heard`, moved to where `clean` is."""
    lag = int(np.argmax(correlate(heard, clean, mode="full", method="fft"))) - (len(clean) - 1)
    moved = np.zeros(len(clean), np.float32)
    piece = heard[max(lag, 0) : max(lag, 0) + len(clean)]
    moved[: len(piece)] = piece
    return moved


def denoise_row(path: Rig, speaker: str, clean: Sound, snr_db: float) -> DenoiseRow:
    """One line of the first table."""
    speech, pause = masks(clean)
    power = np.array([np.mean(np.square(piece)) for piece in packets(clean)])[speech].mean()
    noisy = 0.3 * (clean + pink_noise(len(clean), seed=1) * np.sqrt(power) * 10 ** (-snr_db / 20)).astype(np.float32)
    off, on = (path.through(noisy, 32_000, switch) for switch in (False, True))
    moved = [delayed(clean, heard.sound) for heard in (off, on)]
    at_16k = [resample_poly(sound, 1, 3) for sound in (clean, *moved)]
    pauses = [round(pause_noise_db(sound, speech, pause), 1) for sound in moved]
    stois = [round(float(stoi(at_16k[0], sound, 16_000)), 3) for sound in at_16k[1:]]
    si_sdrs = [round(si_sdr_db(at_16k[0], sound), 1) for sound in at_16k[1:]]
    return DenoiseRow(
        speaker=speaker,
        snr_db=snr_db,
        pause_off_db=pauses[0],
        pause_on_db=pauses[1],
        stoi_off=stois[0],
        stoi_on=stois[1],
        si_sdr_off_db=si_sdrs[0],
        si_sdr_on_db=si_sdrs[1],
        dry_share=round(on.dry_share, 2),
    )


def speech_of(vad: SileroVad, clean: Sound) -> Mask:
    """Per sample at 48 kHz, whether the VAD hears speech."""
    stream, at_16k = vad.open(), resample_poly(clean, 1, RATE_HZ // VAD_RATE_HZ).astype(np.float32)
    found = [stream.push(at_16k[at : at + 512]) > 0.5 for at in range(0, len(at_16k) - 511, 512)]
    return np.repeat(found, 512 * RATE_HZ // VAD_RATE_HZ)


def losses_db(dry: Sound, wet: Sound, speech: Mask) -> Sound:
    """How much louder `wet` is than `dry`, in each half-second of which at least 60 % is speech."""
    found = []
    for at in range(0, min(len(dry), len(wet), len(speech)) - HALF_SECOND, HOP):
        if speech[at : at + HALF_SECOND].mean() >= 0.6:
            pieces = (wet[at : at + HALF_SECOND], dry[at : at + HALF_SECOND])
            power = [float(np.mean(np.square(piece))) for piece in pieces]
            found.append(10 * np.log10((power[0] + 1e-12) / (power[1] + 1e-12)))
    return np.array(found)


def guard_row(path: Rig, speaker: str, clean: Sound, bitrate_bps: int, level: float) -> GuardRow:
    """One line of the second table."""
    delay = np.zeros(960 + 310, bool)  # of the path and Opus
    speech = np.concatenate((delay, speech_of(path.vad, clean)))
    off = path.through(clean * level, bitrate_bps, on=False)
    on = path.through(clean * level, bitrate_bps, on=True)
    bare = path.through(clean * level, bitrate_bps, on=True, guarded=False)
    lost = losses_db(off.sound, on.sound, speech)
    return GuardRow(
        speaker,
        bitrate_bps,
        level,
        round(float(lost.min()), 1),
        round(float((lost < -12).mean()), 3),
        round(float(losses_db(off.sound, bare.sound, speech).min()), 1),
        on.trips,
        on.guard,
    )


def table(title: str, rows: list[dict[str, object]]) -> None:
    """Print rows as Markdown."""
    print(f"\n{title}\n\n| {' | '.join(rows[0])} |\n|{'---|' * len(rows[0])}")
    for row in rows:
        print(f"| {' | '.join(str(value) for value in row.values())} |", flush=True)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--media", type=Path, default=Path("../shared/media"))
    media: Path = parser.parse_args().media
    voices = {voice: flite(voice) for voice in ("slt", "rms") if shutil.which("flite")}
    recordings = {path.stem: load(path) for path in sorted(media.glob("*.wav"))}
    wideband = {**voices, **{name: sound for name, sound in recordings.items() if name == "speech_wideband_16k"}}
    path = Rig()
    rows = [denoise_row(path, name, clean, snr) for name, clean in wideband.items() for snr in (5.0, 15.0)]
    guarded = [(name, sound) for name, sound in recordings.items() if name == "jfk"]
    guard_rows = [
        guard_row(path, *speaker, rate, level) for speaker in guarded for rate in RATES_BPS for level in LEVELS
    ]
    guard_rows += [guard_row(path, name, sound, 32_000, 0.3) for name, sound in wideband.items()]
    cost = path.through(0.3 * next(iter(wideband.values())), 32_000, on=True).us_per_packet
    tables = {"denoise": [asdict(row) for row in rows], "guard": [asdict(row) for row in guard_rows]}
    table("Denoise, pink noise, Opus 32 kb/s", tables["denoise"])
    table("Guard, no noise: worst half-second of speech against dry", tables["guard"])
    print(f"\nCPU per 20 ms packet (decode, VAD, denoise, guard, encode): {cost:.0f} us = {cost / 200:.1f} % of a core")
    out = Path("build/bench/denoise.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({**tables, "cpu_us_per_20ms_packet": round(cost)}, indent=2) + "\n")


if __name__ == "__main__":
    main()
