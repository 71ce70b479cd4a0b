"""What the demo's bots look like: a drawn portrait whose halo follows the voice."""

import time
import zlib
from collections.abc import AsyncIterator

import cv2
import numpy as np
import numpy.typing as npt
from av import VideoFrame

from candor.speech import RATE_HZ, Sound

WIDTH, HEIGHT = 480, 270
HEAD_Y = HEIGHT // 2 - 12
RATE_PER_S = 15.0
"""Pictures per second to publish it with."""
ENVELOPE_SAMPLES = RATE_HZ // 25
"""40 ms: how fine the halo follows."""
SCALE = 16
"""cv2's fixed point for smooth circles: coordinates times 2^4."""

Picture = npt.NDArray[np.uint8]


class Portrait:
    """A `VideoSource` without end. `say` makes the halo move with a sound that is played now."""

    def __init__(self, name: str) -> None:
        hue = zlib.crc32(name.encode()) % 180
        self._tint = _colour(hue, 90, 235)
        self._still = _draw(hue)
        self._envelope: npt.NDArray[np.float32] = np.zeros(0, np.float32)
        self._started = 0.0
        self._level = 0.0

    def say(self, sound: Sound) -> None:
        """Follow `sound` (float32 mono at 48 kHz) from now on."""
        blocks = sound[: len(sound) // ENVELOPE_SAMPLES * ENVELOPE_SAMPLES].reshape(-1, ENVELOPE_SAMPLES)
        self._envelope = np.sqrt(np.mean(np.square(blocks), axis=1))
        self._started = time.monotonic()

    async def __aiter__(self) -> AsyncIterator[VideoFrame]:
        while True:
            yield VideoFrame.from_ndarray(self.picture(), format="bgr24")

    def picture(self) -> Picture:
        """The portrait now, shape (HEIGHT, WIDTH, 3), BGR."""
        at = int((time.monotonic() - self._started) * RATE_HZ / ENVELOPE_SAMPLES)
        loud = float(self._envelope[at]) if 0 <= at < len(self._envelope) else 0.0
        self._level += (min(1.0, loud * 8) - self._level) * 0.5
        image = self._still.copy()
        if self._level > 0.02:
            radius = int((56 + 30 * self._level) * SCALE)
            centre = (WIDTH // 2 * SCALE, HEAD_Y * SCALE)
            cv2.circle(image, centre, radius, self._tint, 3, cv2.LINE_AA, 4)
        return image


def _colour(hue: int, saturation: int, value: int) -> tuple[int, int, int]:
    pixel = cv2.cvtColor(np.array([[[hue, saturation, value]]], np.uint8), cv2.COLOR_HSV2BGR)[0, 0]
    return int(pixel[0]), int(pixel[1]), int(pixel[2])


def _draw(hue: int) -> Picture:
    """Head and shoulders before a soft gradient."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    distance = np.hypot(columns - WIDTH / 2, rows - HEIGHT * 0.42) / WIDTH
    fade = np.clip(1.15 - 1.3 * distance, 0.25, 1.0)[..., None]
    backdrop = np.array(_colour(hue, 120, 150), np.float32)
    image: Picture = (fade * backdrop).astype(np.uint8)
    skin, cloth = _colour((hue + 8) % 180, 45, 225), _colour(hue, 150, 95)
    cv2.ellipse(image, (WIDTH // 2, HEIGHT + 30), (92, 105), 0, 180, 360, cloth, -1, cv2.LINE_AA)
    cv2.circle(image, (WIDTH // 2, HEAD_Y), 46, skin, -1, cv2.LINE_AA)
    return image
