"""What follows from scores: a calibration that is tried on others, who was seen, and a report that says it."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from models.questions import Answer, Scores, Sound
from models.settings import ModelSettings
from models.store import LockedModel, Store, sha256_of
from models.trained import (
    TRAINED_GENERATORS,
    TRAINED_SPEAKERS,
    UNSEEN_GENERATORS,
    UNSEEN_SPEAKERS,
    Counts,
    TrainedModel,
)
from models.training import evaluate as module
from models.training import media
from models.training.evaluate import LEAST_DOUBT, Judged, calibrate, evaluate
from models.training.media import MediaError, Question
from models.training.report import as_json, as_markdown, write
from models.training.train import SEEN_NAME, Seen, TrainingError
from models.training.voices import Voices
from tests.unit.models.test_models_cli import models
from tests.unit.models.training.kit import save, speech, window

COUNTS = Counts(speakers=TRAINED_SPEAKERS, generators=TRAINED_GENERATORS, genuine_windows=50, synthetic_windows=50)


def judged(genuine: dict[str, list[float]], synthetic: dict[str, list[float]]) -> Judged:
    found = [(window(person), score) for person, scores in genuine.items() for score in scores]
    return found + [(window("", generator), score) for generator, scores in synthetic.items() for score in scores]


def test_half_of_the_people_and_generators_set_the_calibration_and_the_others_try_it() -> None:
    rng = np.random.default_rng(1)
    people = {name: rng.normal(2, 1, 30).tolist() for name in "abcd"}
    generators = {name: rng.normal(-2, 1, 30).tolist() for name in "uv"}
    calibration, reliability, own_media = calibrate(judged(people, generators))
    assert calibration is not None and reliability is not None
    assert not own_media
    assert calibration.doubt == LEAST_DOUBT
    strangers = {name: rng.normal(9, 1, 30).tolist() if name in "bd" else scores for name, scores in people.items()}
    moved, _, _ = calibrate(judged(strangers, generators))
    assert moved is not None
    assert (moved.slope, moved.centre) == (calibration.slope, calibration.centre), "b and d only try it"


def test_a_model_that_errs_more_is_doubted_more() -> None:
    rng = np.random.default_rng(2)
    people = {name: rng.normal(0.5, 1, 100).tolist() for name in "ab"}
    generators = {name: rng.normal(-0.5, 1, 100).tolist() for name in "uv"}
    calibration, _, _ = calibrate(judged(people, generators))
    assert calibration is not None
    assert calibration.doubt == pytest.approx(0.31, abs=0.05), "its equal error rate"
    assert calibration.likelihood(-100) < 0.8


def test_without_others_it_is_tried_on_its_own_media_and_that_is_said() -> None:
    _, reliability, own_media = calibrate(judged({"a": [3, 4, 5]}, {"u": [-3, -4, -5]}))
    assert own_media
    assert reliability is not None


def test_scores_that_tell_nothing_have_no_calibration() -> None:
    assert calibrate(judged({"a": [-3.0], "b": [-2.0]}, {"u": [1.0], "v": [2.0]}))[:2] == (None, None)


class Loudness:
    """Judges by loudness: louder is more genuine. In the place of a model and its runner."""

    version = "loudness@12345678"

    def __init__(self, *_: object) -> None:
        """Nothing to load."""

    def __enter__(self) -> "Loudness":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to free."""

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        answers: list[Answer] = []
        for question in questions:
            assert isinstance(question, Sound)
            level = float(np.log10(np.square(question.pcm.astype(float)).mean()))
            answers.append(Scores(("spoof", "bonafide"), (0.0, level)))
        return answers


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Loud people and soft generators, enough of both, one recording each."""
    for number in range(UNSEEN_SPEAKERS):
        save(tmp_path / "g" / f"person{number}" / "a.wav", speech(5, 200 + 10 * number))
    for number in range(UNSEEN_GENERATORS):
        save(tmp_path / "s" / f"generator{number}" / "a.wav", speech(5, 300 + 10 * number) // (8 + number))
    return tmp_path / "g", tmp_path / "s"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """With the head `mine`, which has met somebody called Eve."""
    monkeypatch.setattr(module, "Judge", Loudness)
    monkeypatch.setattr(Voices, "rows_kbps", (16, 32))
    store = Store(tmp_path / "store")
    register(store, {"0123456789abcdef"})
    return store


def register(store: Store, seen: set[str]) -> None:
    locked = LockedModel(kind="local", repository="mine", commit="d" * 40, files={})
    folder = store.root / locked.folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.pth").write_text("weights")
    (folder / SEEN_NAME).write_text(Seen(fingerprints=sorted(seen)).model_dump_json())
    files = {name: sha256_of(folder / name) for name in ("weights.pth", SEEN_NAME)}
    trained = TrainedModel.model_validate(
        {
            "base": "aasist",
            "base_commit": "a" * 40,
            "day": "2026-01-02",
            "seed": 1,
            "trained": COUNTS,
            "held_out": COUNTS,
        }
    )
    store.put("mine", locked.model_copy(update={"files": files}), trained)


def quiet(line: str) -> None:
    """Tell nobody."""


def test_an_evaluation_on_strangers_lets_a_meeting_ask_it(
    folders: tuple[Path, Path], store: Store, tmp_path: Path
) -> None:
    assert store.lock().trained["mine"].fixture
    report = evaluate("mine", *folders, store, ModelSettings(), quiet)
    assert report.fixture == ""
    assert report.unseen
    assert [row.condition for row in report.rows] == ["as it is", *(f"Opus {kbps} kb/s" for kbps in (16, 32))]
    assert all((row.eer, row.auc) == (0, 1) for row in report.rows)
    trained = store.lock().trained["mine"]
    assert trained.fixture == ""
    assert trained.calibration == report.calibration
    assert trained.evaluation is not None
    assert trained.evaluation.unseen == report.used
    assert trained.evaluation.condition == "Opus 32 kb/s"
    entry = store.find("mine")
    assert entry is not None
    assert "AUC 1.00" in entry.known
    write(report, tmp_path / "report")
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["det.svg", "report.json", "report.md"]
    assert json.loads((tmp_path / "report" / "report.json").read_text())["used"]["speakers"] == UNSEEN_SPEAKERS


def test_by_command(
    folders: tuple[Path, Path], store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--genuine", str(folders[0]), "--synthetic", str(folders[1]), "--report", str(tmp_path / "report"))
    assert models(store.root, "evaluate", "mine", *words) == 0
    out = capsys.readouterr().out
    assert "Opus 32 kb/s  EER   0.0%  AUC 1.000" in out
    assert "candor models prefer mine" in out
    assert (tmp_path / "report" / "det.svg").is_file()
    assert models(store.root, "evaluate", "aasist", *words) == 0
    assert "its calibration stays as it is" in capsys.readouterr().out


@pytest.mark.parametrize("met", ["person0", "generator0"])
def test_whoever_training_had_met_does_not_count(folders: tuple[Path, Path], store: Store, met: str) -> None:
    genuine, synthetic = folders
    recordings = media.find(genuine, synthetic, frozenset({".wav"}))
    register(store, media.fingerprints([one for one in recordings if one.group == met]))
    report = evaluate("mine", genuine, synthetic, store, ModelSettings(), quiet)
    assert [group.name for group in report.groups if group.seen] == [met]
    assert report.used.speakers + report.used.generators == UNSEEN_SPEAKERS + UNSEEN_GENERATORS - 1
    what = "people" if met == "person0" else "generators"
    assert f"unseen {what} in its evaluation" in report.fixture
    assert f"| {met} |" in as_markdown(report)


def test_an_evaluation_on_acquaintances_changes_nothing(folders: tuple[Path, Path], store: Store) -> None:
    genuine, synthetic = folders
    recordings = media.find(genuine, synthetic, frozenset({".wav"}))
    register(store, media.fingerprints([one for one in recordings if one.genuine]))
    report = evaluate("mine", genuine, synthetic, store, ModelSettings(), quiet)
    assert not report.unseen
    assert store.lock().trained["mine"].evaluation is None
    text = as_markdown(report)
    assert "training had met some of them" in text
    assert "A fixture: no meeting asks it" in text


def test_a_record_of_training_that_was_changed_is_refused(folders: tuple[Path, Path], store: Store) -> None:
    next(store.root.rglob(SEEN_NAME)).write_text('{"fingerprints": []}')
    with pytest.raises(TrainingError, match="is not what the lock says"):
        evaluate("mine", *folders, store, ModelSettings(), quiet)


def test_a_model_of_the_catalog_is_evaluated_and_left_as_it_is(folders: tuple[Path, Path], store: Store) -> None:
    report = evaluate("aasist", *folders, store, ModelSettings(), quiet)
    assert (report.unseen, report.fixture, report.base) == (False, "", "")
    assert "is not known here" in as_markdown(report)
    assert as_json(report)["calibration"] is not None
    assert "aasist" not in store.lock().trained


def test_files_that_are_too_short_are_counted(folders: tuple[Path, Path], store: Store) -> None:
    genuine, synthetic = folders
    save(genuine / "person0" / "b.wav", speech(1))
    report = evaluate("mine", genuine, synthetic, store, ModelSettings(), quiet)
    assert report.refused == pytest.approx(1 / (UNSEEN_SPEAKERS + UNSEEN_GENERATORS + 1))
    assert [group.refused for group in report.groups if group.name == "person0"] == [1]


def test_what_cannot_be_evaluated_is_said(folders: tuple[Path, Path], store: Store, tmp_path: Path) -> None:
    for name in ("yunet", "nobody", "wavlm-base-plus"):
        with pytest.raises(TrainingError, match=name):
            evaluate(name, *folders, store, ModelSettings(), quiet)
    save(tmp_path / "short" / "ann" / "a.wav", speech(1))
    with pytest.raises(MediaError, match="not windows of both kinds"):
        evaluate("mine", tmp_path / "short", folders[1], store, ModelSettings(), quiet)
