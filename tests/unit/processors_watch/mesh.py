"""Landmarks of a face that was made of numbers: eyeballs in a head, each turned as wanted, seen without perspective."""

import cv2
import numpy as np
from numpy.typing import NDArray

from media_processors.video import gaze as geometry
from models.questions import MESH_POINTS, Landmarks

PX_PER_MM = 2.0
CENTRE = (160.0, 160.0)
EYE_WIDTH_MM = 30.0
FACE_MM = 160.0
"""From ear to ear."""
RIGHT_EAR, LEFT_EAR = 234, 454
Angles = tuple[float, float]


def made_face(
    head: tuple[float, float, float] = (0, 0, 0),
    eyes: Angles = (0, 0),
    left_eye: Angles | None = None,
    openness: float = 0.3,
    px_per_mm: float = PX_PER_MM,
    centre: tuple[float, float] = CENTRE,
) -> Landmarks:
    """Degrees: yaw, pitch (and roll) of the head; yaw and pitch of the eyes in it, of the left one if it looks elsewhere."""
    points = np.zeros((MESH_POINTS, 3))
    points[geometry.FOREHEAD] = 0, -80, 10
    points[geometry.CHIN] = 0, 90, 10
    points[RIGHT_EAR] = -FACE_MM / 2, 0, 10
    points[LEFT_EAR] = FACE_MM / 2, 0, 10
    outer_mm = geometry.OUTER_CORNERS_MM / 2
    for side, eye, lids, looks in (
        (-1, geometry.RIGHT_EYE, geometry.RIGHT_LIDS, eyes),
        (1, geometry.LEFT_EYE, geometry.LEFT_LIDS, left_eye or eyes),
    ):
        middle = np.array([side * (outer_mm - EYE_WIDTH_MM / 2), 0.0, 0.0])
        corner = np.array([side * EYE_WIDTH_MM / 2, 0, 0])
        points[eye[0]], points[eye[1]] = middle + corner, middle - corner
        ball = middle + np.array([0, 0, geometry.EYEBALL_MM - geometry.PUPIL_MM])
        points[eye[2]] = ball + geometry.EYEBALL_MM * turned(looks[0], looks[1]) @ [0, 0, -1]
        for upper, lower in lids:
            lid = np.array([0, openness * EYE_WIDTH_MM / 2, 0])
            points[upper], points[lower] = middle - lid, middle + lid
    placed = (points @ turned(*head).T) * px_per_mm + [*centre, 0]
    return Landmarks(tuple((float(x), float(y), float(z)) for x, y, z in placed))


def paint_eyes(image: NDArray[np.uint8], face: Landmarks, white: int = 230, iris: int = 40) -> None:
    """The white between the lids of a face, and its irises, into the picture that the face lies in."""
    points = np.array(face.points)[:, :2]
    px_per_mm = float(np.linalg.norm(points[263] - points[33])) / geometry.OUTER_CORNERS_MM
    eyes = ((geometry.RIGHT_EYE, geometry.RIGHT_LIDS), (geometry.LEFT_EYE, geometry.LEFT_LIDS))
    for (outer, inner, middle), lids in eyes:
        around = [outer, *(upper for upper, _ in lids), inner, *(lower for _, lower in reversed(lids))]
        opening = np.zeros(image.shape[:2], np.uint8)
        cv2.fillPoly(opening, [np.round(points[around]).astype(np.int32)], 1)
        y, x = np.mgrid[: image.shape[0], : image.shape[1]]
        disc = np.hypot(x - points[middle, 0], y - points[middle, 1]) <= 5.9 * px_per_mm
        image[opening > 0] = white
        image[(opening > 0) & disc] = iris


def turned(yaw_degrees: float, pitch_degrees: float, roll_degrees: float = 0) -> NDArray[np.float64]:
    """As `tests.unit.processors_watch.test_faces.seen_from`: to the right, down and clockwise in the picture are positive."""
    yaw, pitch, roll = np.radians([yaw_degrees, pitch_degrees, roll_degrees])
    about_y = np.array([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    about_z = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x, np.float64)


def mirrored(landmarks: Landmarks, width_px: float = 320) -> Landmarks:
    """As the network would see the mirrored picture: the person's right and left change places."""
    points = np.array(landmarks.points)
    points[:, 0] = width_px - points[:, 0]
    pairs = [
        *zip(geometry.RIGHT_EYE, geometry.LEFT_EYE, strict=True),
        *(
            (ours, theirs)
            for right, left in zip(geometry.RIGHT_LIDS, geometry.LEFT_LIDS, strict=True)
            for ours, theirs in zip(right, left, strict=True)
        ),
    ]
    for right, left in pairs:
        points[[right, left]] = points[[left, right]]
    return Landmarks(tuple((float(x), float(y), float(z)) for x, y, z in points))
