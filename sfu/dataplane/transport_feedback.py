"""Transport-wide feedback of subscribers: when it is read, and how much of it.

Every subscriber sends it 20 times a second and nothing in it is urgent, so it waits for the tick (20 ms): reading much of it at
once, in warm caches, costs a fraction of reading each by itself. A datagram of it can claim any number of packets, so what one
peer can have read in a tick is bounded.
"""

from sfu.counters import PlaneCounters
from sfu.downlink import Downlink
from sfu.errors import DropReason
from sfu.net.peer import Peer
from sfu.rtp import twcc

FEEDBACKS_PER_TICK_MAX = 8
"""Of one peer; what comes beyond is dropped. A peer's sender makes one in 50 ms or so, a worker that stalled finds a few."""
STATUSES_PER_TICK_MAX = twcc.MAX_STATUSES_READ
"""Of one peer; what its feedbacks say beyond is not read."""


class TransportFeedback:
    """What waits for the next tick, by peer. Whatever is not read, or not to its end, counts `DropReason.FEEDBACK_CAPPED`."""

    def __init__(self, counters: PlaneCounters, downlinks: dict[Peer, Downlink]) -> None:
        self._drops = counters.drops
        self._downlinks = downlinks
        self._waiting: dict[Peer, list[tuple[bytes, int]]] = {}

    def add(self, peer: Peer, fci: bytes, now_ns: int) -> None:
        """The control information of a feedback that came from `peer`. To whom we send nothing, nobody listens."""
        if peer not in self._downlinks:
            return
        waiting = self._waiting.setdefault(peer, [])
        if len(waiting) < FEEDBACKS_PER_TICK_MAX:
            waiting.append((fci, now_ns))
        else:
            self._drops[DropReason.FEEDBACK_CAPPED] += 1

    def tick(self) -> None:
        """Read what waits, and tell whoever estimates the way to its sender."""
        waiting, self._waiting = self._waiting, {}
        for peer, feedbacks in waiting.items():
            if (downlink := self._downlinks.get(peer)) is not None:
                self._read(downlink, feedbacks)

    def _read(self, downlink: Downlink, feedbacks: list[tuple[bytes, int]]) -> None:
        left = STATUSES_PER_TICK_MAX
        for fci, arrival_ns in feedbacks:
            if not left:
                self._drops[DropReason.FEEDBACK_CAPPED] += 1
                continue
            try:
                feedback = twcc.parse_feedback(fci, left)
            except ValueError:
                self._drops[DropReason.MALFORMED_RTCP] += 1
                left = 0  # it may have cost as much as a good one
                continue
            left -= len(feedback.packets)
            if feedback.unread:
                self._drops[DropReason.FEEDBACK_CAPPED] += 1
            downlink.observer.feedback(feedback.packets, arrival_ns)
