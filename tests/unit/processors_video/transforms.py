"""Video transforms for tests."""

import threading
from collections.abc import Callable
from typing import ClassVar, Literal

from media_processors import registry
from media_processors.base import Picture
from media_processors.findings import ProcessorInfo
from media_processors.frames import TrackRef

Change = Callable[[Picture], Picture | None]


class Changes:
    """A transform that is a function."""

    kind: ClassVar[Literal["transform"]] = "transform"
    media: ClassVar[Literal["video"]] = "video"

    def __init__(self, name: str, change: Change) -> None:
        self.name = name
        self.change = change
        self.reason = ""
        self.opened = 0

    def info(self) -> ProcessorInfo:
        available = not self.reason
        return ProcessorInfo(
            name=self.name, kind="transform", media="video", available=available, reason=self.reason, default_on=False
        )

    def open(self, track: TrackRef) -> "Changes":
        self.opened += 1
        return self

    def process(self, picture: Picture, t_ms: int) -> Picture | None:
        return self.change(picture)

    @property
    def loaded(self) -> dict[str, registry.Loaded]:
        return {self.name: registry.Loaded(self.info(), self)}


def negative() -> Changes:
    """White for black."""
    return Changes("negative", lambda picture: 255 - picture)


class Gate:
    """A transform that waits for leave before each picture."""

    def __init__(self) -> None:
        self.leave = threading.Semaphore(0)
        self.waiting = threading.Event()

    def __call__(self, picture: Picture) -> Picture:
        self.waiting.set()
        assert self.leave.acquire(timeout=20), "leave to go on"
        return picture
