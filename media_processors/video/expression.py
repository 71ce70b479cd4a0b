"""Expression: what a face shows, as one of seven words. Averaged over two seconds, told once a second."""

from collections import deque
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from media_processors.asking import Choice
from media_processors.base import Emit
from media_processors.findings import Expression
from media_processors.frames import TrackRef, VideoFrame
from media_processors.video.finder import FaceFinder
from media_processors.video.looking import FaceStream
from media_processors.video.observer import FaceObserver
from media_processors.video.tracker import TrackedFace
from models.catalog import Task
from models.faces import cut_out
from models.questions import Picture, Scores

SPAN_MS = 2_000
TELL_MS = 1_000
SMALLEST_PX = 32
"""Half of what the model takes; less has no expression left in it."""
DEADLINE_MS = 2_000


class ExpressionObserver(FaceObserver):
    """The observer `expression`."""

    name = "expression"
    about = "emotion"
    task: ClassVar[Task | None] = "expression"

    def stream(self, finder: FaceFinder, track: TrackRef, emit: Emit) -> "ExpressionStream":
        """Expressions of one track."""
        return ExpressionStream(self.judge(), finder, track, emit)


@dataclass(slots=True)
class _Shown:
    """What a face showed lately: when, and the probabilities."""

    face_id: str
    probabilities: deque[tuple[int, NDArray[np.float64]]] = field(default_factory=deque)
    told_ms: int | None = None


class ExpressionStream(FaceStream):
    """Expressions of one track."""

    def __init__(self, choice: Choice, finder: FaceFinder, track: TrackRef, emit: Emit) -> None:
        super().__init__(finder, track, emit)
        self._choice = choice
        self._entry = choice.required()
        self._model = choice.version
        self._shown = _Shown("")

    async def look(self, frame: VideoFrame, faces: list[TrackedFace]) -> None:
        """Ask about the largest face: the person whose camera it is, and not a picture on the wall."""
        if not faces or faces[0].box.width < SMALLEST_PX:
            return
        picture = Picture(cut_out(frame.image, faces[0].box))
        room_id, track_id = self.track.room_id, self.track.track_id
        scores = await self._choice.ask(picture, Scores, room_id=room_id, track_id=track_id, deadline_ms=DEADLINE_MS)
        self._model = self._choice.version
        self._heard(frame, faces[0].face_id, scores)

    def _heard(self, frame: VideoFrame, face_id: str, scores: Scores) -> None:
        if self._shown.face_id != face_id:
            self._shown = _Shown(face_id)
        shown = self._shown
        shown.probabilities.append((frame.start_ms, np.array(scores.values)))
        while frame.start_ms - shown.probabilities[0][0] > SPAN_MS:
            shown.probabilities.popleft()
        if shown.told_ms is not None and frame.start_ms - shown.told_ms < TELL_MS:
            return
        shown.told_ms = frame.start_ms
        mean = np.mean([probabilities for _, probabilities in shown.probabilities], axis=0)
        best = int(mean.argmax())
        self.emit(
            Expression(
                room_id=self.track.room_id,
                participant_id=self.track.participant_id,
                track_id=self.track.track_id,
                epoch=self.track.epoch,
                start_ms=shown.probabilities[0][0],
                end_ms=frame.start_ms,
                model=self._model,
                face_id=face_id,
                label=scores.labels[best],
                probability=round(min(1.0, float(mean[best])), 3),
                probabilities={label: round(float(share), 3) for label, share in zip(scores.labels, mean, strict=True)},
                known_errors=self._entry.known,
            )
        )
