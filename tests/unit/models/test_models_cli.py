"""`candor models`, as somebody types it."""

import argparse
from pathlib import Path

import pytest

from models import catalog
from models.cli import register
from models.cli import run as run_cli
from models.settings import ModelSettings
from tests.unit.models.conftest import Hub

MIRROR = Path(__file__).resolve().parents[4] / "shared" / "mirror"
needs_mirror = pytest.mark.skipif(not MIRROR.is_dir(), reason="needs the mirror of weights beside the repository")


def models(root: Path, *words: str) -> int:
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers(required=True))
    return run_cli(parser.parse_args(["models", *words]), ModelSettings(models_dir=root))


def test_everything_is_listed_with_what_would_bring_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert models(tmp_path, "list") == 0
    out = capsys.readouterr().out
    assert all(entry.name in out for entry in catalog.load().model)
    assert "candor models pull yunet" in out


def test_mistakes_are_answered_with_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert models(tmp_path, "pull", "nothing") == 1
    assert "no model 'nothing'" in capsys.readouterr().err
    assert models(tmp_path, "pull", "whisper-tiny", "--mirror", str(tmp_path)) == 1
    assert "the mirror has no" in capsys.readouterr().err
    assert models(tmp_path, "pull", "rnnoise") == 0
    assert "needs nothing pulled" in capsys.readouterr().out
    assert models(tmp_path, "remove", "yunet") == 1
    assert "yunet is not in" in capsys.readouterr().err
    assert models(tmp_path, "verify") == 0
    assert "nothing has been pulled" in capsys.readouterr().out


def test_a_licence_that_restricts_must_be_accepted(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    restricted = next(entry for entry in catalog.load().model if not entry.commercial)
    words = ("pull", restricted.name, "--hub", hub.url)
    assert models(tmp_path, *words) == 1
    assert "--accept-licence" in capsys.readouterr().err
    assert models(tmp_path, *words, "--accept-licence") == 1  # this hub does not have it
    assert "HTTP 404" in capsys.readouterr().err


@needs_mirror
def test_the_defaults_come_from_a_mirror_and_stay_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert models(tmp_path, "pull", "--mirror", str(MIRROR)) == 0
    out = capsys.readouterr().out
    assert "5 models in" in out
    assert "whisper-tiny: not pulled: the mirror has no" in out
    assert models(tmp_path, "pull", "--offline", "aasist", "yunet") == 0
    assert capsys.readouterr().out == "aasist: whole\nyunet: whole\n"
    assert models(tmp_path, "pull", "--mirror", str(MIRROR), "aasist") == 0
    assert "here and whole" in capsys.readouterr().out


@needs_mirror
def test_a_damaged_file_is_found_and_fetched_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert models(tmp_path, "pull", "--mirror", str(MIRROR), "yunet") == 0
    weights = next(tmp_path.rglob("*.onnx"))
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + b"\0")
    capsys.readouterr()
    assert models(tmp_path, "verify") == 1
    assert "the lock says 81dbde15" in capsys.readouterr().out
    assert models(tmp_path, "pull", "--mirror", str(MIRROR), "yunet") == 0
    assert weights.read_bytes() == whole
    assert models(tmp_path, "remove", "yunet") == 0
    assert not weights.exists()
    assert models(tmp_path, "pull", "--offline", "yunet") == 1
