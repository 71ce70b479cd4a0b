"""What a subscriber's downlink carries, and how its consumers share it. Pure; time is an argument.

The estimate rests on one of two kinds of feedback, whichever the subscriber sends: transport-wide arrival times (where there are
layers to choose from, and the client can), or else REMB and the loss of receiver reports. It follows GCC (draft-ietf-rmcat-gcc-02),
simplified: a queue that stands, or loss, means that the link is full, and then what arrives *is* its capacity. Without such signs
the estimate grows. A subscriber that gets a low layer proves little, so growth may reach a little beyond the next layer's need:
that layer, given for a moment, is the probe.
"""

from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

START_BPS = 2_500_000
MIN_BPS = 50_000
MAX_BPS = 100_000_000
DECREASE = 0.9  # of what arrives while the link is full; GCC takes 0.85, but layers are steps far larger than that
GROWTH_PER_S = 2.0  # not the 8 % of GCC: what is tried at once is bounded by `_grow`, and 5 s apart by `LayerSelector`
HOLD_NS = 5_000_000_000  # how long the capacity of a full link is believed before growth beyond it is tried
HIGH_LOSS = 0.10
SLIGHT_LOSS = 0.02
HEAVY_LOSS = 0.30  # nothing but a full link loses so much
QUEUE_US = 40_000
DRAINING_US = 10_000
WINDOW_NS = 200_000_000
REMB_NS = 1_000_000_000
MAX_REMBS = 64
LOSS_WINDOWS = 5
BASE_WINDOWS = 50
MIN_LOSS_PACKETS = 10
STALE_NS = 3_000_000_000
_RING = 4096  # packets between sending and feedback: 2 s of 2000 packets/s
_NOTHING = (-1, 0, 0)
_ARRIVAL_WRAP_US = (1 << 24) * 64_000  # transport-cc's reference time: 24 bits of 64 ms

Key = TypeVar("Key", bound=Hashable)


@dataclass(slots=True)
class _Window:
    """What feedback says within WINDOW_NS."""

    since_ns: int
    first_arrival_us: int
    """The last one before the window."""
    last_arrival_us: int
    received: int = 0
    lost: int = 0
    received_bytes: int = 0
    delay_us: int | None = None
    """The smallest difference of arrival and sending; the two clocks' offset is in it."""

    @property
    def span_us(self) -> int:
        return self.last_arrival_us - self.first_arrival_us


