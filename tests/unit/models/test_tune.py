"""In which precision a model computes: the table, what was measured, and who reads it."""

import sys
from pathlib import Path
from typing import Any

import pytest

from models import precision, tune
from models.precision import Measured, PrecisionFile, chosen, default, read, write
from models.runners import create_runner
from models.settings import ModelSettings
from models.store import Store
from tests.unit.models.test_models_cli import models

PROBABILITIES = {"numbers": [0.2, 0.8], "probabilities": True}
SOUND = {"numbers": [100, -100, 50], "probabilities": False}


def measured(version: str, choice: precision.Precision) -> Measured:
    return Measured(version=version, precision=choice, machine="test", seconds={"fp32": 2.0, choice: 1.0})


def test_the_table_has_int8_only_where_it_works() -> None:
    assert default("vit", "cpu") == "int8"
    assert default("wavlm", "cpu") == default("swin2sr", "cpu") == default("swin2sr", "cuda") == "fp32"
    assert default("wavlm", "cuda") == "bf16"


def test_a_choice_counts_for_the_version_it_was_measured_with(tmp_path: Path) -> None:
    assert chosen(tmp_path, "m", "1") == {}
    write(tmp_path, PrecisionFile(models={"m": {"cpu": measured("1", "bf16"), "cuda": measured("2", "fp32")}}))
    assert chosen(tmp_path, "m", "1") == {"cpu": "bf16"}
    assert chosen(tmp_path, "m", "3") == chosen(tmp_path, "other", "1") == {}


def test_a_file_that_tune_did_not_write_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / precision.FILE_NAME).write_text('{"models": {"m": {"cpu": {"precision": "int4"}}}}')
    with pytest.raises(ValueError, match="was not written by `candor models tune`"):
        chosen(tmp_path, "m", "1")


@pytest.mark.parametrize(
    ("answer", "exact", "expected"),
    [
        (PROBABILITIES, PROBABILITIES, 0.0),
        ({"numbers": [0.5, 0.5], "probabilities": True}, PROBABILITIES, 0.3),
        ({"numbers": [90, -100, 65], "probabilities": False}, SOUND, 0.1),
        ("we met on friday", "we met on friday", 0.0),
        ("we met on monday", "we met on friday", 0.25),
        ("we met", SOUND, float("inf")),
        ({"numbers": [1.0], "probabilities": True}, PROBABILITIES, float("inf")),
    ],
)
def test_how_far_an_answer_is_from_that_of_fp32(answer: Any, exact: Any, expected: float) -> None:
    assert tune.difference(answer, exact) == pytest.approx(expected)


class Scripted(tune.Candidate):
    """One that was asked already."""

    def __init__(self, precision: precision.Precision, seconds: float, answer: Any, refused: str = "") -> None:
        self.precision = precision
        self.seconds = [seconds]
        self.answer = answer
        self.device = "cpu"
        self.refused = refused


def test_the_fastest_that_agrees_is_chosen() -> None:
    wrong = {"numbers": [0.9, 0.1], "probabilities": True}
    candidates = [
        Scripted("fp32", 1.0, PROBABILITIES),
        Scripted("bf16", 0.5, PROBABILITIES),
        Scripted("int8", 0.1, wrong),
    ]
    judged = tune._judge(candidates, "1")
    assert judged.precision == "bf16"
    assert judged.seconds == {"fp32": 1.0, "bf16": 0.5}
    assert judged.refused == {"int8": "its answer is 0.70 off, more than 0.05"}


def test_a_gain_of_nothing_changes_nothing() -> None:
    candidates = [Scripted("fp32", 1.0, PROBABILITIES), Scripted("bf16", 0.97, PROBABILITIES)]
    assert tune._judge(candidates, "1").precision == "fp32"


def test_a_model_that_does_not_answer_in_fp32_is_not_tuned() -> None:
    with pytest.raises(ValueError, match="weights are missing"):
        tune._judge([Scripted("fp32", 1.0, None, "weights are missing"), Scripted("bf16", 0.5, PROBABILITIES)], "1")


def test_only_models_with_a_choice_are_tuned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert models(tmp_path, "tune") == 0
    assert models(tmp_path, "tune", "yunet") == 1
    assert "computes in one precision only" in capsys.readouterr().err


@pytest.mark.weights
async def test_a_model_is_measured_and_its_runner_obeys(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the extra `speech` is not installed (make models)")
    from tests import tiny_models

    entry = tiny_models.wavlm_rows()[0]
    tiny_models.install(tmp_path, entry)
    lines: list[str] = []
    found = tune.tune(entry, tiny_models.COMMIT[:8], tmp_path, lines.append, allow_random=True)
    assert set(found.seconds) == {"fp32", "bf16"}
    assert "int8" in found.refused  # WavLM's attention reads weights that quantisation takes away
    assert len(lines) == 3
    assert sum("<- chosen" in line for line in lines) == 1
    [written] = read(tmp_path).models[entry.name].values()
    assert written == found
    other: precision.Precision = "bf16" if found.precision == "fp32" else "fp32"
    write(tmp_path, PrecisionFile(models={entry.name: {"cpu": found.model_copy(update={"precision": other})}}))
    runner: Any = create_runner(entry, Store(tmp_path, allow_random=True), ModelSettings())[0]
    await runner.start()
    assert runner.placement.precision == other


def test_a_candidate_that_dies_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from models import catalog

    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ValueError, match="it ended its process"):
        tune.tune(catalog.load().get("whisper-tiny"), "1", tmp_path, print)
