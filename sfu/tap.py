"""The tap: media between a worker and a processing host, over one `SOCK_SEQPACKET` Unix socket per host.

The worker listens; a host connects and says `Hello`. For every track that concerns the host the worker sends `OpenTrack`
(again whenever its configuration changes), then packets; a path host answers every packet of a track with exactly one `Result`.

The watch host has a second socket for video (role `watch_video`), on which it may say which pictures it wants; so may the video
host (role `video`), which sends pictures of its own making back as `VideoResult`s. What a socket
holds is bounded by the kernel, and a message that does not fit is dropped whole, so video in a socket of its own can push no
sound out, however large its bursts; a share of one socket would have to be accounted for here, packet by packet.

Now and then the worker follows a packet (`Trace`, just before it); the path host then says what it did and when (`Traced`, just
before the result).

A message on the socket is a run of frames, each a 2-byte length, a type byte and a body, so that what one turn of the event
loop received costs one system call. Sending never waits: when the socket is full the frame is dropped and counted by the caller.
"""

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Literal, NamedTuple

import msgpack
from pydantic import BaseModel, ConfigDict, Field

MAX_MESSAGE_BYTES = 60_000
MAX_STEPS, MAX_NAME, MAX_MODEL = 32, 64, 128
"""Of what is told of a packet: steps, and characters of each one's name and model."""
SOCKET_BUFFER_BYTES = 1 << 20
_FRAME = struct.Struct("!HB")
_PACKET = struct.Struct("!IBBHIQIBB")
_RESULT = struct.Struct("!IBHIIB")
_SELECT_LAYER = struct.Struct("!IH")
_TRACE = struct.Struct("!IH")
_VIDEO_RESULT = struct.Struct("!IIBI")


class FrameType(IntEnum):
    """First byte of every frame."""

    HELLO = 1
    OPEN = 2
    CLOSE = 3
    PACKET = 4
    RESULT = 5
    SELECT_LAYER = 6
    WANT_KEYFRAME = 7
    VIDEO_RESULT = 8
    TRACE = 9
    TRACED = 10


class Sound(IntEnum):
    """Which sound of an audio track a packet holds. A watch host gets both where a transform runs."""

    RAW = 0
    PROCESSED = 1


class Hello(BaseModel):
    """A host introduces itself; again on the same connection when what can run in it has changed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Literal["path", "watch", "watch_video", "video"]
    pid: int
    processors: tuple[str, ...] = ()
    """The processors that run in this host: it is given only tracks on which one of them is wanted."""


class OpenTrack(BaseModel):
    """Everything a host needs to know of a track. `handle` names it in packets; a later one with the same handle replaces it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    handle: int
    track_id: str
    room_id: str
    participant_id: str
    kind: Literal["audio", "video"]
    source: str
    codec: Literal["opus", "vp8", "h264", "vp9", "av1"]
    clock_hz: int
    processors: dict[str, bool]
    epoch: int
    bitrate_bps: int = 32_000
    loss_percent: int = 0


@dataclass(frozen=True, slots=True)
class CloseTrack:
    """The track is gone; the host frees its state."""

    handle: int


@dataclass(frozen=True, slots=True)
class SelectLayer:
    """A host wants another size of a video."""

    handle: int
    width: int
    """The lowest layer that is so many pixels wide, 1 to 65535; 0: no wish, the middle layer."""


@dataclass(frozen=True, slots=True)
class WantKeyframe:
    """A host cannot go on with a video without a key frame: packets were lost, or do not decode. From the worker to the video
    host: a viewer needs a key frame of what that host makes."""

    handle: int


@dataclass(frozen=True, slots=True)
class Trace:
    """To the path host: say when you did what with the packet `seq` of this track. It comes next."""

    handle: int
    seq: int
    """16 bits."""


class Step(BaseModel):
    """Something that a host did with a packet."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(max_length=MAX_NAME)
    """`tap` (waiting for the host), `decode`, `vad`, `encode`, or a processor's."""
    model: str = Field(default="", max_length=MAX_MODEL)
    """name@version, of a processor that has one."""
    ended_ns: int = Field(ge=0)
    """`time.monotonic_ns()`; a step begins where the one before it ended."""


