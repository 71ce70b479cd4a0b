"""Whether a transform keeps up."""

from media_processors.video.pace import Pace

S = 1_000_000_000


def judged(pace: Pace, seconds: float, in_per_s: int, out_per_s: int, behind_ms: float = 20, since_ns: int = S) -> str:
    """What is said of so many pictures, asked four times a second; the last answer."""
    answer = ""
    for step in range(int(seconds * 60)):
        now_ns = since_ns + step * S // 60
        if step % (60 // in_per_s) == 0:
            pace.came(now_ns)
        if step % (60 // out_per_s) == 0:
            pace.went(now_ns, behind_ms)
        if step % 15 == 14:
            answer = pace.too_slow(now_ns)
    return answer


def test_what_keeps_up_is_left_alone() -> None:
    pace = Pace()
    assert judged(pace, 8, 30, 30) == ""
    assert pace.rates(9 * S) == (30.0, 30.0)


def test_few_pictures_of_many_are_too_slow_when_that_lasts() -> None:
    assert judged(Pace(), 4.8, 30, 5) == ""
    assert judged(Pace(), 6, 30, 5) == "5.0 pictures/s of 30.0"


def test_a_bad_moment_is_forgotten() -> None:
    pace = Pace()
    assert judged(pace, 4, 30, 5) == ""
    assert judged(pace, 4, 30, 30, since_ns=5 * S) == ""
    assert judged(pace, 4, 30, 5, since_ns=9 * S) == ""


def test_what_is_a_quarter_of_a_second_behind_is_too_slow() -> None:
    assert judged(Pace(), 6, 30, 30, behind_ms=400) == "400 ms behind"


def test_a_camera_that_sends_little_is_not_held_against_it() -> None:
    assert judged(Pace(), 8, 6, 4) == ""


def test_after_a_pause_of_the_camera_judging_begins_anew() -> None:
    """Its first picture is not one of few that came out of a window in which none could."""
    pace = Pace()
    assert judged(pace, 8, 30, 30) == ""
    for paused_s in (10, 12, 15):
        assert pace.too_slow(paused_s * S) == ""
    assert judged(pace, 4.5, 30, 5, since_ns=16 * S) == ""
    assert judged(pace, 1.5, 30, 5, since_ns=16 * S + 9 * S // 2).endswith("pictures/s of 30.0")


def test_of_less_than_a_picture_a_second_rates_say_nothing() -> None:
    pace = Pace()
    for shot_ns in range(S, 60 * S, 3 * S // 2):
        pace.came(shot_ns)
        assert {pace.too_slow(shot_ns + step * S // 4) for step in range(6)} == {""}


def test_a_new_attempt_begins_with_nothing() -> None:
    pace = Pace()
    assert judged(pace, 6, 30, 1)
    pace.reset()
    assert pace.too_slow(7 * S) == ""
    assert judged(pace, 4.5, 30, 1, since_ns=7 * S) == ""
