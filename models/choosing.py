"""Which model a meeting asks about a task: the one that the operator prefers, else the first of the catalog that is here.

A preferred model that cannot be asked is not replaced by another in silence: the answer says why.
"""

from dataclasses import dataclass

from models import catalog
from models.catalog import ModelEntry, Task
from models.inventory import Inventory
from models.store import CorruptModelError, Located, Missing

CALIBRATED: frozenset[Task] = frozenset({"voice_authenticity", "face_authenticity"})
"""Tasks whose scores say nothing without a calibration."""
PREFERABLE: frozenset[Task] = CALIBRATED | {"expression", "face_detection"}
"""Tasks whose model is chosen here. That of speech is a setting, `processing.caption_model`."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A model that can be asked."""

    entry: ModelEntry
    version: str
    """name@version."""


def choose(task: Task, store: Inventory) -> Chosen | Missing:
    """The model for `task`, or why there is none and the command that would help."""
    try:
        return _choose(task, store)
    except CorruptModelError as error:
        return Missing(str(error), "candor models pull")


def _choose(task: Task, store: Inventory) -> Chosen | Missing:
    preferred = store.lock().preferred.get(task)
    if preferred:
        entry = store.find(preferred)
        return check(entry, store) if entry else Missing(f"{preferred} is preferred and not here", "candor models list")
    missing: Missing | None = None
    for entry in catalog.load().for_task(task):
        if entry.runner and entry.runner != "host":
            found = check(entry, store)
            if isinstance(found, Chosen):
                return found
            missing = missing or found
    return missing or Missing("the catalog has no model for it", "")


def check(entry: ModelEntry, store: Inventory) -> Chosen | Missing:
    """Whether a meeting may ask this model. Raises CorruptModelError."""
    located = store.locate(entry)
    if not isinstance(located, Located):
        return located
    trained = store.lock().trained.get(entry.name)
    if trained is not None and trained.fixture:
        evaluate = f"candor models evaluate {entry.name} --genuine DIR --synthetic DIR"
        return Missing(f"fixture: {entry.name}: {trained.fixture}", evaluate)
    if entry.task in CALIBRATED and entry.calibration is None:
        return Missing(f"{entry.name} has no calibration: nobody knows what its scores mean", "")
    return Chosen(entry, f"{entry.name}@{located.version}")
