"""What a subscriber's downlink carries, and how its consumers share it. Pure; time is an argument.

The estimate rests on one of two kinds of feedback, whichever the subscriber sends: transport-wide arrival times (Chromium), or
REMB and the loss of receiver reports (aiortc). It follows GCC (draft-ietf-rmcat-gcc-02), simplified: a queue that stands, or loss,
means that the link is full, and then what arrives *is* its capacity. Without such signs the estimate grows. A subscriber that gets
a low layer proves little, so growth may reach a little beyond the next layer's need: that layer, given for a moment, is the probe.
"""

from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

START_BPS = 2_500_000
MIN_BPS = 50_000
MAX_BPS = 100_000_000
DECREASE = 0.9  # of what arrives while the link is full; GCC takes 0.85, but layers are steps far larger than that
GROWTH_PER_S = 1.25  # GCC's 8 % would take 20 s for the step from a 400 kb/s link to a layer of 1.5 Mb/s
HOLD_NS = 7_000_000_000  # how long the capacity of a full link is believed before growth beyond it is tried
HIGH_LOSS = 0.10
SLIGHT_LOSS = 0.02
HEAVY_LOSS = 0.30  # nothing but a full link loses so much
QUEUE_US = 40_000
DRAINING_US = 10_000
WINDOW_NS = 200_000_000
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

    def arrived(self, arrival_us: int, sent_ns: int, size_bytes: int) -> None:
        delay_us = arrival_us - sent_ns // 1000
        self.received += 1
        self.received_bytes += size_bytes
        self.last_arrival_us = max(self.last_arrival_us, arrival_us)
        self.delay_us = delay_us if self.delay_us is None else min(self.delay_us, delay_us)


class DownlinkEstimate:
    """Estimate of one subscriber's downlink in bit/s, counted like the sizes given to `sent`."""

    def __init__(self) -> None:
        self._ring: list[tuple[int, int, int]] = [_NOTHING] * _RING
        self._sent_bytes = 0
        self._estimate_bps: float | None = None
        self._needed_bps = 0
        self._feedback_ns: int | None = None
        self._capacity_bps = 0.0
        self._full_ns: int | None = None
        self._grown_ns = 0
        self._queued = False
        self._windows: deque[_Window] = deque(maxlen=LOSS_WINDOWS)
        self._delays_us: deque[int] = deque(maxlen=BASE_WINDOWS)
        self._arrival_us: int | None = None  # the latest, unwrapped
        self._window = _Window(0, 0, 0)
        self._remb_ns: int | None = None
        self._remb_sent_bytes = 0
        self._reported_loss = (0.0, -STALE_NS)

    def sent(self, seq: int, now_ns: int, size_bytes: int) -> None:
        """A packet left under the transport-wide number `seq` (16 bits)."""
        self._ring[seq % _RING] = (seq, now_ns, size_bytes)
        self._sent_bytes += size_bytes

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
            self._start_window(now_ns)
        self._feedback_ns = now_ns
        for seq, arrival_us in packets:
            known, sent_ns, size_bytes = self._ring[seq % _RING]
            if known != seq:
                continue
            self._ring[seq % _RING] = _NOTHING  # a number counts once
            if arrival_us is None:
                self._window.lost += 1
            else:
                self._window.arrived(self._unwrapped(arrival_us), sent_ns, size_bytes)
        if now_ns - self._window.since_ns >= WINDOW_NS and self._window.received + self._window.lost > 0:
            self._close_window(now_ns)

    def _start_window(self, now_ns: int) -> None:
        self._window = _Window(now_ns, self._arrival_us or 0, self._arrival_us or 0)

    def _unwrapped(self, arrival_us: int) -> int:
        """An arrival on a scale that does not wrap, by its distance from the latest."""
        if self._arrival_us is None:
            self._arrival_us = self._window.first_arrival_us = arrival_us
        half = _ARRIVAL_WRAP_US // 2
        ahead = (arrival_us - self._arrival_us + half) % _ARRIVAL_WRAP_US - half
        unwrapped = self._arrival_us + ahead
        self._arrival_us = max(self._arrival_us, unwrapped)
        return unwrapped

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
            self._estimate_bps = max(START_BPS, delivered_bps)
            self._grown_ns = now_ns
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

    def remb(self, bitrate_bps: int, now_ns: int) -> None:
        """A receiver's own estimate; it does not count where transport-wide feedback comes.

        Receivers cap it at about 1.5 times of what they get, so above the rate sent it says "no trouble", not "no more".
        """
        if self._feedback_ns is not None and now_ns - self._feedback_ns < STALE_NS:
            return
        if self._remb_ns is None or self._estimate_bps is None:
            self._estimate_bps = max(START_BPS, bitrate_bps)
            self._remember_remb(now_ns)
            return
        elapsed_ns = now_ns - self._remb_ns
        if elapsed_ns < WINDOW_NS:
            return
        sent_bps = (self._sent_bytes - self._remb_sent_bytes) * 8e9 / elapsed_ns
        self._remember_remb(now_ns)
        if bitrate_bps < sent_bps:
            self._full(now_ns, bitrate_bps)
        elif self.loss(now_ns) < SLIGHT_LOSS:
            self._grow(now_ns, sent_bps)
        self._grown_ns = now_ns

    def _remember_remb(self, now_ns: int) -> None:
        self._remb_ns = now_ns
        self._remb_sent_bytes = self._sent_bytes

    def reported_loss(self, fraction: float, now_ns: int) -> None:
        """Fraction lost of a receiver report (RFC 3550 section 6.4.1), 0 to 1."""
        self._reported_loss = (fraction, now_ns)

    # --- the estimate

    def _full(self, now_ns: int, capacity_bps: float) -> None:
        """The link is full, and carries this much."""
        self._capacity_bps = capacity_bps
        self._full_ns = now_ns
        self._estimate_bps = max(MIN_BPS, min(self._estimate_bps or MAX_BPS, DECREASE * capacity_bps))
        self._windows.clear()  # the loss until now is dealt with

    def _grow(self, now_ns: int, carried_bps: float) -> None:
        """No sign of a full link: reach beyond what it carries now, but for a while not beyond what filled it."""
        assert self._estimate_bps is not None
        limit_bps = max(1.5 * carried_bps + 100_000, self._needed_bps)
        if self._full_ns is not None and now_ns - self._full_ns < HOLD_NS:
            limit_bps = min(limit_bps, self._capacity_bps)
        elapsed_s = min(now_ns - self._grown_ns, 1_000_000_000) / 1e9
        grown = self._estimate_bps * GROWTH_PER_S**elapsed_s
        self._estimate_bps = max(self._estimate_bps, min(grown, limit_bps, MAX_BPS))


# --- sharing


@dataclass(frozen=True, slots=True)
class Demand:
    """What one video consumer could use: `layers_bps` low to high, up to what its tile wants. `current` is what it gets, -1 nothing."""

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
