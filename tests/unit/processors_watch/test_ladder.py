"""What stops first when the machine cannot keep up, in virtual time."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from media_processors.findings import ProcessorInfo
from media_processors.ladder import PATIENCE_S, RUNGS, SHED_AFTER_S, Ladder, rung_of

TICK_S = 0.2


def info(name: str, media: str = "audio", about: str = "content") -> ProcessorInfo:
    fields = {"name": name, "kind": "observer", "media": media, "available": True, "about": about}
    return ProcessorInfo.model_validate(fields)


OBSERVERS = [
    info("captions"),
    info("prosody"),
    info("voice_emotion", about="emotion"),
    info("voice_authenticity", about="biometric"),
    info("face_authenticity", "video", "biometric"),
    info("expression", "video", "emotion"),
]


class Rig:
    """A ladder and its clock."""

    def __init__(self) -> None:
        self.ladder = Ladder()
        self.now_s = 100.0

    def runs(self, seconds: float, lag_ms: float, missed: int = 0) -> list[int]:
        """The levels meanwhile."""
        levels = []
        for _ in range(round(seconds / TICK_S)):
            self.now_s += TICK_S
            self.ladder.measure(lag_ms, missed, self.now_s)
            levels.append(self.ladder.level)
        return levels

    def until_back(self) -> float:
        """Seconds of calm until everything is on again."""
        began_s = self.now_s
        while self.ladder.level and self.now_s < began_s + 300:
            self.runs(TICK_S, lag_ms=10)
        return self.now_s - began_s


def test_everybody_has_a_place() -> None:
    assert [rung_of(one) for one in OBSERVERS] == ["captions", "emotion", "emotion", "authenticity", "face", "face"]


def test_rungs_go_in_order_and_come_back_in_the_opposite_one() -> None:
    rig = Rig()
    down = rig.runs(SHED_AFTER_S * (len(RUNGS) + 2), lag_ms=2_000)
    assert sorted(set(down)) == [0, 1, 2, 3, 4]
    assert down == sorted(down)
    assert all(rig.ladder.sheds_now(one) for one in OBSERVERS)
    up = rig.runs(PATIENCE_S * (len(RUNGS) + 1), lag_ms=50)
    assert up == sorted(up, reverse=True)
    assert up[-1] == 0
    assert not any(rig.ladder.sheds_now(one) for one in OBSERVERS)


def test_the_first_to_go_are_faces_and_captions_stay_to_the_last() -> None:
    rig = Rig()
    rig.runs(SHED_AFTER_S + 2 * TICK_S, lag_ms=2_000)
    gone = [one.name for one in OBSERVERS if rig.ladder.sheds_now(one)]
    assert gone == ["face_authenticity", "expression"]
    rig.runs(2 * SHED_AFTER_S + 4 * TICK_S, lag_ms=2_000)
    assert [one.name for one in OBSERVERS if not rig.ladder.sheds_now(one)] == ["captions"]


def test_a_moment_of_trouble_costs_nothing() -> None:
    rig = Rig()
    for _ in range(20):
        rig.runs(SHED_AFTER_S - 2 * TICK_S, lag_ms=5_000)
        rig.runs(1.0, lag_ms=500)
    assert rig.ladder.sheds == 0


def test_answers_that_do_not_come_count_as_trouble_too() -> None:
    rig = Rig()
    rig.runs(30, lag_ms=10, missed=0)
    assert rig.ladder.level == 0
    assert max(rig.runs(10, lag_ms=10, missed=1)) > 0


def test_who_relapses_waits_longer_each_time() -> None:
    rig, waits = Rig(), []
    for _ in range(4):
        rig.runs(SHED_AFTER_S + 2 * TICK_S, lag_ms=2_000)
        assert rig.ladder.level == 1
        waits.append(rig.until_back())
    assert all(after > 1.5 * before for before, after in pairwise(waits))


def test_one_deep_descent_after_a_return_doubles_the_patience_once() -> None:
    rig = Rig()
    rig.runs(SHED_AFTER_S + 2 * TICK_S, lag_ms=2_000)
    rig.until_back()
    rig.runs(SHED_AFTER_S * (len(RUNGS) + 1), lag_ms=2_000)
    assert rig.ladder.level == len(RUNGS)
    assert rig.until_back() < len(RUNGS) * 2 * PATIENCE_S + 1


def test_a_hiccup_now_and_then_does_not_keep_a_rung_away() -> None:
    rig = Rig()
    rig.runs(SHED_AFTER_S + 2 * TICK_S, lag_ms=2_000)
    for _ in range(6):
        rig.runs(6.0, lag_ms=10)
        rig.runs(TICK_S, lag_ms=500)
    assert rig.ladder.level == 0


@given(st.lists(st.tuples(st.floats(0, 10_000), st.integers(0, 5), st.floats(0, 30)), max_size=200))
def test_the_level_moves_by_one_and_stays_in_bounds(steps: list[tuple[float, int, float]]) -> None:
    ladder, now_s = Ladder(), 0.0
    for lag_ms, missed, later_s in steps:
        before = ladder.level
        now_s += later_s
        changed = ladder.measure(lag_ms, missed, now_s)
        assert 0 <= ladder.level <= len(RUNGS)
        assert abs(ladder.level - before) == int(changed)
