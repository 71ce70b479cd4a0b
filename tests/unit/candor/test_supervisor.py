"""When a child that died may start again, and which children there are."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candor.settings import load
from candor.supervisor import EARN_RESTART_S, QUICK_RESTARTS, Restarts, Supervisor, video_transforms


def starts(lives_s: list[float]) -> list[float]:
    """When a child is started that dies after each of these times."""
    restarts, now_s, started_s = Restarts(), 1000.0, []
    for life_s in lives_s:
        started_s.append(now_s)
        now_s += life_s
        now_s += restarts.delay_s(now_s)
    return started_s


def delays(lives_s: list[float]) -> list[float]:
    """How long it was away each time but the last."""
    times = starts(lives_s)
    return [after - before - life for before, after, life in zip(times, times[1:], lives_s, strict=False)]


def test_fifty_kills_in_a_row_are_never_slowed_down() -> None:
    assert max(delays([4.0] * 50)) < 0.001


def test_a_child_that_cannot_start_is_slowed_down() -> None:
    away = delays([0.3] * 40)
    assert max(away[: QUICK_RESTARTS - 1]) < 0.001
    assert min(away[QUICK_RESTARTS + 2 :]) > EARN_RESTART_S - 0.301


def test_it_is_quick_again_after_a_while() -> None:
    slow, quick = delays([0.3] * 40 + [2 * EARN_RESTART_S, 0.3])[-2:]
    assert slow > EARN_RESTART_S / 2
    assert quick < 0.001


@given(st.lists(st.floats(0, 60), min_size=1, max_size=100))
def test_however_it_dies_the_starts_are_bounded_and_none_waits_long(lives_s: list[float]) -> None:
    times = starts(lives_s)
    for first, begin_s in enumerate(times):
        for last in range(first + 1, len(times)):
            assert last - first <= QUICK_RESTARTS + 1 + (times[last] - begin_s) / EARN_RESTART_S
    assert all(away <= EARN_RESTART_S + 0.001 for away in delays(lives_s))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, set()),
        ({"processing": {"video_transforms": ["video_enhancement"]}}, {"video_enhancement"}),
        ({"signaling": {"policy": {"watermark": "on_alert"}}}, {"watermark"}),
        ({"signaling": {"policy": {"rooms": {"court": {"watermark": "on_alert"}}}}}, {"watermark"}),
    ],
)
def test_there_is_a_video_host_where_a_setting_asks_for_it(arguments: dict[str, Any], expected: set[str]) -> None:
    settings = load(arguments=arguments)
    assert video_transforms(settings) == expected
    assert ("video" in Supervisor(settings, Path("unused")).children) is bool(expected)
