"""MediaPipe, if this machine has it: `candor models setup landmarks` into the usual store."""

from pathlib import Path

import pytest

from models import catalog, environments
from models.catalog import EnvironmentSource
from models.settings import ModelSettings
from models.store import Located, Store
from tests.unit.models.test_models_cli import MIRROR, models

ENTRY = catalog.load().get("mediapipe-landmarks")
_HERE = Store(ModelSettings().store_dir)

needs_landmarks = pytest.mark.skipif(
    not isinstance(_HERE.locate(ENTRY), Located), reason="needs MediaPipe: candor models setup landmarks"
)


def store_with_eyes(root: Path) -> Path:
    """Make a store of YuNet, from the mirror, and of the environment that this machine has."""
    assert models(root, "pull", "--mirror", str(MIRROR), "yunet") == 0
    assert isinstance(ENTRY.source, EnvironmentSource)
    (root / "environments").mkdir()
    environments.folder(root, ENTRY.source).symlink_to(environments.folder(_HERE.root, ENTRY.source))
    (root / "landmarks.lock").symlink_to(_HERE.root / "landmarks.lock")
    return root
