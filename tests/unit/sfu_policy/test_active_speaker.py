"""Active speakers over synthetic level traces of 20 ms packets."""

import itertools
import math
import random
from collections.abc import Callable, Iterator

from sfu.active_speaker import ActiveSpeakers

MS = 1_000_000
Trace = Callable[[int], int | None]
"""Time in ms to a level in -dBov; None: no packet."""


def steady(level: int) -> Trace:
    """A fan."""
    dice = random.Random(level)
    return lambda at: level + dice.randint(-1, 1)


def speech(level: int, pause: int = 70) -> Trace:
    """Syllables of 200 ms at 4 a second, a breath of 300 ms every 2 s."""

    def trace(at: int) -> int:
        if at % 2000 >= 1700 or at % 250 >= 200:
            return pause
        return round(level + 6 * (1 - math.sin(math.pi * (at % 250) / 200)))

    return trace


def during(trace: Trace, start: int, end: int, otherwise: Trace) -> Trace:
    return lambda at: trace(at) if start <= at < end else otherwise(at)


def dtx(at: int) -> int | None:
    """Silence as Opus sends it: a packet every 400 ms."""
    return 127 if at % 400 == 0 else None


def play(
    traces: dict[str, Trace], duration_ms: int, room: ActiveSpeakers | None = None
) -> Iterator[tuple[int, list[str]]]:
    """(ms, track ids) whenever a tick, every 100 ms, tells of a change."""
    room = room or ActiveSpeakers()
    for at in range(0, duration_ms, 20):
        for track_id, trace in traces.items():
            level = trace(at)
            if level is not None:
                room.heard(track_id, level, at * MS)
        if at % 100 == 0:
            changed = room.tick(at * MS)
            if changed is not None:
                assert all(-127 <= level <= 0 for _, level in changed)
                yield at, [track_id for track_id, _ in changed]


def test_speech_over_room_noise_is_found_and_ends() -> None:
    events = list(play({"a": during(speech(25, pause=60), 2000, 6000, steady(60))}, 9000))
    assert [who for _, who in events] == [["a"], []]
    begin, end = (at for at, _ in events)
    assert 2100 <= begin <= 2300
    assert 6200 <= end <= 6500, "the last breath began at 5700, and 500 ms later nobody speaks"


def test_speech_from_the_first_packet_is_found_within_a_second() -> None:
    events = list(play({"a": speech(25)}, 5000))
    assert [who for _, who in events] == [["a"]]
    assert events[0][0] <= 1000


def test_speech_after_dtx_is_found_at_once() -> None:
    events = list(play({"a": during(speech(30), 3200, 5000, dtx)}, 7000))
    assert [who for _, who in events] == [["a"], []]
    assert events[0][0] <= 3500


def test_a_fan_is_no_speaker_however_loud() -> None:
    for level in (50, 40, 25):
        assert list(play({"fan": steady(level)}, 20_000)) == []


def test_a_fan_that_is_switched_on_is_believed_for_some_seconds_only() -> None:
    events = list(play({"fan": during(steady(40), 2000, 30_000, steady(80))}, 30_000))
    assert [who for _, who in events] == [["fan"], []]
    assert events[1][0] - events[0][0] < 4500


def test_a_fan_under_dtx_is_no_speaker() -> None:
    assert list(play({"fan": lambda at: 35 if at % 400 == 0 else None}, 20_000)) == []


def test_speech_over_a_loud_fan() -> None:
    events = list(play({"a": during(speech(22, pause=40), 3000, 7000, steady(40))}, 10_000))
    assert [who for _, who in events] == [["a"], []]


def test_quiet_speech_and_a_click_do_not_count() -> None:
    assert list(play({"quiet": speech(50, pause=80)}, 5000)) == []
    assert list(play({"click": lambda at: 10 if at % 1000 < 40 else 80}, 5000)) == []


def test_a_publisher_that_stops_sending_falls_silent() -> None:
    events = list(play({"a": during(speech(25), 0, 4000, lambda at: None)}, 6000))
    assert [who for _, who in events] == [["a"], []]
    assert events[1][0] <= 4500


def test_the_first_stays_dominant_against_somebody_equally_loud() -> None:
    traces = {"a": speech(25), "b": during(speech(23), 3000, 8000, steady(75))}
    assert [who for _, who in play(traces, 10_000)] == [["a"], ["a", "b"], ["a"]]


def test_somebody_clearly_louder_takes_over_after_a_while() -> None:
    traces = {"a": during(speech(40), 0, 12_000, steady(75)), "b": during(speech(15), 3000, 12_000, steady(75))}
    events = list(play(traces, 11_000))
    assert [who for _, who in events] == [["a"], ["a", "b"], ["b", "a"]]
    joined, took_over = (at for at, _ in events[1:])
    assert took_over - joined >= 1000


def test_the_next_is_dominant_when_the_first_falls_silent() -> None:
    traces = {"a": during(speech(20), 0, 5000, steady(75)), "b": speech(30)}
    assert [who for _, who in play(traces, 7000)][-1] == ["b"]


def test_two_who_take_turns() -> None:
    """a speaks in the even 3 s, b in the odd ones."""
    traces = {
        "a": lambda at: speech(25)(at) if at // 3000 % 2 == 0 else 75,
        "b": lambda at: speech(28)(at) if at // 3000 % 2 == 1 else 75,
    }
    firsts = [who[0] for _, who in play(traces, 18_000) if who]
    assert [name for name, _ in itertools.groupby(firsts)] == ["a", "b"] * 3


def test_a_removed_track_is_gone_at_the_next_tick() -> None:
    room = ActiveSpeakers()
    assert [who for _, who in play({"a": speech(25)}, 3000, room)] == [["a"]]
    room.remove("a")
    room.remove("a")
    assert room.tick(3000 * MS) == []
    assert room.tick(3100 * MS) is None
