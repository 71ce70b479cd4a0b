"""Drawn people for the page tests: a camera picture that no real person has to give."""

from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
WIDTH, HEIGHT = 640, 360
FILM_FRAMES = 16
Colour = tuple[int, int, int]

# Wall, its shadow, clothes, skin, hair; in BGR.
PEOPLE: list[tuple[Colour, Colour, Colour, Colour, Colour]] = [
    ((196, 206, 205), (150, 168, 172), (112, 98, 44), (150, 180, 226), (38, 46, 66)),
    ((178, 190, 214), (136, 150, 184), (60, 96, 190), (110, 146, 198), (30, 30, 36)),
    ((206, 200, 186), (170, 160, 140), (140, 84, 70), (84, 116, 166), (24, 26, 32)),
    ((184, 208, 190), (140, 172, 150), (84, 92, 96), (162, 192, 236), (84, 128, 178)),
]


def portrait(person: int, sway: float = 0.0) -> Picture:
    """A flat drawing of somebody in front of a wall, `sway` (-1..1) to the side; (360, 640, 3) BGR."""
    wall, shade, clothes, skin, hair = PEOPLE[person % len(PEOPLE)]
    across = np.linspace(0, 1, WIDTH)[None, :, None]
    picture = (np.array(wall) * (1 - across) + np.array(shade) * across).repeat(HEIGHT, axis=0).astype(np.uint8)
    cv2.rectangle(picture, (40, 30), (190, 210), tuple(min(255, c + 26) for c in wall), -1)
    cv2.line(picture, (115, 30), (115, 210), wall, 5)
    cv2.rectangle(picture, (500, 120), (640, 128), tuple(max(0, c - 40) for c in shade), -1)
    for place, height in ((520, 48), (538, 60), (556, 40), (576, 54)):
        cv2.rectangle(picture, (place, 120 - height), (place + 12, 119), clothes, -1)
    picture = cv2.GaussianBlur(picture, (0, 0), 5).astype(np.uint8)
    x = WIDTH // 2 + round(10 * sway)
    draw = {"thickness": -1, "lineType": cv2.LINE_AA}
    cv2.ellipse(picture, (x, 176), (72, 88), 0, 0, 360, hair, **draw)
    cv2.ellipse(picture, (WIDTH // 2, 400), (170, 135), 0, 180, 360, clothes, **draw)
    cv2.rectangle(picture, (x - 26, 220), (x + 26, 282), tuple(max(0, c - 22) for c in skin), -1)
    cv2.ellipse(picture, (x, 186), (58, 74), 0, 0, 360, skin, **draw)
    cv2.ellipse(picture, (x, 138), (62, 42), 0, 180, 360, hair, **draw)
    for side in (-22, 22):
        cv2.ellipse(picture, (x + side, 186), (5, 6), 0, 0, 360, hair, **draw)
    cv2.ellipse(picture, (x, 214), (18, 9), 0, 10, 170, tuple(max(0, c - 70) for c in skin), 3, cv2.LINE_AA)
    return picture


@cache
def film(person: int) -> list[Picture]:
    """Two seconds of somebody swaying, to be shown in a circle."""
    return [portrait(person, float(np.sin(2 * np.pi * index / FILM_FRAMES))) for index in range(FILM_FRAMES)]


def write_y4m(path: Path, person: int) -> None:
    """The same for Chromium's `--use-file-for-fake-video-capture` (YUV4MPEG2, 4:2:0)."""
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F10:1 Ip A1:1 C420jpeg\n".encode())
        for picture in film(person):
            file.write(b"FRAME\n")
            file.write(cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420).tobytes())
