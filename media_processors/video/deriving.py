"""One video track in the video host: packets to pictures, through its transforms, and to packets again.

Everything is decoded, since each frame builds on the one before; of the pictures only the newest goes through transforms and
encoder, the others are left out and counted. That happens in one thread of the track's own, which gets all frames that have come
since its last turn, so a slow transform delays nobody and is never more than a picture behind. A track that cannot keep up is
given up: viewers get the publisher's own pictures at once, and it is tried again a minute later, three times in all; but first
everything else makes way for a label. What keeps up for a minute, or was joined by another transform, has all tries again.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import monotonic_ns
from typing import NamedTuple

import av
import numpy as np
import structlog

from media_processors.base import Picture, VideoTransform, VideoTransformStream
from media_processors.clock import TrackClock
from media_processors.errors import CodecError, UnavailableError, place_of
from media_processors.findings import ProcessorStatus
from media_processors.frames import TrackRef
from media_processors.video.decode import VideoDecoder
from media_processors.video.depacketize import EncodedFrame, FrameAssembler, SightCounters
from media_processors.video.encode import CLOCK_HZ, Vp8Encoder, useful_bps
from media_processors.video.pace import PATIENCE_NS, RETRY_NS, TRIES, Pace
from media_processors.video.packetize import Vp8Packetizer
from media_processors.video.watching import ASK_AGAIN_NS, QUEUE_NS, QUEUE_PACKETS
from sfu.tap import OpenTrack, SelectLayer, TapFrame, TapPacket, VideoResult, WantKeyframe

LONGEST_PX = 640
"""Of a picture's longer side: what bounds the cost of a track. Larger ones are made smaller."""
TOO_SLOW = "too_slow"
LABEL = "watermark"
"""It comes behind what enlarges a picture, and is the last one to be given up."""

log = structlog.get_logger()


@dataclass(slots=True)
class DeriveCounters:
    """Of one video host."""

    dropped: int = 0
    """Packets dropped from full queues."""
    replaced: int = 0
    """Pictures left out because a newer one had come."""
    left_out: int = 0
    """Pictures that the encoder left out."""
    made: int = 0
    refused: int = 0
    """Pictures that a worker did not take; the next one is a key frame."""
    given_up: int = 0
    unwanted: int = 0
    malformed: int = 0
    failed: int = 0
    """Transforms, encoders, and whatever else raised what nobody expected."""
    seeing: SightCounters = field(default_factory=SightCounters)


class Made(NamedTuple):
    """What a turn of the thread came to."""

    payloads: list[bytes]
    timestamp: int
    epoch: int
    arrival_ns: int


class _TransformError(Exception):
    """A transform can do nothing (more) for this track."""

    def __init__(self, name: str, error: Exception) -> None:
        super().__init__(name)
        self.name = name
        self.error = error


