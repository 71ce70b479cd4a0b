"""Eye direction: where the eyes of the largest face look, whether they are open, and for how long they were on the screen."""

from collections import deque
from typing import ClassVar, Literal

import cv2
import numpy as np

from media_processors.asking import Choice
from media_processors.base import Emit
from media_processors.findings import EyeDirection
from media_processors.frames import TrackRef, VideoFrame
from media_processors.video.finder import FaceFinder
from media_processors.video.gaze import Gaze, gaze
from media_processors.video.irises import visible
from media_processors.video.looking import FaceStream
from media_processors.video.observer import FaceObserver
from media_processors.video.tracker import SAME, TrackedFace, overlap
from models.catalog import Task
from models.faces import Image, cut
from models.questions import FaceBox, Landmarks, Picture

SMALLEST_PX = 64
"""Of a face; its irises are 5 pixels wide then."""
MARGIN = 0.6
"""Around the detector's box: MediaPipe looks for the face again."""
LARGEST_CUT_PX = 384
"""Twice what the network takes."""
SCREEN_MS = 30_000
"""The span of which the share of time with the eyes on the screen is told."""
DEADLINE_MS = 2_000


class EyeDirectionObserver(FaceObserver):
    """The observer `eye_direction`."""

    name = "eye_direction"
    about = "attention"
    task: ClassVar[Task | None] = "eye_direction"

    def stream(self, finder: FaceFinder, track: TrackRef, emit: Emit) -> "EyeStream":
        """Eyes of one track."""
        return EyeStream(self.judge(), finder, track, emit)


class EyeStream(FaceStream):
    """Eyes of one track."""

    def __init__(self, choice: Choice, finder: FaceFinder, track: TrackRef, emit: Emit) -> None:
        super().__init__(finder, track, emit)
        self._choice = choice
        self._known = choice.required().known
        self._face_id = ""
        self._at_screen: deque[tuple[int, bool]] = deque()

    async def look(self, frame: VideoFrame, faces: list[TrackedFace]) -> None:
        """A finding per picture in which the landmarks are those of the largest face."""
        if not faces or faces[0].box.width < SMALLEST_PX:
            return
        face, corner = cut(frame.image, faces[0].box, margin=MARGIN, square=True)
        small = _no_larger(face)
        room_id, track_id = self.track.room_id, self.track.track_id
        found = await self._choice.ask(
            Picture(small), Landmarks, room_id=room_id, track_id=track_id, deadline_ms=DEADLINE_MS
        )
        seen = gaze(found)
        if seen is None or not _is_of(faces[0].box, found, corner, face.shape[1] / small.shape[1]):
            return
        if seen.eyes is not None and not visible(small, found):
            seen = seen._replace(eyes=None, looks=None)
        self.emit(self._finding(frame, faces[0].face_id, seen))

    def _finding(self, frame: VideoFrame, face_id: str, seen: Gaze) -> EyeDirection:
        return EyeDirection(
            room_id=self.track.room_id,
            participant_id=self.track.participant_id,
            track_id=self.track.track_id,
            epoch=self.track.epoch,
            start_ms=frame.start_ms,
            end_ms=frame.start_ms,
            model=self._choice.version,
            face_id=face_id,
            eyes=_state(seen),
            yaw_degrees=None if seen.eyes is None else round(seen.eyes.yaw, 1),
            pitch_degrees=None if seen.eyes is None else round(seen.eyes.pitch, 1),
            looks_yaw_degrees=None if seen.looks is None else round(seen.looks.yaw, 1),
            looks_pitch_degrees=None if seen.looks is None else round(seen.looks.pitch, 1),
            at_screen=seen.at_screen,
            screen_share=self._screen_share(frame.start_ms, face_id, seen.at_screen),
            known_errors=self._known,
        )

    def _screen_share(self, now_ms: int, face_id: str, at_screen: bool | None) -> float | None:
        """Of the pictures of the last 30 s that could be told; another face begins anew."""
        if face_id != self._face_id:
            self._face_id = face_id
            self._at_screen.clear()
        if at_screen is not None:
            self._at_screen.append((now_ms, at_screen))
        while self._at_screen and now_ms - self._at_screen[0][0] > SCREEN_MS:
            self._at_screen.popleft()
        told = [looked for _, looked in self._at_screen]
        return round(sum(told) / len(told), 3) if told else None


def _is_of(box: FaceBox, landmarks: Landmarks, corner: tuple[int, int], scale: float) -> bool:
    """Whether these landmarks are of the face in the box: a neighbour's are found where that face is blurred or dark.

    `corner` and `scale` lead from their picture back into the whole one.
    """
    points = np.array(landmarks.points, np.float64)[:, :2] * scale + corner
    (left, top), (width, height) = points.min(axis=0), np.ptp(points, axis=0)
    there = FaceBox(float(left), float(top), float(width), float(height), 1.0, ())
    x, y = left + width / 2, top + height / 2
    inside = box.x <= x <= box.x + box.width and box.y <= y <= box.y + box.height
    return bool(inside and width >= SMALLEST_PX and overlap(there, box) >= SAME)


def _state(seen: Gaze) -> Literal["open", "closed", "turned_away", "unseen"]:
    if seen.turned_away:
        return "turned_away"
    if not seen.open:
        return "closed"
    return "unseen" if seen.eyes is None else "open"


def _no_larger(face: Image) -> Image:
    scale = LARGEST_CUT_PX / max(face.shape[:2])
    if scale >= 1:
        return face
    size = (max(1, round(face.shape[1] * scale)), max(1, round(face.shape[0] * scale)))
    return np.asarray(cv2.resize(face, size, interpolation=cv2.INTER_AREA), np.uint8)
