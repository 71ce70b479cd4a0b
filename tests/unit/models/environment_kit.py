"""A store in which somebody installed the environment `landmarks`: one file, this interpreter, and a lock."""

import sys
from pathlib import Path

from models import catalog, environments
from models.catalog import EnvironmentSource
from models.environments import InstalledEnvironment
from models.store import Store, sha256_of

ENTRY = catalog.load().get("mediapipe-landmarks")
SETUP = "candor models setup landmarks"


def source() -> EnvironmentSource:
    """Of the model that lives there."""
    assert isinstance(ENTRY.source, EnvironmentSource)
    return ENTRY.source


def with_landmarks(root: Path) -> Store:
    """Nothing in it can find a landmark."""
    folder = environments.folder(root, source())
    (folder / "bin").mkdir(parents=True)
    environments.python(folder).symlink_to(sys.executable)
    (folder / "mesh.tflite").write_bytes(b"weights")
    lock(root)
    return Store(root)


def lock(root: Path, **changes: object) -> None:
    """What the lock says, changed perhaps."""
    fields = {
        "package": source().package,
        "python": "3.11.7",
        "requirements_sha256": environments.sha256_of_requirements(source()),
        "packages": {"mediapipe": "0.10.21"},
        "links": {"bin/python": sys.executable},
        "files": {"mesh.tflite": sha256_of(environments.folder(root, source()) / "mesh.tflite")},
    }
    environments.write(root, source(), InstalledEnvironment.model_validate(fields | changes))
