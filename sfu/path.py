"""One audio track on its way through a transform in another process: hold, wait, release in order, or go around it.

Sans-IO: time is an argument and everything goes out through three callbacks. The rules (DESIGN, "A denoised packet"):

- PROCESSED: every packet goes to the host and is held until its result comes, for at most `deadline_ns`. Release is in order:
  when n+1 is ready while n is held, n is settled first. A single late packet is dropped, not replaced: measured, a foreign
  packet inside an Opus stream is heard more than a lost one.
- Two misses in a row, or the host's death: the whole track goes BYPASS, raw from there on, and what was held is released raw.
- BYPASS: raw at once, but the host (if there is one) still gets every packet and is watched. When it has answered
  `HITS_TO_RETURN` packets in time (a late one takes five of them back), the track returns in the next pause of the speaker, with
  the host's encoder restarted. What counts as a pause gets ever louder, so that it returns within `PATIENCE_PACKETS` even to
  somebody who never pauses.
- A host that cannot keep up with all tracks is not kept busy with those that it fails: where it has not earned the return within
  `PROBE_PACKETS`, it is not sent the track for a while, ever longer, and each track for another while. So it is left with as many
  tracks as it can process well, instead of failing all of them for ever. A hiccup does not count: after it, hits come quickly, and
  a host that had earned the return has all its time again.

At every change between raw and processed, the first packet is replaced by a silent one of its length, which makes the listeners'
decoders forget the other encoder: without it, 3 % of the switches to raw in mid-speech burst out by 6 to 20 dB over both sounds,
and a return once by 9 dB (README of media_processors).

Each packet is released or dropped exactly once, whatever comes when: a result for a settled packet is counted and ignored.
Bound: at most `HELD_MAX` packets are held; one more is a miss of the oldest.
"""

import random
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from sfu.errors import DropReason
from sfu.rtp import opus

STARTING = "starting"
"""Why a track is in bypass that was never heard; the others are `late`, and what `detach` is told."""
DEADLINE_NS = 20_000_000
MISSES_TO_BYPASS = 2
HITS_TO_RETURN = 25
LATE_COSTS_HITS = 5
HELD_MAX = 64
QUIET_WINDOW_PACKETS = 150
QUIET_MARGIN_DB = 3
QUIET_RUN_PACKETS = 3
PATIENCE_PACKETS = 125
_LEVELS_DB = 127
PROBE_PACKETS = 80
"""In bypass: a host that has not answered well enough within so many packets has too much to do."""
LASTING_NS = 3_000_000_000
"""A return that lasted for so long is a sign of better times."""
LEFT_ALONE_NS, LEFT_ALONE_MAX_NS = 2_000_000_000, 30_000_000_000
"""For so long the host is not sent the track; twice as long each time, until a return has lasted."""


class PathMode(Enum):
    """Where a track's sound comes from."""

    PROCESSED = "processed"
    BYPASS = "bypass"


class AudioPacket(NamedTuple):
    """A packet of an audio track as the publisher sent it."""

    seq_ext: int
    """Unwrapped sequence number."""
    marker: int
    """0x80 or 0."""
    timestamp: int
    level: int
    """RFC 6464 level, 0 loud to 127 silent."""
    arrival_ns: int
    payload: bytes


class PauseDetector:
    """Is the speaker pausing? Levels close to the quietest of the last 3 s, three times in a row.

    Relative, so that it also finds the pauses of somebody who sits in noise. Those are rare in fluent speech: measured, up to
    4 s apart, so whoever has waited long is content with less.
    """

    def __init__(self) -> None:
        self._levels: deque[int] = deque(maxlen=QUIET_WINDOW_PACKETS)
        self._run = 0

    def heard(self, level: int, waited_packets: int) -> bool:
        """Note a packet's level (RFC 6464); whether this is a pause to somebody who has waited so long for one."""
        self._levels.append(level)
        self._run = self._run + 1 if level >= max(self._levels) - margin_db(waited_packets) else 0
        return self._run >= QUIET_RUN_PACKETS


def margin_db(waited_packets: int) -> float:
    """How much louder than the quietest a pause may be. Grows slowly at first; in the end, anything is a pause."""
    return QUIET_MARGIN_DB + _LEVELS_DB * (waited_packets / PATIENCE_PACKETS) ** 2