class DownlinkEstimate:
    """Estimate of one subscriber's downlink in bit/s, counted like the sizes given to `sent`."""

    def __init__(self) -> None:
        self._ring: list[tuple[int, int, int]] = [_NOTHING] * _RING
        self._estimate_bps: float | None = None
        self._needed_bps = 0
        self._feedback_ns: int | None = None
        self._capacity_bps = 0.0
        self._full_ns: int | None = None
        self._grown_ns = 0
        self._queued = False  # at the last look
        self._windows: deque[_Window] = deque(maxlen=LOSS_WINDOWS)
        self._delays_us: deque[int] = deque(maxlen=BASE_WINDOWS)
        self._arrival_us: int | None = None  # the latest, unwrapped
        self._window = _Window(0, 0, 0)
        self._rembs: dict[tuple[int, ...], tuple[int, int]] = {}  # by SSRCs: (bitrate, when)
        self._remb_ns: int | None = None  # when the latest were judged
        self._remb_sent_bytes = 0
        self._remb_video_bytes = 0
        self._reported_loss = (0.0, -STALE_NS)

    def sent(self, seq: int, now_ns: int, size_bytes: int) -> None:
        """A packet left under the transport-wide number `seq` (16 bits)."""
        self._ring[seq % _RING] = (seq, now_ns, size_bytes)

    def aim_at(self, needed_bps: int | None) -> None:
        """What the next step up would need in all (`Allocation.next_bps`); None when nobody wants more."""
        self._needed_bps = needed_bps or 0

    def estimate_bps(self, now_ns: int) -> int | None:
        """The estimate, None without any feedback in the last 3 s: then there is no limit to go by."""
        latest_ns = max(self._feedback_ns or -STALE_NS, self._remb_ns or -STALE_NS)
        if self._estimate_bps is None or now_ns - latest_ns >= STALE_NS:
            return None
        return int(self._estimate_bps)

    def loss(self, now_ns: int) -> float:
        """Fraction of packets lost in the last second, 0 to 1; 0 if nobody said anything in the last 3 s."""
        if self._feedback_ns is not None and now_ns - self._feedback_ns < STALE_NS:
            return self._window_loss()
        fraction, since_ns = self._reported_loss
        return fraction if now_ns - since_ns < STALE_NS else 0.0

    # --- transport-wide feedback

    def feedback(self, packets: Sequence[tuple[int, int | None]], now_ns: int) -> None:
        """A transport-wide feedback: (number, arrival in the receiver's clock in us, None if missing) of each packet."""
        if self._feedback_ns is None or now_ns - self._feedback_ns >= STALE_NS:
            self._restart(now_ns)
        self._feedback_ns = now_ns
        self._take(packets)
        if now_ns - self._window.since_ns >= WINDOW_NS and self._window.received + self._window.lost > 0:
            self._close_window(now_ns)

    def _restart(self, now_ns: int) -> None:
        """Feedback begins, perhaps from another clock."""
        self._arrival_us = None
        self._queued = False
        self._windows.clear()
        self._delays_us.clear()
        self._start_window(now_ns)

    def _start_window(self, now_ns: int) -> None:
        self._window = _Window(now_ns, self._arrival_us or 0, self._arrival_us or 0)

    def _take(self, packets: Sequence[tuple[int, int | None]]) -> None:
        """Enter a feedback into the window. This runs for every packet sent, so it keeps to local names."""
        ring = self._ring
        offset_us = self._wrap_offset_us(packets)
        received = lost = received_bytes = 0
        latest_us = least_us = None
        for seq, arrival_us in packets:
            known, sent_ns, size_bytes = ring[seq % _RING]
            if known != seq:
                continue
            ring[seq % _RING] = _NOTHING  # a number counts once
            if arrival_us is None:
                lost += 1
                continue
            received += 1
            received_bytes += size_bytes
            delay_us = arrival_us - sent_ns // 1000
            if least_us is None or delay_us < least_us:
                least_us = delay_us
            if latest_us is None or arrival_us > latest_us:
                latest_us = arrival_us
        window = self._window
        window.lost += lost
        window.received += received
        window.received_bytes += received_bytes
        if latest_us is None or least_us is None:
            return
        if self._arrival_us is None:
            window.first_arrival_us = window.last_arrival_us = latest_us
        self._arrival_us = window.last_arrival_us = max(window.last_arrival_us, latest_us + offset_us)
        least_us += offset_us
        window.delay_us = least_us if window.delay_us is None else min(window.delay_us, least_us)

    def _wrap_offset_us(self, packets: Sequence[tuple[int, int | None]]) -> int:
        """What to add to the arrivals of a feedback, which wrap every 12 days but not inside one, to go on from the latest."""
        first_us = next((arrival_us for _, arrival_us in packets if arrival_us is not None), None)
        if first_us is None or self._arrival_us is None:
            return 0
        half = _ARRIVAL_WRAP_US // 2
        return self._arrival_us - first_us + (first_us - self._arrival_us + half) % _ARRIVAL_WRAP_US - half

    def _close_window(self, now_ns: int) -> None:
        window = self._window
        previous = self._windows[-1] if self._windows else None
        self._windows.append(window)
        self._start_window(now_ns)
        if window.delay_us is not None:
            self._delays_us.append(window.delay_us)
        self._judge(now_ns, window, previous)

    def _judge(self, now_ns: int, window: _Window, previous: _Window | None) -> None:
        """Decide from the windows whether the link is full. A queue must stand in two windows, and not be draining."""
        delivered_bps = self._delivered_bps(2)
        if delivered_bps is None:
            return
        if self._estimate_bps is None:
            self._begin(now_ns, delivered_bps)
        stands = self._queue_stands(window, previous)
        loss = self._window_loss()
        if stands or loss > HEAVY_LOSS or (self._queued and loss > HIGH_LOSS):
            self._full(now_ns, self._delivered_bps(1) or 0.0)
        elif not self._queued and loss < SLIGHT_LOSS:
            self._grow(now_ns, delivered_bps)
        self._grown_ns = now_ns

    def _queue_stands(self, window: _Window, previous: _Window | None) -> bool:
        """Whether even the quickest packet waited, now and in the window before, and not much less than then."""
        was_queued = self._queued
        if window.delay_us is None:
            return was_queued
        self._queued = window.delay_us - min(self._delays_us) > QUEUE_US
        before_us = previous.delay_us if previous else None
        draining = before_us is not None and window.delay_us < before_us - DRAINING_US
        return self._queued and was_queued and not draining

    def _delivered_bps(self, windows: int) -> float | None:
        """What arrived in the latest windows, by the receiver's clock."""
        recent = list(self._windows)[-windows:]
        span_us = sum(window.span_us for window in recent)
        return sum(window.received_bytes for window in recent) * 8e6 / span_us if span_us > 0 else None

    def _window_loss(self) -> float:
        lost = sum(window.lost for window in self._windows)
        total = lost + sum(window.received for window in self._windows)
        return lost / total if total >= MIN_LOSS_PACKETS else 0.0

    # --- REMB and receiver reports

    def remb(self, bitrate_bps: int, now_ns: int, ssrcs: Sequence[int], sent_bytes: int, video_bytes: int) -> None:
        """A receiver's own estimate for these SSRCs together; it does not count where transport-wide feedback comes.

        `sent_bytes`: all that was sent so far; `video_bytes`: the video in it, of which alone estimates speak.
        aiortc estimates every video by itself, so what counts is the sum. Receivers cap an estimate at 1.5 times of what they get:
        above the rate sent it says "no trouble", not "no more". Key frames make the rate jump, so trouble is twice in a row.
        """
        if self._feedback_ns is not None and now_ns - self._feedback_ns < STALE_NS:
            return
        self._rembs = {key: entry for key, entry in self._rembs.items() if now_ns - entry[1] < STALE_NS}
        if len(self._rembs) < MAX_REMBS:
            self._rembs[tuple(ssrcs)] = (bitrate_bps, now_ns)
        if self._remb_ns is None or now_ns - self._remb_ns >= STALE_NS:
            if self._estimate_bps is None or now_ns - max(self._feedback_ns or 0, self._remb_ns or 0) >= 2 * STALE_NS:
                self._begin(now_ns, bitrate_bps)
            self._queued = False
            self._grown_ns = now_ns
            self._next_remb(now_ns, sent_bytes, video_bytes)
        elif now_ns - self._remb_ns >= REMB_NS:
            sent = max(0, sent_bytes - self._remb_sent_bytes)  # consumers that are gone took their counts with them
            video = max(0, min(sent, video_bytes - self._remb_video_bytes))
            seconds = (now_ns - self._remb_ns) / 1e9
            self._next_remb(now_ns, sent_bytes, video_bytes)
            self._judge_rembs(now_ns, sent * 8 / seconds, (sent - video) * 8 / seconds)

    def _judge_rembs(self, now_ns: int, sent_bps: float, other_bps: float) -> None:
        """`other_bps`: what is not video; nobody says anything about it, so it arrives."""
        received_bps = sum(bitrate_bps for bitrate_bps, _ in self._rembs.values()) + other_bps
        was_queued = self._queued
        self._queued = received_bps < sent_bps
        if self._queued and was_queued:
            self._full(now_ns, received_bps)
        elif not self._queued and self.loss(now_ns) < SLIGHT_LOSS:
            self._grow(now_ns, sent_bps)
        self._grown_ns = now_ns

    def _next_remb(self, now_ns: int, sent_bytes: int, video_bytes: int) -> None:
        self._remb_ns = now_ns
        self._remb_sent_bytes = sent_bytes
        self._remb_video_bytes = video_bytes

    def reported_loss(self, fraction: float, now_ns: int) -> None:
        """Fraction lost of a receiver report (RFC 3550 section 6.4.1), 0 to 1. The worst stream of a second counts."""
        worst, since_ns = self._reported_loss
        if fraction >= worst or now_ns - since_ns >= REMB_NS:
            self._reported_loss = (fraction, now_ns)

    # --- the estimate

    def _begin(self, now_ns: int, carried_bps: float) -> None:
        """The first feedback: nothing speaks against the usual start yet, and more may be carried already."""
        self._estimate_bps = min(max(START_BPS, carried_bps), MAX_BPS)
        self._grown_ns = now_ns

    def _full(self, now_ns: int, capacity_bps: float) -> None:
        """The link is full, and carries this much."""
        self._capacity_bps = capacity_bps
        self._full_ns = now_ns
        self._estimate_bps = max(MIN_BPS, min(self._estimate_bps or MAX_BPS, DECREASE * capacity_bps))
        self._windows.clear()  # the loss until now is dealt with

    def _grow(self, now_ns: int, carried_bps: float) -> None:
        """No sign of a full link: reach beyond what it carries now, but for a while not beyond what filled it."""
        estimate_bps = self._estimate_bps or START_BPS
        limit_bps = max(1.5 * carried_bps + 100_000, self._needed_bps)
        if self._full_ns is not None and now_ns - self._full_ns < HOLD_NS:
            limit_bps = min(limit_bps, self._capacity_bps)
        elapsed_s = min(now_ns - self._grown_ns, 1_000_000_000) / 1e9
        grown_bps = estimate_bps * GROWTH_PER_S**elapsed_s
        self._estimate_bps = max(estimate_bps, min(grown_bps, limit_bps, MAX_BPS))


