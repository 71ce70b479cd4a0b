"""Pictures whose parts can be told from each other after a codec."""

import numpy as np

from media_processors.base import Picture


def painted(number: int, width: int = 320, height: int = 180) -> Picture:
    """A bright disc that wanders over a smooth ground."""
    y, x = np.mgrid[0:height, 0:width]
    ground = np.stack([x * 160 // width + 40, y * 160 // height + 40, np.full_like(x, 90)], axis=-1)
    at = width // 4 + number * 3 % (width // 2)
    ground[(x - at) ** 2 + (y - height // 2) ** 2 < (height // 6) ** 2] = (250, 250, 200)
    return ground.astype(np.uint8)
