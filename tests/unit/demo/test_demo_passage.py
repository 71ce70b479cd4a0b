"""The passage is played again when the computer disturbed it, and the report says so."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from candor import machine
from candor.demo import PLAYS_MAX, Demo, HeardPassage
from candor.machine import CpuMeter, CpuShares
from candor.speech import load_script

QUIET = HeardPassage(np.zeros(10, np.float32), ["on"], 0, "")
STALLED = HeardPassage(np.zeros(10, np.float32), ["on"], 400, "its bot stalled for 400 ms (load unknown)")
BYPASSED = HeardPassage(np.zeros(10, np.float32), ["on", "bypass"], 0, "it was bypassed on a busy computer")

MakeDemo = Callable[[list[HeardPassage]], Demo]


@pytest.fixture
async def make_demo(monkeypatch: pytest.MonkeyPatch) -> MakeDemo:
    """A demo whose passage is heard as given, one time after the other."""
    script = await load_script()

    def make(plays: list[HeardPassage]) -> Demo:
        async def play(self: Demo, denoise_on: bool) -> HeardPassage:
            return plays.pop(0)

        async def switch(self: Demo, on: bool) -> None:
            return

        monkeypatch.setattr(Demo, "_play_passage", play)
        monkeypatch.setattr(Demo, "_switch_denoise", switch)
        return Demo("http://127.0.0.1:1", "demo", script, lambda text: None)

    return make


async def test_an_undisturbed_passage_is_played_once(make_demo: MakeDemo) -> None:
    plays = [QUIET, QUIET]
    demo = make_demo(plays)
    assert await demo.passage(True) == (QUIET, [])
    assert len(plays) == 1


async def test_a_disturbed_one_is_played_again_and_the_reasons_are_kept(make_demo: MakeDemo) -> None:
    demo = make_demo([STALLED, BYPASSED, QUIET])
    assert await demo.passage(True) == (QUIET, [STALLED.disturbance, BYPASSED.disturbance])
    assert demo.recording.problems == []


async def test_a_computer_that_is_never_quiet_fails_the_demo(make_demo: MakeDemo) -> None:
    plays = [STALLED] * PLAYS_MAX
    demo = make_demo(plays)
    heard, disturbances = await demo.passage(False)
    assert (heard, len(disturbances), plays) == (STALLED, PLAYS_MAX - 1, [])
    (problem,) = demo.recording.problems
    assert "stalled for 400 ms" in problem


def test_the_shares_of_a_computer_are_of_the_time_since_the_meter_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 0 100 700 0 0 0 100 0 0\ncpu0 1 2 3\n")
    monkeypatch.setattr(machine, "STAT", stat)
    meter = CpuMeter()
    assert meter.shares() is None
    stat.write_text("cpu  150 20 105 720 0 0 0 105 0 0\n")
    assert meter.shares() == CpuShares(idle=0.2, stolen=0.05)
    assert CpuShares(0.2, 0.05).busy
    assert CpuShares(0.05, 0.0).busy
    assert not CpuShares(0.2, 0.01).busy


def test_a_system_that_does_not_tell_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "STAT", tmp_path / "absent")
    assert CpuMeter().shares() is None
