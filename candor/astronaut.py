"""A real face for those who want to see what is made of one: scikit-image's astronaut (Eileen Collins, NASA, public domain)."""

import importlib.util
import math
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from av import VideoFrame
from numpy.typing import NDArray

WIDTH, HEIGHT = 640, 360
RATE_PER_S = 10.0
"""Pictures per second to publish it with."""
SWAY_PX = 24.0
TILT_DEGREES = 8.0
PERIOD_S = 6.0
FACE_X, FACE_Y = 224.0, 122.0
"""The middle of her face in the package's picture."""
SCALE = 1.5
"""So that her face is 130 to 150 pixels wide: face authenticity judges none below 96."""
WALL = (96, 96, 96)

Picture = NDArray[np.uint8]


class NoAstronautError(Exception):
    """scikit-image, of the extra `demo`, is not installed."""


@cache
def astronaut() -> Picture:
    """Shape (512, 512, 3), RGB. Raises NoAstronautError. The package is not imported: it would take a second for one file."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise NoAstronautError("scikit-image is missing: pip install 'candor[demo]'")
    picture = cv2.imread(str(Path(spec.submodule_search_locations[0]) / "data" / "astronaut.png"))
    if picture is None:
        raise NoAstronautError("scikit-image has no picture of the astronaut")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


class Astronaut:
    """A `VideoSource` without end: her head and shoulders, as a camera on a screen sees them; she sways and tilts her head."""

    async def __aiter__(self) -> AsyncIterator[VideoFrame]:
        index = 0
        while True:
            yield VideoFrame.from_ndarray(self.picture(index / RATE_PER_S), format="rgb24")
            index += 1

    def picture(self, at_s: float) -> Picture:
        """How she stands at that time, shape (HEIGHT, WIDTH, 3), RGB."""
        phase = 2 * math.pi * at_s / PERIOD_S
        matrix = cv2.getRotationMatrix2D((FACE_X, FACE_Y), TILT_DEGREES * math.sin(phase), SCALE)
        matrix[:, 2] += np.array([WIDTH / 2 - FACE_X + SWAY_PX * math.sin(phase / 2), HEIGHT / 2 - FACE_Y])
        turned = cv2.warpAffine(
            astronaut(),
            matrix,
            (WIDTH, HEIGHT),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=WALL,
        )
        return np.asarray(turned, np.uint8)
