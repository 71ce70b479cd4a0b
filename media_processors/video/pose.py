"""Where a head is turned, from five landmarks: the pose in which a mean face would be seen so (perspective-n-point).

Solved by SQPnP (Terzakis & Lourakis, "A Consistently Fast and Globally Optimal Solution to the Perspective-n-Point Problem",
ECCV 2020). Five points and somebody else's face, and YuNet's points at that: yaw is good for about ten degrees, pitch for fifteen,
and of a head that was tilted by 15 degrees 4 to 16 were told.
"""

from typing import NamedTuple

import cv2
import numpy as np

from models.questions import FaceBox

MEAN_FACE_MM = np.array(
    [[-31.0, -33.0, 28.0], [31.0, -33.0, 28.0], [0.0, 0.0, 0.0], [-25.0, 30.0, 24.0], [25.0, 30.0, 24.0]]
)
"""Right eye, left eye, tip of the nose, right and left corner of the mouth; x right, y down as in the picture, z away from it."""
FACING_YAW_DEGREES = 30.0
FACING_PITCH_DEGREES = 25.0


class Pose(NamedTuple):
    """Degrees. A face that looks straight into the camera has none."""

    yaw: float
    """To the right of the picture: positive."""
    pitch: float
    """Down: positive."""
    roll: float
    """Clockwise as seen in the picture: positive."""

    @property
    def facing(self) -> bool:
        """Whether it is turned to the screen, as far as a head can tell: eyes may look elsewhere."""
        return abs(self.yaw) <= FACING_YAW_DEGREES and abs(self.pitch) <= FACING_PITCH_DEGREES


def head_pose(box: FaceBox, width: int, height: int) -> Pose | None:
    """The pose of a face in a picture of `width` x `height`; None if its landmarks fit no face.

    The camera is taken to see about 53 degrees across, as webcams do: a focal length of one width.
    """
    camera = np.array([[width, 0.0, width / 2], [0.0, width, height / 2], [0.0, 0.0, 1.0]])
    points = np.array(box.landmarks, np.float64)
    if points.shape != (5, 2):
        return None
    try:
        found, turn, _ = cv2.solvePnP(MEAN_FACE_MM, points, camera, np.zeros(4), flags=cv2.SOLVEPNP_SQPNP)
    except cv2.error:
        return None
    if not found or not np.isfinite(turn).all():
        return None
    matrix = cv2.Rodrigues(turn)[0]
    forward = matrix @ np.array([0.0, 0.0, -1.0])  # out of the face, towards the camera
    yaw = np.degrees(np.arctan2(forward[0], -forward[2]))
    pitch = np.degrees(np.arctan2(forward[1], np.hypot(forward[0], forward[2])))
    across = matrix @ np.array([1.0, 0.0, 0.0])
    roll = np.degrees(np.arctan2(across[1], across[0]))
    return Pose(float(yaw), float(pitch), float(roll))