class Traced(BaseModel):
    """What the path host did with a packet that it was asked about."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    handle: int
    seq: int
    steps: tuple[Step, ...] = Field(max_length=MAX_STEPS)


class TapPacket(NamedTuple):
    """A media packet on its way to a host."""

    handle: int
    sound: int
    """`Sound.RAW` or `Sound.PROCESSED`."""
    marker: int
    """1 on the last packet of a video frame, or the first of a talkspurt."""
    seq: int
    """RTP sequence number, 16 bits: of sound the publisher's, of video one unbroken numbering across layers."""
    timestamp: int
    """RTP timestamp, 32 bits; likewise."""
    arrival_ns: int
    """`time.monotonic_ns()` of the worker when the packet came."""
    epoch: int
    level: int
    """RFC 6464 level, 0 (loud) to 127 (silent). 0 for video."""
    restart: int
    """1 on the first packet after a hard bypass: the listeners just heard the raw stream, so the encoder must be reset and
    its prediction disabled for its first packets. Results before this one were discarded."""
    payload: bytes


class TapResult(NamedTuple):
    """A processed packet on its way back: it takes the place of the packet `seq`."""

    handle: int
    dry: int
    """1 if the sound is the (delayed) original, as under soft bypass."""
    seq: int
    timestamp: int
    epoch: int
    level: int
    payload: bytes


class VideoResult(NamedTuple):
    """A VP8 packet of a picture that the video host made. In order; the worker numbers them."""

    handle: int
    epoch: int
    """That of the picture it was made of."""
    marker: int
    """1 on the last packet of a frame."""
    timestamp: int
    """That of the picture it was made of, as the tap had it, 32 bits."""
    payload: bytes
    """With its descriptor; empty: no more will come, let viewers go back to the publisher's own at once."""


TapFrame = (
    Hello | OpenTrack | CloseTrack | TapPacket | TapResult | SelectLayer | WantKeyframe | VideoResult | Trace | Traced
)
_MODELS: dict[type[TapFrame], FrameType] = {
    Hello: FrameType.HELLO,
    OpenTrack: FrameType.OPEN,
    Traced: FrameType.TRACED,
}


def encode(frame: TapFrame) -> bytes:
    """One frame, ready to be put behind others into a message. Raises ValueError if it is too large."""
    kind: FrameType
    if isinstance(frame, TapPacket):
        kind, body = FrameType.PACKET, _PACKET.pack(*frame[:-1]) + frame.payload
    elif isinstance(frame, TapResult):
        kind, body = FrameType.RESULT, _RESULT.pack(*frame[:-1]) + frame.payload
    elif isinstance(frame, VideoResult):
        kind, body = FrameType.VIDEO_RESULT, _VIDEO_RESULT.pack(*frame[:-1]) + frame.payload
    elif isinstance(frame, CloseTrack):
        kind, body = FrameType.CLOSE, frame.handle.to_bytes(4, "big")
    elif isinstance(frame, SelectLayer):
        kind, body = FrameType.SELECT_LAYER, _SELECT_LAYER.pack(frame.handle, frame.width)
    elif isinstance(frame, WantKeyframe):
        kind, body = FrameType.WANT_KEYFRAME, frame.handle.to_bytes(4, "big")
    elif isinstance(frame, Trace):
        kind, body = FrameType.TRACE, _TRACE.pack(frame.handle, frame.seq)
    else:
        kind, body = _MODELS[type(frame)], msgpack.packb(frame.model_dump())
    if len(body) > MAX_MESSAGE_BYTES - _FRAME.size:
        raise ValueError(f"tap frame of {len(body)} bytes")
    return _FRAME.pack(len(body), kind) + body


def decode(message: bytes) -> Iterator[TapFrame]:
    """The frames of a message. Raises ValueError on anything malformed."""
    view = memoryview(message)
    at = 0
    while at < len(message):
        if len(message) - at < _FRAME.size:
            raise ValueError("tap frame header is cut short")
        length, kind = _FRAME.unpack_from(message, at)
        at += _FRAME.size
        if at + length > len(message):
            raise ValueError("tap frame is cut short")
        yield _decode_body(kind, bytes(view[at : at + length]))
        at += length