# --- sharing


@dataclass(frozen=True, slots=True)
class Demand:
    """What a video consumer could use: `layers_bps` low to high, as far as its tile wants. It gets `current` now, -1: nothing."""

    area: int
    """Of its tile, in pixels."""
    layers_bps: tuple[int, ...]
    current: int


class Allocation(NamedTuple):
    """`caps_bps[i]` is for `demands[i]`, None: all that it wants. `next_bps` is what one more step up needs in all, with audio."""

    caps_bps: list[int | None]
    next_bps: int | None


UP_MARGIN = 1.15  # a layer above the current one must fit with room to spare, or noise would switch to and fro


def allocate(estimate_bps: int | None, audio_bps: int, demands: Sequence[Demand]) -> Allocation:
    """Share an estimate fairly: audio first, then everybody one layer up at a time, larger tiles first.

    Nobody rises further once his next layer does not fit, so a small tile may pass where a large one could not.
    """
    if estimate_bps is None:
        return Allocation([None] * len(demands), None)
    left = estimate_bps - audio_bps
    order = sorted(range(len(demands)), key=lambda index: -demands[index].area)
    given = [-1] * len(demands)
    for level in range(max((len(demand.layers_bps) for demand in demands), default=0)):
        for index in order:
            demand = demands[index]
            if level >= len(demand.layers_bps) or given[index] != level - 1:
                continue
            before = demand.layers_bps[level - 1] if level else 0
            margin = UP_MARGIN if level > demand.current else 1.0
            extra = int(demand.layers_bps[level] * margin) - before
            if extra <= left:
                given[index] = level
                left -= demand.layers_bps[level] - before
    caps = [_cap(demand, level) for demand, level in zip(demands, given, strict=True)]
    return Allocation(caps, _next_bps(audio_bps, demands))


def _cap(demand: Demand, level: int) -> int | None:
    if level == len(demand.layers_bps) - 1:
        return None
    return demand.layers_bps[level] if level >= 0 else 0


def _next_bps(audio_bps: int, demands: Sequence[Demand]) -> int | None:
    """All that is sent now, and the smallest step up that somebody still wants."""
    total = audio_bps
    steps = []
    for demand in demands:
        now = demand.layers_bps[demand.current] if 0 <= demand.current < len(demand.layers_bps) else 0
        total += now
        if demand.current + 1 < len(demand.layers_bps):
            steps.append(demand.layers_bps[demand.current + 1] - now)
    return int((total + min(steps)) * UP_MARGIN) if steps else None
