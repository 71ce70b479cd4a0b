"""What may be said of scores: not before there is enough, not back and forth, and never of what may not be judged."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media_processors.evidence import ALERT, CLEAR, Assessment, Evidence
from models.calibration import Calibration
from models.voice_quality import HISTORY_FRAMES, RATE_HZ, Quality, QualityMeter

CALIBRATION = Calibration(slope=1.0, centre=0.0, doubt=0.0)


def evidence() -> Evidence:
    return Evidence(CALIBRATION, enough_ms=10_000, kept=4)


def feed(*scores: float, media_ms: int = 5_000) -> list[Assessment]:
    collected = evidence()
    return [collected.add(score, media_ms) for score in scores]


def test_nothing_is_said_before_there_is_enough() -> None:
    first, second, third = feed(-9, -9, -9, media_ms=4_000)
    assert (first.verdict, first.reason, first.likelihood, first.score) == (
        "insufficient_evidence",
        "duration",
        None,
        -9,
    )
    assert (second.verdict, second.evidence_ms) == ("insufficient_evidence", 8_000)
    assert third.likelihood == pytest.approx(1, abs=1e-3)


def test_one_alarming_window_is_not_an_alarm() -> None:
    _, first, second = feed(-9, -9, -9)
    assert first.verdict == "inconclusive"
    assert second.verdict == "likely_synthetic"


def test_what_was_not_judged_is_no_second_alarm() -> None:
    collected = evidence()
    for score in (-9.0, -9.0):
        alarmed = collected.add(score, 5_000)
    assert alarmed.verdict == "inconclusive"
    assert collected.refuse("noisy").verdict == "inconclusive"
    assert collected.add(-9, 5_000).verdict == "likely_synthetic"


def test_windows_that_are_no_longer_kept_do_not_count() -> None:
    collected = evidence()
    for _ in range(2):
        collected.add(-9, 5_000)
    for _ in range(2):
        collected.refuse("noisy")
    for _ in range(2):
        last = collected.add(9, 5_000)
    assert (last.score, last.windows) == (9, 2)


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="not a number"):
        evidence().add(float("nan"), 5_000)


def test_a_genuine_voice_is_called_so() -> None:
    assert feed(5, 5, 5)[-1].verdict == "likely_genuine"


def test_a_verdict_does_not_flicker_between_alert_and_clear() -> None:
    between = -0.9  # a likelihood of .71
    assert CLEAR < CALIBRATION.likelihood(between) < ALERT
    collected = evidence()
    for score in (-3, -3, -3):
        assert collected.add(score, 5_000).verdict in ("insufficient_evidence", "inconclusive", "likely_synthetic")
    for _ in range(4):
        last = collected.add(between, 5_000)
    assert last.likelihood == pytest.approx(0.711, abs=0.01)
    assert last.verdict == "likely_synthetic"
    assert feed(*[between] * 4)[-1].verdict == "inconclusive"
    for _ in range(4):
        last = collected.add(2.0, 5_000)
    assert last.verdict == "likely_genuine"


def test_windows_that_may_not_be_judged_say_why_and_push_old_ones_out() -> None:
    collected = evidence()
    assert collected.refuse("noisy").reason == "noisy"
    assert [collected.add(5, 5_000).verdict for _ in range(3)][-1] == "likely_genuine"
    for _ in range(3):
        last = collected.refuse("narrowband")
    assert (last.verdict, last.reason, last.windows) == ("insufficient_evidence", "narrowband", 1)
    assert collected.refuse("narrowband").score is None


@given(st.lists(st.one_of(st.floats(-50, 50), st.sampled_from(["noisy", "narrowband"])), max_size=40))
def test_whatever_comes_a_likelihood_is_one_and_insufficient_has_none(events: list[float | str]) -> None:
    collected = evidence()
    for event in events:
        said = collected.refuse(event) if isinstance(event, str) else collected.add(event, 5_000)
        assert (said.likelihood is None) == (said.verdict == "insufficient_evidence") == bool(said.reason)
        assert said.likelihood is None or 0 <= said.likelihood <= 1
        assert said.windows <= 4


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_calibration_never_overflows(score: float) -> None:
    assert 0.049 < Calibration(0.7, -1.5, 0.05).likelihood(score) < 0.951


def speech(seconds: float, highest_hz: float) -> np.ndarray:
    """Bursts of noise below `highest_hz`, half a second each, with as much near-silence between."""
    count = int(seconds * RATE_HZ)
    spectrum = np.fft.rfft(np.random.default_rng(1).normal(0, 1, count))
    hz = np.fft.rfftfreq(count, 1 / RATE_HZ)
    noise = np.fft.irfft(np.where(hz < highest_hz, spectrum, 0), count)
    on = np.arange(count) % RATE_HZ < RATE_HZ // 2
    return (0.1 * noise * np.where(on, 1, 1e-3)).astype(np.float32)


def measured(sound: np.ndarray) -> Quality | None:
    meter = QualityMeter()
    for at in range(0, len(sound) - 319, 320):
        meter.push(sound[at : at + 320], 0.9 if at % RATE_HZ < RATE_HZ // 2 else 0.1)
    return meter.quality()


def test_a_wide_clean_voice_may_be_judged_a_narrow_or_noisy_one_not() -> None:
    noise = np.random.default_rng(2).normal(0, 0.02, RATE_HZ * 6).astype(np.float32)
    wide, narrow, noisy = measured(speech(6, 7_500)), measured(speech(6, 3_900)), measured(speech(6, 7_500) + noise)
    assert wide is not None and narrow is not None and noisy is not None
    assert wide.refusal == ""
    assert narrow.refusal == "narrowband"
    assert noisy.refusal == "noisy"


def test_silence_has_no_quality_and_the_memory_is_bounded() -> None:
    meter = QualityMeter()
    assert meter.quality() is None
    for _ in range(120):
        meter.push(np.zeros(RATE_HZ, np.float32), 0.0)
    assert meter.quality() is None
    assert len(meter._levels_db) == HISTORY_FRAMES