def _decode_body(kind: int, body: bytes) -> TapFrame:
    try:
        if kind == FrameType.PACKET:
            return TapPacket._make((*_PACKET.unpack_from(body), body[_PACKET.size :]))
        if kind == FrameType.RESULT:
            return TapResult._make((*_RESULT.unpack_from(body), body[_RESULT.size :]))
        if kind == FrameType.VIDEO_RESULT:
            return VideoResult._make((*_VIDEO_RESULT.unpack_from(body), body[_VIDEO_RESULT.size :]))
        if kind == FrameType.CLOSE:
            return CloseTrack(int.from_bytes(body[:4], "big"))
        if kind == FrameType.SELECT_LAYER:
            return SelectLayer(*_SELECT_LAYER.unpack(body))
        if kind == FrameType.WANT_KEYFRAME:
            return WantKeyframe(int.from_bytes(body[:4], "big"))
        if kind == FrameType.OPEN:
            return OpenTrack.model_validate(msgpack.unpackb(body))
        if kind == FrameType.HELLO:
            return Hello.model_validate(msgpack.unpackb(body))
        if kind == FrameType.TRACE:
            return Trace(*_TRACE.unpack(body))
        if kind == FrameType.TRACED:
            return Traced.model_validate(msgpack.unpackb(body))
    except (struct.error, msgpack.UnpackException, TypeError) as error:
        raise ValueError(f"tap frame of type {kind}: {error}") from error
    raise ValueError(f"tap frame type {kind} is unknown")


class TapSocket:
    """One end of a tap. Frames given to `queue` leave together at `flush`."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
        self.sock = sock
        self.dropped_full = 0
        """Frames dropped because the other side does not read fast enough."""
        self._pending: list[bytes] = []
        self._pending_bytes = 0

    def fileno(self) -> int:
        """For event loops."""
        return self.sock.fileno()

    def queue(self, frame: TapFrame) -> None:
        """Add a frame to the next message. Raises OSError if the peer is gone."""
        data = encode(frame)
        if self._pending_bytes + len(data) > MAX_MESSAGE_BYTES:
            self.flush()
        self._pending.append(data)
        self._pending_bytes += len(data)

    def flush(self) -> bool:
        """Send what is queued. False if the socket was full: those frames are dropped and counted in `dropped_full`."""
        if not self._pending:
            return True
        count, message = len(self._pending), b"".join(self._pending)
        self._pending.clear()
        self._pending_bytes = 0
        if self._sent(message):
            return True
        self.dropped_full += count
        return False

    def send(self, frame: TapFrame) -> bool:
        """Send a frame now, behind what is queued. False if the socket is full: the caller still has it, and tries again."""
        self.flush()
        return self._sent(encode(frame))

    def _sent(self, message: bytes) -> bool:
        try:
            self.sock.send(message)
        except BlockingIOError:
            return False
        return True

    def receive(self) -> list[TapFrame] | None:
        """The frames of the next message, [] if there is none now, None at the end. Raises ValueError, OSError."""
        try:
            message = self.sock.recv(MAX_MESSAGE_BYTES + _FRAME.size)
        except BlockingIOError:
            return []
        return list(decode(message)) if message else None

    def close(self) -> None:
        """Close the socket; idempotent."""
        self.sock.close()


def listen(path: Path) -> socket.socket:
    """A listening socket for hosts, mode 0600, non-blocking."""
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.bind(os.fspath(path))
    path.chmod(0o600)
    sock.listen(8)
    sock.setblocking(False)
    return sock


def connect(path: Path, hello: Hello) -> TapSocket:
    """Connect to a worker and introduce ourselves. Raises OSError while nobody listens."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.connect(os.fspath(path))
        tap = TapSocket(sock)
        tap.queue(hello)
        tap.flush()
    except OSError:
        sock.close()
        raise
    return tap
