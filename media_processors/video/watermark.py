"""A label that is part of the picture, so that it is also in what somebody records: a bar with a sentence at the top.

Not at the bottom: there pages write names and captions over pictures.
"""

import textwrap
from typing import ClassVar, Literal

import cv2
import numpy as np

from media_processors.base import Picture
from media_processors.findings import ProcessorInfo
from media_processors.frames import TrackRef
from media_processors.settings import ProcessingSettings

BAR_SHARE = 0.18
"""Of the picture's height, ..."""
BAR_MIN_PX = 24
"""... but at least so much: below it no letter can be read."""
LINE_CHARACTERS = 24
"""A longer sentence is broken into lines: pages crop a wide picture to a square, and the label has to be in what is left."""
EDGE_SHARE = 0.1
"""Of the bar's height, above the letters: pages frame the picture of who speaks, and round its corners."""
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_DARK, _LIGHT = (24, 24, 24), (240, 240, 240)


class Watermark:
    """The transform `watermark`. The policy of a server or room switches it; nobody switches it for themselves."""

    kind: ClassVar[Literal["transform"]] = "transform"
    media: ClassVar[Literal["video"]] = "video"

    def __init__(self) -> None:
        self._text = ProcessingSettings().watermark_text

    def configure(self, settings: ProcessingSettings) -> None:
        """Take the sentence."""
        self._text = settings.watermark_text

    def info(self) -> ProcessorInfo:
        """It needs nothing, so it can always run."""
        return ProcessorInfo(name="watermark", kind="transform", media="video", available=True, default_on=False)

    def open(self, track: TrackRef) -> "WatermarkStream":
        """State for one track."""
        del track
        return WatermarkStream(self._text)


class WatermarkStream:
    """The bar is drawn once for each size that pictures have."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._bar = np.zeros((0, 0, 3), np.uint8)

    def process(self, picture: Picture, t_ms: int) -> Picture:
        """The picture with the bar over its uppermost part."""
        del t_ms
        height, width = picture.shape[:2]
        bar_height = min(height, max(BAR_MIN_PX, round(height * BAR_SHARE)))
        if self._bar.shape[:2] != (bar_height, width):
            self._bar = draw_bar(self._text, width, bar_height, min(width, height))
        marked = picture.copy()
        marked[:bar_height] = self._bar
        return marked


def draw_bar(text: str, width: int, height: int, safe_width: int) -> Picture:
    """Shape (height, width, 3): the text in light letters on dark ground, as large as fits into the middle `safe_width` pixels."""
    bar = np.full((height, width, 3), _DARK, np.uint8)
    lines = textwrap.wrap(text, LINE_CHARACTERS)
    sizes = [cv2.getTextSize(line, _FONT, 1.0, 1) for line in lines]
    wide = max(size[0] for size, _ in sizes)
    high = max(size[1] + below for size, below in sizes)
    line_height = (0.98 - EDGE_SHARE) * height / len(lines)
    scale = min(0.94 * safe_width / wide, 0.88 * line_height / high)
    for number, (line, (size, below)) in enumerate(zip(lines, sizes, strict=True)):
        middle = EDGE_SHARE * height + line_height * (number + 0.5)
        at = round((width - scale * size[0]) / 2), round(middle + scale * (size[1] - below) / 2)
        cv2.putText(bar, line, at, _FONT, scale, _LIGHT, 2 if scale > 0.5 else 1, cv2.LINE_AA)
    return bar
