"""Whether a transform keeps up."""

from media_processors.video.pace import Pace

S = 1_000_000_000


def filmed(pace: Pace, seconds: float, in_per_s: int, out_per_s: int, behind_ms: float = 20) -> int:
    """Pictures from second 1 on; the end."""
    for number in range(int(seconds * in_per_s)):
        pace.came(S + number * S // in_per_s)
    for number in range(int(seconds * out_per_s)):
        pace.went(S + number * S // out_per_s, behind_ms)
    return S + int(seconds * S)


def test_what_keeps_up_is_left_alone() -> None:
    pace = Pace()
    assert pace.too_slow(filmed(pace, 5, 30, 30)) == ""
    assert pace.rates(6 * S) == (30.0, 30.0)


def test_few_pictures_of_many_are_too_slow_but_not_before_three_seconds_are_over() -> None:
    pace = Pace()
    now_ns = filmed(pace, 4, 30, 5)
    assert pace.too_slow(3 * S) == ""
    assert pace.too_slow(now_ns) == "5.0 pictures/s of 30.0"


def test_what_is_a_quarter_of_a_second_behind_is_too_slow() -> None:
    pace = Pace()
    assert pace.too_slow(filmed(pace, 4, 30, 30, behind_ms=400)) == "400 ms behind"


def test_a_camera_that_sends_little_or_pauses_is_not_held_against_it() -> None:
    pace = Pace()
    now_ns = filmed(pace, 4, 5, 5)
    assert pace.too_slow(now_ns) == ""
    assert pace.too_slow(now_ns + 10 * S) == ""


def test_a_new_attempt_begins_with_nothing() -> None:
    pace = Pace()
    now_ns = filmed(pace, 4, 30, 1)
    pace.reset()
    assert pace.too_slow(now_ns) == ""
    pace.came(now_ns)
    assert pace.too_slow(now_ns + 2 * S) == ""
