"""What listeners hear of single misses and of the path host's death: the benchmark, small, in virtual time."""

import asyncio
from pathlib import Path

import pytest

from benchmarks.bypass import (
    RESTART_NS,
    Clock,
    Event,
    Listener,
    Studio,
    TrackSummary,
    beyond_limits,
    load_voices,
    measure,
    report,
)
from media_processors.codec import OpusEncoder
from tests.unit.processors.sounds import pieces, voice

MISSES, DEATHS = 12, 3


@pytest.fixture(scope="module")
def measured() -> tuple[list[Event], list[TrackSummary]]:
    """On the demo's noisiest speech, where the two sounds differ most."""
    studio = Studio()
    noisy = asyncio.run(load_voices(studio, Path("no recordings")))[-1]
    return measure(studio, [noisy], MISSES, DEATHS)


def test_nothing_is_louder_longer_or_later_than_it_may_be(measured: tuple[list[Event], list[TrackSummary]]) -> None:
    events, _ = measured
    assert len(events) == MISSES + DEATHS
    assert beyond_limits(events) == []
    assert "0 of 15 events beyond the limits" in report(events)


def test_what_was_forced_did_happen_and_nothing_else(measured: tuple[list[Event], list[TrackSummary]]) -> None:
    events, tracks = measured
    misses = [event for event in events if event.kind != "death"]
    deaths = [event for event in events if event.kind == "death"]
    assert {event.gap_ms for event in misses} == {40.0}
    assert {event.gap_ms for event in deaths} == {20.0}
    assert min(event.back_s for event in deaths) > RESTART_NS / 1e9
    assert sum(track.dropped for track in tracks) == MISSES
    assert sum(track.switches for track in tracks) == DEATHS
    assert all(track.packets == track.processed + track.bypassed + track.dropped for track in tracks)
    assert sum(track.dry for track in tracks) < sum(track.processed for track in tracks) / 4


def test_a_peak_a_gap_or_a_late_return_is_found() -> None:
    fine = Event("death", "v", 0, 1.0, 5.9, 60.0, 60.0, 4.9, 5.9, 5.9)
    bad = [
        Event("death", "v", 0, 1.0, 6.1, 60.0, 60.0, 4.9, 5.9, 6.1),
        Event("death", "v", 0, 1.0, 5.9, 60.0, 60.0, 4.9, 6.1, 5.9),
        Event("late", "v", 0, 1.0, 5.9, 80.0, 80.0, 4.9, None, 5.9),
        Event("late", "v", 0, 1.0, 5.9, 60.0, 60.0, 5.0, None, 5.9),
    ]
    assert beyond_limits([fine, *bad]) == bad


def test_the_clock_keeps_the_order_of_times_then_of_asking() -> None:
    clock, done = Clock(), []
    clock.at(2, lambda: done.append("c"))
    clock.at(1, lambda: done.append("a"))
    clock.at(1, lambda: done.append("b"))
    clock.at(3, lambda: done.append("later"))
    clock.run_until(2)
    assert done == ["a", "b", "c"]
    assert clock.now_ns == 2


@pytest.mark.parametrize("conceals", [True, False])
def test_a_listener_has_sound_for_every_packet(conceals: bool) -> None:
    encoder = OpusEncoder()
    payloads = [encoder.encode(piece) for piece in pieces(voice(140, 0.2))]
    listener = Listener(conceals)
    for packet in (0, 1, 2, 4, 7):
        listener.hear(packet, payloads[packet])
    assert len(listener.sound) == 8
    assert bool(listener.sound[3].any()) is conceals
