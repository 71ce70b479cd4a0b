"""Where eyes look, from MediaPipe's 478 landmarks: the eyeball is a sphere, and the middle of the iris is seen on it.

The head's own axes come from the outer corners of the eyes and from forehead and chin. The middle of an eyeball lies behind the
middle between the corners of the eye; the ray of the camera through the middle of the iris meets the eyeball where the iris is, and
the direction from the eyeball's middle to there is where the eye looks. Both eyes are averaged: the axes of the two diverge by a
few degrees, in opposite directions.

How good that is, is in README.md: what was measured, and that nobody whose true direction is known has been looked at.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.questions import Landmarks

Vector = NDArray[np.float64]

FOREHEAD, CHIN = 10, 152
RIGHT_EYE, LEFT_EYE = (33, 133, 468), (263, 362, 473)
"""Outer corner, inner corner and middle of the iris; right and left are the person's."""
RIGHT_LIDS, LEFT_LIDS = ((160, 144), (159, 145), (158, 153)), ((387, 373), (386, 374), (385, 380))
"""Upper and lower lid, at three places."""
OUTER_CORNERS_MM = 90.0
"""Between the outer corners of the eyes of an adult (Farkas, "Anthropometry of the Head and Face", 1994: 87 to 91 mm)."""
EYEBALL_MM = 10.5
"""From the point about which an eye turns, 13.5 mm behind the cornea (Fry & Hill, 1962), to the pupil, 3 mm behind it."""
PUPIL_MM = 3.0
"""By so much the pupil of an eye that looks straight ahead lies before the line between its corners."""
OPEN = 0.2
"""An eye whose lids are less than this share of its width apart is closed (Soukupova & Cech, 2016, "Eye Blink Detection")."""
APART_DEGREES = 25.0
"""Eyes that are further from each other were not seen rightly."""
TURNED_DEGREES = 40.0
"""Of a head that is turned further, one eye is hardly seen."""
SCREEN_YAW_DEGREES = 20.0
SCREEN_UP_DEGREES, SCREEN_DOWN_DEGREES = 12.0, 25.0
"""A screen as one sits before it, below its camera; by eyes alone a little less is told than they turn (README.md)."""


class Direction(NamedTuple):
    """Degrees. Yaw to the right of the picture and pitch down are positive, as of `video.pose.Pose`."""

    yaw: float
    pitch: float


class Gaze(NamedTuple):
    """What the eyes of one face do."""

    openness: float
    """Distance of the lids in widths of the eye; the mean of both eyes."""
    head: Direction
    """Which way the face is turned."""
    eyes: Direction | None
    """Where the eyes look, relative to the head; None if they are closed, or the landmarks fit no pair of eyes."""
    looks: Direction | None
    """Where the person looks, as the camera sees it: head and eyes together. (0, 0) is into the camera."""

    @property
    def open(self) -> bool:
        """Whether the eyes are open."""
        return self.openness >= OPEN

    @property
    def turned_away(self) -> bool:
        """Whether the head is turned so far that nothing can be said about its eyes."""
        return abs(self.head.yaw) > TURNED_DEGREES

    @property
    def at_screen(self) -> bool | None:
        """Whether the person looks towards the screen below the camera; None if nobody can tell.

        Closed eyes do not, nor does a head that is turned away.
        """
        if not self.open or self.turned_away:
            return False
        if self.looks is None:
            return None
        yaw, pitch = self.looks
        return abs(yaw) <= SCREEN_YAW_DEGREES and -SCREEN_UP_DEGREES <= pitch <= SCREEN_DOWN_DEGREES


def gaze(landmarks: Landmarks) -> Gaze | None:
    """What the eyes of a face do; None if there is no face, or its landmarks are those of none."""
    if not landmarks.points:
        return None
    points = np.array(landmarks.points, np.float64)
    turn = _axes(points)
    width = float(np.linalg.norm(points[LEFT_EYE[0]] - points[RIGHT_EYE[0]]))
    if turn is None or width <= 0:
        return None
    head = _direction(turn @ np.array([0.0, 0.0, -1.0]))
    openness = (_openness(points, RIGHT_EYE, RIGHT_LIDS) + _openness(points, LEFT_EYE, LEFT_LIDS)) / 2
    blind = Gaze(openness, head, None, None)
    if not blind.open or blind.turned_away:
        return blind
    right, left = (_line_of_sight(points, eye, turn, OUTER_CORNERS_MM / width) for eye in (RIGHT_EYE, LEFT_EYE))
    if np.degrees(np.arccos(np.clip(right @ left, -1, 1))) > APART_DEGREES:
        return blind
    mean = right + left
    return Gaze(openness, head, _direction(mean), _direction(turn @ mean))


def _axes(points: Vector) -> Vector | None:
    """Columns: the head's x (to its left eye), y (down) and z (to its back) as the camera sees them; None if they are not apart."""
    across = points[LEFT_EYE[0]] - points[RIGHT_EYE[0]]
    down = points[CHIN] - points[FOREHEAD]
    back = np.cross(across, down)
    if np.linalg.norm(back) <= 1e-6 * np.linalg.norm(across) * np.linalg.norm(down):
        return None
    across, back = across / np.linalg.norm(across), back / np.linalg.norm(back)
    return np.column_stack((across, np.cross(back, across), back))


def _direction(vector: Vector) -> Direction:
    x, y, z = vector
    return Direction(float(np.degrees(np.arctan2(x, -z))), float(np.degrees(np.arctan2(y, np.hypot(x, z)))))


def _openness(points: Vector, eye: tuple[int, int, int], lids: tuple[tuple[int, int], ...]) -> float:
    width = np.linalg.norm(points[eye[0]] - points[eye[1]])
    apart = np.mean([np.linalg.norm(points[upper] - points[lower]) for upper, lower in lids])
    return float(apart / width) if width > 0 else 0.0


def _line_of_sight(points: Vector, eye: tuple[int, int, int], turn: Vector, mm_per_px: float) -> Vector:
    """Unit vector, in the head's axes. A ray that passes the eyeball by is taken to touch it."""
    outer, inner, iris = points[list(eye)]
    seen_mm = (iris - (outer + inner) / 2) * mm_per_px
    start = turn.T @ np.array([seen_mm[0], seen_mm[1], 0.0])  # how far away the iris is, its landmark does not know
    ray = turn.T @ np.array([0.0, 0.0, 1.0])
    middle = np.array([0.0, 0.0, EYEBALL_MM - PUPIL_MM])
    from_middle = start - middle
    along = float(ray @ from_middle)
    beyond = along**2 - (float(from_middle @ from_middle) - EYEBALL_MM**2)
    meets = from_middle - (along + np.sqrt(max(0.0, beyond))) * ray
    return np.asarray(meets / np.linalg.norm(meets), np.float64)
