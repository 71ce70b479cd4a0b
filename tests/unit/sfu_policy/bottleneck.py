"""A subscriber behind a bottleneck, on a virtual clock: one publisher's audio and simulcast video, the policies, and a link.

The link is a queue served at a rate, full after 100 ms; 20 ms each way. Feedback every 100 ms, as from Chromium.
"""

import random
from collections import deque
from dataclasses import dataclass, field

from sfu.bandwidth import Demand, DownlinkEstimate, allocate
from sfu.layers import LayerInfo, LayerSelector

MS = 1_000_000
S = 1000 * MS
AUDIO_BYTES = 120
AUDIO_BPS = AUDIO_BYTES * 8 * 50
PACKET_BYTES = 1200
FRAME_NS = S // 25
LAYERS = ((320, 180, 150_000), (640, 360, 500_000), (1280, 720, 1_500_000))
ONE_WAY_NS = 20 * MS
KEYFRAME_NS = 80 * MS  # from the wish for another layer to its key frame
KEYFRAME_FACTOR = 4
ARRIVAL_WRAP_US = (1 << 24) * 64_000


@dataclass
class Link:
    """`rate_bps` may change at any time; what is queued already keeps its time."""

    rate_bps: int
    random_loss: float = 0.0
    queue_ns: int = 100 * MS
    free_ns: int = 0
    dropped: int = 0
    dice: random.Random = field(default_factory=lambda: random.Random(5))

    def carry(self, now_ns: int, size_bytes: int) -> int | None:
        """When it arrives, None if it is dropped."""
        start_ns = max(now_ns, self.free_ns)
        if start_ns - now_ns > self.queue_ns or self.dice.random() < self.random_loss:
            self.dropped += 1
            return None
        self.free_ns = start_ns + size_bytes * 8 * S // self.rate_bps
        return self.free_ns + ONE_WAY_NS


class Call:
    """Step it in milliseconds with `run`; `history` holds (time in s, layer or None, reason) of each change."""

    def __init__(self, link: Link, *, clock_offset_us: int = 0, viewers: int = 1) -> None:
        self.link = link
        self.estimate = DownlinkEstimate()
        self.selectors = [LayerSelector() for _ in range(viewers)]
        self.now_ns = 0
        self.history: list[list[tuple[float, int | None, str]]] = [[] for _ in range(viewers)]
        self.audio = [0, 0]  # sent, dropped
        self._layers: list[int | None] = [None] * viewers
        self._switching: list[tuple[int, int | None] | None] = [None] * viewers
        self._clock_offset_us = clock_offset_us
        self._seq = 65_000
        self._out: deque[tuple[int, int, int | None]] = deque()  # seq, report due, arrival
        self._noise = random.Random(11)

    def run(self, seconds: float) -> None:
        end_ns = self.now_ns + int(seconds * S)
        while self.now_ns < end_ns:
            self._step()
            self.now_ns += MS

    def _step(self) -> None:
        now_ns = self.now_ns
        if now_ns % (20 * MS) == 0:
            self.audio[0] += 1
            self.audio[1] += self._send(AUDIO_BYTES) is None
        for viewer in range(len(self.selectors)):
            if (now_ns + viewer * 7 * MS) % FRAME_NS == 0:
                self._frame(viewer)
        if now_ns % (100 * MS) == 50 * MS:
            self._feedback()
        if now_ns % (100 * MS) == 0:
            self._decide()

    def _send(self, size_bytes: int) -> int | None:
        self._seq = (self._seq + 1) & 0xFFFF
        self.estimate.sent(self._seq, self.now_ns, size_bytes)
        arrival_ns = self.link.carry(self.now_ns, size_bytes)
        self._out.append((self._seq, self.now_ns + self.link.queue_ns + 3 * ONE_WAY_NS, arrival_ns))
        return arrival_ns

    def _frame(self, viewer: int) -> None:
        factor = self._noise.uniform(0.7, 1.3)
        pending = self._switching[viewer]
        if pending and pending[0] <= self.now_ns:
            self._layers[viewer] = pending[1]
            self._switching[viewer] = None
            factor = KEYFRAME_FACTOR
        layer = self._layers[viewer]
        if layer is None:
            return
        left = int(LAYERS[layer][2] / 8 * FRAME_NS / S * factor)
        while left > 0:
            self._send(min(left, PACKET_BYTES))
            left -= PACKET_BYTES

    def _feedback(self) -> None:
        """What arrived until 20 ms ago; a gap is reported as missing when something later has arrived."""
        packets: list[tuple[int, int | None]] = []
        seen_ns = self.now_ns - ONE_WAY_NS
        clock_us = seen_ns // 1000 + self._clock_offset_us
        behind_us = (
            clock_us // ARRIVAL_WRAP_US * ARRIVAL_WRAP_US - self._clock_offset_us
        )  # wraps between feedbacks, never in one
        while self._out and (self._out[0][2] or self._out[0][1]) <= seen_ns:
            seq, _, arrival_ns = self._out.popleft()
            packets.append((seq, None if arrival_ns is None else (arrival_ns // 1000 - behind_us) // 250 * 250))
        if packets:
            self.estimate.feedback(packets, self.now_ns)

    def _decide(self) -> None:
        infos = [LayerInfo(index, *layer) for index, layer in enumerate(LAYERS)]
        rates = tuple(info.bitrate_bps for info in infos)
        targets = [s[1] if s else layer for s, layer in zip(self._switching, self._layers, strict=True)]
        demands = [Demand(1280 * 720, rates, -1 if target is None else target) for target in targets]
        share = allocate(self.estimate.estimate_bps(self.now_ns), AUDIO_BPS, demands)
        self.estimate.aim_at(share.next_bps)
        loss = self.estimate.loss(self.now_ns)
        for viewer, selector in enumerate(self.selectors):
            choice = selector.update(self.now_ns, infos, (1280, 720), share.caps_bps[viewer], loss)
            if choice.index != targets[viewer] or not self.history[viewer]:
                self.history[viewer].append((self.now_ns / S, choice.index, choice.reason))
                self._switching[viewer] = (self.now_ns + KEYFRAME_NS, choice.index)
