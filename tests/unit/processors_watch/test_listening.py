"""What an observer hears of packets: raw and processed sound, losses, pauses, clocks."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from media_processors.audio.vad import SileroVad
from media_processors.codec import OpusEncoder
from media_processors.frames import AudioFrame
from media_processors.listening import Ear, ListenCounters, TrackListener
from sfu.tap import Sound, TapPacket
from tests.unit.processors.sounds import HOSTILE

RATE_HZ = 48_000
FRAME = 960
VAD = SileroVad()


class Track:
    """Packets of a tone, numbered as a publisher numbers them."""

    def __init__(self, fec: bool = False) -> None:
        self.counters = ListenCounters()
        self.listener = TrackListener(VAD, self.counters)
        self.ears = {sound: Ear(sound, 16_000) for sound in Sound}
        self.heard: dict[Sound, list[AudioFrame]] = {sound: [] for sound in Sound}
        self._encoder = OpusEncoder()
        if fec:
            self._encoder.set_fec(True, 30)
        self._samples = 0

    def payload(self) -> bytes:
        at = np.arange(self._samples, self._samples + FRAME) / RATE_HZ
        self._samples += FRAME
        return self._encoder.encode((0.3 * np.sin(2 * np.pi * 220 * at)).astype(np.float32))

    def push(self, number: int, payload: bytes | None = None, sound: Sound = Sound.RAW, clock: int = 0) -> None:
        packet = TapPacket(
            handle=1,
            sound=sound,
            marker=0,
            seq=number & 0xFFFF,
            timestamp=(number * FRAME + clock) & 0xFFFFFFFF,
            arrival_ns=number * 20_000_000,
            epoch=0,
            level=30,
            restart=0,
            payload=self.payload() if payload is None else payload,
        )
        by_ear = {ear: name for name, ear in self.ears.items()}
        for ear, frame in self.listener.push(packet, list(by_ear)):
            self.heard[by_ear[ear]].append(frame)

    def starts(self, sound: Sound = Sound.RAW) -> list[int]:
        return [frame.start_ms for frame in self.heard[sound]]


def test_frames_follow_each_other_across_the_wrap_of_both_counters() -> None:
    track = Track()
    first = 65_530 + (1 << 16) * 70
    for number in range(first, first + 12):
        track.push(number)
    assert track.starts() == [20 * index for index in range(12)]
    assert all(len(frame.samples) == 320 for frame in track.heard[Sound.RAW][1:])


def test_a_lost_packet_is_repaired_from_the_next_one() -> None:
    track = Track(fec=True)
    payloads = [track.payload() for _ in range(10)]
    for number in (0, 1, 2, 3, 5, 6):
        track.push(number, payloads[number])
    assert track.starts() == [0, 20, 40, 60, 80, 100, 120]
    assert [frame.concealed for frame in track.heard[Sound.RAW]].index(True) == 4
    assert (track.counters.repaired, track.counters.concealed) == (1, 0)


def test_concealment_stops_after_60_ms_and_the_rest_is_a_gap() -> None:
    track = Track()
    for number in (*range(5), *range(15, 18)):
        track.push(number)
    assert track.starts() == [0, 20, 40, 60, 80, 100, 120, 140, 300, 320, 340]
    assert (track.counters.concealed, track.counters.skipped) == (3, 7)


def test_a_pause_of_the_sender_is_a_gap_without_concealment() -> None:
    track = Track()
    for number in range(3):
        track.push(number)
    payload = track.payload()
    packet = TapPacket(1, Sound.RAW, 0, 3, 53 * FRAME, 53 * 20_000_000, 0, 30, 0, payload)
    starts = [frame.start_ms for _, frame in track.listener.push(packet, [track.ears[Sound.RAW]])]
    assert starts == [1_060]
    assert track.counters.concealed == 0


def test_repeated_late_and_damaged_packets_are_counted_and_not_heard() -> None:
    track = Track()
    for number in (0, 2, 2, 1):
        track.push(number)
    track.push(3, b"")
    track.push(4, b"\xff\xff\xff")
    assert track.counters.old == 2
    assert track.counters.damaged == 2
    assert track.starts() == [0, 20, 40]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(HOSTILE, st.integers(0, 70_000), st.sampled_from(Sound), st.integers(0, 2**32)), max_size=8))
@example([(b"\x03\x00", number, Sound.RAW, 0) for number in range(2)])
def test_any_bytes_are_heard_or_counted(sent: list[tuple[bytes, int, Sound, int]]) -> None:
    track = Track()
    for payload, number, sound, clock in sent:
        track.push(number, payload, sound, clock)
    assert track.counters.packets == len(sent)


def test_a_new_clock_goes_on_where_time_went_on() -> None:
    track = Track()
    for number in range(5):
        track.push(number)
    for number in range(5, 8):
        track.push(number, clock=123_456_789)
    assert track.starts() == [0, 20, 40, 60, 80, 100, 120, 140]


def test_after_another_ssrc_the_track_is_heard_again() -> None:
    track = Track()
    for number in range(50_000, 50_005):
        track.push(number)
    for number in range(50_005, 50_010):
        packet = TapPacket(
            handle=1,
            sound=Sound.RAW,
            marker=0,
            seq=number - 20_000,
            timestamp=number * FRAME + 7_000_000,
            arrival_ns=number * 20_000_000,
            epoch=0,
            level=30,
            restart=0,
            payload=track.payload(),
        )
        track.heard[Sound.RAW] += [frame for _, frame in track.listener.push(packet, [track.ears[Sound.RAW]])]
    assert track.starts() == [0, 20, 40, 60, 80, 120, 140, 160, 180]
    assert track.counters.old == 1


def test_processed_sound_replaces_raw_for_those_who_want_it() -> None:
    track = Track()
    for number in range(10):
        payload = track.payload()
        track.push(number, payload)
        track.push(number, payload, Sound.PROCESSED)
    assert track.starts() == track.starts(Sound.PROCESSED) == [20 * index for index in range(10)]
    assert len(track.heard[Sound.PROCESSED]) == 10


def test_raw_sound_stands_in_when_no_processed_comes_and_time_never_goes_back() -> None:
    track = Track()
    for number in range(40):
        payload = track.payload()
        track.push(number, payload)
        if not 10 <= number < 30:
            track.push(number, payload, Sound.PROCESSED)
    starts = track.starts(Sound.PROCESSED)
    assert starts == sorted(set(starts))
    missing = sorted(set(range(0, 800, 20)) - set(starts))
    assert missing == list(range(200, 420, 20))


def test_restart_forgets_sound_but_not_time() -> None:
    track = Track()
    for number in range(3):
        track.push(number)
    track.listener.restart()
    for number in range(100, 103):
        track.push(number)
    assert track.starts() == [0, 20, 40, 2_000, 2_020, 2_040]
    assert track.counters.concealed == 0


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 48_000])
def test_every_ear_gets_its_own_rate(rate_hz: int) -> None:
    track = Track()
    track.ears = {Sound.RAW: Ear(Sound.RAW, rate_hz)}
    for number in range(20):
        track.push(number)
    heard = sum(len(frame.samples) for frame in track.heard[Sound.RAW])
    assert abs(heard - rate_hz * 20 * 20 // 1000) <= rate_hz // 100
