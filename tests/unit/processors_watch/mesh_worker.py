"""The process that finds landmarks, with its true protocol, for pictures of one colour that say how a face looks.

Red: yaw of the eyes in degrees plus 100; green: openness times 100, 0 for no face, 100 more for that of a neighbour; blue: yaw of
the head plus 100. The face is as wide as the box around which the picture was cut.
"""

import sys

import numpy as np
from numpy.typing import NDArray

from media_processors.video.eyes import MARGIN
from models.runners.landmarks_worker import serve
from tests.unit.processors_watch.mesh import FACE_MM, made_face


def look(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    eyes, openness, head = (int(number) for number in rgb[0, 0])
    if not openness:
        return np.empty((0, 3), np.float32)
    side = rgb.shape[1]
    face = made_face(
        head=(head - 100, 0, 0),
        eyes=(eyes - 100, 0),
        openness=openness % 100 / 100,
        px_per_mm=side / (1 + MARGIN) / FACE_MM,
        centre=(side * (0.5 if openness < 100 else 0.95), side / 2),
    )
    return np.array(face.points, np.float32)


if __name__ == "__main__":
    serve(look, sys.stdin.buffer, sys.stdout.buffer)
