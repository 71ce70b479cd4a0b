"""Measures of sound and packets for the demo: what a listener received, against what was played.

Sound is float32 in [-1, 1], shape (n,), mono. Everything here is a pure function of its arguments.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import av
import numpy as np
import numpy.typing as npt
from pystoi import stoi
from scipy.signal import correlate, resample_poly

from candor.demo_report import SoundQuality
from candor.speech import RATE_HZ, Sound, frame_levels_db, frames_of_speech, per_sample, rms

MEASURE_RATE_HZ = 16_000
PAUSE_BELOW_PEAK_DB = 55.0
PAUSE_EDGE_FRAMES = 4  # 80 ms: codec ringing, and the fade of a denoiser
FLOOR_DB = -100.0
CLOCK_SLACK_S = 10.0


@dataclass(frozen=True, slots=True)
class OpusPacket:
    """A received packet of one track: RTP numbers as on the wire, `arrival_ns` on the monotonic clock."""

    sequence_number: int
    timestamp: int
    payload: bytes
    arrival_ns: int


@dataclass(frozen=True, slots=True)
class PacketCount:
    """What arrived of one track. `lost` are sequence numbers that never came, `duplicates` those that came again."""

    received: int
    lost: int
    duplicates: int


def unwrap(values: Sequence[int], bits: int) -> npt.NDArray[np.int64]:
    """Wrapping RTP counters (16-bit sequence numbers, 32-bit timestamps) as growing integers, in the given order.

    A step of less than half the range is taken as it is, forward or backward (RFC 3550, appendix A.1).
    """
    numbers = np.asarray(values, np.int64)
    if len(numbers) == 0:
        return numbers
    size = 1 << bits
    steps = (np.diff(numbers) + size // 2) % size - size // 2
    return np.concatenate([numbers[:1], numbers[0] + np.cumsum(steps)])


def count_packets(packets: Sequence[OpusPacket]) -> PacketCount:
    """Losses and duplicates between the first and the last sequence number."""
    if not packets:
        return PacketCount(0, 0, 0)
    numbers = unwrap([packet.sequence_number for packet in packets], 16)
    distinct = len(np.unique(numbers))
    span = int(numbers.max() - numbers.min()) + 1
    return PacketCount(received=distinct, lost=span - distinct, duplicates=len(numbers) - distinct)


def decode(packets: Sequence[OpusPacket]) -> Sound:
    """Decode one Opus stream onto a timeline that starts at its first timestamp; what was lost or not sent is silence.

    Each packet is decoded by itself in the order of its sequence number and placed by its timestamp, so that neither loss
    nor jitter moves anything. Packets that are not Opus are left silent. Raises ValueError if the timestamps span much more
    time than the arrivals do, since then they are not one timeline.
    """
    if not packets:
        return np.zeros(0, np.float32)
    numbers = unwrap([packet.sequence_number for packet in packets], 16)
    times = unwrap([packet.timestamp for packet in packets], 32)
    order = np.unique(numbers, return_index=True)[1]
    start = int(times.min())
    span = int(times.max()) - start
    arrived_s = (packets[-1].arrival_ns - packets[0].arrival_ns) / 1e9
    if span / RATE_HZ > arrived_s + CLOCK_SLACK_S:
        raise ValueError("timestamp: jumps, so the packets are not one timeline")
    timeline = np.zeros(span + RATE_HZ, np.float32)
    end = 0
    decoder = av.CodecContext.create("libopus", "r")
    for index in order:
        sound = _decode_packet(decoder, packets[index].payload)
        position = int(times[index]) - start
        timeline[position : position + len(sound)] = sound
        end = max(end, position + len(sound))
    return timeline[:end]


def _decode_packet(decoder: av.AudioCodecContext, payload: bytes) -> Sound:
    if not payload:
        return np.zeros(0, np.float32)
    try:
        frames = decoder.decode(av.Packet(payload))
    except av.error.FFmpegError:
        return np.zeros(0, np.float32)
    parts = [_mono(frame) for frame in frames]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _mono(frame: av.AudioFrame) -> Sound:
    values = frame.to_ndarray().astype(np.float32)
    if frame.format.is_packed:
        values = values.reshape(-1, frame.layout.nb_channels).T
    scale = 1.0 if frame.format.name.startswith("flt") else 1 / 32768
    return np.asarray(values.mean(axis=0) * scale, np.float32)


def align(reference: Sound, received: Sound) -> tuple[Sound, float]:
    """The part of `received` that is `reference`, by the peak of their cross-correlation; same length as `reference`.

    Returns it and its delay in ms from the start of `received` (negative if it began before). What lies outside
    `received` is silence. Raises ValueError if one of them is silent or empty.
    """
    if not reference.any() or not received.any():
        raise ValueError("align: one of the sounds is silent")
    correlation = correlate(received, reference, mode="full", method="fft")
    lag = int(np.argmax(np.abs(correlation))) - (len(reference) - 1)
    aligned = np.zeros(len(reference), np.float32)
    begin, end = max(lag, 0), min(lag + len(reference), len(received))
    aligned[begin - lag : end - lag] = received[begin:end]
    return aligned, 1000 * lag / RATE_HZ


def assess(reference: Sound, received: Sound) -> SoundQuality:
    """Compare what a listener heard of a passage with the clean passage, both at 48 kHz.

    Pauses are where the clean passage is more than 55 dB below its loudest 20 ms, without 80 ms at either edge; speech is
    where it is less than 35 dB below. STOI: Taal et al. 2011. SI-SDR: Le Roux et al. 2019; a codec that does not preserve
    the waveform makes it meaningless as a verdict, so it is information only. Raises ValueError as `align` does, and if the
    reference has no pause.
    """
    heard, delay_ms = align(reference, received)
    speech = per_sample(frames_of_speech(reference), len(reference))
    pauses = per_sample(_frames_of_pause(reference), len(reference))
    if not pauses.any():
        raise ValueError("assess: the reference has no pause")
    noise_db = _db(rms(heard[pauses])) - _db(rms(heard[speech]))
    clean_16k, heard_16k = _to_measure_rate(reference), _to_measure_rate(heard)
    return SoundQuality(
        pause_noise_db=noise_db,
        stoi=float(stoi(clean_16k, heard_16k, MEASURE_RATE_HZ)),
        si_sdr_db=si_sdr_db(clean_16k, heard_16k),
        delay_ms=delay_ms,
    )


def si_sdr_db(reference: Sound, heard: Sound) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019, equation 3)."""
    reference = reference - reference.mean()
    heard = heard - heard.mean()
    target = reference * (np.dot(heard, reference) / np.dot(reference, reference))
    return float(10 * np.log10(np.sum(target**2) / max(float(np.sum((heard - target) ** 2)), 1e-12)))


def _to_measure_rate(sound: Sound) -> Sound:
    return np.asarray(resample_poly(sound, 1, RATE_HZ // MEASURE_RATE_HZ), np.float32)


def _frames_of_pause(sound: Sound) -> npt.NDArray[np.bool_]:
    levels = frame_levels_db(sound)
    busy = np.flatnonzero(levels > levels.max() - PAUSE_BELOW_PEAK_DB)
    quiet = np.ones(len(levels), np.bool_)
    for frame in busy:
        quiet[max(0, frame - PAUSE_EDGE_FRAMES) : frame + PAUSE_EDGE_FRAMES + 1] = False
    return quiet


def _db(value: float) -> float:
    return max(FLOOR_DB, float(20 * np.log10(max(value, 1e-12))))
