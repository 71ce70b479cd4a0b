"""A camera: pictures of `PatternSource` as RTP payloads, by aiortc's own encoders and packetisers."""

from fractions import Fraction

import av
from aiortc.codecs.h264 import H264Encoder
from aiortc.codecs.vpx import Vp8Encoder

from bots import PatternSource
from sfu.tap import Sound, TapPacket

CLOCK_HZ = 90_000


class Camera:
    """One layer of one codec. Its first frame is a key frame, and then whichever is asked for."""

    def __init__(self, codec: str = "vp8", width: int = 320, height: int = 180, rate_hz: int = 10) -> None:
        self._encoder = Vp8Encoder() if codec == "vp8" else H264Encoder()
        self._source = PatternSource(width, height)
        self._rate_hz = rate_hz
        self.frames = 0

    def shoot(self, keyframe: bool = False) -> tuple[list[bytes], int]:
        """(payloads, timestamp) of the next frame."""
        picture = av.VideoFrame.from_ndarray(self._source.picture(self.frames), format="gray").reformat(
            format="yuv420p"
        )
        picture.pts = self.frames * CLOCK_HZ // self._rate_hz
        picture.time_base = Fraction(1, CLOCK_HZ)
        self.frames += 1
        payloads, timestamp = self._encoder.encode(picture, force_keyframe=keyframe)
        return payloads, timestamp


class Film:
    """The packets of a camera as they come over a tap."""

    def __init__(self, camera: Camera, handle: int = 1, epoch: int = 0, seq: int = 65_530) -> None:
        self.camera = camera
        self._handle = handle
        self._epoch = epoch
        self._seq = seq

    def frame(self, keyframe: bool = False) -> list[TapPacket]:
        """The next frame, of at least one packet; frames arrive when they are due."""
        payloads, timestamp = self.camera.shoot(keyframe)
        packets = []
        for index, payload in enumerate(payloads):
            packets.append(
                TapPacket(
                    handle=self._handle,
                    sound=Sound.RAW,
                    marker=int(index == len(payloads) - 1),
                    seq=self._seq & 0xFFFF,
                    timestamp=timestamp & 0xFFFFFFFF,
                    arrival_ns=timestamp * 1_000_000_000 // CLOCK_HZ,
                    epoch=self._epoch,
                    level=0,
                    restart=0,
                    payload=payload,
                )
            )
            self._seq += 1
        return packets
