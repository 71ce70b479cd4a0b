"""`candor init` and `candor config check`."""

import argparse
import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from candor import cli, init
from candor.config_check import problems
from candor.settings import load

ROOT = Path(__file__).resolve().parents[3]
GIVEN = ["--domain", "meet.example.org", "--address", "203.0.113.5"]


def made(folder: Path, *options: str) -> dict[str, str]:
    """The variables of a new `.env`."""
    parser = argparse.ArgumentParser()
    init.add_arguments(parser)
    path = init.run(parser.parse_args([*GIVEN, "--directory", str(folder), *options]))
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_everything_has_a_value_and_secrets_are_long_and_new(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, two = made(tmp_path / "a"), made(tmp_path / "b")
    assert all(one.values())
    different = {name for name in one if one[name] != two[name]}
    assert different == set(init.fresh_secrets())
    assert all(len(one[name]) >= 64 for name in different)
    assert one["MODELS_KEY_SHA256"] == sha256(one["MODELS_KEY"].encode()).hexdigest()


def test_it_is_for_us_alone_and_never_overwritten(tmp_path: Path) -> None:
    before = made(tmp_path)
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    with pytest.raises(init.InitError, match="there already"):
        made(tmp_path)
    assert f"CANDOR_SECRET={before['CANDOR_SECRET']}" in (tmp_path / ".env").read_text()


def test_ports_follow_from_the_answers(tmp_path: Path) -> None:
    values = made(tmp_path, "--https-port", "8443", "--media-port", "50000", "--workers", "4")
    assert values["PUBLIC_URL"] == "https://meet.example.org:8443"
    outside = int(values["MEDIA_PORT_LAST"]) - int(values["MEDIA_PORT"])
    inside = int(values["MEDIA_PORT_LAST_INSIDE"]) - init.MEDIA_PORT_INSIDE
    assert outside == inside == int(values["MEDIA_WORKERS"]) - 1 == 3


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (["--domain", "no domain"], "domain"),
        (["--domain", "localhost"], "domain"),
        (["--address", "meet.example.org"], "address"),
        (["--address", "127.0.0.1"], "nobody outside"),
        (["--parts", "cpu,gpu"], "parts"),
        (["--parts", "monitoring"], "parts"),
        (["--parts", "cpu,disco"], "parts"),
        (["--workers", "9"], "workers"),
        (["--media-port", "65535"], "ports"),
        (["--https-port", "0"], "ports"),
    ],
)
def test_answers_that_cannot_be_are_named_and_nothing_is_written(
    tmp_path: Path, wrong: list[str], complaint: str
) -> None:
    with pytest.raises(init.InitError, match=complaint):
        made(tmp_path, *wrong)
    assert not (tmp_path / ".env").exists()


def test_a_line_without_a_value_and_a_value_without_a_line_are_mistakes() -> None:
    with pytest.raises(init.InitError, match="B has no value"):
        init.rendered("A=1\nB=\n", {})
    with pytest.raises(init.InitError, match="no line for C"):
        init.rendered("A=1\n", {"C": "2"})


def test_it_runs_with_nothing_but_python_and_asks_nobody_who_is_not_there(tmp_path: Path) -> None:
    plain = (
        f"import sys, runpy; sys.path.insert(0, {str(ROOT)!r}); runpy.run_module('candor.init', run_name='__main__')"
    )
    command = [sys.executable, "-I", "-S", "-c", plain, *GIVEN, "--directory", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    secret = re.search("^CANDOR_SECRET=(.*)$", (tmp_path / ".env").read_text(), re.MULTILINE)
    assert secret is not None
    assert secret[1] not in done.stdout + done.stderr
    silent = subprocess.run(
        [*command[:5], "--address", "203.0.113.5"],
        capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert silent.returncode == 2
    assert "--domain is needed" in silent.stderr


def test_config_check_names_all_that_would_be_refused(tmp_path: Path) -> None:
    (tmp_path / "index.html").touch()
    assert problems(load(arguments={"web_root": tmp_path})) == []
    wrong = {
        "web_root": tmp_path / "nowhere",
        "signaling": {"host": "0.0.0.0"},
        "cluster": {"redis_url": "redis://127.0.0.1"},
        "models": {"service": {"host": "0.0.0.0"}},
    }
    found = problems(load(arguments=wrong))
    assert [line.partition(":")[0] for line in found] == ["signaling", "cluster", "models.service", "web_root"]


def test_config_check_ends_with_a_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "candor.toml"
    (tmp_path / "index.html").touch()
    fine = f'web_root = "{tmp_path}"\n'
    for text, status in ((fine, 0), (f'{fine}[signaling]\nhost = "0.0.0.0"\n', 2), ("web_roto = 1\n", 2)):
        config.write_text(text)
        monkeypatch.setattr(sys, "argv", ["candor", "--config", str(config), "config", "check"])
        assert cli.main() == status
        assert bool(capsys.readouterr().err) == bool(status)
