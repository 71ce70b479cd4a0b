"""One frozen settings object: precedence, refusals, and what leaves the process."""

import json
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from candor.settings import ConfigurationError, dump, load, restore, shown
from candor.supervisor import node_roles

SECRET = "s" * 40
RELAY_SECRET = "r" * 40


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("CANDOR_"):
            monkeypatch.delenv(name)


def test_arguments_beat_the_environment_beats_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "candor.toml"
    path.write_text('log_level = "error"\n[signaling]\nport = 1\nroom_capacity = 7\n[sfu]\nworkers = 3\n')
    monkeypatch.setenv("CANDOR_SIGNALING__PORT", "2")
    monkeypatch.setenv("CANDOR_SFU__WORKERS", "4")
    settings = load(path, {"signaling": {"port": 5}})
    assert settings.signaling.port == 5
    assert settings.sfu.workers == 4
    assert settings.signaling.room_capacity == 7
    assert settings.log_level == "error"


def test_unknown_keys_are_refused_with_the_nearest_known_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "candor.toml"
    path.write_text("[signaling]\nprot = 1\n")
    with pytest.raises(ConfigurationError, match=r"'signaling.prot'; did you mean 'signaling.port'"):
        load(path)
    monkeypatch.setenv("CANDOR_SIGNALING__ROOM_CAPACTY", "3")
    with pytest.raises(ConfigurationError, match=r"signaling\.room_capacity"):
        load()


@pytest.mark.parametrize("text", ["not toml", "[signaling]\nport = 'x'\n"])
def test_a_bad_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "candor.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError):
        load(path)
    with pytest.raises(ConfigurationError, match="cannot read"):
        load(tmp_path / "nothing.toml")


def test_the_address_of_redis_is_for_signaling_alone() -> None:
    settings = load(arguments={"cluster": {"redis_url": "redis://:redis-password@redis.test/0", "node_id": "a"}})
    assert restore(dump(settings, secrets=True).encode()).cluster == settings.cluster
    assert "redis-password" not in dump(settings, secrets=False) + shown(settings)
    assert restore(dump(settings, secrets=False).encode()).cluster.node_id == "a"


def test_settings_are_frozen() -> None:
    settings = load()
    with pytest.raises(ValidationError):
        settings.signaling.port = 1  # type: ignore[misc]  # that it is refused is the point


def test_only_the_child_that_needs_secrets_gets_them() -> None:
    turn = {"urls": ["turn:x"], "username": "u", "credential": "turn-password"}
    relay = {"urls": ["turn:y"], "secret": RELAY_SECRET}
    settings = load(arguments={"signaling": {"secret": SECRET, "ice_servers": [turn], "turn": relay}})
    for_signaling = dump(settings, secrets=True)
    assert restore(for_signaling.encode()) == settings
    for_others = dump(settings, secrets=False)
    assert SECRET not in for_others
    assert "turn-password" not in for_others
    assert RELAY_SECRET not in for_others
    assert restore(for_others.encode()).sfu == settings.sfu
    assert json.loads(shown(settings))["signaling"]["secret"] == "**********"
    assert "turn-password" not in shown(settings)
    assert RELAY_SECRET not in shown(settings)
    assert settings.signaling.secret == SecretStr(SECRET)


def test_the_key_of_the_models_goes_to_those_who_ask_them() -> None:
    backend = {"backend": "http", "backend_url": "https://models.example.org", "backend_key": "cmk_secret"}
    settings = load(arguments={"models": backend})
    assert restore(dump(settings, secrets=False, asks_models=True).encode()).models == settings.models
    for_others = restore(dump(settings, secrets=True).encode())
    assert for_others.models == settings.models.model_copy(update={"backend_key": None})
    assert "cmk_secret" not in dump(settings, secrets=True)
    assert "cmk_secret" not in shown(settings)


def test_a_node_whose_models_are_elsewhere_runs_no_engine() -> None:
    elsewhere = load(arguments={"models": {"backend": "http", "backend_url": "https://models.example.org"}})
    here = {role.label for role in node_roles(load())}
    assert here - {role.label for role in node_roles(elsewhere)} == {"engine"}
