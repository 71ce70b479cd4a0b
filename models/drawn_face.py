"""A face that was drawn: nobody's, so it can come with the program. It shows whether a finder of faces works here at all."""

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE_PX = 256
EYES = ((102.0, 116.0), (154.0, 116.0))
"""Middle of the person's right and left eye."""
IRIS_PX = 8
HAIR, SKIN, SHADE, LID, IRIS = (60, 45, 38), (224, 180, 155), (200, 152, 128), (50, 35, 30), (90, 60, 40)
LIPS, LINE, WHITE, PUPIL, WALL = (190, 95, 90), (140, 60, 60), (250, 250, 250), (10, 10, 10), (205, 210, 215)


def drawn_face(look_right_px: float = 0.0, look_down_px: float = 0.0) -> NDArray[np.uint8]:
    """Shape (256, 256, 3), RGB; both irises lie so far to the right of the picture, and below, the middles of the eyes."""
    image: NDArray[np.uint8] = np.full((SIDE_PX, SIDE_PX, 3), WALL, np.uint8)
    _spot(image, (128, 120), (78, 96), HAIR)
    _spot(image, (128, 130), (64, 86), SKIN)
    for x, y in EYES:
        _spot(image, (x, y), (15, 8), WHITE)
        _spot(image, (x + look_right_px, y + look_down_px), (IRIS_PX, IRIS_PX), IRIS)
        _spot(image, (x + look_right_px, y + look_down_px), (3, 3), PUPIL)
        cv2.ellipse(image, (int(x), int(y)), (16, 9), 0, 180, 360, LID, 2, cv2.LINE_AA)
        cv2.ellipse(image, (int(x), int(y) - 14), (18, 6), 0, 190, 350, HAIR, 4, cv2.LINE_AA)
    cv2.line(image, (128, 118), (124, 150), SHADE, 3, cv2.LINE_AA)
    _spot(image, (128, 154), (12, 6), SHADE)
    _spot(image, (128, 182), (24, 9), LIPS)
    cv2.line(image, (104, 181), (152, 181), LINE, 2, cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 1.5), np.uint8)


def _spot(
    image: NDArray[np.uint8], centre: tuple[float, float], radii: tuple[int, int], colour: tuple[int, int, int]
) -> None:
    """A filled ellipse, to a sixteenth of a pixel."""
    middle = (round(centre[0] * 16), round(centre[1] * 16))
    points = np.asarray(cv2.ellipse2Poly(middle, (radii[0] * 16, radii[1] * 16), 0, 0, 360, 5))
    cv2.fillPoly(image, [points], colour, cv2.LINE_AA, 4)
