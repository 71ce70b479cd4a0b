"""The commands, against a service over loopback."""

import argparse
import base64
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from models.service import cli
from models.service.auth import digest_of
from models.service.server import ModelService
from models.service.settings import ServiceSettings
from tests.unit.service.conftest import HereStore
from tests.unit.service.kit import png, wav


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    cli.register(parser.add_subparsers(dest="models_command"))
    return parser.parse_args(arguments)


@pytest.fixture
def settings(service: ModelService) -> ServiceSettings:
    return ServiceSettings(url=service.url)


async def said(settings: ServiceSettings, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    await cli.over_http(parsed(*arguments), settings)
    return "\n".join(line for line in capsys.readouterr().out.splitlines() if "[info" not in line)


async def test_models_are_listed_deployed_scaled_and_told(
    settings: ServiceSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "aasist " in await said(settings, capsys, "status")
    told: dict[str, Any] = json.loads(await said(settings, capsys, "deploy", "aasist"))
    assert (told["state"], told["version"]) == ("deployed", "1")
    assert json.loads(await said(settings, capsys, "scale", "aasist", "0"))["state"] == "stopped"
    assert json.loads(await said(settings, capsys, "status", "aasist"))["command"] == "candor models deploy aasist"


async def test_text_sound_and_pictures_are_asked_about(
    settings: ServiceSettings, capsys: pytest.CaptureFixture[str], tmp_path: Path, store: HereStore
) -> None:
    told = json.loads(await said(settings, capsys, "infer", "emotion_detection", "--text", "hello", "--language", "en"))
    assert told["result"]["scores"][0]["label"] == "joy"
    sound, picture, larger = tmp_path / "a.wav", tmp_path / "a.png", tmp_path / "b.png"
    sound.write_bytes(wav(1.0))
    picture.write_bytes(png(16, 16))
    told = json.loads(await said(settings, capsys, "infer", "pocketsphinx-en-us", "--file", str(sound)))
    assert told["result"]["text"] == "16000 samples"
    told = json.loads(
        await said(settings, capsys, "infer", "video_enhancement", "--file", str(picture), "--out", str(larger))
    )
    assert told["result"] == {"image": "b.png"}
    assert larger.read_bytes().startswith(b"\x89PNG")


async def test_a_refusal_names_code_and_command(settings: ServiceSettings, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(cli.ClientError, match=r"unavailable: .*: (candor models pull|make models)"):
        await said(settings, capsys, "deploy", "whisper-base")
    with pytest.raises(cli.ClientError, match="unknown_model"):
        await said(settings, capsys, "status", "hal")


def test_without_a_service_the_command_that_starts_one_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(parsed("status"), ServiceSettings(url="http://127.0.0.1:9")) == 1
    assert "candor models serve" in capsys.readouterr().err


def test_a_key_comes_with_the_lines_that_let_it_in(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(parsed("key", "recorder", "--scope", "models:infer"), ServiceSettings()) == 0
    out = capsys.readouterr().out
    [kept] = ServiceSettings.model_validate(tomllib.loads(out)["models"]["service"]).api_keys
    key = out.splitlines()[0].rpartition(" ")[2]
    assert (kept.id, kept.sha256, kept.scopes) == ("recorder", digest_of(key), ["models:infer"])


def test_a_token_needs_the_secret(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(parsed("token"), ServiceSettings()) == 1
    assert "SECRET" in capsys.readouterr().err
    assert cli.run(parsed("token"), ServiceSettings.model_validate({"secret": "s" * 32})) == 0
    claims = capsys.readouterr().out.split(".")[1]
    assert json.loads(base64.urlsafe_b64decode(claims + "=="))["scopes"] == ["models:read", "models:infer"]
