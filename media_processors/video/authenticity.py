"""Face authenticity: is a face a person's, or was it swapped in? Evidence from pictures of a camera, where they may be judged."""

from dataclasses import dataclass
from typing import ClassVar

from media_processors.asking import Choice
from media_processors.base import Emit
from media_processors.evidence import Assessment, Evidence
from media_processors.findings import FaceAuthenticity
from media_processors.frames import TrackRef, VideoFrame
from media_processors.video.finder import FaceFinder
from media_processors.video.looking import FaceStream
from media_processors.video.observer import FaceObserver
from media_processors.video.tracker import FORGET_MS, TrackedFace
from media_processors.video.validity import refusal
from models.calibration import genuine_score
from models.catalog import Task
from models.faces import MARGIN, cut_out
from models.questions import Picture, Scores

ENOUGH_MS = 5_000
"""Face before anything is said of it."""
KEPT = 60
"""Pictures that count: the last half minute."""
LONGEST_MS = 1_000
"""A picture stands for the time since the one before it, and for no more than this."""
TELL_MS = 1_000
MAX_FACES = 2
"""Of one picture: the largest."""
DEADLINE_MS = 2_000
GONE = Assessment("insufficient_evidence", "gone", None, None, 0, 0)
"""Of a face that is not there any more."""


class FaceAuthenticityObserver(FaceObserver):
    """The observer `face_authenticity`."""

    name = "face_authenticity"
    task: ClassVar[Task | None] = "face_authenticity"

    def stream(self, finder: FaceFinder, track: TrackRef, emit: Emit) -> "FaceAuthenticityStream":
        """Evidence about the faces of one track."""
        return FaceAuthenticityStream(self.judge(), finder, track, emit)


@dataclass(slots=True)
class _Face:
    """What is known of a face."""

    evidence: Evidence
    start_ms: int
    end_ms: int
    """On the publisher's clock; the others on ours."""
    seen_ms: int
    told_ms: int
    told: bool = False


class FaceAuthenticityStream(FaceStream):
    """Evidence about the faces of one track."""

    def __init__(self, choice: Choice, finder: FaceFinder, track: TrackRef, emit: Emit) -> None:
        super().__init__(finder, track, emit)
        self._choice = choice
        self._entry = choice.required()
        self._model = choice.version
        self._calibration = choice.calibration()
        self._faces: dict[str, _Face] = {}

    def refusal(self, face: TrackedFace, picture: Picture, frame: VideoFrame) -> str:
        """Why a face may not be judged just now; empty if it may."""
        height, width = frame.image.shape[:2]
        return refusal(face.box, picture.rgb, width, height)

    async def look(self, frame: VideoFrame, faces: list[TrackedFace]) -> None:
        """Judge the largest faces; the others, and those that left, are forgotten."""
        now_ms = frame.arrival_ns // 1_000_000  # a publisher's own clock could make seconds of nothing
        self._forget(now_ms)
        for face in faces[:MAX_FACES]:
            known = self._faces.setdefault(face.face_id, self._new_face(frame, now_ms))
            media_ms = min(LONGEST_MS, now_ms - known.seen_ms)
            known.seen_ms, known.end_ms = now_ms, frame.start_ms
            picture = Picture(cut_out(frame.image, face.box, margin=MARGIN, square=True))
            refused = self.refusal(face, picture, frame)
            found = known.evidence.refuse(refused) if refused else await self._judge(known, picture, media_ms)
            if now_ms - known.told_ms >= TELL_MS:
                known.told_ms, known.told = now_ms, True
                self.emit(self._finding(face.face_id, known, found))

    def _new_face(self, frame: VideoFrame, now_ms: int) -> _Face:
        evidence = Evidence(self._calibration, ENOUGH_MS, KEPT)
        return _Face(evidence, frame.start_ms, frame.start_ms, now_ms, now_ms)

    def _forget(self, now_ms: int) -> None:
        """What was said of a face that has left stands no longer, and that is said."""
        for face_id, known in list(self._faces.items()):
            if now_ms - known.seen_ms > FORGET_MS:
                del self._faces[face_id]
                if known.told:
                    self.emit(self._finding(face_id, known, GONE))

    async def _judge(self, known: _Face, picture: Picture, media_ms: int) -> Assessment:
        room_id, track_id = self.track.room_id, self.track.track_id
        scores = await self._choice.ask(picture, Scores, room_id=room_id, track_id=track_id, deadline_ms=DEADLINE_MS)
        self._adopt()
        return known.evidence.add(genuine_score(scores), media_ms)

    def _adopt(self) -> None:
        """Another model may have answered than before: its scores mean something else, so evidence begins anew."""
        if self._choice.version == self._model:
            return
        self._entry, self._model = self._choice.required(), self._choice.version
        self._calibration = self._choice.calibration()
        for known in self._faces.values():
            known.evidence = Evidence(self._calibration, ENOUGH_MS, KEPT)

    def _finding(self, face_id: str, known: _Face, found: Assessment) -> FaceAuthenticity:
        return FaceAuthenticity(
            room_id=self.track.room_id,
            participant_id=self.track.participant_id,
            track_id=self.track.track_id,
            epoch=self.track.epoch,
            start_ms=known.start_ms,
            end_ms=max(known.start_ms, known.end_ms),
            model=self._model,
            face_id=face_id,
            **found.told(),
            known_errors=self._entry.known,
        )
