"""Pictures and videos of people as faces, cut out as a meeting cuts them, and what VP8 leaves of them (RFC 6386)."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from models.faces import FACE_PX, MARGIN, cut_out
from models.questions import MAX_PIXELS, Faces, Picture, Sound
from models.training.media import MediaError, Question

SIZE_PX = 256
"""Faces are kept at this width and height."""
STEP_S = 0.5
"""Between two pictures of a video, as in a meeting."""
MOST_WINDOWS = 12
"""Of one video."""
BITRATE_PIXELS = 640 * 360
"""The picture of a camera that a bitrate is given for; a face gets its share of it."""
FRAMES = 10
FRAME_RATE = 30
_PICTURES = frozenset({".png", ".jpg", ".jpeg"})

Image = NDArray[np.uint8]
Find = Callable[[Picture], Faces]


class FacesMedium:
    """The medium of face authenticity."""

    suffixes = _PICTURES | {".mp4", ".webm", ".mkv", ".mov", ".avi"}
    codec = "VP8"
    training_kbps = (300, 1_200)
    rows_kbps: tuple[int, ...] = (200, 600, 1_200)
    meeting_kbps = 600

    def __init__(self, find: Find) -> None:
        self._find = find

    def windows(self, path: Path) -> list[Question]:
        """The largest face of each picture, 256 x 256, if it is wide enough to be judged in a meeting. Raises MediaError."""
        faces: list[Question] = []
        for image in read(path):
            boxes = self._find(Picture(image)).boxes
            largest = max(boxes, key=lambda box: box.width, default=None)
            if largest is not None and largest.width >= FACE_PX:
                face = cut_out(image, largest, margin=MARGIN, square=True)
                faces.append(Picture(resized(face, SIZE_PX, SIZE_PX)))
        return faces

    def coded(self, question: Question, kbps: int) -> Question:
        """The face after an encoder and a decoder. Raises ValueError for a sound."""
        if isinstance(question, Sound):
            raise ValueError("a sound cannot be seen")
        return Picture(vp8(question.rgb, kbps))


def read(path: Path) -> list[Image]:
    """A picture, or some of a video, RGB, none with more pixels than a model may be asked about. Raises MediaError."""
    if path.suffix.lower() in _PICTURES:
        picture = cv2.imread(str(path))
        if picture is None:
            raise MediaError(f"{path} cannot be read: it is no picture")
        return [_bounded(np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8))]
    images: list[Image] = []
    next_s = 0.0
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                if (frame.time or 0.0) >= next_s:
                    images.append(_bounded(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)))
                    next_s = (frame.time or 0.0) + STEP_S
                if len(images) == MOST_WINDOWS:
                    break
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise MediaError(f"{path} cannot be read: {error}") from error
    return images


def _bounded(image: Image) -> Image:
    scale = max(1.0, float(np.sqrt(image.shape[0] * image.shape[1] / MAX_PIXELS)))
    return image if scale == 1 else resized(image, int(image.shape[1] / scale), int(image.shape[0] / scale))


def resized(image: Image, width: int, height: int) -> Image:
    """By area, as runners do."""
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def vp8(image: Image, kbps: int) -> Image:
    """A face after a third of a second of video of it, at the share of `kbps` that its pixels have in a camera's picture.

    It moves by a pixel from frame to frame: of a still, an encoder would make the bits of one picture in ten.
    """
    height, width = image.shape[:2]
    encoder = av.VideoCodecContext.create("libvpx", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.framerate, encoder.time_base = Fraction(FRAME_RATE), Fraction(1, FRAME_RATE)
    encoder.bit_rate = round(kbps * 1000 * width * height / BITRATE_PIXELS)
    encoder.options = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}
    decoder = av.VideoCodecContext.create("vp8", "r")
    seen: list[av.VideoFrame] = []
    for number in range(FRAMES):
        frame = av.VideoFrame.from_ndarray(np.roll(image, number - FRAMES + 1, axis=1), format="rgb24")
        frame.pts = number
        for packet in encoder.encode(frame):
            seen += decoder.decode(packet)
    for packet in encoder.encode(None):
        seen += decoder.decode(packet)
    return np.asarray(seen[-1].to_ndarray(format="rgb24"), np.uint8)
