"""Dockerfiles: what they copy is in the build context and in the repository, and what they install is pinned."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.unit.deploy.files import DEPLOY, ROOT, instructions

DOCKERFILES = sorted((DEPLOY / "docker").glob("*.Dockerfile"))


def context() -> list[str]:
    """What .dockerignore lets through."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    return [line.removeprefix("!") for line in lines if line.startswith("!")]


def test_the_context_is_what_is_in_the_repository() -> None:
    for path in context():
        assert (ROOT / path).exists(), path
        listed = subprocess.run(["git", "ls-files", path], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert listed, f"{path} is not in the repository"
    assert not any(path.startswith((".env", ".git")) for path in context())


def test_every_package_of_ours_is_in_the_context() -> None:
    included = re.search(r"include = \[(.*)\]", (ROOT / "pyproject.toml").read_text())
    assert included is not None
    packages = {name.strip(' "*') for name in included[1].split(",")}
    assert packages <= set(context())


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_copied_files_are_in_the_context(dockerfile: Path) -> None:
    for name, rest in instructions(dockerfile):
        if name != "COPY" or "--from=" in rest:
            continue
        for source in rest.split()[:-1]:
            assert source == "." or any(
                path.startswith(source.rstrip("/")) or source.startswith(path) for path in context()
            )


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_bases_are_pinned_and_it_ends_as_somebody_else_than_root(dockerfile: Path) -> None:
    lines = instructions(dockerfile)
    for name, rest in lines:
        if name == "FROM":
            assert re.match(r"[a-z]+:\d+\.\d+\.\d+-[a-z-]+", rest), rest
    assert [rest for name, rest in lines if name == "USER"][-1] == "10001:10001"
    assert {"HEALTHCHECK", "STOPSIGNAL", "ENTRYPOINT"} <= {name for name, _ in lines}


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_what_is_installed_is_pinned(dockerfile: Path) -> None:
    installs = [rest for name, rest in instructions(dockerfile) if name == "RUN" and "pip install" in rest]
    assert installs
    for line in installs:
        whole = "--require-hashes" in line or "--requirement models/requirements/ray.txt" in line
        assert "--constraint requirements/constraints.txt" in line or whole


def test_the_list_for_ray_has_a_version_for_everything() -> None:
    lines = (ROOT / "models" / "requirements" / "ray.txt").read_text().splitlines()
    assert all("==" in line for line in lines if line and not line.startswith("#"))


def test_the_same_torch_as_everywhere() -> None:
    here = {version for path in DOCKERFILES for version in re.findall(r"torch==([\d.]+)", path.read_text())}
    assert here == set(re.findall(r"torch==([\d.]+)", (ROOT / "pyproject.toml").read_text()))
