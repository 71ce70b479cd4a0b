"""Puts packages into a folder as an installer would, without one: modules and a .dist-info with entry points."""

import shutil
import tomllib
from pathlib import Path

EXAMPLE = Path(__file__).parents[3] / "examples" / "candor_gain"


def install(folder: Path, name: str, entry_points: dict[str, str]) -> None:
    """Metadata of a distribution whose modules are already in `folder`."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{key} = {value}" for key, value in entry_points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[candor.processors]", *lines, ""]))


def install_example(folder: Path) -> None:
    """What `pip install examples/candor_gain` would put there."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(EXAMPLE / "candor_gain.py", folder)
    install(folder, project["name"], project["entry-points"]["candor.processors"])
