"""A video that the video host makes of a published one: a source of the worker's own, which takes the place of the publisher's.

The host gets one layer, as any viewer would, and sends VP8 packets back. The worker numbers them and sends them on like those of
a layer, so switching to the derived source or from it is a layer switch, at a key frame, in one unbroken numbering.

- Until the first key frame came, and whenever the host is gone, silent for `LATE_NS` or says that it gives up, viewers get the
  publisher's own layers, each the one that their layer control chooses. A host that was silent although it was given packets is
  trusted again after `RETURN_NS` of its own. Where the publisher sends nothing nobody is late, and nothing else to be shown either.
- A host that has given up is sent nothing until it asks for a key frame.
- Key frames are asked of the host, never of the publisher, except by the host to begin decoding.
- A result of an older epoch, of no picture that the host was given, or beyond what a track may send is dropped and counted; the
  results behind it are of no use without it, so they are dropped until a key frame, which is asked for.
- Timestamps are those of the pictures that the derived ones were made of, so sender reports tell of the publisher's clock, and
  lips stay in sync although pictures are late.
- The host encodes for the narrowest viewer, between `FLOOR_BPS` and `CEILING_BPS`; who has not even room for the floor is paused.
"""

from collections.abc import Callable

from sfu.consumer import Consumer, WatchConsumer, WatchedPacket
from sfu.dataplane.base import DataPlane
from sfu.errors import DropReason
from sfu.fanout import VideoPacket
from sfu.layer_control import FLOOR_BPS
from sfu.producer import Producer, Source
from sfu.rtp import vp8
from sfu.rtp.header import timestamp_delta
from sfu.rtp.reception import ClockReading
from sfu.tap import VideoResult
from sfu.watching import WatchedVideo

CEILING_BPS = 1_500_000
START_BPS = 600_000
SHARE_USED = 0.9
"""Of the narrowest viewer's share: encoders miss their mark by some percent."""
RISE_MIN, RISE_MAX = 1.3, 1.5
"""Another bitrate costs a key frame, so it rises by at least, and at most, so much ..."""
RISE_AFTER_NS = 5_000_000_000
"""... and so long after the last change. It falls at once, ..."""
FALL_MIN = 0.95
FALL_AIM = 0.8
"""... and below what is allowed: a share that falls goes on to fall, and who has so little suffers most from key frames; ..."""
FALL_AGAIN_NS = 3_000_000_000
FALL_STEEP = 0.75
"""... so soon after the last change only if it falls to less than this."""
LATE_NS = 1_250_000_000
"""Later than `LIVE_WITHIN_NS` by one turn of layer control: of a camera that pauses the layers have to be the first to end."""
RETURN_NS = 2_000_000_000
STARTING, LATE = "starting", "late"
"""Why viewers are not fed from it."""
RESULT_BYTES_MAX = 1_250
"""A larger payload does not fit into a datagram with everything around it."""
RESULT_AGE_TICKS = 2 * 90_000
"""A picture that is older than this beside the newest that the host was given is nobody's any more."""


