"""YuNet (Wu et al., "YuNet: A Tiny Millisecond-level Face Detector", 2023) by OpenCV, which knows how to read its answers."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from models.errors import FailedError, UnavailableError
from models.questions import FaceBox, Faces, Picture

SCORE = 0.6
"""Faces that the detector is less sure of are left out."""
OVERLAP = 0.3
"""Of two boxes that share more than this of their union the better one stays."""
MAX_FACES = 50


class YunetRunner:
    """`Runner` for pictures. The longer side is brought to `pixels`; boxes come back in the picture's own pixels."""

    takes = Picture
    max_batch = 1
    max_wait_ms = 0.0
    isolated = False
    concurrency = 1

    def __init__(self, path: Path, pixels: int) -> None:
        self._path = path
        self._pixels = pixels
        self._detector: cv2.FaceDetectorYN | None = None

    async def start(self) -> None:
        """Load, and look once. Raises UnavailableError if the file is not YuNet's."""
        self._detector = await asyncio.to_thread(self._load)

    def _load(self) -> "cv2.FaceDetectorYN":
        cv2.setNumThreads(1)
        size = (self._pixels, self._pixels)
        try:
            detector = cv2.FaceDetectorYN.create(str(self._path), "", size, SCORE, OVERLAP, MAX_FACES)
            detector.detect(np.zeros((*size, 3), np.uint8))
        except cv2.error as error:
            raise UnavailableError(f"{self._path.name} is not a YuNet: {error.code}") from error
        return detector

    def check(self, question: Picture) -> None:
        """Any picture will do."""

    async def run(self, batch: Sequence[Picture]) -> list[Faces]:
        """The faces of each picture."""
        if self._detector is None:
            raise FailedError("the model is not loaded")
        detector = self._detector
        return [await asyncio.to_thread(self._detect, detector, picture.rgb) for picture in batch]

    def _detect(self, detector: "cv2.FaceDetectorYN", rgb: NDArray[np.uint8]) -> Faces:
        height, width = rgb.shape[:2]
        scale = self._pixels / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        smaller = cv2.cvtColor(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR)
        detector.setInputSize(size)
        rows = cast(
            "NDArray[np.float32] | None", detector.detect(smaller)[1]
        )  # None: no face, whatever OpenCV's types say
        found = () if rows is None else rows[np.isfinite(rows).all(axis=1)]
        return Faces(tuple(_box(row, width / size[0], height / size[1]) for row in found))

    async def close(self) -> None:
        """Let the weights go."""
        self._detector = None


def _box(row: NDArray[np.float32], across: float, down: float) -> FaceBox:
    """A row of OpenCV's answer: x, y, width, height, five landmarks, score."""
    numbers = [float(number) for number in row]
    landmarks = tuple((numbers[at] * across, numbers[at + 1] * down) for at in range(4, 14, 2))
    x, y, width, height = numbers[:4]
    return FaceBox(x * across, y * down, width * across, height * down, numbers[14], landmarks)
