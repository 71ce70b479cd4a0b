"""What a listener heard where a track changed between raw and processed, against what it could have heard.

The speaker repeats itself, so the two references (raw, and processed without interruption) are made once, for one round of
what it says. Where in the round a received packet is, its raw neighbours tell by cross-correlation.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.bypass import MS, PACKET_SAMPLES, SILENT_PEAK, WINDOW_PACKETS, Listener, Sound, Studio, Voice, over_db
from bots import RawRtp
from candor.measure import unwrap
from media_processors.codec import RATE_HZ, OpusDecoder, OpusEncoder
from media_processors.streams import level_of
from sfu.rtp import opus
from sfu.tap import TapPacket

SILENCE = opus.silence(PACKET_SAMPLES)
"""What the worker puts in the place of the first packet of each change: so a listener can tell where it was. The path host sends
the same in long silence, which is no change, but not in mid-speech, where the first change is, nor before the return."""
WARM_UP_PACKETS = 50
"""A decoder that begins in the middle of a stream sounds like one that always heard it after so many."""
LOCATE_PACKETS = (75, 100)
"""How many raw packets in a row it takes to tell where in the round they are, and how many are taken if they are there."""
LIKE_ENOUGH = 0.75
"""The coefficient of correlation of a place with what was heard. Over the demo's voices and 100 packets, the right place had 0.84
at least, any other 0.54 at most."""
PUBLISHER_BPS = 96_000
"""aiortc's."""


@dataclass(frozen=True, slots=True)
class Peaks:
    """Of the 200 ms around each change, over the louder reference; None where there was no change, or nothing to compare with."""

    away_db: float | None
    """From processed to raw."""
    return_db: float | None


class Round:
    """One round of what a speaker says, as its listeners hear it raw and processed."""

    def __init__(self, studio: Studio, voice: Voice) -> None:
        self.name = voice.name
        self.sound = voice.sound
        self.packets = len(voice.speech)
        self.references = (Listener(conceals=True), Listener(conceals=True))
        encoder, stream = OpusEncoder(bitrate_bps=PUBLISHER_BPS), studio.stream(0)
        for index in range(2 * self.packets):  # the second time is like all that follow
            at = index % self.packets * PACKET_SAMPLES
            sound = voice.sound[at : at + PACKET_SAMPLES]
            payload = encoder.encode(sound)
            tapped = TapPacket(1, 0, 0, index & 0xFFFF, index * PACKET_SAMPLES, 0, 0, level_of(sound), 0, payload)
            self.references[0].hear(index, payload)
            self.references[1].hear(index, stream.push(tapped, late=False).payload)

    def window(self, first: int) -> list[list[Sound]]:
        """Both references for 200 ms from a packet of the round on."""
        places = [self.packets + (first + index) % self.packets for index in range(WINDOW_PACKETS)]
        return [[listener.sound[place] for place in places] for listener in self.references]

    def locate(self, payloads: list[bytes]) -> int | None:
        """Which packet of the round the first of these raw ones is; None if they are like no place in it."""
        decoder = OpusDecoder()
        heard = np.concatenate([decoder.decode(payload) for payload in payloads])[: len(self.sound)]
        size = len(self.sound)
        likeness = np.fft.irfft(np.fft.rfft(self.sound) * np.conj(np.fft.rfft(heard, size)), size)
        power = np.concatenate((self.sound, self.sound[: len(heard)])).astype(np.float64) ** 2
        sums = np.concatenate(([0.0], power.cumsum()))
        norms = np.sqrt(
            np.maximum(sums[len(heard) :] - sums[: -len(heard)], SILENT_PEAK) * np.sum(heard**2, dtype=float)
        )
        likeness /= np.maximum(norms[:size], SILENT_PEAK)
        best = int(np.argmax(likeness))
        # The codec's own delay is less than half a packet.
        return round(best / PACKET_SAMPLES) % self.packets if likeness[best] > LIKE_ENOUGH else None


def timestamp_gap_ms(packets: list[RawRtp]) -> float | None:
    """The largest step of RTP timestamps from one packet of a stream to the next, 20 without loss; None of fewer than two."""
    times = np.unique(unwrap([packet.timestamp for packet in packets], 32))
    return float(np.diff(times).max()) * 1000 / RATE_HZ if len(times) > 1 else None


def arrival_gap_ms(packets: list[RawRtp], since_ns: int, until_ns: int) -> float:
    """The longest time in that stretch in which nothing arrived."""
    arrivals_ns = [packet.arrival_ns for packet in packets if since_ns < packet.arrival_ns < until_ns]
    return round(max(b - a for a, b in itertools.pairwise([since_ns, *arrivals_ns, until_ns])) / MS, 1)


def assess(packets: list[RawRtp], told: Round, since_ns: int) -> Peaks:
    """The peaks at the first change after `since_ns`, which is one to raw, and at the next one, which is back.

    `packets` of one track, from 1 s before to 200 ms after both changes at least.
    """
    if not packets:
        return Peaks(None, None)
    places = _places(packets)
    changes = [
        place
        for place, packet in zip(places, packets, strict=True)
        if packet.payload == SILENCE and packet.arrival_ns > since_ns
    ][:2]
    by_place = {place: packet.payload for place, packet in zip(places, packets, strict=True)}
    end = int(places.max()) + 1
    runs = _raw_runs(by_place, [*changes, end, end][:2])
    if not runs:
        return Peaks(None, None)
    heard = _decode(by_place, end)
    peaks: list[float | None] = []
    for change, offset in zip(changes, (_offset(told, runs[0]), _offset(told, runs[-1])), strict=False):
        window = slice(change - 1, change - 1 + WINDOW_PACKETS)
        if offset is None or change <= WARM_UP_PACKETS or window.stop > end:
            peaks.append(None)
        else:
            peaks.append(over_db([sound[window] for sound in heard], told.window(change - 1 + offset)))
    return Peaks(peaks[0], peaks[1] if len(peaks) > 1 else None)


def _places(packets: list[RawRtp]) -> NDArray[np.int64]:
    """How many packets each comes after the first one."""
    times = unwrap([packet.timestamp for packet in packets], 32)
    return np.asarray((times - times.min()) // PACKET_SAMPLES, np.int64)


def _raw_runs(by_place: dict[int, bytes], between: list[int]) -> list[list[tuple[int, bytes]]]:
    """Raw packets without one missing, as many in a row as it takes at least: place and payload, in their order."""
    runs: list[list[tuple[int, bytes]]] = []
    for place in range(between[0] + 1, between[1]):
        if place not in by_place:
            continue
        if place - 1 not in by_place or not runs:
            runs.append([])
        runs[-1].append((place, by_place[place]))
    return [run for run in runs if len(run) >= LOCATE_PACKETS[0]]


def _offset(told: Round, run: list[tuple[int, bytes]]) -> int | None:
    """Of places in the round from places in the track. A publisher that stalls changes it, so a run close by must tell."""
    place = told.locate([payload for _, payload in run[: LOCATE_PACKETS[1]]])
    return None if place is None else place - run[0][0]


def _decode(by_place: dict[int, bytes], end: int) -> list[list[Sound]]:
    """As a listener hears it who conceals, and as one who leaves silence."""
    listeners = Listener(conceals=True), Listener(conceals=False)
    for place in sorted(by_place):
        for listener in listeners:
            listener.hear(place, by_place[place])
    return [listener.sound[:end] for listener in listeners]
