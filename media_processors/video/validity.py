"""Whether a face may be judged at all: large enough, sharp enough, and turned to the camera."""

import cv2
import numpy as np

from media_processors.video.pose import head_pose
from models.faces import FACE_PX, Image
from models.questions import FaceBox

SHARP_SIZE_PX = 96
SHARPNESS = 40.0
"""Variance of the Laplacian of the grey face at 96 x 96 pixels (Pech-Pacheco et al., ICPR 2000). Blur and strong compression take
it away alike. Measured: three sharp faces 190 to 650, whatever their size; blurred over 4 px of 360 13 to 47, over 8 px 4 to 18."""
TURNED_DEGREES = 45.0


def sharpness(face: Image) -> float:
    """Variance of the Laplacian, at one size for all faces."""
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)
    grey = cv2.resize(grey, (SHARP_SIZE_PX, SHARP_SIZE_PX), interpolation=cv2.INTER_AREA)
    return float(np.var(cv2.Laplacian(grey, cv2.CV_64F)))


def refusal(box: FaceBox, face: Image, width: int, height: int) -> str:
    """Why this face, cut out of a picture of `width` x `height`, may not be judged; empty if it may."""
    if box.width < FACE_PX:
        return "small"
    pose = head_pose(box, width, height)
    if pose is None or abs(pose.yaw) > TURNED_DEGREES or abs(pose.pitch) > TURNED_DEGREES:
        return "turned"
    return "blurred" if sharpness(face) < SHARPNESS else ""
