"""Whether the eyes of a face can be seen at all: MediaPipe puts landmarks of eyes also where glasses or hair cover them.

An iris is darker than the white beside it. Landmarks say where both would be; the pixels say whether they are there.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from media_processors.video.gaze import LEFT_EYE, LEFT_LIDS, OUTER_CORNERS_MM, RIGHT_EYE, RIGHT_LIDS
from models.faces import Image
from models.questions import Landmarks

Points = NDArray[np.float64]

IRIS_MM, WHITE_MM = 4.5, 7.0
"""Up to so far from its middle there is iris, and beyond so far there is none: 11.7 mm across (Rüfer et al., Cornea 24, 2005)."""
CONTRAST = 0.1
"""Least difference of white and iris, as a share of their sum. Measured: README.md."""
FLOOR = 10.0
"""Added to that sum, in levels of 255, so that the noise of a black picture is no contrast."""
PX_PER_MM = 3.0
SIDE_MM = 40.0
"""Of the square around an eye that is looked at."""
LEAST_PX = 5


def visible(face: Image, landmarks: Landmarks) -> bool:
    """Whether both eyes are inside the picture, their irises darker than the white beside them. `face`: (height, width, 3) RGB."""
    points = np.array(landmarks.points, np.float64)
    width = float(np.linalg.norm(points[LEFT_EYE[0]] - points[RIGHT_EYE[0]]))
    if width <= 0 or not _inside(points[[*RIGHT_EYE, *LEFT_EYE], :2], face):
        return False
    grey = np.asarray(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), np.uint8)
    scale = PX_PER_MM * OUTER_CORNERS_MM / width
    eyes = ((RIGHT_EYE, RIGHT_LIDS), (LEFT_EYE, LEFT_LIDS))
    return all(_contrast(grey, points[:, :2], eye, lids, scale) >= CONTRAST for eye, lids in eyes)


def _inside(points: Points, face: Image) -> bool:
    height, width = face.shape[:2]
    return bool(((points >= 0) & (points < (width, height))).all())


def _contrast(
    grey: Image, points: Points, eye: tuple[int, int, int], lids: tuple[tuple[int, int], ...], scale: float
) -> float:
    """Of the white against the iris: 0 for none, or if either cannot be seen, up to 1."""
    outer, inner, iris = eye
    around = [outer, *(upper for upper, _ in lids), inner, *(lower for _, lower in reversed(lids))]
    side = round(SIDE_MM * PX_PER_MM)
    shift = side / 2 - scale * points[around].mean(axis=0)
    enlarge = np.column_stack((scale * np.eye(2), shift))
    patch = cv2.warpAffine(grey, enlarge, (side, side), borderMode=cv2.BORDER_REPLICATE)
    opening = np.zeros((side, side), np.uint8)
    cv2.fillPoly(opening, [np.round(scale * points[around] + shift).astype(np.int32)], 1)
    y, x = np.mgrid[:side, :side]
    middle = scale * points[iris] + shift
    from_middle_mm = np.hypot(x - middle[0], y - middle[1]) / PX_PER_MM
    dark = patch[(opening > 0) & (from_middle_mm < IRIS_MM)]
    white = patch[(opening > 0) & (from_middle_mm > WHITE_MM)]
    if min(len(dark), len(white)) < LEAST_PX:
        return 0.0
    darker, lighter = float(np.median(dark)), float(np.median(white))
    return (lighter - darker) / (lighter + darker + FLOOR)
