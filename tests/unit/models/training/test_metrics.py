"""Figures against values that were worked out otherwise, and what must hold for all scores."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.calibration import Calibration
from models.training.metrics import auc, equal_error, errors, fit_calibration, reliability

SCORES = st.lists(st.integers(-50, 50).map(float), min_size=1, max_size=30)


def numbers(scores: list[float]) -> np.ndarray:
    return np.array(scores, float)


def test_errors_at_each_threshold() -> None:
    found = errors(numbers([1, 3, 3]), numbers([0, 3]))
    assert found.thresholds.tolist() == [0, 1, 3, math.inf]
    assert found.false_alarms.tolist() == pytest.approx([0, 0, 1 / 3, 1])
    assert found.misses.tolist() == pytest.approx([1, 0.5, 0.5, 0])


def test_equal_error_by_hand() -> None:
    # One of four genuine below 4, one of four synthetic at or above it: a quarter each.
    found = equal_error(numbers([2, 5, 6, 7]), numbers([1, 2.5, 3, 5.5]))
    assert found.rate == pytest.approx(0.25)
    assert 3 < found.threshold <= 5


def test_equal_error_of_two_normal_distributions_is_what_theory_says() -> None:
    rng = np.random.default_rng(1)
    found = equal_error(rng.normal(2, 1, 100_000), rng.normal(0, 1, 100_000))
    assert found.rate == pytest.approx(0.5 * math.erfc(1 / math.sqrt(2)), abs=0.004)
    assert found.threshold == pytest.approx(1, abs=0.05)


@given(SCORES)
def test_the_same_scores_on_both_sides_are_chance(scores: list[float]) -> None:
    same = numbers(scores)
    assert equal_error(same, same).rate == pytest.approx(0.5)
    assert auc(same, same) == pytest.approx(0.5)


@given(SCORES, SCORES)
def test_separate_scores_have_no_errors(one: list[float], other: list[float]) -> None:
    genuine, synthetic = numbers(one) + 101, numbers(other)
    assert equal_error(genuine, synthetic).rate == 0
    assert auc(genuine, synthetic) == 1
    assert equal_error(synthetic, genuine).rate == 1
    assert auc(synthetic, genuine) == 0


@given(SCORES, SCORES)
def test_auc_is_the_share_of_pairs_in_the_right_order(one: list[float], other: list[float]) -> None:
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in one for b in other]
    assert auc(numbers(one), numbers(other)) == pytest.approx(sum(pairs) / len(pairs))


@given(SCORES, SCORES)
def test_only_the_order_of_scores_matters(one: list[float], other: list[float]) -> None:
    genuine, synthetic = numbers(one), numbers(other)
    stretched = [np.exp(scores / 10) - 3 for scores in (genuine, synthetic)]
    assert auc(*stretched) == pytest.approx(auc(genuine, synthetic))
    assert equal_error(*stretched).rate == pytest.approx(equal_error(genuine, synthetic).rate)


@given(SCORES, SCORES)
def test_exchanging_the_kinds_and_the_sign_changes_nothing(one: list[float], other: list[float]) -> None:
    genuine, synthetic = numbers(one), numbers(other)
    assert auc(-synthetic, -genuine) == pytest.approx(auc(genuine, synthetic))


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="both kinds"):
        auc(numbers([]), numbers([1]))
    with pytest.raises(ValueError, match="not a number"):
        equal_error(numbers([math.nan]), numbers([1]))


def test_a_calibration_finds_the_curve_that_made_the_data() -> None:
    true = Calibration(slope=1.3, centre=-0.7, doubt=0.0)
    scores = np.random.default_rng(2).uniform(-6, 5, 60_000)
    # Uniform around the centre on both sides alike, so each kind is half of all.
    scores = scores[np.abs(scores + 0.7) < 5]
    synthetic = np.random.default_rng(3).random(len(scores)) < [true.likelihood(score) for score in scores]
    found = fit_calibration(scores[~synthetic], scores[synthetic], doubt=0.1)
    assert found.slope == pytest.approx(1.3, rel=0.05)
    assert found.centre == pytest.approx(-0.7, abs=0.06)
    assert found.doubt == 0.1


def test_a_calibration_is_the_optimum_that_a_general_method_finds() -> None:
    optimize = pytest.importorskip("scipy.optimize", reason="needs scipy (the extra `demo`)")
    rng = np.random.default_rng(4)
    genuine, synthetic = rng.normal(3, 2, 40), rng.normal(-1, 3, 15)

    def cross_entropy(line: np.ndarray) -> float:
        low, high = 1 / 42, 16 / 17
        ends = [(genuine, low), (synthetic, high)]
        return sum(
            float(np.mean(np.logaddexp(0, line[0] * s + line[1]) - t * (line[0] * s + line[1]))) for s, t in ends
        )

    best = optimize.minimize(cross_entropy, [0.0, 0.0], tol=1e-12).x
    found = fit_calibration(genuine, synthetic, doubt=0.05)
    assert found.slope == pytest.approx(-best[0], rel=1e-3)
    assert found.centre == pytest.approx(-best[1] / best[0], rel=1e-3)


@given(SCORES, SCORES)
def test_a_calibration_is_finite_and_falls_or_is_refused(one: list[float], other: list[float]) -> None:
    try:
        found = fit_calibration(numbers(one), numbers(other), doubt=0.05)
    except ValueError:
        assert np.mean(one) <= np.mean(other) + 1e-6
        return
    assert found.slope > 0
    assert found.likelihood(min(one + other)) >= found.likelihood(max(one + other))


def test_scores_the_wrong_way_round_cannot_be_calibrated() -> None:
    with pytest.raises(ValueError, match="does not score higher"):
        fit_calibration(numbers([-2, -1]), numbers([1, 2]), doubt=0.05)
    with pytest.raises(ValueError, match="the same"):
        fit_calibration(numbers([1, 1]), numbers([1]), doubt=0.05)


def test_reliability_by_hand() -> None:
    found = reliability([0.05, 0.15, 0.15, 0.85], [0.85, 0.95])
    assert [(one.low, one.share) for one in found.bins] == [
        (0.0, 0.125),
        (0.1, 0.25),
        (0.8, 0.375),
        (0.9, 0.25),
    ]
    assert found.bins[2].synthetic == pytest.approx(0.25 / 0.375)
    by_hand = 0.125 * 0.05 + 0.25 * 0.15 + 0.375 * abs(0.85 - 2 / 3) + 0.25 * 0.05
    assert found.ece == pytest.approx(by_hand)
    squares = (0.05**2 + 2 * 0.15**2 + 0.85**2) / 8 + (0.15**2 + 0.05**2) / 4
    assert found.brier == pytest.approx(squares)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_reliability_stays_within_its_bounds(one: list[float], other: list[float]) -> None:
    found = reliability(one, other)
    assert sum(each.share for each in found.bins) == pytest.approx(1)
    assert 0 <= found.ece <= 1
    assert 0 <= found.brier <= 1


def test_always_saying_half_has_a_brier_score_of_a_quarter() -> None:
    found = reliability([0.5] * 7, [0.5] * 3)
    assert found.brier == pytest.approx(0.25)
    assert found.ece == pytest.approx(0)
