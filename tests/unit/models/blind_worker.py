"""The process that finds landmarks, with its true protocol and manners and without MediaPipe: the picture says what it does.

The first pixel's red: 0 no face, 1 a face whose landmarks all lie at (width, height, green), 2 dies, 3 hangs, 4 too few landmarks,
5 says how nice it is in place of a z.
"""

import os
import signal
import sys

import numpy as np
from numpy.typing import NDArray

from models.runners.landmarks_worker import behave, serve


def look(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    what, green = int(rgb[0, 0, 0]), float(rgb[0, 0, 1])
    if what == 2:
        os._exit(1)
    if what == 3:
        sys.stderr.write("hangs\n")
        sys.stderr.flush()
        signal.pause()
    z = float(os.getpriority(os.PRIO_PROCESS, 0)) if what == 5 else green
    rows = {0: 0, 4: 3}.get(what, 478)
    return np.tile(np.array([rgb.shape[1], rgb.shape[0], z], np.float32), (rows, 1))


if __name__ == "__main__":
    behave()
    serve(look, sys.stdin.buffer, sys.stdout.buffer)
