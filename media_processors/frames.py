"""Decoded media on its way to processors."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TrackRef:
    """Which track, under which consent epoch."""

    room_id: str
    participant_id: str
    track_id: str
    kind: Literal["audio", "video"]
    source: str
    epoch: int


@dataclass(frozen=True, slots=True)
class AudioFrame:
    """Mono sound of one packet."""

    samples: NDArray[np.float32]
    """Shape (n,), in [-1, 1], at the rate the observer asked for."""
    sample_rate_hz: int
    start_ms: int
    """Since the track was opened, on the publisher's clock (DTX gaps and losses included)."""
    arrival_ns: int
    """`time.monotonic_ns()` when the packet reached the worker."""
    speech: float
    """Probability of speech in [0, 1] from the host's voice activity detector."""
    concealed: bool
    """True if the packet was lost and this is concealment."""


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """A decoded picture. A track has at most two a second; their size changes with the layer that is shown."""

    image: NDArray[np.uint8]
    """Shape (height, width, 3), RGB, read-only."""
    start_ms: int
    """Since the first picture after the track was opened, on the publisher's clock."""
    arrival_ns: int
    """`time.monotonic_ns()` when the packet that completed it reached the worker."""
