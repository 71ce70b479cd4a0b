"""Encoded frames become pictures, by FFmpeg's own VP8 and H.264 decoders inside PyAV's wheel."""

import av
import numpy as np
from av.codec.context import Flags
from numpy.typing import NDArray

from media_processors.errors import CodecError
from media_processors.video.depacketize import VideoCodec

MAX_PIXELS = 2560 * 1440
"""A larger picture is refused before memory is taken for it: a few bytes of a packet can claim 16383 x 16383."""


class VideoDecoder:
    """One stream, from a key frame on."""

    def __init__(self, codec: VideoCodec) -> None:
        self._context = av.VideoCodecContext.create(codec, "r")
        self._context.thread_count = 1  # many streams share few cores; threads of their own would only add latency
        self._context.flags |= Flags.low_delay
        self._context.options = {"max_pixels": str(MAX_PIXELS)}

    def decode(self, data: bytes, ticks: int) -> av.VideoFrame | None:
        """The picture of a frame, `pts` in ticks as given; None if it has none to be shown yet. Raises CodecError."""
        packet = av.Packet(data)
        packet.pts = packet.dts = ticks
        try:
            pictures = self._context.decode(packet)
        except (av.FFmpegError, ValueError) as error:
            raise CodecError(f"video frame: {type(error).__name__}") from error
        if any(picture.is_corrupt for picture in pictures):
            raise CodecError("video frame: the decoder had to conceal a part of it")
        return pictures[-1] if pictures else None


def to_rgb(picture: av.VideoFrame) -> NDArray[np.uint8]:
    """Shape (height, width, 3), read-only: all observers of a track see the same one."""
    image = np.asarray(picture.to_ndarray(format="rgb24"), np.uint8)
    image.flags.writeable = False
    return image
