"""Seeing one video track: every frame is decoded, since each builds on the one before; a few pictures go to observers."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import cast

from media_processors.base import Observer
from media_processors.clock import TrackClock
from media_processors.errors import CodecError
from media_processors.frames import VideoFrame
from media_processors.video.decode import VideoDecoder, to_rgb
from media_processors.video.depacketize import EncodedFrame, FrameAssembler, SightCounters, VideoCodec
from sfu.tap import OpenTrack, SelectLayer, TapPacket, WantKeyframe

CLOCK_HZ = 90_000
PICTURE_INTERVAL_MS = 500
"""Faces change slowly beside what looking at one costs: a network takes 5 to 50 times as long as decoding the frame."""
QUEUE_PACKETS = 512
QUEUE_NS = 2_000_000_000
"""What waits: so many packets, so much time. Beyond that all of it is dropped, and what follows until the next key frame."""
ASK_AGAIN_NS = 1_100_000_000
"""Between two wishes for a key frame; the worker hears one in a second."""

Ask = Callable[[SelectLayer | WantKeyframe], None]


class Seeing:
    """Implements `Perception` for pictures."""

    codecs = frozenset({"vp8", "h264"})
    paused_after_s = 3.0
    """A key frame that was lost is asked for again after one second; nothing comes while the worker waits for it."""

    def __init__(self, opened: OpenTrack, counters: SightCounters, ask: Ask) -> None:
        self._handle = opened.handle
        self._codec = opened.codec
        self._counters = counters
        self._ask = ask
        self._names: list[str] = []
        self._clock = TrackClock(CLOCK_HZ)
        self._last_picture_ms: int | None = None
        self._asked_ns: int | None = None
        self._assembler: FrameAssembler | None = None
        self._decoder: VideoDecoder | None = None

    def attach(self, name: str, observer: Observer) -> None:
        """See `Perception`."""
        self._names.append(name)

    def detach(self, name: str) -> None:
        """See `Perception`."""
        self._names = [known for known in self._names if known != name]

    def restart(self) -> None:
        """See `Perception`."""
        self._assembler = None
        self._decoder = None
        self._asked_ns = None

    def bound(self, waiting: deque[TapPacket]) -> int:
        """See `Perception`. A frame without the ones before it is worth nothing, so everything goes."""
        if len(waiting) <= QUEUE_PACKETS and waiting[-1].arrival_ns - waiting[0].arrival_ns <= QUEUE_NS:
            return 0
        dropped = len(waiting)
        waiting.clear()
        self._assembler = None
        return dropped

    def push(self, packet: TapPacket) -> Iterator[tuple[str, VideoFrame]]:
        """See `Perception`."""
        if self._assembler is None:
            self._assembler = FrameAssembler(cast(VideoCodec, self._codec), self._counters)
        for frame in self._assembler.push(packet):
            picture = self._picture(self._assembler, frame)
            if picture is not None:
                self._counters.pictures += 1
                yield from [(name, picture) for name in self._names]
        if self._assembler.awaits_keyframe:
            self._want_keyframe(packet.arrival_ns)

    def _picture(self, assembler: FrameAssembler, frame: EncodedFrame) -> VideoFrame | None:
        """What observers get to see of a frame, if it is time for a picture."""
        ticks = self._clock.at(frame.timestamp, frame.arrival_ns)
        if self._decoder is None:
            self._decoder = VideoDecoder(cast(VideoCodec, self._codec))
        try:
            picture = self._decoder.decode(frame.data, ticks)
        except CodecError:
            self._counters.undecodable += 1
            self._decoder = None
            assembler.lose()
            return None
        if picture is None or picture.pts is None:
            return None
        start_ms = picture.pts * 1000 // CLOCK_HZ
        # By our clock: a publisher's could make a flood of it, or nothing at all.
        arrival_ms = frame.arrival_ns // 1_000_000
        if self._last_picture_ms is not None and arrival_ms - self._last_picture_ms < PICTURE_INTERVAL_MS:
            return None
        self._last_picture_ms = arrival_ms
        return VideoFrame(to_rgb(picture), start_ms, frame.arrival_ns)

    def _want_keyframe(self, now_ns: int) -> None:
        if self._asked_ns is None or now_ns - self._asked_ns >= ASK_AGAIN_NS:
            self._asked_ns = now_ns
            self._counters.keyframes_asked += 1
            self._ask(WantKeyframe(self._handle))
