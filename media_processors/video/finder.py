"""The faces of a picture, asked for once however many observers look at it."""

import asyncio
from dataclasses import dataclass

import cv2
import numpy as np

from media_processors.asking import Choice
from media_processors.frames import VideoFrame
from models.client import InferenceClient
from models.inventory import Inventory
from models.questions import MAX_PIXELS, FaceBox, Faces, Picture

DEADLINE_MS = 2_000


@dataclass(slots=True)
class _Question:
    """A picture whose faces are looked for. It is held here so that nobody else gets its `id`."""

    frame: VideoFrame
    task: "asyncio.Task[tuple[FaceBox, ...]]"
    waiting: int = 0


class FaceFinder:
    """Asks the model of the task `face_detection`."""

    def __init__(self, engine: InferenceClient, store: Inventory) -> None:
        self.choice = Choice("face_detection")
        self._engine = engine
        self._store = store
        self._asked: dict[int, _Question] = {}

    def attach(self) -> None:
        """Choose the model."""
        self.choice.attach(self._engine, self._store)

    async def find(self, room_id: str, frame: VideoFrame) -> tuple[FaceBox, ...]:
        """Faces in the picture's own pixels, largest first. Raises InferenceError, ProcessorError.

        A picture is kept, and asked about, only as long as somebody waits for its faces.
        """
        question = self._asked.get(id(frame))
        if question is None:
            task = asyncio.create_task(self._ask(room_id, frame), name="find-faces")
            question = self._asked[id(frame)] = _Question(frame, task)
        question.waiting += 1
        try:
            return await asyncio.shield(question.task)
        finally:
            question.waiting -= 1
            if not question.waiting:
                del self._asked[id(frame)]
                question.task.cancel()

    async def _ask(self, room_id: str, frame: VideoFrame) -> tuple[FaceBox, ...]:
        height, width = frame.image.shape[:2]
        scale = max(1.0, float(np.sqrt(width * height / MAX_PIXELS)))
        image = frame.image
        if scale > 1:
            size = (int(width / scale), int(height / scale))
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        faces = await self.choice.ask(Picture(image), Faces, room_id=room_id, deadline_ms=DEADLINE_MS)
        boxes = [_scaled(box, scale) for box in faces.boxes]
        return tuple(sorted(boxes, key=lambda box: box.width * box.height, reverse=True))


def _scaled(box: FaceBox, by: float) -> FaceBox:
    landmarks = tuple((x * by, y * by) for x, y in box.landmarks)
    return FaceBox(box.x * by, box.y * by, box.width * by, box.height * by, box.score, landmarks)
