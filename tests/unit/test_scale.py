"""The arithmetic of sizing, and that deploy/SIZING.md says what it says."""

import dataclasses

import pytest

from benchmarks import scale
from benchmarks.scale import Costs, Habits, Machine, load


def test_the_page_says_what_the_arithmetic_says() -> None:
    text = scale.SIZING.read_text()
    assert scale.tables(Costs(), Habits(), Machine()) in text


def test_two_people_by_hand() -> None:
    habits = dataclasses.replace(Habits(), rooms=((2, 1.0),), cameras=1.0, speakers=1.0, watched=1.0)
    pair = load(2, Costs(), habits)
    assert pair.rooms == 1
    assert pair.out_bps == pytest.approx(45_000 + 2 * 1_200_000)
    assert pair.in_bps == pytest.approx(45_000 + 2 * 1_750_000)
    assert pair.packets_per_s == pytest.approx(52.5 + 2 * 1_200_000 / 8_800)
    assert pair.path_cores == pytest.approx(52.5 * 0.0012)
    assert pair.seeing_cores == pytest.approx(2 * 30 * 0.00061)
    assert pair.engine_observer_cores == pytest.approx(0.24 + 2 * 2 * 0.122)


def test_ten_times_the_people_cost_ten_times_as_much() -> None:
    few, many = load(1_000, Costs(), Habits()), load(10_000, Costs(), Habits())
    assert many.cores == pytest.approx(10 * few.cores)
    assert many.out_bps == pytest.approx(10 * few.out_bps)


def test_the_scarcer_of_cores_and_network_decides() -> None:
    people = load(10_000, Costs(), Habits())
    assert people.nodes(Machine(network_bps=1e8)) > people.nodes(Machine()) > people.nodes(Machine(cores=64))


def test_shares_that_are_not_the_whole_are_refused() -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        load(10, Costs(), dataclasses.replace(Habits(), rooms=((2, 0.5), (4, 0.4))))
