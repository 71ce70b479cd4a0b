"""Which models an engine has: of the one on this machine the store says it, of one somewhere else what it told last."""

import asyncio
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from models import catalog
from models.catalog import ModelEntry
from models.store import Located, Lock, Missing, Store

NOT_REACHED = Missing("the model service has not been reached yet", "")


class Inventory(Protocol):
    """What `models.choosing` asks. `Store` is one."""

    def lock(self) -> Lock:
        """Which models are preferred, and what is known of those that were trained. Raises CorruptModelError."""

    def find(self, name: str) -> ModelEntry | None:
        """The model `name`; None if nobody knows it. Raises CorruptModelError."""

    def locate(self, entry: ModelEntry) -> Located | Missing:
        """Whether the engine can load it, and in which version."""


class Told(BaseModel):
    """What a service tells of its models. It crosses the wire."""

    model_config = ConfigDict(extra="ignore")

    versions: dict[str, str]
    """Of models that can be loaded."""
    missing: dict[str, tuple[str, str]]
    """Of those that cannot: why, and the command that would help there."""
    lock: Lock
    """Its preferences and what was trained there; not the files."""


class Elsewhere:
    """The inventory of an engine on another machine. `Located` says of it the version alone: the files are not here."""

    def __init__(self) -> None:
        self._told: Told | None = None

    def take(self, message: Any) -> bool:
        """Remember what the service told; whether it is something new. Raises ValueError if malformed."""
        try:
            told = Told.model_validate(message)
        except ValidationError as error:
            raise ValueError(f"malformed inventory: {error.error_count()} errors") from error
        changed = told != self._told
        self._told = told
        return changed

    def lock(self) -> Lock:
        """Empty before the service was reached."""
        return self._told.lock if self._told else Lock()

    def find(self, name: str) -> ModelEntry | None:
        """Of our catalog, or trained there."""
        for entry in catalog.load().model:
            if entry.name == name:
                return entry
        trained = self.lock().trained.get(name)
        return trained.entry(name) if trained else None

    def locate(self, entry: ModelEntry) -> Located | Missing:
        """As the service told last."""
        if self._told is None:
            return NOT_REACHED
        if entry.name in self._told.versions:
            return Located(Path(), self._told.versions[entry.name])
        if entry.name in self._told.missing:
            return Missing(*self._told.missing[entry.name])
        return Missing("the model service does not know it", "")


async def described(store: Store) -> dict[str, Any]:
    """What a service tells of a store, as a map for the wire. Raises CorruptModelError."""
    return await asyncio.to_thread(_described, store)


def _described(store: Store) -> dict[str, Any]:
    lock = store.lock()
    entries = [*catalog.load().model, *(trained.entry(name) for name, trained in lock.trained.items())]
    versions: dict[str, str] = {}
    missing: dict[str, tuple[str, str]] = {}
    for entry in entries:
        match store.locate(entry):
            case Located(version=version):
                versions[entry.name] = version
            case Missing(reason, command):
                missing[entry.name] = (reason, command)
    told = Told(versions=versions, missing=missing, lock=Lock(trained=lock.trained, preferred=lock.preferred))
    return told.model_dump(mode="json", exclude_defaults=True)  # nothing that an older node would not know
