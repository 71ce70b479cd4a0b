"""Pictures become VP8 frames, by the libvpx inside PyAV's wheel, in real time."""

from fractions import Fraction

import av
from av.video.frame import PictureType

from media_processors.base import Picture
from media_processors.errors import CodecError

CLOCK_HZ = 90_000
LEAST_BPS = 50_000
BITS_PER_PIXEL = 0.15
"""More than this, at 30 pictures a second, does not make a picture of a camera better."""
FRAMES_PER_S = 30
_OPTIONS = {
    "deadline": "realtime",
    "cpu-used": "-16",  # a fixed speed; measured against 8, by which libvpx adapts itself: 40 % less time, 0.3 dB better
    "error-resilient": "default",
    "lag-in-frames": "0",
    "max-intra-rate": "500",  # a key frame may be so many percent of an average frame
    "qmin": "4",
    "qmax": "56",
    "g": "3000",  # key frames come when they are wanted
}


def useful_bps(width: int, height: int, allowed_bps: int) -> int:
    """What to encode pictures of a size at, if so much is allowed."""
    return min(allowed_bps, max(LEAST_BPS, int(width * height * FRAMES_PER_S * BITS_PER_PIXEL)))


class Vp8Encoder:
    """One stream of one size and one bitrate. Another bitrate takes another encoder, so it costs a key frame."""

    def __init__(self, width: int, height: int, bitrate_bps: int) -> None:
        self.size = width, height
        self.bitrate_bps = bitrate_bps
        self._last_ticks = -1
        context = self._context = av.VideoCodecContext.create("libvpx", "w")
        context.width, context.height = self.size
        context.pix_fmt = "yuv420p"
        context.time_base = Fraction(1, CLOCK_HZ)
        context.framerate = Fraction(FRAMES_PER_S)
        context.bit_rate = bitrate_bps
        context.thread_count = 1
        rate = str(bitrate_bps)
        context.options = _OPTIONS | {"maxrate": rate, "minrate": rate, "bufsize": str(bitrate_bps // 2)}

    def encode(self, picture: Picture, ticks: int, *, keyframe: bool) -> bytes:
        """The frame of a picture of our size, filmed at `ticks` (90 kHz); empty if the encoder leaves it out. Raises CodecError."""
        ticks = self._last_ticks = max(ticks, self._last_ticks + 1)
        try:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts = ticks
            frame.time_base = Fraction(1, CLOCK_HZ)
            frame.pict_type = PictureType.I if keyframe else PictureType.NONE
            return b"".join(bytes(packet) for packet in self._context.encode(frame))
        except (av.FFmpegError, ValueError) as error:
            raise CodecError(f"picture: {type(error).__name__}") from error
