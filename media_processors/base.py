"""What a processor is. A Transform changes media and has a deadline; an Observer reports and can never delay a packet.

A processor is one object per host (it holds weights and configuration); a stream is its state for one track. Third parties
register a processor under the entry point `candor.processors`.
"""

from typing import ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from media_processors.findings import Finding, ProcessorInfo
from media_processors.frames import AudioFrame, TrackRef, VideoFrame

Samples = NDArray[np.float32]


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


class ObserverStream(Protocol):
    """An observer on one track. Called in order, from one thread; a slow one loses frames (counted), never delays media."""

    def push(self, frame: AudioFrame | VideoFrame) -> list[Finding]:
        """Look at a frame; return what there is to say now (often nothing)."""

    def flush(self) -> list[Finding]:
        """The track ended or was paused: say what is left."""

    async def aclose(self) -> None:
        """Free everything."""


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

    def open(self, track: TrackRef) -> ObserverStream:
        """State for one track. Only called if `info().available`."""
