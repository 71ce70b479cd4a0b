"""An observer for tests: says of each picture what a file says, as evidence about a face.

`VERDICT` names the file, in the environment.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from media_processors.base import Emit
from media_processors.findings import FaceAuthenticity, Finding, ProcessorInfo
from media_processors.frames import AudioFrame, TrackRef, VideoFrame
from tests.unit.processors.installed import install

NAME = "verdicts"
VERDICT = "VERDICTS_FILE"


class Verdicts:
    kind: ClassVar[Literal["observer"]] = "observer"
    media: Literal["audio", "video"] = "video"
    sound: Literal["raw", "processed"] = "raw"
    sample_rate_hz = 0

    def info(self) -> ProcessorInfo:
        return ProcessorInfo(
            name=NAME, kind="observer", media="video", available=True, default_on=False, about="biometric"
        )

    def open(self, track: TrackRef, emit: Emit) -> "VerdictStream":
        return VerdictStream(track)


class VerdictStream:
    def __init__(self, track: TrackRef) -> None:
        self._track = track

    def push(self, frame: AudioFrame | VideoFrame) -> list[Finding]:
        assert isinstance(frame, VideoFrame)
        verdict = Path(os.environ[VERDICT]).read_text()
        track = self._track
        found = {
            "room_id": track.room_id,
            "participant_id": track.participant_id,
            "track_id": track.track_id,
            "epoch": track.epoch,
            "start_ms": frame.start_ms,
            "end_ms": frame.start_ms,
            "model": "verdicts@1",
            "verdict": verdict,
            "reason": "",
            "likelihood": 0.5,
            "score": 0.0,
            "evidence_ms": 6_000,
            "windows": 12,
            "known_errors": "all of it",
            "face_id": "1",
        }
        return [FaceAuthenticity.model_validate(found)]

    def flush(self) -> list[Finding]:
        return []

    async def aclose(self) -> None:
        return


@contextmanager
def installed_verdicts(folder: Path) -> Iterator[Callable[[str], object]]:
    """Processes started inside the block find the observer, as one that somebody has installed; call it with what to say."""
    install(folder, "candor-verdicts", {NAME: f"{__name__}:Verdicts"})
    file = folder / "verdict"

    def say(verdict: str) -> None:
        fresh = folder / "verdict.new"
        fresh.write_text(verdict)
        fresh.rename(file)

    say("likely_genuine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(Path(__file__).parents[2])]))
        patch.setenv(VERDICT, str(file))
        yield say
