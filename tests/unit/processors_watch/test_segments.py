"""Where speech begins, ends and is cut."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media_processors.audio.segments import (
    END_SILENCE_MS,
    MAX_SEGMENT_MS,
    PRE_ROLL_MS,
    RATE_HZ,
    STEP_MS,
    Segmenter,
    Window,
)
from media_processors.frames import AudioFrame

FRAME_MS = 20


class Speaker:
    """Makes frames, one after the other."""

    def __init__(self) -> None:
        self.segmenter = Segmenter()
        self.at_ms = 0
        self.windows: list[Window] = []

    def frame(self, speech: float, level: float = 0.1) -> None:
        samples = np.full(RATE_HZ * FRAME_MS // 1000, level, np.float32)
        frame = AudioFrame(samples, RATE_HZ, self.at_ms, self.at_ms * 1_000_000, speech, concealed=False)
        self.at_ms += FRAME_MS
        self.windows += self.segmenter.push(frame)

    def speak(self, duration_ms: int, level: float = 0.1) -> None:
        for _ in range(duration_ms // FRAME_MS):
            self.frame(0.95, level)

    def rest(self, duration_ms: int) -> None:
        for _ in range(duration_ms // FRAME_MS):
            self.frame(0.02, 0.0)

    def pause(self, duration_ms: int) -> None:
        """Send nothing."""
        self.at_ms += duration_ms

    def finals(self) -> list[Window]:
        return [window for window in self.windows if window.final]


def test_no_speech_no_window() -> None:
    speaker = Speaker()
    speaker.rest(5_000)
    assert speaker.windows == []
    assert speaker.segmenter.flush() == []


def test_a_segment_begins_before_the_gate_and_ends_after_silence() -> None:
    speaker = Speaker()
    speaker.rest(1_000)
    speaker.speak(2_000)
    speaker.rest(1_000)
    (final,) = speaker.finals()
    assert 1_000 - PRE_ROLL_MS <= final.start_ms < 1_000
    assert final.end_ms == 3_000
    assert final.end_arrival_ns == 2_980_000_000
    heard_ms = len(final.pcm) * 1000 // RATE_HZ
    assert abs(final.start_ms + heard_ms - (3_000 + END_SILENCE_MS)) <= 2 * FRAME_MS


def test_windows_grow_by_a_step_and_each_begins_like_the_one_before() -> None:
    speaker = Speaker()
    speaker.speak(4_000)
    steps = [len(window.pcm) for window in speaker.windows]
    assert len(steps) >= 4
    for before, after in pairwise(speaker.windows):
        assert len(after.pcm) - len(before.pcm) == STEP_MS * RATE_HZ // 1000
        assert np.array_equal(after.pcm[: len(before.pcm)], before.pcm)


def test_a_sender_that_pauses_ends_the_segment_when_it_comes_back() -> None:
    speaker = Speaker()
    speaker.speak(1_000)
    speaker.pause(400)
    speaker.speak(300)
    assert speaker.finals() == []
    speaker.pause(2_000)
    speaker.frame(0.0)
    assert [window.end_ms for window in speaker.finals()] == [1_700]


@pytest.mark.parametrize(("quiet_ms", "gap_ms"), [(1_000, 200), (1_000, 400), (0, 60_000)])
def test_a_gap_before_speech_is_silence_that_belongs_to_it(quiet_ms: int, gap_ms: int) -> None:
    speaker = Speaker()
    speaker.rest(quiet_ms)
    speaker.pause(gap_ms)
    speaker.speak(1_000)
    (final,) = speaker.segmenter.flush()
    begun_ms = quiet_ms + gap_ms
    assert begun_ms - PRE_ROLL_MS < final.start_ms < begun_ms
    assert len(final.pcm) == (speaker.at_ms - final.start_ms) * RATE_HZ // 1000
    assert not final.pcm[: (begun_ms - final.start_ms) * RATE_HZ // 1000].any()
    assert final.pcm[(begun_ms - final.start_ms) * RATE_HZ // 1000 :].all()


def test_flush_ends_what_is_open() -> None:
    speaker = Speaker()
    speaker.speak(1_000)
    (final,) = speaker.segmenter.flush()
    assert final.final
    assert final.end_ms == 1_000
    assert speaker.segmenter.flush() == []


def test_a_long_segment_is_cut_at_its_quietest_place_and_loses_nothing() -> None:
    speaker = Speaker()
    speaker.speak(MAX_SEGMENT_MS - 2_000)
    speaker.speak(200, level=0.001)
    speaker.speak(3_000)
    speaker.rest(1_000)
    first, second = speaker.finals()
    assert second.segment == first.segment + 1
    assert second.start_ms == first.end_ms
    assert abs(first.end_ms - (MAX_SEGMENT_MS - 2_000 + 100)) <= FRAME_MS
    spoken_ms = (len(first.pcm) + len(second.pcm)) * 1000 // RATE_HZ
    assert abs(spoken_ms - (MAX_SEGMENT_MS + 1_200 + END_SILENCE_MS)) <= 2 * FRAME_MS


@given(st.lists(st.tuples(st.sampled_from(["speak", "rest", "pause"]), st.integers(1, 40)), max_size=20))
def test_segments_never_overlap_and_each_has_one_end(script: list[tuple[str, int]]) -> None:
    speaker = Speaker()
    for action, frames in script:
        getattr(speaker, action)(frames * FRAME_MS)
    speaker.windows += speaker.segmenter.flush()
    finals = speaker.finals()
    assert [window.segment for window in finals] == sorted({window.segment for window in speaker.windows})
    for before, after in pairwise(finals):
        assert before.end_ms <= after.start_ms + PRE_ROLL_MS
    for window in speaker.windows:
        assert window.start_ms <= window.end_ms
        assert 0 < len(window.pcm) <= MAX_SEGMENT_MS * RATE_HZ // 1000
