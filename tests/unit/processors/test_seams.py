"""The benchmark of kills finds the changes in what a listener received, and compares them with the right place of the speech."""

from dataclasses import asdict

import numpy as np
import pytest

from benchmarks.bypass import MAX_PEAK_DB, PACKET_NS, PACKET_SAMPLES, Kind, Listener, Studio, Track, force
from benchmarks.seams import SILENCE, Peaks, Round, arrival_gap_ms, assess, timestamp_gap_ms
from bots import RawRtp
from tests.unit.processors.sounds import speech

FIRST_TIMESTAMP = 0xFFFFF000


class Recorder(Listener):
    """Keeps what was released as it would come over the wire."""

    def __init__(self, track: Track) -> None:
        super().__init__(conceals=True)
        self.packets: list[RawRtp] = []
        self._track = track

    def hear(self, packet: int, payload: bytes) -> None:
        super().hear(packet, payload)
        timestamp = (FIRST_TIMESTAMP + packet * PACKET_SAMPLES) & 0xFFFFFFFF
        self.packets.append(
            RawRtp("t", "audio", 1, 111, packet & 0xFFFF, timestamp, False, payload, self._track.clock.now_ns)
        )


@pytest.fixture(scope="module")
def killed() -> tuple[Recorder, Round, int]:
    """A track whose host died in mid-speech: what was received, the reference, and when."""
    studio = Studio()
    voice = studio.voice("passage", speech())
    track = Track(studio, voice, 0)
    recorder = Recorder(track)
    track.listeners = (*track.listeners, recorder)
    for _ in range(120):
        track.step()
    while not track.in_speech:
        track.step()
    at_ns = track.clock.now_ns
    force(track, Kind.DEATH, PACKET_NS // 2)
    return recorder, Round(studio, voice), at_ns


def test_both_changes_are_found_and_no_louder_than_the_speech(killed: tuple[Recorder, Round, int]) -> None:
    recorder, told, at_ns = killed
    silent = [packet.arrival_ns for packet in recorder.packets if packet.payload == SILENCE]
    assert len([ns for ns in silent if ns >= at_ns]) >= 2
    peaks = assess(recorder.packets, told, at_ns)
    for peak_db in (peaks.away_db, peaks.return_db):
        assert peak_db is not None
        assert -MAX_PEAK_DB < peak_db < MAX_PEAK_DB
    assert timestamp_gap_ms(recorder.packets) == 20


def test_a_burst_at_a_change_is_seen(killed: tuple[Recorder, Round, int]) -> None:
    recorder, told, at_ns = killed
    quiet = Round.__new__(Round)
    quiet.__dict__ |= told.__dict__ | {
        "references": tuple(_quieter(listener, 0.1) for listener in told.references),
    }
    before, after = assess(recorder.packets, told, at_ns), assess(recorder.packets, quiet, at_ns)
    assert before.away_db is not None
    assert after.away_db == pytest.approx(before.away_db + 20, abs=0.1)


def _quieter(listener: Listener, factor: float) -> Listener:
    other = Listener(conceals=True)
    other.sound = [sound * np.float32(factor) for sound in listener.sound]
    return other


def test_a_lost_packet_is_a_gap_and_nothing_else(killed: tuple[Recorder, Round, int]) -> None:
    recorder, told, at_ns = killed
    packets = recorder.packets[:50] + recorder.packets[51:]
    assert timestamp_gap_ms(packets) == 40
    assert arrival_gap_ms(packets, packets[0].arrival_ns, packets[-1].arrival_ns) == 40
    with_gap, whole = asdict(assess(packets, told, at_ns)), asdict(assess(recorder.packets, told, at_ns))
    assert with_gap == pytest.approx(whole, abs=0.05)  # decibels


def test_without_a_change_there_are_no_peaks(killed: tuple[Recorder, Round, int]) -> None:
    recorder, told, _ = killed
    peaks = assess(recorder.packets, told, recorder.packets[-1].arrival_ns)
    assert (peaks.away_db, peaks.return_db) == (None, None)


def test_nothing_received_is_one_long_gap() -> None:
    assert timestamp_gap_ms([]) is None
    assert arrival_gap_ms([], 0, 3_000_000_000) == 3000


def test_packets_at_the_edges_only_leave_a_gap_between(killed: tuple[Recorder, Round, int]) -> None:
    recorder, told, _ = killed
    start_ns = recorder.packets[0].arrival_ns
    assert arrival_gap_ms(recorder.packets[:5], start_ns - 1, start_ns + 1_000_000_000) == 920
    assert assess([], told, 0) == Peaks(None, None)
