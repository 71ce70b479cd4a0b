"""What the worker keeps of a tapped track and of a connected host, and how packets are put for the tap."""

from typing import Literal

from sfu.consumer import Consumer, WatchedPacket
from sfu.path import AudioPacket, TrackPath
from sfu.producer import Producer
from sfu.tap import CloseTrack, Hello, OpenTrack, Sound, TapPacket, TapSocket
from sfu.watching import WatchedVideo

Role = Literal["path", "watch", "watch_video", "video"]
VIDEO_ROLES: tuple[Role, ...] = ("watch_video", "video")
BITRATES_BPS = (32_000, 48_000, 64_000)
"""For one voice: below 32 kb/s denoised speech would lose to the codec, above 64 kb/s nothing is gained."""


class Tapped:
    """A track that hosts may hear."""

    __slots__ = (
        "bitrate_bps",
        "bypassed",
        "epoch",
        "handle",
        "heard_bytes",
        "loss_percent",
        "path",
        "processors",
        "producer",
        "room_id",
        "videos",
    )

    def __init__(self, handle: int, room_id: str, producer: Producer) -> None:
        self.handle = handle
        self.room_id = room_id
        self.producer = producer
        self.processors: dict[str, bool] = {}
        self.epoch = 0
        self.path: TrackPath | None = None
        self.videos: dict[Role, WatchedVideo] = {}
        """Video: on its way to the watch host while an observer is on, to the video host while a transform is."""
        self.bypassed: str | None = None
        """Why listeners or viewers get the original, as signaling was told the last time; None: they do not."""
        self.loss_percent = 0
        """That of the worst subscriber, so that the path host's encoder adds enough redundancy for everybody."""
        self.bitrate_bps = BITRATES_BPS[0]
        """What is encoded at: of sound the class that the publisher's own bitrate needs, of video what viewers have room for."""
        self.heard_bytes = 0
        """Payload since the last `refresh`."""

    def refresh(self) -> bool:
        """Once a second: look at losses and bitrate again; whether one changed. The bitrate only rises, since a pause is no
        sign of a worse encoder."""
        loss_percent = self.worst_loss_percent()
        used_bps, self.heard_bytes = self.heard_bytes * 8, 0
        bitrate_bps = next((step for step in BITRATES_BPS if step >= used_bps * 0.9), BITRATES_BPS[-1])
        bitrate_bps = max(bitrate_bps, self.bitrate_bps)
        changed = (loss_percent, bitrate_bps) != (self.loss_percent, self.bitrate_bps)
        self.loss_percent, self.bitrate_bps = loss_percent, bitrate_bps
        return changed

    def worst_loss_percent(self) -> int:
        """Of the subscribers now, at most 30: beyond that redundancy costs more quality than it saves."""
        subscribers = (consumer for consumer in self.producer.consumers if isinstance(consumer, Consumer))
        worst = max((consumer.remote_loss for consumer in subscribers), default=0.0)
        return min(30, round(worst * 100))

    def config(self) -> OpenTrack:
        """What a host is told."""
        producer = self.producer
        return OpenTrack(
            handle=self.handle,
            track_id=producer.track_id,
            room_id=self.room_id,
            participant_id=producer.participant_id,
            kind=producer.kind,
            source=producer.source,
            codec=producer.codec,
            clock_hz=producer.media.clock_hz,
            processors=self.processors,
            epoch=self.epoch,
            bitrate_bps=self.bitrate_bps,
            loss_percent=self.loss_percent,
        )


class Host:
    """A connected host."""

    __slots__ = ("_counted", "control", "link", "processors", "role")

    def __init__(self, link: TapSocket, hello: Hello) -> None:
        self.link = link
        self.role: Role = hello.role
        self.processors = frozenset(hello.processors)
        self.control: dict[int, OpenTrack | CloseTrack] = {}
        """What the host still has to be told of tracks, the latest of each."""
        self._counted = link.dropped_full

    def take_drops(self) -> int:
        """Packets dropped since the last call."""
        counted, self._counted = self._counted, self.link.dropped_full
        return self._counted - counted

    def is_for(self, kind: str) -> bool:
        """Whether this host has a use for a kind of track."""
        return kind == ("video" if self.role in VIDEO_ROLES else "audio")

    def runs_any(self, processors: dict[str, bool], *, switched_on: bool) -> bool:
        """Whether one of these (that is switched on, if that matters) runs in this host."""
        return any(name in self.processors and (on or not switched_on) for name, on in processors.items())

    def send_control(self) -> None:
        """Send what waits, as far as the socket takes it. Raises OSError if the host is gone."""
        for handle, frame in list(self.control.items()):
            if not self.link.send(frame):
                return
            del self.control[handle]


def sound_packet(
    tapped: Tapped, packet: AudioPacket, payload: bytes, level: int, sound: Sound, restart: bool
) -> TapPacket:
    """`payload` in the place of `packet`, for a host."""
    return TapPacket(
        handle=tapped.handle,
        sound=sound,
        marker=packet.marker >> 7,
        seq=packet.seq_ext & 0xFFFF,
        timestamp=packet.timestamp,
        arrival_ns=packet.arrival_ns,
        epoch=tapped.epoch,
        level=level,
        restart=restart,
        payload=payload,
    )


def video_packet(tapped: Tapped, packet: WatchedPacket) -> TapPacket:
    """For the watch host or the video host."""
    return TapPacket(
        handle=tapped.handle,
        sound=Sound.RAW,
        marker=packet.marker,
        seq=packet.seq,
        timestamp=packet.timestamp,
        arrival_ns=packet.arrival_ns,
        epoch=tapped.epoch,
        level=0,
        restart=0,
        payload=packet.payload,
    )
