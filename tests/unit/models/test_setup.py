"""Environments: what counts as installed, and `candor models setup` without an index."""

import os
import sys
from pathlib import Path

import pytest

from models import environments, setup
from models.choosing import Chosen, choose
from models.errors import UnavailableError
from models.runners import create_runner
from models.settings import ModelSettings
from models.store import CorruptModelError, Located, Missing, Store
from tests.unit.models.environment_kit import ENTRY, SETUP, lock, source, with_landmarks
from tests.unit.models.test_models_cli import models


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return with_landmarks(tmp_path)


def test_what_was_installed_whole_is_chosen_with_its_version(store: Store) -> None:
    located = store.locate(ENTRY)
    assert isinstance(located, Located)
    assert located.path == environments.folder(store.root, source())
    store.verify(ENTRY)
    chosen = choose("eye_direction", store)
    assert isinstance(chosen, Chosen)
    assert chosen.version == "mediapipe-landmarks@0.10.21"
    assert create_runner(ENTRY, store, ModelSettings())[1] == "0.10.21"


def test_what_was_not_installed_names_the_command(tmp_path: Path) -> None:
    missing = choose("eye_direction", Store(tmp_path))
    assert isinstance(missing, Missing)
    assert "not installed" in missing.reason
    assert missing.command == SETUP


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"requirements_sha256": "0" * 64}, "another list"),
        ({"package": "mediapipe==0.10.9"}, "another list"),
        ({"files": {"gone.so": "0" * 64}}, "gone.so is missing"),
    ],
)
def test_what_is_of_another_release_or_not_whole_is_not_here(
    store: Store, changes: dict[str, object], reason: str
) -> None:
    lock(store.root, **changes)
    missing = store.locate(ENTRY)
    assert isinstance(missing, Missing)
    assert reason in missing.reason
    assert missing.command == SETUP


def test_an_interpreter_that_is_gone_and_a_broken_lock_are_reasons(store: Store) -> None:
    environments.python(environments.folder(store.root, source())).unlink()
    missing = store.locate(ENTRY)
    assert isinstance(missing, Missing) and "Python 3.11.7, is gone" in missing.reason
    (store.root / "landmarks.lock").write_text("{}")
    missing = store.locate(ENTRY)
    assert isinstance(missing, Missing) and "not the lock of an environment" in missing.reason


def test_a_changed_file_is_refused_with_both_hashes(store: Store) -> None:
    (environments.folder(store.root, source()) / "mesh.tflite").write_bytes(b"others")
    with pytest.raises(CorruptModelError, match=r"mesh\.tflite has sha256 [0-9a-f]{64}, the lock says [0-9a-f]{64}"):
        store.verify(ENTRY)
    with pytest.raises(UnavailableError, match="the lock says") as caught:
        create_runner(ENTRY, store, ModelSettings())
    assert caught.value.command == SETUP


def test_a_file_or_link_that_the_lock_does_not_name_is_refused(store: Store) -> None:
    folder = environments.folder(store.root, source())
    (folder / "lib").mkdir()
    stray = folder / "lib" / "sitecustomize.py"
    for make in (lambda: stray.write_text("import os"), lambda: stray.symlink_to("/tmp")):  # nothing is opened there
        make()
        with pytest.raises(CorruptModelError, match=r"lib/sitecustomize\.py"):
            store.verify(ENTRY)
        stray.unlink()
    store.verify(ENTRY)
    environments.python(folder).unlink()
    environments.python(folder).symlink_to("/bin/sh")
    with pytest.raises(CorruptModelError, match=r"bin/python leads to /bin/sh, the lock says"):
        store.verify(ENTRY)


def test_what_would_lead_pip_astray_does_not_reach_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {
        "PIP_TARGET": "/elsewhere",
        "PIP_DRY_RUN": "1",
        "PIP_INDEX_URL": "https://index.example",
    }.items():
        monkeypatch.setenv(name, value)
    online = setup._for_pip(None)
    assert not {"PIP_TARGET", "PIP_DRY_RUN"} & set(online)
    assert online["PIP_INDEX_URL"] == "https://index.example"
    offline = setup._for_pip(tmp_path)
    assert {name: value for name, value in offline.items() if name.startswith("PIP_")} == {
        "PIP_CONFIG_FILE": os.devnull
    }
    assert offline["PATH"]


def test_the_commands_know_it(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert models(store.root, "setup", "landmarks") == 0
    assert capsys.readouterr().out == "landmarks: here and whole\n"
    assert models(store.root, "verify") == 0
    assert capsys.readouterr().out == "mediapipe-landmarks: whole\n"
    assert models(store.root, "pull", "mediapipe-landmarks") == 1
    assert SETUP in capsys.readouterr().err
    assert models(store.root, "remove", "landmarks") == 0
    assert "landmarks: removed" in capsys.readouterr().out
    assert not environments.is_here(store.root, source())
    assert models(store.root, "remove", "landmarks") == 1
    assert models(store.root, "setup", "landmarks", "--offline") == 1
    assert SETUP in capsys.readouterr().out


def test_a_folder_without_the_wheels_leaves_nothing_behind(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "wheels"
    empty.mkdir()
    assert models(tmp_path / "models", "setup", "landmarks", "--find-links", str(empty)) == 1
    assert "pip could not install mediapipe==0.10.21" in capfd.readouterr().err
    assert not environments.is_here(tmp_path / "models", source())


def test_a_python_that_is_too_new_or_none_is_told(tmp_path: Path) -> None:
    newer = source().model_copy(update={"newest_python": "3.10"})
    with pytest.raises(setup.SetupError, match=r"up to 3\.10, and this is 3\..*--python PATH"):
        setup._python_version(newer, Path(sys.executable))
    with pytest.raises(setup.SetupError, match="no Python that runs here"):
        setup._python_version(source(), tmp_path / "nothing")


def test_a_full_store_is_told_before_anything_is_fetched(store: Store) -> None:
    with pytest.raises(setup.SetupError, match=r"models\.max_store_gb"):
        setup._check_room(ENTRY, store, ENTRY.size_bytes)


def test_every_requirement_is_pinned_with_hashes_and_has_the_package_of_the_catalog() -> None:
    lines = environments.requirements(source()).read_text().replace("\\\n", "").splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    assert all("==" in line and "--hash=sha256:" in line for line in wanted)
    assert any(line.startswith(source().package) for line in wanted)