class DerivedSource(Source):
    """What viewers are fed from. It has no SSRC, for nobody sends it to us by RTP; its numbers are ours."""

    __slots__ = ("_ask", "_clock", "_distrusted", "_settles_ns", "_stream", "owes_since_ns", "seq_ext")

    def __init__(self, producer: Producer, stream: WatchConsumer, ask: Callable[[], None]) -> None:
        super().__init__(producer, 0, "derived")
        self.nacks = None
        self.seq_ext = 0
        """Of the newest packet."""
        self.owes_since_ns = 0
        """When the host was given the first packet after its last answer; 0: none."""
        self._stream = stream
        self._ask = ask
        self._clock: ClockReading | None = None
        self._distrusted = True
        """Nothing of it is shown until it sends again."""
        self._settles_ns = 0
        """From when on it counts as live."""

    def arrived(self, size_bytes: int, now_ns: int) -> None:
        """A packet came."""
        if self._distrusted:
            self._distrusted = False
            self._settles_ns = now_ns + RETURN_NS if self.last_arrival_ns else now_ns
        self.owes_since_ns = 0
        self.last_arrival_ns = now_ns
        self.rate.window_bytes += size_bytes

    def distrust(self) -> None:
        """The host was silent when it should not have been, or says that no more will come: it has to show that it is back."""
        self._distrusted = True
        self.owes_since_ns = 0

    def late(self, now_ns: int) -> bool:
        """Whether the host was given pictures for `LATE_NS` and said nothing."""
        return bool(self.owes_since_ns) and now_ns - self.owes_since_ns >= LATE_NS

    def live(self, now_ns: int) -> bool:
        """Whether viewers may be fed from it. While the camera pauses that is so, and nothing is there to be fed."""
        return not self._distrusted and now_ns >= self._settles_ns and not self.late(now_ns)

    @property
    def sender_clock(self) -> ClockReading | None:
        """The publisher's, in the timestamps that the host was given with the layer that it gets now, or got last."""
        feed, origin = self._stream.feed, self._stream.current
        clock = origin.sender_clock if origin is not None else None
        if feed is not None and clock is not None:
            self._clock = clock._replace(timestamp=(clock.timestamp + feed.timestamp_offset) & 0xFFFFFFFF)
        return self._clock

    def ask_for_keyframe(self, sender_ssrc: int) -> None:
        """See `Source`. By the tap, so without an SSRC."""
        self._ask()


