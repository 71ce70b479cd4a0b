"""A real face, and where it is."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import candor.astronaut

ASTRONAUT_BOX = (178, 65, 92, 111)
"""Her face in the picture of 512 x 512: x, y, width, height; drawn by hand around forehead, chin and cheeks."""
Box = tuple[float, float, float, float]


def astronaut() -> NDArray[np.uint8]:
    """Shape (512, 512, 3), RGB."""
    try:
        return candor.astronaut.astronaut()
    except candor.astronaut.NoAstronautError as error:
        pytest.skip(str(error))


def turned(picture: NDArray[np.uint8], degrees: float, box: Box) -> tuple[NDArray[np.uint8], Box]:
    """The picture turned around its middle, counter-clockwise, and where the box's middle went, as a box of the same size."""
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    x, y = matrix @ np.array([box[0] + box[2] / 2, box[1] + box[3] / 2, 1.0])
    return np.asarray(cv2.warpAffine(picture, matrix, (width, height)), np.uint8), (
        float(x) - box[2] / 2,
        float(y) - box[3] / 2,
        box[2],
        box[3],
    )


def overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    left, top = max(one[0], other[0]), max(one[1], other[1])
    right, bottom = min(one[0] + one[2], other[0] + other[2]), min(one[1] + one[3], other[1] + other[3])
    common = max(0.0, right - left) * max(0.0, bottom - top)
    return common / (one[2] * one[3] + other[2] * other[3] - common)
