"""Which sound is put before a model of voices: whole words, as long as the model takes."""

import numpy as np
import pytest

from media_processors.audio.windows import STEP_MS, WindowCollector
from media_processors.frames import AudioFrame

RATE_HZ = 16_000
FRAME = 320
WINDOW = 64_000


class Talk:
    """Somebody who speaks a sawtooth that counts samples, so that a cut shows."""

    def __init__(self) -> None:
        self.collector = WindowCollector(WINDOW)
        self.at_ms = 0
        self.windows: list[tuple[np.ndarray, int]] = []

    def speak(self, ms: int, *, speech: float = 0.9, concealed: bool = False) -> None:
        for _ in range(ms // 20):
            samples = (self.at_ms * 16 + np.arange(FRAME)) % 16_000 / 32_768
            frame = AudioFrame(samples.astype(np.float32), RATE_HZ, self.at_ms, 0, speech, concealed)
            window = self.collector.push(frame)
            if window is not None:
                self.windows.append(window)
            self.at_ms += 20

    def miss(self, ms: int) -> None:
        self.at_ms += ms


def is_whole(window: np.ndarray) -> bool:
    return set(np.diff(window.astype(int))) <= {1, 1 - 16_000}


def test_a_window_is_due_every_five_seconds_of_speech() -> None:
    talk = Talk()
    talk.speak(4 * STEP_MS)
    assert len(talk.windows) == 4
    for window, speech_ms in talk.windows:
        assert len(window) == WINDOW
        assert is_whole(window)
        assert speech_ms == pytest.approx(4_000, abs=20)


def test_no_window_has_a_hole_in_a_word() -> None:
    talk = Talk()
    for _ in range(12):
        talk.speak(2_600)
        talk.miss(20)
    assert talk.windows == []
    talk.speak(6_000)
    assert talk.windows
    assert all(is_whole(window) for window, _ in talk.windows)


def test_what_was_concealed_stays_in_place_and_counts_for_nothing() -> None:
    talk = Talk()
    for _ in range(30):
        talk.speak(980)
        talk.speak(20, concealed=True)
    assert len(talk.windows) == 5
    assert all(is_whole(window) for window, _ in talk.windows)
    assert all(speech_ms < 3_990 for _, speech_ms in talk.windows)


def test_a_window_is_at_least_half_speech_and_pauses_stay_in_it() -> None:
    talk = Talk()
    talk.speak(3_000)
    talk.speak(10_000, speech=0.0)
    talk.speak(1_900)
    assert talk.windows == []  # 5 s were not spoken yet
    talk.speak(200)
    assert len(talk.windows) == 1
    window, speech_ms = talk.windows[0]
    assert is_whole(window)
    assert 2_000 <= speech_ms <= 2_200


def test_a_pause_that_was_not_sent_is_silence() -> None:
    talk = Talk()
    talk.speak(3_000)
    talk.speak(100, speech=0.0)
    talk.miss(600)
    talk.speak(3_000)
    [(window, speech_ms)] = talk.windows
    silent = np.flatnonzero(window == 0)
    assert len(silent) >= 0.6 * RATE_HZ
    assert 3_200 <= speech_ms <= 3_400


def test_who_hardly_speaks_is_not_judged() -> None:
    talk = Talk()
    for _ in range(20):
        talk.speak(500)
        talk.speak(4_000, speech=0.0)
    assert talk.windows == []
