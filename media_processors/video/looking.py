"""What observers of faces share: the newest picture of a track, its faces with their names, and which layer suffices for them."""

import asyncio
import math
from abc import ABC, abstractmethod

import cv2
import structlog

from media_processors.base import Emit
from media_processors.errors import ProcessorError
from media_processors.findings import Finding
from media_processors.frames import AudioFrame, TrackRef, VideoFrame
from media_processors.video.finder import FaceFinder
from media_processors.video.tracker import FaceTracker, TrackedFace
from models.errors import InferenceError
from models.faces import FACE_PX
from models.questions import FaceBox

HEADROOM = 1.1
"""A head moves: the layer is one in which it may be by so much narrower than it is now."""
MAX_LAYER_PX = 65_535

log = structlog.get_logger()


class FaceStream(ABC):
    """An observer of the faces on one track. If it is slower than pictures come, it looks at the newest, not at the others."""

    def __init__(self, finder: FaceFinder, track: TrackRef, emit: Emit) -> None:
        self.wanted_width_px = 0
        self.skipped = 0
        """Pictures that were replaced before anybody looked at them."""
        self.looking = False
        """Whether it looks at a picture just now."""
        self.track = track
        self.emit = emit
        self._finder = finder
        self._tracker = FaceTracker()
        self._newest: VideoFrame | None = None
        self._posted = asyncio.Event()
        self._task = asyncio.create_task(self._serve(), name=f"faces-{track.track_id}")

    @abstractmethod
    async def look(self, frame: VideoFrame, faces: list[TrackedFace]) -> None:
        """Say what there is to say of a picture and its faces, largest first. Raises InferenceError, ProcessorError, ValueError."""

    def push(self, frame: AudioFrame | VideoFrame) -> list[Finding]:
        """Take a picture; findings follow through `emit`."""
        if isinstance(frame, VideoFrame):
            self.skipped += self._newest is not None
            self._newest = frame
            self._posted.set()
        return []

    def flush(self) -> list[Finding]:
        """A camera that is off has said everything."""
        return []

    async def aclose(self) -> None:
        """Stop looking."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _serve(self) -> None:
        while True:
            await self._posted.wait()
            self._posted.clear()
            frame, self._newest = self._newest, None
            if frame is None:
                continue
            self.looking = True
            try:
                boxes = await self._finder.find(self.track.room_id, frame)
                height, width = frame.image.shape[:2]
                faces = self._tracker.update(boxes, width, height, frame.arrival_ns // 1_000_000)
                self.wanted_width_px = wanted_width(boxes, width)
                await self.look(frame, faces)
            except (InferenceError, ProcessorError, ValueError, cv2.error) as error:
                log.debug("picture_lost", track=self.track.track_id, error=type(error).__name__)
            finally:
                self.looking = False


def wanted_width(boxes: tuple[FaceBox, ...], width: int) -> int:
    """How wide a layer must be for its largest face to be `FACE_PX` wide, and a little more; 0 if there is no face."""
    if not boxes or boxes[0].width <= 0:
        return 0
    return min(MAX_LAYER_PX, math.ceil(HEADROOM * FACE_PX * width / boxes[0].width))
