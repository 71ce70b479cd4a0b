"""How well somebody is connected, as one digit that everybody sees."""

from dataclasses import dataclass, field

from sfu.channel.messages import Quality
from signaling.protocol.messages import ConnectionQuality, Layer, ReportQuality

MIN_INTERVAL_NS = 2_000_000_000
GOOD = 3
# (score at most, loss above percent, round trip above ms, freezes above): the first row that applies wins.
LIMITS: tuple[tuple[int, float, float, int], ...] = ((1, 10.0, 600.0, 2), (2, 3.0, 250.0, 0))


def score_of(loss_percent: float, rtt_ms: float, freezes: int, connected: bool) -> int:
    """0 (lost) to 3 (good) by the worst of what is known."""
    if not connected:
        return 0
    for score, loss_limit, rtt_limit, freeze_limit in LIMITS:
        if loss_percent > loss_limit or rtt_ms > rtt_limit or freezes > freeze_limit:
            return score
    return GOOD


@dataclass(slots=True)
class Connection:
    """The latest figures of one participant: the worker's, the client's own, and the state of both transports."""

    worker: Quality | None = None
    client: ReportQuality | None = None
    lost_transports: set[str] = field(default_factory=set)
    _told: tuple[int, tuple[Layer, ...]] = (GOOD, ())
    _told_at_ns: int | None = None

    def score(self) -> int:
        """0 (lost) to 3 (good)."""
        losses = [0.0]
        rtts = [0.0]
        if self.worker is not None:
            losses += [self.worker.uplink_loss_percent, self.worker.downlink_loss_percent]
            rtts.append(self.worker.rtt_ms or 0.0)
        if self.client is not None:
            losses.append(self.client.loss_percent)
            rtts.append(self.client.rtt_ms or 0.0)
        freezes = self.client.freezes if self.client else 0
        return score_of(max(losses), max(rtts), freezes, connected=not self.lost_transports)

    def set_transport(self, direction: str, state: str) -> None:
        """Note what the worker says about a transport."""
        if state in ("disconnected", "failed"):
            self.lost_transports.add(direction)
        else:
            self.lost_transports.discard(direction)

    def news(self, participant_id: str, now_ns: int) -> ConnectionQuality | None:
        """What to tell, with layers, if anything changed; at most every two seconds."""
        if self._told_at_ns is not None and now_ns - self._told_at_ns < MIN_INTERVAL_NS:
            return None
        layers = tuple(Layer(**layer.model_dump()) for layer in self.worker.layers) if self.worker else ()
        current = (self.score(), layers)
        if current == self._told:
            return None
        self._told = current
        self._told_at_ns = now_ns
        return ConnectionQuality(participant_id=participant_id, score=current[0], layers=list(layers))
