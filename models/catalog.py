"""The catalog: every model by name, typed. Read once from `catalog.toml` beside this file."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

CATALOG_PATH = Path(__file__).with_name("catalog.toml")


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PackageSource(_Row):
    """Weights that come inside a Python package of the base install."""

    kind: Literal["package"]
    package: str
    module: str = Field(default="", description="import name, where it differs from the package's")


class HubSource(_Row):
    """Weights on the Hugging Face hub."""

    kind: Literal["hf"]
    repository: str = Field(pattern=r"^\w[\w.-]*/\w[\w.-]*$")
    revision: str
    files: list[Annotated[str, Field(pattern=r"^\w[\w.-]*(/\w[\w.-]*)*$")]]


class ModelEntry(_Row):
    """One model: what it does, where its weights are, what it hears."""

    name: str
    task: Literal["speech_to_text", "voice_activity", "denoise"]
    runner: Literal["pocketsphinx", "whisper", ""] = Field(default="", description="empty: not run by the engine")
    licence: str
    languages: list[str] = Field(description="ISO 639-1 codes, or `*` for many with detection")
    quality: Literal["test", "standard"] = "standard"
    sound: Literal["raw", "processed"]
    sample_rate_hz: int
    requires: list[str] = Field(default=[], description="modules beyond the base install")
    size_bytes: int = 0
    source: Annotated[PackageSource | HubSource, Field(discriminator="kind")]

    def speaks(self, language: str) -> bool:
        """Whether the model declares `language` (`auto`: whichever it declares)."""
        return language == "auto" or "*" in self.languages or language in self.languages


class Catalog(_Row):
    """All models."""

    model: list[ModelEntry]

    def get(self, name: str) -> ModelEntry:
        """The entry `name`. Raises KeyError with the known names."""
        for entry in self.model:
            if entry.name == name:
                return entry
        raise KeyError(f"no model {name!r}; known: {', '.join(entry.name for entry in self.model)}")

    def for_task(self, task: str) -> list[ModelEntry]:
        """The entries for a task, in the catalog's order."""
        return [entry for entry in self.model if entry.task == task]


@cache
def load(path: Path = CATALOG_PATH) -> Catalog:
    """Read a catalog. Raises pydantic.ValidationError, naming the row and field."""
    return Catalog.model_validate(tomllib.loads(path.read_text()))
