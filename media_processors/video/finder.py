"""The faces of a picture, asked for once however many observers look at it."""

import asyncio
from collections import OrderedDict

import cv2
import numpy as np

from media_processors.asking import Choice
from media_processors.frames import VideoFrame
from models.client import InferenceClient
from models.errors import UnavailableError
from models.questions import MAX_PIXELS, FaceBox, Faces, Picture
from models.store import Store

DEADLINE_MS = 2_000
KEPT = 32
"""Pictures whose faces are remembered: one for each track that is looked at just now, and then some."""


class FaceFinder:
    """Asks the model of the task `face_detection`."""

    def __init__(self, engine: InferenceClient, store: Store) -> None:
        self.choice = Choice("face_detection")
        self.choice.attach(engine, store)
        self._asked: OrderedDict[int, tuple[VideoFrame, asyncio.Task[tuple[FaceBox, ...]]]] = OrderedDict()

    async def find(self, room_id: str, frame: VideoFrame) -> tuple[FaceBox, ...]:
        """Faces in the picture's own pixels, largest first. Raises InferenceError, ProcessorError."""
        known = self._asked.get(id(frame))
        if known is None or known[0] is not frame:
            task = asyncio.create_task(self._ask(room_id, frame), name="find-faces")
            task.add_done_callback(_heard)  # everybody who asked may be gone
            known = self._asked[id(frame)] = (frame, task)
            while len(self._asked) > KEPT:
                self._asked.popitem(last=False)
        return await asyncio.shield(known[1])

    async def _ask(self, room_id: str, frame: VideoFrame) -> tuple[FaceBox, ...]:
        engine, entry = self.choice.required()
        height, width = frame.image.shape[:2]
        scale = max(1.0, float(np.sqrt(width * height / MAX_PIXELS)))
        image = frame.image
        if scale > 1:
            size = (int(width / scale), int(height / scale))
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        try:
            faces = await engine.ask(entry.name, Picture(image), Faces, room_id=room_id, deadline_ms=DEADLINE_MS)
        except UnavailableError as error:
            self.choice.refused(error)
            raise
        boxes = [_scaled(box, scale) for box in faces.boxes]
        return tuple(sorted(boxes, key=lambda box: box.width * box.height, reverse=True))


def _heard(task: "asyncio.Task[tuple[FaceBox, ...]]") -> None:
    if not task.cancelled():
        task.exception()


def _scaled(box: FaceBox, by: float) -> FaceBox:
    landmarks = tuple((x * by, y * by) for x, y in box.landmarks)
    return FaceBox(box.x * by, box.y * by, box.width * by, box.height * by, box.score, landmarks)
