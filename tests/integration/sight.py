"""An observer for tests: tells everybody how large each picture is that it sees, as a caption.

`WANTS` names a variable of the environment with the width that it asks for; without it has no wish.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from media_processors.base import Emit
from media_processors.findings import Caption, Finding, ProcessorInfo
from media_processors.frames import AudioFrame, TrackRef, VideoFrame
from tests.unit.processors.installed import install

NAME = "sight"
WANTS = "SIGHT_WANTS_PX"


class Sight:
    kind: ClassVar[Literal["observer"]] = "observer"
    media: Literal["audio", "video"] = "video"
    sound: Literal["raw", "processed"] = "raw"
    sample_rate_hz = 0

    def info(self) -> ProcessorInfo:
        return ProcessorInfo(name=NAME, kind="observer", media="video", available=True)

    def open(self, track: TrackRef, emit: Emit) -> "SightStream":
        return SightStream(track)


class SightStream:
    def __init__(self, track: TrackRef) -> None:
        self._track = track
        self.wanted_width_px = int(os.environ.get(WANTS, "0"))

    def push(self, frame: AudioFrame | VideoFrame) -> list[Finding]:
        assert isinstance(frame, VideoFrame)
        height, width, colours = frame.image.shape
        assert colours == 3
        return [
            Caption(
                room_id=self._track.room_id,
                participant_id=self._track.participant_id,
                track_id=self._track.track_id,
                epoch=self._track.epoch,
                start_ms=frame.start_ms,
                end_ms=frame.start_ms,
                model="sight@1",
                segment_id=f"{self._track.track_id}-{frame.start_ms}",
                rev=0,
                text=f"{width}x{height}",
                stable_chars=0,
                final=True,
                language="zxx",
                quality="test",
                latency_ms=0,
            )
        ]

    def flush(self) -> list[Finding]:
        return []

    async def aclose(self) -> None:
        return


@contextmanager
def installed_sight(folder: Path, wants_px: int = 0) -> Iterator[None]:
    """Processes started inside the block find the observer, as one that somebody has installed."""
    install(folder, "candor-sight", {NAME: f"{__name__}:Sight"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(Path(__file__).parents[2])]))
        patch.setenv(WANTS, str(wants_px))
        yield
