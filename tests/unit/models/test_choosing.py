"""Which model a meeting asks: what somebody prefers, never a fixture, and nothing else in its place without a word."""

from datetime import date
from pathlib import Path

import pytest

from models import catalog
from models.calibration import Calibration, genuine_score
from models.catalog import ModelEntry
from models.choosing import CALIBRATED, Chosen, check, choose
from models.questions import Scores
from models.store import CorruptModelError, Located, LockedModel, Missing, Store, sha256_of
from models.trained import (
    BASES,
    TRAINED_GENERATORS,
    TRAINED_SPEAKERS,
    UNSEEN_GENERATORS,
    UNSEEN_SPEAKERS,
    Counts,
    Evaluation,
    TrainedModel,
)
from tests.unit.models.test_models_cli import models

DAY = date(2026, 1, 2)
CALIBRATION = Calibration(slope=1.2, centre=0.4, doubt=0.07)
ENOUGH = Counts(speakers=UNSEEN_SPEAKERS, generators=UNSEEN_GENERATORS, genuine_windows=50, synthetic_windows=50)


@pytest.fixture(autouse=True)
def packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether torch is installed is not the subject."""
    found = Store.locate

    def locate(store: Store, entry: ModelEntry) -> Located | Missing:
        return found(store, entry.model_copy(update={"requires": []}))

    monkeypatch.setattr(Store, "locate", locate)


def trained_model(**changes: object) -> TrainedModel:
    """One that may be asked, unless something is changed."""
    fields: dict[str, object] = {
        "base": "aasist-l",
        "base_commit": "a" * 40,
        "day": DAY,
        "seed": 1,
        "trained": Counts(
            speakers=TRAINED_SPEAKERS, generators=TRAINED_GENERATORS, genuine_windows=99, synthetic_windows=99
        ),
        "held_out": Counts(speakers=2, generators=1, genuine_windows=9, synthetic_windows=9),
        "evaluation": Evaluation(
            day=DAY, condition="Opus 32 kb/s", unseen=ENOUGH, eer=0.07, auc=0.97, brier=0.1, ece=0.05
        ),
        "calibration": CALIBRATION,
    }
    return TrainedModel.model_validate(fields | changes)


def install(store: Store, name: str, files: dict[str, str], trained: TrainedModel | None = None) -> None:
    """Files and their lock; of a head that was trained here, or of a model of the catalog."""
    entry = store.find(name)
    if trained is None:
        assert entry is not None
        locked = LockedModel(kind=entry.source.kind, repository=entry.source.repository, commit="c" * 40, files={})
    else:
        locked = LockedModel(kind="local", repository=name, commit="d" * 40, files={})
    folder = store.root / locked.folder
    folder.mkdir(parents=True)
    for file, text in files.items():
        (folder / file).write_text(text)
    hashes = {file: sha256_of(folder / file) for file in files}
    store.put(name, locked.model_copy(update={"files": hashes}), trained)


def with_both(root: Path, trained: TrainedModel) -> Store:
    """AASIST of the catalog, and a head."""
    store = Store(root)
    install(store, "aasist", {"AASIST.pth": "weights"})
    install(store, "mine", {"weights.pth": "weights", "seen.json": "{}"}, trained)
    return store


def prefer(store: Store, name: str) -> None:
    entry = store.find(name)
    assert entry is not None
    store.prefer(entry)


def test_a_head_is_asked_only_if_somebody_prefers_it(tmp_path: Path) -> None:
    store = with_both(tmp_path, trained_model())
    assert choose("voice_authenticity", store) == Chosen(catalog.load().get("aasist"), "aasist@cccccccc")
    prefer(store, "mine")
    chosen = choose("voice_authenticity", store)
    assert isinstance(chosen, Chosen)
    assert chosen.version == "mine@dddddddd"
    assert chosen.entry.calibration == CALIBRATION, "its own, not its base's"
    assert chosen.entry.runner == "aasist"
    assert "EER 7.0%" in chosen.entry.known
    prefer(store, "aasist")
    assert choose("voice_authenticity", store) == Chosen(catalog.load().get("aasist"), "aasist@cccccccc")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"evaluation": None}, "has not been evaluated"),
        ({"calibration": None}, "did not tell genuine from synthetic"),
        ({"trained": ENOUGH.model_copy(update={"speakers": 1, "generators": 9})}, "people in training: 1, not"),
    ],
)
def test_a_fixture_is_never_asked_and_not_replaced_either(
    tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    store = with_both(tmp_path, trained_model(**changes))
    prefer(store, "mine")
    missing = choose("voice_authenticity", store)
    assert isinstance(missing, Missing)
    assert missing.reason.startswith("fixture: mine: ")
    assert reason in missing.reason
    assert missing.command.startswith("candor models evaluate mine")


@pytest.mark.parametrize(("lacking", "what"), [("speakers", "people"), ("generators", "generators")])
def test_an_evaluation_without_enough_unseen_makes_a_fixture(lacking: str, what: str) -> None:
    assert trained_model().fixture == ""
    evaluation = trained_model().evaluation
    assert evaluation is not None
    for count in (0, getattr(ENOUGH, lacking) - 1):
        unseen = ENOUGH.model_copy(update={lacking: count})
        reason = trained_model(evaluation=evaluation.model_copy(update={"unseen": unseen})).fixture
        assert f"unseen {what} in its evaluation: {count}, not" in reason


def test_a_preferred_model_that_is_gone_is_told(tmp_path: Path) -> None:
    store = with_both(tmp_path, trained_model())
    prefer(store, "mine")
    next(tmp_path.rglob("weights.pth")).unlink()
    missing = choose("voice_authenticity", store)
    assert isinstance(missing, Missing)
    assert "weights.pth is missing" in missing.reason
    store.remove("mine")
    assert isinstance(choose("voice_authenticity", store), Chosen), "who removes it no longer prefers it"


def test_a_model_without_a_calibration_is_not_asked_about_authenticity(tmp_path: Path) -> None:
    store = Store(tmp_path)
    bare = catalog.load().get("aasist").model_copy(update={"calibration": None})
    install(store, "aasist", {"AASIST.pth": "weights"})
    missing = check(bare, store)
    assert isinstance(missing, Missing)
    assert "no calibration" in missing.reason


def test_a_head_on_a_base_needs_that_base_as_it_was(tmp_path: Path) -> None:
    store = Store(tmp_path)
    install(store, "wavlm-base-plus", {"config.json": "{}", "model.safetensors": "base"})
    base_files = store.lock().models["wavlm-base-plus"].files
    head = trained_model(base="wavlm-base-plus", base_commit="c" * 40, base_files=base_files)
    install(store, "mine", {"weights.pth": "head", "seen.json": "{}"}, head)
    located = store.locate(head.entry("mine"))
    assert isinstance(located, Located)
    assert located.base is not None
    located.verify()
    (located.base.path / "model.safetensors").write_text("other")
    with pytest.raises(CorruptModelError, match=r"model\.safetensors has sha256"):
        located.verify()
    store.put("wavlm-base-plus", store.lock().models["wavlm-base-plus"].model_copy(update={"commit": "e" * 40}))
    missing = store.locate(head.entry("mine"))
    assert isinstance(missing, Missing)
    assert "wavlm-base-plus@cccccccc" in missing.reason


def test_a_changed_head_is_refused_with_both_hashes(tmp_path: Path) -> None:
    store = with_both(tmp_path, trained_model())
    next(tmp_path.rglob("weights.pth")).write_text("other")
    entry = store.find("mine")
    assert entry is not None
    with pytest.raises(CorruptModelError, match=r"mine: weights\.pth has sha256 .*, the lock says"):
        store.verify(entry)


def test_a_broken_lock_is_a_reason(tmp_path: Path) -> None:
    (tmp_path / "models.lock").write_text("{")
    missing = choose("voice_authenticity", Store(tmp_path))
    assert isinstance(missing, Missing)
    assert "lock" in missing.reason


def test_every_base_is_in_the_catalog_and_every_default_has_a_calibration() -> None:
    for name in BASES:
        assert trained_model(base=name).entry("mine").task in ("voice_authenticity", "face_authenticity")
    for task in CALIBRATED:
        asked = [entry for entry in catalog.load().for_task(task) if entry.by_default]
        assert asked
        assert all(entry.calibration for entry in asked)


def test_preferring_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_both(tmp_path, trained_model(evaluation=None))
    assert models(tmp_path, "prefer", "mine") == 1
    assert "fixture: mine: it has not been evaluated" in capsys.readouterr().err
    assert models(tmp_path, "prefer", "aasist") == 0
    assert "meetings ask it" in capsys.readouterr().out
    assert models(tmp_path, "prefer", "rnnoise") == 1
    assert models(tmp_path, "prefer", "nobody") == 1
    capsys.readouterr()
    assert models(tmp_path, "list") == 0
    rows = capsys.readouterr().out.splitlines()
    assert any(row.startswith("aasist ") and "preferred" in row for row in rows)
    assert any(row.startswith("mine ") and "fixture: it has not been evaluated" in row for row in rows)
    assert models(tmp_path, "verify") == 0
    assert models(tmp_path, "remove", "mine") == 0
    assert not list(tmp_path.rglob("weights.pth"))
    assert Store(tmp_path).lock().trained == {}


def test_a_score_is_read_only_from_labels_that_say_so() -> None:
    assert genuine_score(Scores(("spoof", "bonafide"), (-1.0, 2.5))) == 3.5
    assert genuine_score(Scores(("real",), (0.5,))) == 0
    assert genuine_score(Scores(("real",), (1.0,))) == pytest.approx(9.2, abs=0.1)
    assert genuine_score(Scores(("Realism", "Deepfake"), (0.1, 0.9))) == pytest.approx(-2.2, abs=0.01)
    with pytest.raises(ValueError, match="LABEL_0"):
        genuine_score(Scores(("LABEL_0", "LABEL_1"), (0.5, 0.5)))
