"""What the rest of the worker asks of a data plane, so that a native one can take the place of the Python one.

The control side (router, transports, timers) calls these methods; packets come in from peers (`sfu.net.peer.PacketSink`); what
the plane has to tell goes out through `PlaneEvents`. Nothing here awaits.
"""

from typing import Protocol

from sfu.consumer import OutgoingStream
from sfu.counters import PlaneCounters
from sfu.fanout import VideoPacket
from sfu.net.peer import Peer
from sfu.path import AudioPacket
from sfu.producer import Producer, Source
from sfu.tap import Sound


class PlaneEvents(Protocol):
    """What the plane tells, synchronously; implementations must not raise."""

    def audio_level(self, producer: Producer, level: int, now_ns: int) -> None:
        """An audio packet with this RFC 6464 level goes out to listeners."""

    def audio_heard(self, producer: Producer, packet: AudioPacket, payload: bytes, level: int, sound: Sound) -> None:
        """A packet that observers may hear: raw as it came, processed as it went."""


class DataPlane(Protocol):
    """Packets in, packets out."""

    counters: PlaneCounters

    def rtp_received(self, peer: Peer, packet: bytes, arrival_ns: int) -> None:
        """A clear RTP packet of a publisher; when it arrived, on the monotonic clock."""

    def rtcp_received(self, peer: Peer, packet: bytes) -> None:
        """A clear compound RTCP packet of anybody."""

    def add_producer(self, producer: Producer) -> None:
        """Expect this track from its peer. Call before the answer leaves: media follows it at once."""

    def remove_producer(self, producer: Producer) -> None:
        """Forget a track and stop its consumers; idempotent."""

    def add_consumer(self, consumer: OutgoingStream) -> None:
        """Send a track to a subscriber that has answered the offer with it, or to the watch host."""

    def remove_consumer(self, consumer: OutgoingStream) -> None:
        """Stop sending; idempotent."""

    def remove_peer(self, peer: Peer) -> None:
        """Forget everything of a peer; idempotent."""

    def set_target(self, consumer: OutgoingStream, target: Source | None, now_ns: int) -> None:
        """Feed a video consumer from this layer as of its next key frame (asked for at once); None pauses it."""

    def ask_keyframe(self, consumer: OutgoingStream, now_ns: int) -> None:
        """A viewer cannot go on without a key frame; heard once a second of each."""

    def forward_audio(
        self, source: Source, packet: AudioPacket, payload: bytes, level: int, sound: Sound, now_ns: int
    ) -> None:
        """Send `payload` in the place of `packet` to every consumer; at most once per packet."""

    def forward_video(self, source: Source, packet: VideoPacket, now_ns: int) -> None:
        """Send a packet of a source that is not the publisher's, numbered by the caller: each number once, in order."""

    def want_keyframe(self, source: Source, now_ns: int) -> None:
        """Ask for a key frame of a source; throttled, and repeated until it has come."""

    def forget_source(self, source: Source) -> None:
        """A source that is not the publisher's is gone: nobody waits for its key frames any more; idempotent."""

    def tick(self, now_ns: int) -> None:
        """Every 20 ms: ask for lost packets and key frames."""

    def send_transport_feedback(self) -> None:
        """Every 50 ms: transport-wide feedback to publishers. Without it Chromium never leaves the lowest layer."""

    def send_reports(self, now_ns: int) -> None:
        """Every second: receiver reports to publishers, sender reports to subscribers."""
