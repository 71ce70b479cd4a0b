"""Faces: who is in the picture, where, and which way heads are turned."""

from collections import deque
from typing import ClassVar

from media_processors.base import Emit
from media_processors.findings import Faces, SeenFace
from media_processors.frames import TrackRef, VideoFrame
from media_processors.video.finder import FaceFinder
from media_processors.video.looking import FaceStream
from media_processors.video.observer import FaceObserver
from media_processors.video.pose import head_pose
from media_processors.video.tracker import TrackedFace
from models.catalog import Task

FACING_MS = 30_000
"""The span of which the share of time facing the screen is told."""


class FacesObserver(FaceObserver):
    """The observer `faces`."""

    name = "faces"
    task: ClassVar[Task | None] = None

    def stream(self, finder: FaceFinder, track: TrackRef, emit: Emit) -> "FacesStream":
        """Faces of one track."""
        return FacesStream(finder, track, emit)


class FacesStream(FaceStream):
    """Faces of one track."""

    def __init__(self, finder: FaceFinder, track: TrackRef, emit: Emit) -> None:
        super().__init__(finder, track, emit)
        self._choice = finder.choice
        self._model = finder.choice.version
        self._facing: deque[tuple[int, bool]] = deque()
        self._empty = False

    async def look(self, frame: VideoFrame, faces: list[TrackedFace]) -> None:
        """A finding per picture; of an empty room only the first."""
        self._model = self._choice.version
        height, width = frame.image.shape[:2]
        seen: list[SeenFace] = []
        for face in faces:
            pose = head_pose(face.box, width, height)
            if pose is None:
                continue
            if not seen:
                self._facing.append((frame.start_ms, pose.facing))
            seen.append(
                SeenFace(
                    face_id=face.face_id,
                    x=round(face.box.x / width, 4),
                    y=round(face.box.y / height, 4),
                    width=round(face.box.width / width, 4),
                    height=round(face.box.height / height, 4),
                    score=round(min(1.0, face.box.score), 3),
                    yaw_degrees=round(pose.yaw, 1),
                    pitch_degrees=round(pose.pitch, 1),
                    roll_degrees=round(pose.roll, 1),
                )
            )
        while self._facing and frame.start_ms - self._facing[0][0] > FACING_MS:
            self._facing.popleft()
        if seen or not self._empty:
            self.emit(self._finding(frame, seen))
        self._empty = not seen

    def _finding(self, frame: VideoFrame, seen: list[SeenFace]) -> Faces:
        facing = [facing for _, facing in self._facing]
        return Faces(
            room_id=self.track.room_id,
            participant_id=self.track.participant_id,
            track_id=self.track.track_id,
            epoch=self.track.epoch,
            start_ms=frame.start_ms,
            end_ms=frame.start_ms,
            model=self._model,
            faces=seen,
            facing_share=round(sum(facing) / len(facing), 3) if facing else None,
        )
