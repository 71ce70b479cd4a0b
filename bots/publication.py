"""A track that the bot publishes: a source, a pace, and what aiortc sends.

A publication outlives transports: after a reconnection a new aiortc track is made for the same publication, and the source
goes on where it was. Sound is handed on in frames of 20 ms.
"""

import asyncio
from collections.abc import AsyncIterator
from fractions import Fraction

import numpy as np
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import AudioFrame, VideoFrame

from bots.pacing import Pacer
from bots.sources import (
    CHANNELS,
    FRAME_SAMPLES,
    RATE_HZ,
    VIDEO_TIME_BASE,
    AudioSource,
    Pcm,
    VideoSource,
    audio_frame,
    pcm_blocks,
)
from signaling.protocol.messages import TrackKind, TrackSource

FRAME_NS = 1_000_000_000 * FRAME_SAMPLES // RATE_HZ
_AUDIO_TIME_BASE = Fraction(1, RATE_HZ)
STEREO_SOURCES = frozenset({"music", "screen_audio"})


class Publication:
    """What audio and video publications share: identity in the room, mute, and the end of the source."""

    kind: TrackKind

    def __init__(self, source_kind: TrackSource, pacer: Pacer | None) -> None:
        self.track_id = ""
        self.source_kind: TrackSource = source_kind
        self.muted = False
        self.frames = 0
        self.skipped_ns = 0
        self._pacer = pacer or Pacer()
        self._finished = asyncio.Event()

    async def finished(self) -> None:
        """Wait until the source has ended and its last frame was handed to the encoder."""
        await self._finished.wait()

    def make_track(self) -> MediaStreamTrack:
        """A new aiortc track that draws from this publication. Only one may be in use at a time."""
        return _PublicationTrack(self)

    async def next_frame(self) -> AudioFrame | VideoFrame:
        """The next frame, when it is due."""
        raise TypeError("a publication is of audio or of video")


class AudioPublication(Publication):
    """Paces a source in 20 ms frames of s16 at 48 kHz. When the source ends it sends silence until `play` gives another."""

    kind: TrackKind = "audio"

    def __init__(self, source: AudioSource, source_kind: TrackSource, pacer: Pacer | None = None) -> None:
        super().__init__(source_kind, pacer)
        self._layout = "stereo" if source_kind in STEREO_SOURCES else "mono"
        self._silence = np.zeros(FRAME_SAMPLES * CHANNELS[self._layout], np.int16)
        self._samples = 0
        self._blocks: AsyncIterator[Pcm] | None = None
        self.play(source)

    def play(self, source: AudioSource) -> None:
        """Replace the source from the next frame on; `finished` then speaks of the new one."""
        self._blocks = pcm_blocks(source, self._layout)
        self._finished.clear()

    async def next_frame(self) -> AudioFrame:
        """20 ms of sound, or of silence if the source has ended or the publication is muted."""
        media_ns = self._samples * 1_000_000_000 // RATE_HZ
        skipped_ns = await self._pacer.wait(media_ns - self.skipped_ns)
        # Whole frames only, so that timestamps stay multiples of 20 ms; the pacer counts the rest as lateness.
        self._samples += skipped_ns // FRAME_NS * FRAME_SAMPLES
        self.skipped_ns += skipped_ns // FRAME_NS * FRAME_NS
        block = await self._next_block()
        frame = audio_frame(self._silence if self.muted else block, self._layout)
        frame.pts = self._samples
        frame.time_base = _AUDIO_TIME_BASE
        self._samples += FRAME_SAMPLES
        self.frames += 1
        return frame

    async def _next_block(self) -> Pcm:
        blocks = self._blocks
        if blocks is None:
            return self._silence
        try:
            return await anext(blocks)
        except StopAsyncIteration:
            if self._blocks is blocks:
                self._blocks = None
                self._finished.set()
            return self._silence


class VideoPublication(Publication):
    """Paces pictures by their `pts`, or at `rate_hz` where they have none. When the source ends nothing more is sent."""

    kind: TrackKind = "video"

    def __init__(
        self, source: VideoSource, source_kind: TrackSource, rate_hz: float = 30.0, pacer: Pacer | None = None
    ) -> None:
        if rate_hz <= 0:
            raise ValueError("rate_hz: must be positive")
        super().__init__(source_kind, pacer)
        self._rate_hz = rate_hz
        self._pictures = aiter(source)

    async def next_frame(self) -> VideoFrame:
        """The next picture, black while muted. Raises MediaStreamError at the end, which is how aiortc ends a track."""
        try:
            frame = await anext(self._pictures)
        except StopAsyncIteration:
            self._finished.set()
            raise MediaStreamError from None
        media_ns = round(1e9 * (self.frames / self._rate_hz if frame.time is None else frame.time))
        self.skipped_ns += await self._pacer.wait(media_ns)
        if self.muted:
            frame = _black(frame)
        frame.time_base = VIDEO_TIME_BASE
        frame.pts = (media_ns + self.skipped_ns) * 90_000 // 1_000_000_000
        self.frames += 1
        return frame


class _PublicationTrack(MediaStreamTrack):
    """aiortc's view of a publication."""

    def __init__(self, publication: Publication) -> None:
        super().__init__()
        self.kind = publication.kind
        self._publication = publication

    async def recv(self) -> AudioFrame | VideoFrame:
        if self.readyState != "live":
            raise MediaStreamError
        return await self._publication.next_frame()


def _black(frame: VideoFrame) -> VideoFrame:
    return VideoFrame.from_ndarray(np.zeros((frame.height, frame.width), np.uint8), format="gray")