class DerivedTrack:
    """A track from `OpenTrack` to `CloseTrack`. `send` says whether the worker took these frames, all or none."""

    def __init__(
        self,
        opened: OpenTrack,
        counters: DeriveCounters,
        send: Callable[[Sequence[TapFrame]], bool],
        tell: Callable[[ProcessorStatus], None],
    ) -> None:
        self.opened = opened
        self.pace = Pace()
        self.statuses: dict[str, ProcessorStatus] = {}
        self._counters = counters
        self._send = send
        self._tell = tell
        self._streams: dict[str, VideoTransformStream] = {}
        self._refused: dict[str, str] = {}
        """By transform, why it does nothing for this track."""
        self._waiting: deque[TapPacket] = deque()
        self._packets_came = asyncio.Event()
        self._assembler = FrameAssembler("vp8", counters.seeing)
        self._decoder: VideoDecoder | None = None
        self._encoder: Vp8Encoder | None = None
        self._packetizer = Vp8Packetizer()
        self._clock = TrackClock(CLOCK_HZ)
        self._keyframe_wanted = True
        self._asked_ns = 0
        self._unsaid: dict[type[TapFrame], TapFrame] = {}
        """What the worker could not take, the latest of each kind."""
        self._turn_since_ns = 0
        """When the thread began with what it does now; 0: nothing."""
        self._tries = 0
        self._retry_ns = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="derive")
        self._task = asyncio.create_task(self._run(), name=f"derive-{opened.track_id}")

    # --- what is wanted

    def configure(self, opened: OpenTrack, available: Mapping[str, VideoTransform]) -> None:
        """Switches, bitrate, consent. A transform that is switched off and on again is tried anew."""
        switched = opened.processors != self.opened.processors
        self.opened = opened
        on = {name for name, wanted in opened.processors.items() if wanted}
        for name, reason in list(self._refused.items()):
            if name not in on or (switched and reason.startswith(TOO_SLOW)):
                del self._refused[name]
        wanted = {name: t for name, t in available.items() if name in on and name not in self._refused}
        if set(wanted) != set(self._streams):
            self._change(wanted)
        if self._streams:
            self._say(SelectLayer(opened.handle, LONGEST_PX))
        self._show(available)

    def _change(self, wanted: Mapping[str, VideoTransform]) -> None:
        """Other transforms than before; one that joins has nothing to do with what was too slow without it."""
        before, worked = set(self._streams), self.working
        self._streams = self._opened(wanted)
        if set(self._streams) - before:
            self._tries = self._retry_ns = 0
            self.pace.reset()
        if self.working and not worked:
            self._begin()
        elif worked and not self.working:
            self._end()

    def _opened(self, wanted: Mapping[str, VideoTransform]) -> dict[str, VideoTransformStream]:
        """In the order of their names, the label behind all others."""
        opened = self.opened
        track = TrackRef(
            opened.room_id, opened.participant_id, opened.track_id, opened.kind, opened.source, opened.epoch
        )
        streams: dict[str, VideoTransformStream] = {}
        for name in sorted(wanted, key=lambda name: (name == LABEL, name)):
            try:
                streams[name] = self._streams.get(name) or wanted[name].open(track)
            except Exception as error:  # anybody's code
                self._note_refusal(name, error)
        return streams

    def _note_refusal(self, name: str, error: Exception) -> None:
        if isinstance(error, UnavailableError):
            self._refused[name] = error.reason
            return
        self._counters.failed += 1
        kind = type(error).__name__
        log.error("video_transform_failed", track_id=self.opened.track_id, error=kind, place=place_of(error))
        self._refused[name] = f"failed: {kind}"

    def _begin(self) -> None:
        self.pace.reset()
        self._assembler = FrameAssembler("vp8", self._counters.seeing)
        self._keyframe_wanted = True
        self._asked_ns = 0
        self._unsaid.pop(VideoResult, None)
        self._ask_publisher()

    def _end(self) -> None:
        """Nothing more comes: let viewers go back at once."""
        self._waiting.clear()
        self._unsaid.pop(WantKeyframe, None)
        self._say(VideoResult(self.opened.handle, self.opened.epoch, 1, 0, b""))

    def _say(self, frame: TapFrame) -> None:
        """Tell the worker, now or as soon as there is room."""
        if self._send([frame]):
            self._unsaid.pop(type(frame), None)
        else:
            self._unsaid[type(frame)] = frame

    @property
    def working(self) -> bool:
        """Whether pictures are made."""
        return bool(self._streams) and not self._retry_ns

    # --- packets

    def put(self, packet: TapPacket) -> None:
        """A packet of the publisher's."""
        if not self.working:
            self._counters.unwanted += 1
            return
        waiting = self._waiting
        waiting.append(packet)
        if packet.marker and not self._assembler.awaits_keyframe:
            self.pace.came(monotonic_ns())
        if len(waiting) > QUEUE_PACKETS or packet.arrival_ns - waiting[0].arrival_ns > QUEUE_NS:
            self._counters.dropped += len(waiting)
            waiting.clear()
            self._assembler.lose()
        self._packets_came.set()

    def want_keyframe(self) -> None:
        """A viewer needs one of what is made here."""
        self._keyframe_wanted = True

    async def _run(self) -> None:
        while True:
            await self._packets_came.wait()
            self._packets_came.clear()
            try:
                await self._turn()
            except CodecError:
                self._counters.seeing.undecodable += 1
                self._decoder = None
                self._assembler.lose()
                self._ask_publisher()
            except _TransformError as refusal:
                self._drop(refusal.name, refusal.error)
            except Exception as error:  # a mistake of ours costs one track, and not for ever
                self._fail(error)
            self._turn_since_ns = 0

    async def _turn(self) -> None:
        """All that has come since the last one."""
        frames = [(frame, packet.epoch) for packet in self._taken() for frame in self._assembler.push(packet)]
        if self._assembler.awaits_keyframe:
            self._ask_publisher()
        if not frames:
            return
        self._turn_since_ns = monotonic_ns()
        self._counters.replaced += len(frames) - 1
        loop = asyncio.get_running_loop()
        self._pass_on(await loop.run_in_executor(self._thread, self._work, frames, dict(self._streams)))

    def _fail(self, error: Exception) -> None:
        kind = type(error).__name__
        self._counters.failed += 1
        log.error("deriving_failed", track_id=self.opened.track_id, error=kind, place=place_of(error))
        self._decoder = self._encoder = None
        if self.working:
            self._give_up(monotonic_ns(), f"failed: {kind}")

    def _taken(self) -> list[TapPacket]:
        packets = list(self._waiting)
        self._waiting.clear()
        return packets

    def _ask_publisher(self) -> None:
        """Not after giving up: the worker would begin to send again."""
        now_ns = monotonic_ns()
        if self.working and now_ns - self._asked_ns >= ASK_AGAIN_NS:
            self._asked_ns = now_ns
            self._counters.seeing.keyframes_asked += 1
            self._say(WantKeyframe(self.opened.handle))

    # --- in the thread

    def _work(self, frames: list[tuple[EncodedFrame, int]], streams: dict[str, VideoTransformStream]) -> Made | None:
        """Raises CodecError if a frame cannot be decoded, _TransformError if a transform does not do it."""
        decoded = None
        for frame, epoch in frames:
            if self._decoder is None:
                self._decoder = VideoDecoder("vp8")
            ticks = self._clock.at(frame.timestamp, frame.arrival_ns)
            picture = self._decoder.decode(frame.data, ticks)
            if picture is not None:
                decoded = picture, ticks, frame, epoch
        if decoded is None:
            return None
        picture, ticks, frame, epoch = decoded
        image: Picture | None = _rgb(picture)
        for name, stream in streams.items():
            try:
                image = stream.process(image, ticks * 1000 // CLOCK_HZ) if image is not None else None
            except Exception as error:  # anybody's code
                raise _TransformError(name, error) from error
        if image is None:
            return None
        return Made(self._encoded(image, ticks), frame.timestamp, epoch, frame.arrival_ns)

    def _encoded(self, image: Picture, ticks: int) -> list[bytes]:
        height, width = image.shape[:2]
        bitrate_bps = useful_bps(width, height, self.opened.bitrate_bps)
        encoder = self._encoder
        if encoder is None or (encoder.size, encoder.bitrate_bps) != ((width, height), bitrate_bps):
            encoder = self._encoder = Vp8Encoder(width, height, bitrate_bps)
            self._keyframe_wanted = True
        wanted, self._keyframe_wanted = self._keyframe_wanted, False
        try:
            data = encoder.encode(image, ticks, keyframe=wanted)
        except CodecError:
            self._counters.failed += 1
            self._encoder = None  # the next one begins with a key frame
            return []
        if data:
            return self._packetizer.packets(data)
        self._keyframe_wanted |= wanted
        return []

    # --- and back

    def _pass_on(self, made: Made | None) -> None:
        if made is None or not self.working:
            return
        if not made.payloads:
            self._counters.left_out += 1
            return
        last = len(made.payloads) - 1
        handle = self.opened.handle
        results = [
            VideoResult(handle, made.epoch, int(index == last), made.timestamp, payload)
            for index, payload in enumerate(made.payloads)
        ]
        if not self._send(results):
            self._counters.refused += 1
            self._keyframe_wanted = True
            return
        now_ns = monotonic_ns()
        self._counters.made += 1
        self.pace.went(now_ns, (now_ns - made.arrival_ns) / 1e6)

    def _drop(self, name: str, error: Exception) -> None:
        self._note_refusal(name, error)
        self._streams.pop(name, None)
        self._status(name, "unavailable", self._refused[name])
        if not self._streams:
            self._end()

    # --- now and then

    def tick(self, now_ns: int, available: Mapping[str, VideoTransform]) -> bool:
        """Give up what cannot keep up, or try again. Whether something was given up just now."""
        for frame in list(self._unsaid.values()):
            self._say(frame)
        if self._retry_ns:
            if now_ns >= self._retry_ns and self._tries < TRIES:
                self._retry_ns = 0
                self._begin()
                self._show(available)
            return False
        if not self._streams:
            return False
        if self.pace.proven(now_ns):
            self._tries = 0
        figure = self._too_slow(now_ns)
        if not figure:
            return False
        self._counters.given_up += 1
        reason = f"{TOO_SLOW}: {figure}"
        if LABEL in self._streams and len(self._streams) > 1:
            self._make_way(now_ns, reason)
        else:
            self._give_up(now_ns, reason)
        return True

    def _make_way(self, now_ns: int, reason: str) -> None:
        """Everything but the label is left out until something is switched."""
        for name in [name for name in self._streams if name != LABEL]:
            del self._streams[name]
            self._refused[name] = reason
            self._status(name, "unavailable", reason)
        self.pace.reset()
        if self._turn_since_ns:  # what the thread does now is not the label's fault either
            self._turn_since_ns = now_ns

    def _give_up(self, now_ns: int, reason: str) -> None:
        self._tries += 1
        self._retry_ns = now_ns + RETRY_NS
        self._end()
        for name in self._streams:
            self._status(name, "unavailable", reason)

    def _too_slow(self, now_ns: int) -> str:
        busy_ns = now_ns - self._turn_since_ns if self._turn_since_ns else 0
        return f"{busy_ns / 1e9:.0f} s for a picture" if busy_ns > PATIENCE_NS else self.pace.too_slow(now_ns)

    def _show(self, available: Mapping[str, VideoTransform]) -> None:
        for name in self.opened.processors:
            if name in self._refused:
                self._status(name, "unavailable", self._refused[name])
            elif name in self._streams and not self._retry_ns:
                self._status(name, "on")
            elif name in available and name not in self._streams:
                self._status(name, "off")

    def _status(self, name: str, state: str, reason: str = "") -> None:
        fields = {"track_id": self.opened.track_id, "processor": name, "state": state, "reason": reason}
        status = ProcessorStatus.model_validate(fields)
        if self.statuses.get(name) != status:
            self.statuses[name] = status
            self._tell(status)

    def statistics(self, now_ns: int) -> dict[str, float | None]:
        """Latency from the original's arrival to the derived picture's sending, and pictures per second."""
        latencies = sorted(self.pace.latencies_ms)
        came, went = self.pace.rates(now_ns)
        return {
            "latency_p50_ms": latencies[len(latencies) // 2] if latencies else None,
            "latency_p99_ms": latencies[len(latencies) * 99 // 100] if latencies else None,
            "pictures_in_per_s": came,
            "pictures_out_per_s": went,
        }

    async def close(self) -> None:
        """Free everything; idempotent."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._thread.shutdown(wait=False, cancel_futures=True)


def _rgb(picture: av.VideoFrame) -> Picture:
    """Not larger than `LONGEST_PX`, with even sides, as 4:2:0 wants them."""
    scale = min(1.0, LONGEST_PX / max(picture.width, picture.height))
    width, height = (max(2, int(side * scale) // 2 * 2) for side in (picture.width, picture.height))
    return np.asarray(picture.reformat(width, height, format="rgb24").to_ndarray(), np.uint8)
