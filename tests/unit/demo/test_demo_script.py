"""The committed speech is what the script says, and the noise is what the report claims."""

import numpy as np
import pytest

from bots import RawRtp
from candor import demo
from candor.measure import assess
from candor.speech import CLEAN, NOISY, RATE_HZ, load_script


async def test_two_people_take_turns_and_the_passage_has_its_noise() -> None:
    script = await load_script()
    assert [line.name for line in script.turns] == [CLEAN, NOISY] * 4
    assert all(1 < len(line.sound) / RATE_HZ < 4 for line in script.turns)
    assert 8 < len(script.passage.sound) / RATE_HZ < 11
    again = await load_script()
    assert np.array_equal(script.passage.sound, again.passage.sound), "the same noise every time"
    quality = assess(script.passage_clean, script.passage.sound)
    # 5 dB below speech, of which the speech level with its own noise is 1.2 dB above
    assert -6.7 < quality.pause_noise_db < -5.7
    assert assess(script.passage_clean, script.passage_clean).pause_noise_db < -50


def packet(kind: str, number: int) -> RawRtp:
    return RawRtp("t1", kind, 1, 111, number, 960 * number, False, b"x", number)


def test_a_recording_keeps_sound_up_to_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "PACKETS_KEPT", 3)
    recording = demo.Recording()
    recording.on_rtp(packet("video", 7))
    assert recording.first_packet_ns is None
    for number in range(1, 6):
        recording.on_rtp(packet("audio", number))
    assert recording.first_packet_ns == 1
    assert [kept.sequence_number for kept in recording.packets["t1"]] == [1, 2, 3]
    assert [kept.sequence_number for kept in recording.between("t1", 2, 3)] == [2, 3]
    assert recording.between("another", 0, 10) == []
