"""The catalog is complete and typed; the store says what is here, and refuses what is not what it should be."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from models import catalog
from models.catalog import HubSource, ModelEntry
from models.store import CorruptModelError, Located, LockedModel, Missing, Store, sha256_of

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def entry_of(**changes: object) -> ModelEntry:
    """A hub model that needs nothing but its files."""
    fields: dict[str, object] = {
        "name": "test-model",
        "task": "speech_to_text",
        "licence": "MIT",
        "languages": ["en"],
        "sound": "raw",
        "sample_rate_hz": 16_000,
        "source": {"kind": "hf", "repository": "owner/repo", "revision": COMMIT, "files": ["config.json", "w.bin"]},
    }
    return ModelEntry.model_validate(fields | changes)


def filled(root: Path, entry: ModelEntry) -> Store:
    """A store with the entry's files and lock."""
    store = Store(root)
    assert isinstance(entry.source, HubSource)
    locked = LockedModel(repository=entry.source.repository, commit=COMMIT, files={})
    folder = root / locked.folder
    folder.mkdir(parents=True)
    for name in entry.source.files:
        (folder / name).write_text(f"contents of {name}")
    files = {name: sha256_of(folder / name) for name in entry.source.files}
    store.put(entry.name, locked.model_copy(update={"files": files}))
    return store


TASKS_OF_THE_USER = {
    "speech_to_text",
    "voice_emotion",
    "text_emotion",
    "summary",
    "denoise",
    "enhancement",
    "voice_authenticity",
    "face_authenticity",
}


def test_the_catalog_has_a_model_for_every_task_and_says_what_it_may_be_used_for() -> None:
    models = catalog.load().model
    assert {entry.task for entry in models} >= TASKS_OF_THE_USER
    for entry in models:
        assert entry.licence
        if entry.task in ("voice_authenticity", "face_authenticity", "expression", "voice_emotion", "text_emotion"):
            assert entry.known, f"{entry.name} does not say how wrong it is"


def test_what_comes_by_default_may_be_used_commercially() -> None:
    assert all(entry.commercial for entry in catalog.load().model if entry.by_default)


def test_two_models_cannot_have_one_name() -> None:
    row = entry_of().model_dump()
    with pytest.raises(ValidationError, match="one name"):
        catalog.Catalog.model_validate({"model": [row, row]})


def test_a_derived_model_names_models_of_the_catalog() -> None:
    row = entry_of(source={"kind": "derived", "models": ["nobody"]}).model_dump()
    with pytest.raises(ValidationError, match="nobody"):
        catalog.Catalog.model_validate({"model": [row]})


def test_a_derived_model_is_here_if_what_it_is_derived_from_is(tmp_path: Path) -> None:
    pose = catalog.load().get("yunet-pose")
    missing = Store(tmp_path).locate(pose)
    assert isinstance(missing, Missing)
    assert missing.command == "candor models pull yunet"


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(KeyError, match="whisper-tiny"):
        catalog.load().get("whisper-tiney")


def test_a_row_with_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValidationError, match="labls"):
        entry_of(labls=["a"])


def test_a_file_name_cannot_leave_the_repository() -> None:
    with pytest.raises(ValidationError, match="files"):
        entry_of(source={"kind": "hf", "repository": "o/r", "revision": COMMIT, "files": ["../../etc/passwd"]})


def test_languages() -> None:
    assert entry_of().speaks("en")
    assert entry_of().speaks("auto")
    assert not entry_of().speaks("zh")
    assert entry_of(languages=["*"]).speaks("zh")


def test_package_models_are_found_with_their_version() -> None:
    store = Store(Path("/nonexistent"))
    for name in ("pocketsphinx-en-us", "silero-vad", "rnnoise"):
        located = store.locate(catalog.load().get(name))
        assert isinstance(located, Located)
        assert located.version


def test_a_model_that_was_not_pulled_names_the_command(tmp_path: Path) -> None:
    missing = Store(tmp_path).locate(entry_of())
    assert isinstance(missing, Missing)
    assert missing.command == "candor models pull test-model"


def test_a_model_whose_package_is_missing_names_the_command(tmp_path: Path) -> None:
    missing = Store(tmp_path).locate(entry_of(requires=["a_module_that_nobody_has"]))
    assert isinstance(missing, Missing)
    assert missing.command == "make models"


def test_files_without_a_lock_are_not_a_model(tmp_path: Path) -> None:
    store = filled(tmp_path, entry_of())
    (tmp_path / "models.lock").unlink()
    assert isinstance(store.locate(entry_of()), Missing)


def test_a_whole_model_is_located_and_verified(tmp_path: Path) -> None:
    store = filled(tmp_path, entry_of())
    located = store.locate(entry_of())
    assert isinstance(located, Located)
    assert located.version == COMMIT[:8]
    store.verify(entry_of())


def test_a_changed_file_is_refused_with_both_hashes(tmp_path: Path) -> None:
    store = filled(tmp_path, entry_of())
    located = store.locate(entry_of())
    assert isinstance(located, Located)
    before = sha256_of(located.path / "w.bin")
    (located.path / "w.bin").write_text("contents of w.bim")
    after = sha256_of(located.path / "w.bin")
    with pytest.raises(CorruptModelError, match=f"{after}.*{before}"):
        store.verify(entry_of())


def test_a_file_that_is_gone_is_missing(tmp_path: Path) -> None:
    store = filled(tmp_path, entry_of())
    located = store.locate(entry_of())
    assert isinstance(located, Located)
    (located.path / "w.bin").unlink()
    missing = store.locate(entry_of())
    assert isinstance(missing, Missing)
    assert "w.bin" in missing.reason


def test_a_broken_lock_is_a_reason_not_a_crash(tmp_path: Path) -> None:
    (tmp_path / "models.lock").write_text("{")
    missing = Store(tmp_path).locate(entry_of())
    assert isinstance(missing, Missing)
    assert "lock" in missing.reason
