"""The deployment files as a program reads them: compose with its variables filled in, Dockerfiles as instructions."""

import argparse
import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from candor import init

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"
VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>[A-Z0-9_]+)(?:(?P<kind>:-|:\?)(?P<rest>[^}]*))?\})")

Compose = dict[str, Any]


def answers(*options: str) -> dict[str, str]:
    """What `candor init` would write."""
    parser = argparse.ArgumentParser()
    init.add_arguments(parser)
    given = parser.parse_args(["--domain", "meet.example.org", "--address", "203.0.113.5", *options])
    checked = init.Answers(
        given.domain, given.address, tuple(given.parts.split(",")), given.https_port, given.media_port, given.workers
    ).checked()
    text = init.rendered((ROOT / ".env.example").read_text(), {**checked.values(), **init.fresh_secrets()})
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))


def interpolated(value: Any, variables: dict[str, str]) -> Any:
    """A value of a compose file with its variables filled in, as docker compose does it. KeyError for one that is required."""

    def filled(match: re.Match[str]) -> str:
        name, kind, rest = match["name"], match["kind"], match["rest"]
        if name is None:
            return "$"
        if kind == ":-":
            return variables.get(name) or rest
        return variables[name]

    if isinstance(value, dict):
        return {key: interpolated(one, variables) for key, one in value.items()}
    if isinstance(value, list):
        return [interpolated(one, variables) for one in value]
    return VARIABLE.sub(filled, value) if isinstance(value, str) else value


@cache
def raw_compose() -> Compose:
    """docker-compose.yml, anchors resolved."""
    compose: Compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return compose


def compose(*options: str) -> Compose:
    """docker-compose.yml with what `candor init` answers."""
    filled: Compose = interpolated(raw_compose(), answers(*options))
    return filled


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Of a Dockerfile: each instruction and the rest of its line, continuation lines joined."""
    text = re.sub(r"\\\n\s*", " ", dockerfile.read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines]
