"""RTP packets of a video become the frames that a decoder takes, whole and in their order.

A packet that is missing may still come: the worker asks the publisher for it again. So what is behind it waits, for a bounded time
and number; then the gap counts as lost, and everything is dropped until a key frame.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from sfu.rtp import h264, vp8
from sfu.rtp.header import seq_delta
from sfu.tap import TapPacket

REPAIR_NS = 300_000_000
"""How long a missing packet may take: two attempts of the worker to get it again, over an ordinary connection."""
EARLY_PACKETS = 512
"""So many may wait behind a gap, about 2 s of 2.5 Mb/s; one more, and the gap counts as lost."""
FAR_PACKETS = 4096
"""A number that is further off than this belongs to another numbering."""
FRAME_BYTES = 2_000_000
"""A larger frame is dropped: no picture that people send each other is."""

VideoCodec = Literal["vp8", "h264"]


@dataclass(slots=True)
class SightCounters:
    """What happened to video packets and frames; one object per host."""

    packets: int = 0
    old: int = 0
    """Too late, or repeated."""
    lost: int = 0
    """Missing for good."""
    skipped: int = 0
    """Packets dropped while waiting for a key frame."""
    malformed: int = 0
    """Packets that do not hold what their codec says, and frames that are too large."""
    frames: int = 0
    """Given to the decoder."""
    undecodable: int = 0
    """Frames that the decoder refused, or whose picture it marked as damaged."""
    pictures: int = 0
    """Given to observers."""
    keyframes_asked: int = 0


class EncodedFrame(NamedTuple):
    """A frame as the encoder made it: VP8, or H.264 with start codes."""

    data: bytes
    timestamp: int
    """RTP, 90 kHz, 32 bits."""
    arrival_ns: int
    """`time.monotonic_ns()` of the worker when the packet came that completed it."""


class FrameAssembler:
    """One stream with one unbroken numbering. Sans-IO: time is that of the packets."""

    def __init__(self, codec: VideoCodec, counters: SightCounters) -> None:
        self.awaits_keyframe = True
        self._codec = codec
        self._counters = counters
        self._early: dict[int, TapPacket] = {}
        self._next: int | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._timestamp = 0
        self._arrival_ns = 0

    def push(self, packet: TapPacket) -> list[EncodedFrame]:
        """The frames that this packet completes, its own and those behind it."""
        self._counters.packets += 1
        ahead = 0 if self._next is None else seq_delta(packet.seq, self._next)
        if self._next is None or abs(ahead) > FAR_PACKETS:
            self.lose()
            self._early.clear()
            self._next = packet.seq
        elif ahead < 0 or packet.seq in self._early:
            self._counters.old += 1
            return []
        self._early[packet.seq] = packet
        return self._ready(self._next, packet.arrival_ns)

    def lose(self) -> None:
        """Something is missing: drop everything until the next key frame."""
        self.awaits_keyframe = True
        self._pieces.clear()
        self._size = 0

    def _ready(self, at: int, now_ns: int) -> list[EncodedFrame]:
        frames: list[EncodedFrame] = []
        while self._early:
            packet = self._early.pop(at, None)
            if packet is None:
                if not self._overdue(now_ns):
                    break
                gap = min((seq - at) & 0xFFFF for seq in self._early)
                self._counters.lost += gap
                self.lose()
                at = (at + gap) & 0xFFFF
                continue
            at = (at + 1) & 0xFFFF
            frames.extend(self._take(packet))
        self._next = at
        return frames

    def _overdue(self, now_ns: int) -> bool:
        since_ns = min(packet.arrival_ns for packet in self._early.values())
        return len(self._early) > EARLY_PACKETS or now_ns - since_ns > REPAIR_NS

    def _take(self, packet: TapPacket) -> list[EncodedFrame]:
        """The next packet of the numbering."""
        frames: list[EncodedFrame] = []
        if (
            self._pieces and packet.timestamp != self._timestamp
        ):  # a marker is a hint, not a promise (RFC 6184 section 5.1)
            frames.append(self._finished())
        try:
            piece, starts_keyframe = self._parse(packet.payload)
        except ValueError:
            self._counters.malformed += 1
            self.lose()
            return frames
        if self.awaits_keyframe and not starts_keyframe:
            self._counters.skipped += 1
            return frames
        self.awaits_keyframe = False
        self._arrival_ns = max(packet.arrival_ns, self._arrival_ns) if self._pieces else packet.arrival_ns
        self._pieces.append(piece)
        self._size += len(piece)
        self._timestamp = packet.timestamp
        if self._size > FRAME_BYTES:
            self._counters.malformed += 1
            self.lose()
        elif packet.marker:
            frames.append(self._finished())
        return frames

    def _parse(self, payload: bytes) -> tuple[bytes, bool]:
        """(piece of the frame, whether a key frame starts with it). Raises ValueError."""
        if self._codec == "vp8":
            return vp8.frame_data(payload), vp8.parse(payload).keyframe
        return h264.annex_b(payload), h264.is_keyframe(payload)

    def _finished(self) -> EncodedFrame:
        frame = EncodedFrame(b"".join(self._pieces), self._timestamp, self._arrival_ns)
        self._pieces.clear()
        self._size = 0
        self._counters.frames += 1
        return frame
