"""What a processor is. A Transform changes media and has a deadline; an Observer reports and can never delay a packet.

A processor is one object per host (it holds weights and configuration); a stream is its state for one track. Third parties
register a processor under the entry point `candor.processors`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from media_processors.findings import Finding, ProcessorInfo
from media_processors.frames import AudioFrame, TrackRef, VideoFrame
from media_processors.settings import ProcessingSettings
from media_processors.video.finder import FaceFinder
from models.client import InferenceClient
from models.inventory import Inventory
from models.store import Store

Samples = NDArray[np.float32]
Picture = NDArray[np.uint8]
"""Shape (height, width, 3), RGB."""
Emit = Callable[[Finding], None]


class TransformStream(Protocol):
    """A transform on one audio track."""

    delay_samples: int
    """By how much the output lags the input, in samples at `sample_rate_hz` (RNNoise: 960 at 48 kHz)."""

    def process(self, samples: Samples) -> Samples:
        """Same number of samples out as in, mono float32 in [-1, 1]. Runs inline in the path host: be quick."""

    def reset(self) -> None:
        """Forget the past: the sound was interrupted."""


@runtime_checkable
class Transform(Protocol):
    """A processor in the path of an audio track."""

    kind: ClassVar[Literal["transform"]]
    sample_rate_hz: int
    frame_samples: int

    def info(self) -> ProcessorInfo:
        """Name, and whether it can run here; if it cannot: why, and the command that would help."""

    def open(self, track: TrackRef) -> TransformStream:
        """State for one track. Only called if `info().available`."""


@runtime_checkable
class ChoosesModel(Protocol):
    """A transform whose model the settings choose, or that has weights in the store."""

    def choose_model(self, settings: ProcessingSettings, store: Store) -> None:
        """Called by the path host before `info` and `open`. May load; what fails is for `info` to say."""


class VideoTransformStream(Protocol):
    """A transform on one video track."""

    def process(self, picture: Picture, t_ms: int) -> Picture | None:
        """What viewers get instead, of the same or another size; None leaves the picture out. `t_ms` since the track began.

        Called in order, in a thread of the track's own, so it may wait; pictures that come meanwhile are left out, but for the
        newest. Raises UnavailableError if it can do nothing for this track, and why.
        """


@runtime_checkable
class VideoTransform(Protocol):
    """A processor that changes the pictures of a video track. It runs in the video host."""

    kind: ClassVar[Literal["transform"]]
    media: ClassVar[Literal["video"]]

    def info(self) -> ProcessorInfo:
        """Name, and whether it can run here; if it cannot: why, and the command that would help."""

    def open(self, track: TrackRef) -> VideoTransformStream:
        """State for one track. Only called if `info().available`."""


@runtime_checkable
class ReadsSettings(Protocol):
    """A video transform with settings."""

    def configure(self, settings: ProcessingSettings) -> None:
        """Called by the video host before `info` and `open`."""


class ObserverStream(Protocol):
    """An observer on one track. Called in order, from one thread; a slow one loses frames (counted), never delays media."""

    def push(self, frame: AudioFrame | VideoFrame) -> list[Finding]:
        """Look at a frame; return what there is to say now (often nothing). What a model answers later goes to `emit`."""

    def flush(self) -> list[Finding]:
        """The track ended or was paused: say what is left, now or through `emit`."""

    async def aclose(self) -> None:
        """Finish what `flush` began and free everything. Cancelled if that takes too long or is no longer wanted."""


@runtime_checkable
class Observer(Protocol):
    """A processor beside the path."""

    kind: ClassVar[Literal["observer"]]
    media: Literal["audio", "video"]
    sound: Literal["raw", "processed"]
    """Which sound it hears where a transform runs. Video observers ignore it."""
    sample_rate_hz: int
    """Audio is resampled to this rate, mono. 0 for video."""

    def info(self) -> ProcessorInfo:
        """Name, and whether it can run here; if it cannot: why, and the command that would help."""

    def open(self, track: TrackRef, emit: Emit) -> ObserverStream:
        """State for one track. Only called if `info().available`. `emit` takes findings at any time, on the host's loop."""


@runtime_checkable
class ReadsFindings(Protocol):
    """An observer stream that looks at what others find about the same track, captions for example."""

    def read(self, finding: Finding) -> list[Finding]:
        """Look at a finding of another observer; as `ObserverStream.push`."""


@runtime_checkable
class MayRefuse(Protocol):
    """An observer stream that may find out that it can say nothing of its track. Asked again and again."""

    silent_because: str
    """Why, in a word that clients translate, e.g. `language`; empty if nothing is in the way."""


@runtime_checkable
class ChoosesWidth(Protocol):
    """An observer stream of video that can say how wide its pictures need to be. Asked every 5 s."""

    wanted_width_px: int
    """It is shown the lowest simulcast layer that is at least so wide, else the highest; 0 is no wish: the middle layer. Of
    several observers on a track the largest wish counts. An answer that is not a number from 0 to 65535 counts as 0."""


@dataclass(frozen=True)
class HostServices:
    """What a host shares with its processors that ask models."""

    engine: InferenceClient
    store: Inventory
    """What the engine has."""
    settings: ProcessingSettings

    @cached_property
    def faces(self) -> FaceFinder:
        """Finds the faces of a picture once, for all observers that look at it."""
        return FaceFinder(self.engine, self.store)


@runtime_checkable
class AsksModels(Protocol):
    """An observer or a video transform that asks models. It is unavailable until its host has attached it."""

    def attach(self, services: HostServices) -> None:
        """Called before `info` and `open`, and again whenever an engine has come: it may have other models."""
