"""Runs the install steps of the Dockerfiles without a container engine: a copy of the build context, an environment for each.

    python scripts/check_images.py [candor] [models] [ray]

It takes minutes and fetches what an image would, torch included, so it is not among the tests. What it cannot show is all that
needs an engine: the base images, users, volumes, health checks. The environment's folder replaces /opt/candor.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.unit.deploy.files import instructions  # noqa: E402  # the repository is not installed where this may run

INSTALLED = "/opt/candor"
SHOWS = {
    "candor": ["candor", "config", "show"],
    "models": ["candor", "models", "list"],
    "ray": ["serve", "--help"],
}
"""What the image's own command must be able to say afterwards."""


def context(folder: Path) -> None:
    """The files that .dockerignore lets through, of those in the repository."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    paths = [line.removeprefix("!") for line in lines if line.startswith("!")]
    archive = subprocess.run(["git", "archive", "HEAD", *paths], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)


def run_steps(name: str, build: Path, installed: Path) -> None:
    """The RUN lines up to the last stage, with the Dockerfile's own defaults of its arguments."""
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    folder = build
    stages = 0
    lines = instructions(ROOT / "deploy" / "docker" / f"{name}.Dockerfile")
    last = sum(1 for instruction, _ in lines if instruction == "FROM")
    for instruction, rest in lines:
        if instruction == "FROM":
            stages += 1
            if stages == last:
                return
        elif instruction == "ARG":
            variable, _, default = rest.partition("=")
            environment.setdefault(variable, default)
        elif instruction == "WORKDIR":
            folder = build / rest.removeprefix("/build").lstrip("/")
        elif instruction == "RUN":
            command = rest.replace(INSTALLED, str(installed))
            sys.stdout.write(f"{name}: {command}\n")
            sys.stdout.flush()
            subprocess.run(["sh", "-ec", command], cwd=folder, env=environment, check=True)


def check(name: str) -> None:
    """One image. Raises CalledProcessError for the step that fails."""
    with tempfile.TemporaryDirectory(prefix=f"candor-image-{name}-") as temporary:
        build, installed = Path(temporary, "build"), Path(temporary, "candor")
        build.mkdir()
        context(build)
        run_steps(name, build, installed)
        environment = {key: value for key, value in os.environ.items() if not re.match("CANDOR_|PYTHON", key)}
        command = [str(installed / "bin" / SHOWS[name][0]), *SHOWS[name][1:]]
        subprocess.run(command, cwd="/", env=environment, check=True, stdout=subprocess.DEVNULL)
        if name == "candor" and not (build / "web" / "dist" / "index.html").is_file():
            raise SystemExit("the page was not built")
        sys.stdout.write(f"{name}: installed, and {' '.join(command[-2:])} works\n")


if __name__ == "__main__":
    for image in sys.argv[1:] or list(SHOWS):
        check(image)
