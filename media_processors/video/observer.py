"""What observers of faces have in common as processors: off until somebody asks, and the models that they need."""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

from media_processors.asking import Choice
from media_processors.base import Emit, HostServices
from media_processors.errors import UnavailableError
from media_processors.findings import ProcessorInfo
from media_processors.frames import TrackRef
from media_processors.video.finder import FaceFinder
from media_processors.video.looking import FaceStream
from models.catalog import Task


class FaceObserver(ABC):
    """An observer of the faces of a camera. Off until somebody asks for it: it is about the body of a person."""

    kind: ClassVar[Literal["observer"]] = "observer"
    media: Literal["audio", "video"] = "video"
    sound: Literal["raw", "processed"] = "raw"
    sample_rate_hz = 0
    name: ClassVar[str]
    about: ClassVar[Literal["biometric", "attention", "emotion"]] = "biometric"
    task: ClassVar[Task | None]
    """What it asks about a face that was found; None if finding it is all."""

    def __init__(self) -> None:
        self.finder: FaceFinder | None = None
        self.choice = None if self.task is None else Choice(self.task)

    def attach(self, services: HostServices) -> None:
        """Choose the models."""
        self.finder = services.faces
        self.finder.attach()
        if self.choice is not None:
            self.choice.attach(services.engine, services.store)

    def info(self) -> ProcessorInfo:
        """Available if the models are here and the engine has not refused them."""
        missing = next((choice.missing for choice in self._choices() if not choice.here), None)
        return ProcessorInfo(
            name=self.name,
            kind="observer",
            media="video",
            available=missing is None and self.finder is not None,
            reason=missing.reason if missing else "" if self.finder else "it runs in the watch host",
            command=missing.command if missing else "",
            model="" if missing else "+".join(choice.version for choice in self._choices()),
            default_on=False,
            about=self.about,
        )

    def open(self, track: TrackRef, emit: Emit) -> FaceStream:
        """State for one track. Raises UnavailableError if a model is missing."""
        if self.finder is None:
            raise UnavailableError("it runs in the watch host")
        for choice in self._choices():
            choice.required()
        return self.stream(self.finder, track, emit)

    @abstractmethod
    def stream(self, finder: FaceFinder, track: TrackRef, emit: Emit) -> FaceStream:
        """State for one track."""

    def judge(self) -> Choice:
        """The model that it asks about a face. Raises UnavailableError if it asks none."""
        if self.choice is None:
            raise UnavailableError("it has no model")
        return self.choice

    def _choices(self) -> list[Choice]:
        found = [] if self.finder is None else [self.finder.choice]
        return found if self.choice is None else [*found, self.choice]