class PathCounters:
    """What happened to the packets of a track."""

    __slots__ = ("bypassed", "dropped", "dry", "processed", "returns", "switches")

    def __init__(self) -> None:
        self.processed = 0
        """Released with the host's sound, dry ones included."""
        self.dry = 0
        """Of these, with the delayed original (soft bypass in the host)."""
        self.bypassed = 0
        """Released raw."""
        self.dropped = 0
        """Missed singly, or late."""
        self.switches = 0
        """Hard bypasses."""
        self.returns = 0
        """Returns from a hard bypass."""


class _Held:
    __slots__ = ("deadline_ns", "dry", "level", "packet", "payload")

    def __init__(self, packet: AudioPacket, deadline_ns: int) -> None:
        self.packet = packet
        self.deadline_ns = deadline_ns
        self.payload: bytes | None = None
        self.level = 0
        self.dry = False


class TrackPath:
    """The state of one track. `send(packet, restart)` hands a packet to the host and says whether it was taken;
    `release(packet, payload, level, processed)` lets a packet go on; `drop(reason)` counts one that does not."""

    def __init__(
        self,
        send: Callable[[AudioPacket, bool], bool],
        release: Callable[[AudioPacket, bytes, int, bool], None],
        drop: Callable[[DropReason], None],
        changed: Callable[[PathMode, str], None],
    ) -> None:
        self.mode = PathMode.BYPASS
        self.counters = PathCounters()
        self.round_trips_ns: deque[int] = deque(maxlen=4096)
        """Tap to inject of the latest results that came in time, for statistics."""
        self._send = send
        self._release = release
        self._drop = drop
        self._changed = changed
        self.reason = STARTING
        """Why listeners get the publisher's own packets, in bypass; empty in PROCESSED."""
        self._attached = False
        self._held: deque[_Held] = deque()
        self._watched: dict[int, int] = {}
        """In bypass: sequence number (16 bits) -> deadline of what the host was given."""
        self._highest = -1
        self._misses = 0
        self._hits = 0
        self._restart = False
        self._last_processed: bool | None = None
        """Whether what listeners heard last came from the host's encoder."""
        self._pause = PauseDetector()
        self._returned_ns = 0
        self._probed = 0
        """In bypass: how many packets the host was given to try."""
        self._left_alone_until_ns = 0
        self._leave_alone_ns = LEFT_ALONE_NS
        """For how long the next time."""

    def attach(self) -> None:
        """A host is there. A track that was never heard starts processed; any other has to wait for a pause."""
        self._attached = True
        self._left_alone_until_ns = 0
        self._leave_alone_ns = LEFT_ALONE_NS
        self._begin_to_probe()
        if self._highest < 0:
            self._set_mode(PathMode.PROCESSED, "")

    def detach(self, reason: str) -> None:
        """The host is gone: what is held is released raw, in order."""
        self._attached = False
        self._go_around(reason)

    def renumber(self) -> None:
        """The publisher goes on under another SSRC, numbered anew: what is held belongs to the old one and is dropped."""
        while self._held:
            self._held.popleft()
            self._drop_one(DropReason.LATE)
        self._watched.clear()
        self._highest = -1

    def submit(self, packet: AudioPacket, now_ns: int) -> None:
        """A packet of the publisher, in the order of arrival."""
        pause = self._pause.heard(packet.level, max(0, self._hits - HITS_TO_RETURN))
        if self.mode is PathMode.BYPASS:
            if not (self._attached and pause and self._hits >= HITS_TO_RETURN):
                self._submit_around(packet, now_ns)
                return
            self._restart = True
            self._returned_ns = now_ns
            self._set_mode(PathMode.PROCESSED, "")
        if packet.seq_ext <= self._highest:
            self._drop_one(DropReason.LATE)  # the host's decoder is already past it
            return
        self._highest = packet.seq_ext
        taken = self._send(packet, self._restart)
        self._restart = self._restart and not taken
        self._held.append(_Held(packet, now_ns + DEADLINE_NS if taken else now_ns))
        if not taken or len(self._held) > HELD_MAX:
            self.expire(now_ns)

    def _submit_around(self, packet: AudioPacket, now_ns: int) -> None:
        late = packet.seq_ext <= self._highest
        self._highest = max(self._highest, packet.seq_ext)
        self._release_raw(packet)
        if not self._attached or late or now_ns < self._left_alone_until_ns:
            return
        self._probed += 1
        if self._hits < HITS_TO_RETURN and self._probed > PROBE_PACKETS:
            self._leave_alone(now_ns)
        elif self._send(packet, False):
            self._watched[packet.seq_ext & 0xFFFF] = now_ns + DEADLINE_NS
        else:
            self._hits = 0
        if len(self._watched) > HELD_MAX:
            self._hits = 0
            self._watched.clear()

    def result(self, seq: int, payload: bytes, level: int, dry: bool, now_ns: int) -> None:
        """The host's answer for the packet with the 16-bit number `seq`; an empty payload says that none will come."""
        if self.mode is PathMode.BYPASS:
            deadline = self._watched.pop(seq, None)
            in_time = deadline is not None and now_ns <= deadline and bool(payload)
            earned = self._hits >= HITS_TO_RETURN
            self._hits = self._hits + 1 if in_time else max(0, self._hits - LATE_COSTS_HITS)
            if earned and self._hits < HITS_TO_RETURN:
                self._probed = 0  # it was good, so it has its time again
            self._drop(DropReason.PATH_SUPERSEDED)
            return
        held = next((h for h in self._held if h.packet.seq_ext & 0xFFFF == seq), None)
        if held is None or held.payload is not None:
            self._drop(DropReason.PATH_STRAY)
            return
        if not payload:
            held.deadline_ns = now_ns
            self.expire(now_ns)
            return
        held.payload, held.level, held.dry = payload, level, dry
        self.round_trips_ns.append(now_ns - held.packet.arrival_ns)
        while self._held and self._held[0] is not held:
            if self._held[0].payload is None:
                self._miss(now_ns)  # answered out of order: the one before is lost
            self._release_ready()  # nothing is left to release if that miss led around
        self._release_ready()

    def expire(self, now_ns: int) -> None:
        """Settle what is past its deadline. Call it at least once per deadline."""
        while self._held and self.mode is PathMode.PROCESSED:
            head = self._held[0]
            if head.payload is None and head.deadline_ns > now_ns and len(self._held) <= HELD_MAX:
                return
            if head.payload is None:
                self._miss(now_ns)
            self._release_ready()

    def _miss(self, now_ns: int) -> None:
        """The head of the queue will not come in time."""
        self._misses += 1
        if self._misses >= MISSES_TO_BYPASS:
            self._go_around("late")
            if now_ns - self._returned_ns > LASTING_NS:
                self._leave_alone_ns = LEFT_ALONE_NS
            return
        self._held.popleft()
        self._drop_one(DropReason.PATH_DEADLINE)

    def _release_ready(self) -> None:
        while self._held and (payload := self._held[0].payload) is not None:
            held = self._held.popleft()
            self._misses = 0
            self.counters.processed += 1
            self.counters.dry += held.dry
            self._pass_on(held.packet, payload, held.level, True)

    def _go_around(self, reason: str) -> None:
        held = list(self._held)
        self._held.clear()
        self._misses = 0
        self._begin_to_probe()
        self._set_mode(PathMode.BYPASS, reason)
        for entry in held:
            self._release_raw(entry.packet)

    def _begin_to_probe(self) -> None:
        self._hits = 0
        self._watched.clear()
        self._probed = 0

    def _leave_alone(self, now_ns: int) -> None:
        """Tracks that failed together must not come back together, so each for another while."""
        share = random.uniform(0.5, 1.5)  # nosec B311  # to spread them, not a secret
        self._left_alone_until_ns = now_ns + int(share * self._leave_alone_ns)
        self._leave_alone_ns = min(LEFT_ALONE_MAX_NS, 2 * self._leave_alone_ns)
        self._begin_to_probe()

    def _release_raw(self, packet: AudioPacket) -> None:
        self.counters.bypassed += 1
        self._pass_on(packet, packet.payload, packet.level, False)

    def _pass_on(self, packet: AudioPacket, payload: bytes, level: int, processed: bool) -> None:
        if self._last_processed is (not processed):
            payload = _silence_as_long_as(packet.payload) or payload
        self._last_processed = processed
        self._release(packet, payload, level, processed)

    def _drop_one(self, reason: DropReason) -> None:
        self.counters.dropped += 1
        self._drop(reason)

    def _set_mode(self, mode: PathMode, reason: str) -> None:
        if (mode, reason) == (self.mode, self.reason):
            return
        if mode is not self.mode:  # else it goes around the host for another reason than before
            self.counters.switches += mode is PathMode.BYPASS
            self.counters.returns += mode is PathMode.PROCESSED
        self.mode = mode
        self.reason = reason
        self._changed(mode, reason)


def _silence_as_long_as(payload: bytes) -> bytes:
    """Empty if `payload` is not Opus."""
    try:
        return opus.silence(opus.duration_samples(payload))
    except ValueError:
        return b""
