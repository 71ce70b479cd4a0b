"""Eyes painted anew in a photograph: irises cut out, the white behind them filled in, put back elsewhere between the same lids.

Or eyes that are hidden: behind a dark strip, under the skin of the forehead, behind dark glasses.
"""

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
RIGHT = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
LEFT = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
"""Landmarks around the opening of an eye."""
OUTER_CORNERS_MM = 90.0
IRIS_MM = 6.9
"""Radius, its dark rim included."""


def with_irises_moved(image: Image, landmarks: NDArray[np.float64], right_mm: float) -> Image:
    """Both irises to the right of the picture; 0 leaves it as it is. Of a portrait: a millimetre should be 2 px or more."""
    if not right_mm:
        return image
    px_per_mm = float(np.linalg.norm(landmarks[263] - landmarks[33])) / OUTER_CORNERS_MM
    for opening, iris in ((RIGHT, 468), (LEFT, 473)):
        image = _moved(image, landmarks[list(opening), :2], landmarks[iris, :2], right_mm * px_per_mm, px_per_mm)
    return image


def with_eyes_hidden(image: Image, landmarks: NDArray[np.float64], how: Literal["strip", "skin", "glasses"]) -> Image:
    """Both eyes, as far as brow and cheek."""
    around = landmarks[[*RIGHT, *LEFT], :2]
    (left, top), (right, bottom) = around.min(axis=0), around.max(axis=0)
    room = 0.4 * (bottom - top)
    rows, columns = slice(int(top - room), int(bottom + room)), slice(int(left - room), int(right + room))
    hidden = image.copy()
    if how == "strip":
        hidden[rows, columns] = 25
    elif how == "skin":
        up = round(2.2 * (bottom - top))
        blurred = np.asarray(cv2.GaussianBlur(image, (0, 0), 3), np.uint8)
        hidden[rows, columns] = blurred[rows.start - up : rows.stop - up, columns]
    else:
        for opening in (RIGHT, LEFT):
            middle, half = landmarks[list(opening), :2].mean(axis=0), np.ptp(landmarks[list(opening), :2], axis=0)
            axes = (int(0.75 * half[0]), int(0.6 * half[0]))
            cv2.ellipse(hidden, (int(middle[0]), int(middle[1])), axes, 0, 0, 360, (20, 20, 20), -1, cv2.LINE_AA)
    return hidden


def _moved(
    image: Image, opening: NDArray[np.float64], middle: NDArray[np.float64], by_px: float, px_per_mm: float
) -> Image:
    height, width = image.shape[:2]
    eye, iris = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)
    cv2.fillPoly(eye, [np.round(opening * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    centre = (round(float(middle[0]) * 16), round(float(middle[1]) * 16))
    cv2.circle(iris, centre, round(IRIS_MM * px_per_mm * 16), 255, -1, cv2.LINE_AA, 4)
    hole = np.minimum(iris, eye)
    white = cv2.inpaint(image, np.where(hole > 0, 255, 0).astype(np.uint8), 5, cv2.INPAINT_TELEA)
    shift = np.array([[1, 0, by_px], [0, 1, 0]], np.float32)
    there = cv2.warpAffine(image, shift, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    place = np.minimum(cv2.warpAffine(hole, shift, (width, height)), eye)
    return _over(_over(image, white, hole), there, place)


def _over(under: Image, above: NDArray[np.uint8], mask: NDArray[np.uint8]) -> Image:
    """`above` where the mask is, with a soft edge."""
    share = cv2.GaussianBlur(mask, (0, 0), 0.8)[..., np.newaxis] / 255
    return np.asarray(np.clip(under * (1 - share) + above * share, 0, 255), np.uint8)
