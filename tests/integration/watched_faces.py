"""A camera whose pictures are shown to observers of faces, one after the other, and what they said."""

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from media_processors.base import HostServices
from media_processors.findings import FaceAuthenticity, Faces, Finding
from media_processors.frames import TrackRef, VideoFrame
from media_processors.video.looking import FaceStream
from media_processors.video.observer import FaceObserver
from tests.until import until

TRACK = TrackRef("room", "participant", "track", "video", "camera", 0)
Image = NDArray[np.uint8]
WIDTH, HEIGHT = 640, 360


class Camera:
    """Streams of the observers under test, shown pictures at two a second, and what they said."""

    def __init__(self, services: HostServices, observers: Iterable[FaceObserver]) -> None:
        self.said: list[Finding] = []
        self.streams: list[FaceStream] = []
        self._now_ms = 0
        for observer in observers:
            observer.attach(services)
            assert observer.info().available, observer.info().reason
            self.streams.append(observer.open(TRACK, self.said.append))

    async def show(self, *images: Image) -> None:
        """One after the other; each is looked at before the next comes."""
        for image in images:
            frame = VideoFrame(image, self._now_ms, self._now_ms * 1_000_000)
            self._now_ms += 500
            for stream in self.streams:
                stream.push(frame)
            await until(
                lambda: "a look at the picture" if any(self._busy(stream) for stream in self.streams) else "", 30
            )

    @staticmethod
    def _busy(stream: FaceStream) -> bool:
        return stream._newest is not None or stream._posted.is_set() or stream.looking

    def faces(self) -> list[Faces]:
        return [finding for finding in self.said if isinstance(finding, Faces)]

    def authenticity(self) -> list[FaceAuthenticity]:
        return [finding for finding in self.said if isinstance(finding, FaceAuthenticity)]


def on_wall(picture: Image, x: int = 140, size: int = HEIGHT) -> Image:
    """A picture in front of a grey wall, as a camera would see it."""
    wall = np.full((HEIGHT, WIDTH, 3), 96, np.uint8)
    wall[:size, x : x + size] = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    return wall
