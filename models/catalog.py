"""The catalog: every model by name, typed. Read once from `catalog.toml` beside this file."""

import tomllib
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.calibration import Calibration

CATALOG_PATH = Path(__file__).with_name("catalog.toml")

Repository = Annotated[str, Field(pattern=r"^\w[\w.-]*/\w[\w.-]*$")]
Inside = Annotated[str, Field(pattern=r"^\w[\w.-]*(/\w[\w.-]*)*$")]
"""A file's path inside its repository."""
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

Task = Literal[
    "speech_to_text",
    "voice_activity",
    "denoise",
    "text_emotion",
    "voice_emotion",
    "expression",
    "face_detection",
    "head_pose",
    "eye_direction",
    "voice_authenticity",
    "face_authenticity",
    "summary",
    "enhancement",
    "base",
]
"""What a model is for. A `base` answers nothing: heads are trained on it."""


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
    repository: Repository
    revision: str = Field(description="a commit, or a branch, which `pull` resolves to one")
    files: list[Inside]
    one_of: list[Inside] = Field(default=[], description="the first of these that the repository has is fetched too")


class PinnedFile(_Row):
    """A file whose contents are known beforehand."""

    path: Inside
    bytes: int
    sha256: Sha256


class GithubSource(_Row):
    """Files of a public GitHub repository."""

    kind: Literal["github"]
    repository: Repository
    revision: Commit
    files: list[PinnedFile]


class UrlSource(_Row):
    """A zip archive at an address, unpacked in the store without the one folder that is at its top."""

    kind: Literal["url"]
    url: str = Field(pattern=r"^https://")
    bytes: int
    sha256: Sha256

    @property
    def repository(self) -> str:
        """The host, which takes a repository's place in the store and in a mirror; the hash takes the commit's."""
        return str(urlsplit(self.url).hostname)

    @property
    def file_name(self) -> str:
        """What the archive is called, at the address and in a mirror."""
        return PurePosixPath(urlsplit(self.url).path).name


class DerivedSource(_Row):
    """No weights of its own: computed from what other models of the catalog answer."""

    kind: Literal["derived"]
    models: list[str] = Field(min_length=1)


class EnvironmentSource(_Row):
    """A package that cannot live beside ours and gets an environment and a process of its own."""

    kind: Literal["environment"]
    package: str = Field(pattern=r"^[\w.-]+==[\w.]+$")
    name: str = Field(pattern=r"^[a-z]+$")
    newest_python: str = Field(pattern=r"^3\.\d+$", description="the last Python that the package was built for")


class LocalSource(_Row):
    """A head that was trained here: in the store under its own name (`models.trained`)."""

    kind: Literal["local"]
    base: str


PulledSource = HubSource | GithubSource | UrlSource
"""Those that `pull` fetches."""
Source = Annotated[
    PackageSource | HubSource | GithubSource | UrlSource | DerivedSource | EnvironmentSource | LocalSource,
    Field(discriminator="kind"),
]


class ModelEntry(_Row):
    """One model: what it does, where its weights are, what it takes and gives, how good it is known to be."""

    name: str
    task: Task
    runner: str = Field(default="", description="who runs it in the engine; `host`: a host itself; empty: nobody yet")
    licence: str
    commercial: bool = Field(default=True, description="whether the licence allows commercial use")
    languages: list[str] = Field(description="ISO 639-1 codes, or `*` for many, with detection or none needed")
    quality: Literal["test", "standard"] = "standard"
    by_default: bool = Field(default=False, description="whether `candor models pull` without a name fetches it")
    sound: Literal["raw", "processed"] = Field(default="raw", description="of audio models: before or after transforms")
    sample_rate_hz: int | None = Field(default=None, description="of audio models")
    window_samples: int | None = Field(default=None, description="of audio models that take just so much")
    image_pixels: int | None = Field(default=None, description="of image models: width and height of what they take")
    labels: list[str] = Field(default=[], description="what a classifier answers, in its own order")
    known: str = Field(default="", description="published quality and errors, shown beside its findings")
    calibration: Calibration | None = Field(default=None, description="of authenticity: what its scores mean")
    requires: list[str] = Field(default=[], description="modules beyond the base install")
    size_bytes: int = Field(default=0, description="about so much is fetched")
    source: Source

    def speaks(self, language: str) -> bool:
        """Whether the model declares `language` (`auto`: whichever it declares)."""
        return language == "auto" or "*" in self.languages or language in self.languages


class Catalog(_Row):
    """All models."""

    model: list[ModelEntry]

    @model_validator(mode="after")
    def _names(self) -> "Catalog":
        names = [entry.name for entry in self.model]
        if len(names) != len(set(names)):
            raise ValueError("two models have one name")
        for entry in self.model:
            if isinstance(entry.source, DerivedSource) and (unknown := set(entry.source.models) - set(names)):
                raise ValueError(f"{entry.name} is derived from {sorted(unknown)}, which the catalog does not have")
        return self

    def get(self, name: str) -> ModelEntry:
        """The entry `name`. Raises KeyError with the known names."""
        for entry in self.model:
            if entry.name == name:
                return entry
        raise KeyError(f"no model {name!r}; known: {', '.join(entry.name for entry in self.model)}")

    def for_task(self, task: Task) -> list[ModelEntry]:
        """The entries for a task, in the catalog's order."""
        return [entry for entry in self.model if entry.task == task]


@cache
def load(path: Path = CATALOG_PATH) -> Catalog:
    """Read a catalog. Raises pydantic.ValidationError, naming the row and field."""
    return Catalog.model_validate(tomllib.loads(path.read_text()))
