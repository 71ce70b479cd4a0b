"""The process that finds landmarks: MediaPipe's face mesh, under the interpreter of an environment of its own.

Started as a script by that interpreter, so it imports the standard library, numpy and MediaPipe, and nothing of ours; where their
packages lie is its first argument, for the interpreter's own start-up (`site`: .pth files, sitecustomize) is left out. On stdin
and stdout go messages with a 4-byte big-endian length in front:

    request   height and width, 2 bytes each, big-endian, and height x width x 3 bytes RGB; an empty one asks whether it is loaded
    reply     n x 3 little-endian float32: x, y and z of each landmark in pixels of the picture; empty if it has no face

It ends with whoever started it: at the end of its stdin, and by the system's hand if it hangs then.
"""

import ctypes
import importlib
import importlib.util
import os
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

if __name__ == "__main__":
    sys.path.extend(sys.argv[1:2])  # before numpy is looked for

import numpy as np
from numpy.typing import NDArray

LENGTH = struct.Struct("!I")
SIZE = struct.Struct("!HH")
MAX_REQUEST_BYTES = 2 << 20
MAX_SIDE_PX = 1024
"""It is made square: a long strip of few pixels would become a picture of many."""
NICENESS = 15
PR_SET_PDEATHSIG = 1
"""prctl(2)."""
PACKAGES = ("mediapipe", "mediapipe.python", "mediapipe.python.solutions")

Look = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def load() -> Look:
    """MediaPipe's face mesh with the attention network (Grishchenko et al., "Attention Mesh", CVPRW 2020): it has irises."""
    _skip_initialisers()
    face_mesh: Any = importlib.import_module("mediapipe.python.solutions.face_mesh")
    mesh = face_mesh.FaceMesh(static_image_mode=True, max_num_faces=1, refine_landmarks=True)

    def look(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Landmarks of the face, shape (478, 3), or (0, 3)."""
        side = max(rgb.shape[:2])
        square = np.zeros((side, side, 3), np.uint8)  # it projects landmarks rightly only on square pictures
        square[: rgb.shape[0], : rgb.shape[1]] = rgb
        faces = mesh.process(square).multi_face_landmarks
        if not faces:
            return np.empty((0, 3), np.float32)
        points = np.array([(point.x, point.y, point.z) for point in faces[0].landmark], np.float32)
        return points * np.float32(side)

    look(np.zeros((64, 64, 3), np.uint8))
    return look


def _skip_initialisers() -> None:
    """Have these packages without what their `__init__` would import: drawing, matplotlib, OpenCV and jax, 860 MB in all."""
    found = importlib.util.find_spec("mediapipe")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("mediapipe is not installed")
    root = Path(found.origin).parent.parent
    for name in PACKAGES:
        package = ModuleType(name)
        package.__path__ = [str(root.joinpath(*name.split(".")))]
        sys.modules[name] = package


def serve(look: Look, requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer until whoever asks closes the pipe. Raises ValueError on a malformed request."""
    while (request := _read(requests)) is not None:
        points = look(_picture(request)) if request else np.empty((0, 3), np.float32)
        body = points.astype("<f4").tobytes()
        replies.write(LENGTH.pack(len(body)) + body)
        replies.flush()


def _read(requests: BinaryIO) -> bytes | None:
    head = requests.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    length = LENGTH.unpack(head)[0]
    if length > MAX_REQUEST_BYTES:
        raise ValueError(f"a request of {length} bytes")
    body = requests.read(length)
    return body if len(body) == length else None


def _picture(request: bytes) -> NDArray[np.uint8]:
    height, width = SIZE.unpack_from(request)
    if max(height, width) > MAX_SIDE_PX:
        raise ValueError(f"a picture of {width} x {height} pixels")
    return np.frombuffer(request, np.uint8, offset=SIZE.size).reshape(height, width, 3)


def behave() -> None:
    """Yield to everything else, and do not outlive whoever started us."""
    os.setpriority(os.PRIO_PROCESS, 0, max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    """Be that process."""
    behave()
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no reply
    try:
        serve(load(), sys.stdin.buffer, replies)
    except BrokenPipeError:
        os._exit(0)  # who asked is gone, and so is where to flush to


if __name__ == "__main__":
    main()
