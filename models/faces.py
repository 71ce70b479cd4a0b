"""A face as models of faces are shown it: in a meeting and in training the same."""

import numpy as np
from numpy.typing import NDArray

from models.questions import FaceBox

FACE_PX = 96
"""A face must be so wide to be judged: in a meeting the layer is chosen for it."""
MARGIN = 0.15
"""Around the detector's box, for authenticity; square, as MesoInception-4 was trained on."""

Image = NDArray[np.uint8]


def cut_out(image: Image, box: FaceBox, *, margin: float = 0.0, square: bool = False) -> Image:
    """The face, with `margin` of its size around it, as far as the picture goes. Raises ValueError if nothing is left."""
    return cut(image, box, margin=margin, square=square)[0]


def cut(image: Image, box: FaceBox, *, margin: float = 0.0, square: bool = False) -> tuple[Image, tuple[int, int]]:
    """As `cut_out`, and where in the picture it begins: x, y. Raises ValueError if nothing is left."""
    width, height = box.width * (1 + margin), box.height * (1 + margin)
    if square:
        width = height = max(width, height)
    left, top = box.x + (box.width - width) / 2, box.y + (box.height - height) / 2
    rows, columns = image.shape[:2]
    first_row, first_column = max(0, round(top)), max(0, round(left))
    face = image[
        first_row : max(0, min(rows, round(top + height))), first_column : max(0, min(columns, round(left + width)))
    ]
    if min(face.shape[:2]) < 2:
        raise ValueError("the face lies outside the picture")
    return np.asarray(face, np.uint8), (first_column, first_row)