class DerivedVideo(WatchedVideo):
    """A published video on its way to the video host, and back."""

    def __init__(
        self,
        producer: Producer,
        plane: DataPlane,
        send: Callable[[WatchedPacket], None],
        ask: Callable[[], None],
        changed: Callable[[str], None],
    ) -> None:
        """`ask`: tell the host that a key frame is wanted. `changed`: told why viewers are not fed from it; empty when they are."""

        def give(packet: WatchedPacket) -> None:
            self.source.owes_since_ns = self.source.owes_since_ns or packet.arrival_ns
            send(packet)

        super().__init__(producer, plane, give)
        self.source = DerivedSource(producer, self._stream, ask)
        self.bitrate_bps = START_BPS
        """What the host shall encode at."""
        self._changed = changed
        self.why_not = ""
        """As `changed` was told; empty when they are."""
        self._given_up = False
        """By the host, which does not want to be sent anything."""
        self._awaits_keyframe = True
        self._decided_ns = 0

    def start(self, now_ns: int) -> None:
        """See `WatchedVideo`."""
        self._stream.producer.derived = self.source
        self._decided_ns = now_ns
        self._say(STARTING)
        super().start(now_ns)

    def stop(self, now_ns: int) -> None:
        """Viewers go back to the publisher's own layers; idempotent. What `changed` was told is for the caller to correct."""
        producer = self._stream.producer
        if producer.derived is self.source:
            producer.derived = None
            self._give_back(now_ns)
            self._plane.forget_source(self.source)
        super().stop(now_ns)

    def _give_back(self, now_ns: int) -> None:
        """To what layer control chooses for each viewer; where the publisher sends nothing they wait where they are."""
        for consumer in self._stream.producer.consumers:
            if isinstance(consumer, Consumer) and consumer.target is self.source:
                consumer.downlink.observer.tick(now_ns)

    def _say(self, why_not: str) -> None:
        if self.why_not != why_not:
            self.why_not = why_not
            self._changed(why_not)

    # --- what the host is given

    def ask_keyframe(self, now_ns: int) -> None:
        """See `WatchedVideo`. A host that had given up begins again."""
        if self._given_up:
            self._given_up = False
            super().tick(now_ns)
        super().ask_keyframe(now_ns)

    def tick(self, now_ns: int) -> None:
        """See `WatchedVideo`."""
        if not self._given_up:
            super().tick(now_ns)

    # --- what comes back

    def expect_keyframe(self) -> None:
        """What comes now does not continue what came before."""
        self._awaits_keyframe = True

    def result(self, result: VideoResult, now_ns: int) -> DropReason | None:
        """A packet from the host; None if it went on, or says that no more will come."""
        if not result.payload:
            self._awaits_keyframe = True
            self._given_up = True
            self._plane.set_target(self._stream, None, now_ns)
            self._leave_host(now_ns)
            return None
        try:
            descriptor = vp8.parse(result.payload)
        except ValueError:
            reason: DropReason | None = DropReason.MALFORMED_RTP
        else:
            reason = self._refused(result, descriptor, now_ns)
        if reason is not None:
            self.broken(now_ns)
            return reason
        self._awaits_keyframe = False
        source = self.source
        source.seq_ext += 1
        source.arrived(len(result.payload), now_ns)
        marker = 0x80 if result.marker else 0
        packet = VideoPacket(source.seq_ext, marker, result.timestamp, result.payload, descriptor)
        self._plane.forward_video(source, packet, now_ns)
        return None

    def _refused(self, result: VideoResult, descriptor: vp8.Vp8Descriptor, now_ns: int) -> DropReason | None:
        age_ticks = timestamp_delta(self._stream.numbers().last_timestamp, result.timestamp)
        if not 0 <= age_ticks <= RESULT_AGE_TICKS or len(result.payload) > RESULT_BYTES_MAX:
            return DropReason.DERIVED_STRAY
        if self._stream.producer.muted:
            return DropReason.MUTED
        if not self.source.rate_guard.take(len(result.payload), now_ns):
            return DropReason.RATE
        return DropReason.DERIVED_WAITS if self._awaits_keyframe and not descriptor.keyframe else None

    def broken(self, now_ns: int) -> None:
        """A packet was not passed on: what follows needs a key frame."""
        self._awaits_keyframe = True
        self._plane.want_keyframe(self.source, now_ns)

    def notice(self, now_ns: int) -> None:
        """Every 250 ms: whether viewers may be fed from it; if not, whether that is the host's fault."""
        self.source.rate.tick(now_ns)
        producer = self._stream.producer
        if producer.muted or not producer.layers(now_ns):
            self.source.owes_since_ns = 0
        elif self.source.late(now_ns):
            self._leave_host(now_ns)
        elif self.source.live(now_ns):
            self._say("")

    def _leave_host(self, now_ns: int) -> None:
        self.source.distrust()
        self._give_back(now_ns)
        self._say(LATE)

    def decide_bitrate(self, now_ns: int) -> bool:
        """Once a second: whether the host shall encode at another bitrate from now on."""
        if self.why_not:
            return False
        viewers = (c for c in self._stream.producer.consumers if isinstance(c, Consumer) and c.target is self.source)
        shares = [viewer.share_bps for viewer in viewers if viewer.share_bps is not None]
        allowed = min(CEILING_BPS, max(FLOOR_BPS, int(min(shares, default=CEILING_BPS) * SHARE_USED)))
        wanted = next_bitrate(self.bitrate_bps, allowed, now_ns - self._decided_ns)
        if wanted == self.bitrate_bps:
            return False
        self.bitrate_bps, self._decided_ns = wanted, now_ns
        return True


def next_bitrate(current_bps: int, allowed_bps: int, since_ns: int) -> int:
    """Below what is allowed at once; up in steps, with time between them."""
    if allowed_bps < current_bps * (FALL_MIN if since_ns >= FALL_AGAIN_NS else FALL_STEEP):
        return max(FLOOR_BPS, int(allowed_bps * FALL_AIM))
    if allowed_bps >= current_bps * RISE_MIN and since_ns >= RISE_AFTER_NS:
        return min(allowed_bps, int(current_bps * RISE_MAX))
    return current_bps
