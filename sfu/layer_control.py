"""Which layer each video consumer of one subscriber gets: tiles, the estimate of its downlink, losses; decided every 250 ms."""

from typing import Literal, NamedTuple

from sfu.bandwidth import Demand, DownlinkEstimate, allocate
from sfu.channel.messages import LayerState
from sfu.consumer import Consumer
from sfu.dataplane.base import DataPlane
from sfu.layers import Choice, LayerInfo, LayerSelector, layer_for_tile
from sfu.producer import Producer, Source

DEFAULT_TILE = (1280, 720)
AUDIO_BPS = 50_000
"""Reserved for each audio consumer before video is shared out."""
FLOOR_BPS = 150_000
"""What a derived video needs at least: its encoder follows the narrowest viewer down to here."""
WANTED_BPS = 600_000
"""What it would like to have, or as much as its original takes if that is less: a step for which it competes like a layer."""

LayerName = Literal["low", "middle", "high", "paused"]


class Offer(NamedTuple):
    """What there is of a track."""

    layers: list[LayerInfo]
    """Low to high."""
    sources: dict[int, Source]
    """Those of them that are live, by index."""
    layer_count: int
    """Those that were never heard included."""
    wanted_bps: int | None = None
    """Of derived video, whose encoder follows what there is room for."""


class LayerControl:
    """The policy of one subscriber, and the `DownlinkObserver` that feeds it."""

    def __init__(self, plane: DataPlane) -> None:
        self.estimate = DownlinkEstimate()
        self.rtt_ms: float | None = None
        self.sent = self.estimate.sent
        """Called for every packet with a transport-wide number, so without a step in between."""
        self._plane = plane
        self._tiles: dict[str, tuple[int, int]] = {}
        self._selectors: dict[Consumer, LayerSelector] = {}
        self._choices: dict[Consumer, tuple[Choice, int]] = {}
        """And of how many layers."""
        self._audio: set[Consumer] = set()

    # --- what the subscriber shows

    def show(self, tiles: dict[str, tuple[int, int]], now_ns: int) -> None:
        """Tile sizes in pixels by track; (0, 0) is hidden."""
        self._tiles = tiles
        self.tick(now_ns)

    def add(self, consumer: Consumer, now_ns: int) -> None:
        """A new consumer; a video one gets its first target at once."""
        if consumer.kind == "audio":
            self._audio.add(consumer)
            return
        self._selectors[consumer] = LayerSelector()
        self.tick(now_ns)

    def remove(self, consumer: Consumer) -> None:
        """The consumer is gone; idempotent."""
        self._audio.discard(consumer)
        self._selectors.pop(consumer, None)
        self._choices.pop(consumer, None)

    @property
    def has_choice(self) -> bool:
        """Whether any of the videos comes in layers."""
        return any(len(consumer.producer.rids) > 1 for consumer in self._selectors)

    # --- DownlinkObserver

    def feedback(self, packets: list[tuple[int, int | None]], now_ns: int) -> None:
        """See `DownlinkObserver`."""
        self.estimate.feedback(packets, now_ns)

    def remb(self, bitrate_bps: int, ssrcs: list[int], now_ns: int) -> None:
        """See `DownlinkObserver`."""
        video_bytes = sum(consumer.octets for consumer in self._selectors)
        audio_bytes = sum(consumer.octets for consumer in self._audio)
        self.estimate.remb(bitrate_bps, now_ns, ssrcs, video_bytes + audio_bytes, video_bytes)

    def loss(self, fraction: float, rtt_ms: float | None, now_ns: int) -> None:
        """See `DownlinkObserver`."""
        self.estimate.reported_loss(fraction, now_ns)
        if rtt_ms is not None:
            self.rtt_ms = rtt_ms

    # --- deciding

    def tick(self, now_ns: int) -> None:
        """Choose a layer for every video consumer."""
        offers = {consumer: offered_layers(consumer.producer, now_ns) for consumer in self._selectors}
        demands = [self._demand(consumer, offer) for consumer, offer in offers.items()]
        estimate_bps = self.estimate.estimate_bps(now_ns)
        shares = allocate(estimate_bps, AUDIO_BPS * len(self._audio), demands)
        self.estimate.aim_at(shares.next_bps)
        loss = self.estimate.loss(now_ns)
        for (consumer, offer), cap_bps in zip(offers.items(), shares.caps_bps, strict=True):
            choice = self._selectors[consumer].update(now_ns, offer.layers, self._tile(consumer), cap_bps, loss)
            self._choices[consumer] = choice, offer.layer_count
            target = offer.sources.get(choice.index) if choice.index is not None else None
            if target is not None or choice.reason != "available":
                self._plane.set_target(consumer, target, now_ns)
        derived = {
            consumer: cap_bps if cap_bps is not None else offer.wanted_bps
            for (consumer, offer), cap_bps in zip(offers.items(), shares.caps_bps, strict=True)
            if offer.wanted_bps is not None
        }
        if derived:
            self._share_out(estimate_bps, derived)

    def _share_out(self, estimate_bps: int | None, derived: dict[Consumer, int]) -> None:
        """To those whose encoder follows it: what they won together, or what is left beside sound and layers; evenly."""
        if estimate_bps is None:
            for consumer in derived:
                consumer.share_bps = None
            return
        targets = [consumer.target for consumer in self._selectors if consumer not in derived]
        left_bps = estimate_bps - AUDIO_BPS * len(self._audio) - sum(t.rate.bps for t in targets if t is not None)
        won_bps = [won_bps for consumer, won_bps in derived.items() if consumer.target is not None]
        for consumer in derived:
            consumer.share_bps = max(left_bps, sum(won_bps)) // max(1, len(won_bps))

    def _tile(self, consumer: Consumer) -> tuple[int, int]:
        return self._tiles.get(consumer.producer.track_id, DEFAULT_TILE)

    def _demand(self, consumer: Consumer, offer: Offer) -> Demand:
        width, height = self._tile(consumer)
        if offer.wanted_bps is not None:
            return _derived_demand(consumer, offer, width * height)
        layers = offer.layers
        live = [layer for layer in layers if layer.live]
        wanted = layer_for_tile(layers, width, height)
        useful = [layer for layer in live if wanted is not None and layer.index <= wanted]
        current = consumer.target
        rank = -1
        if current is not None:
            rank = sum(1 for layer in useful if layer.index <= consumer.producer.rank(current)) - 1
        return Demand(width * height, tuple(layer.bitrate_bps for layer in useful), rank)

    def states(self) -> list[LayerState]:
        """What each video consumer gets, and why not more."""
        return [
            LayerState(
                track_id=consumer.producer.track_id,
                layer=_name(choice.index, count),
                reason=choice.reason,
            )
            for consumer, (choice, count) in self._choices.items()
        ]


def _derived_demand(consumer: Consumer, offer: Offer, area: int) -> Demand:
    """Two steps, where layers are many: what it needs, and what it would like to have. A hidden tile wants neither."""
    wanted_bps, share_bps = offer.wanted_bps or 0, consumer.share_bps
    steps = (offer.layers[0].bitrate_bps, wanted_bps) if area else ()
    if consumer.target is None:
        return Demand(area, steps, -1)
    return Demand(area, steps, int(share_bps is None or share_bps >= wanted_bps))


def offered_layers(producer: Producer, now_ns: int) -> Offer:
    """What viewers may choose from: of a track with a derived source that is live, only that."""
    derived = producer.derived
    if derived is None or not derived.live(now_ns):
        return published_layers(producer, now_ns)
    needed_bps = min(derived.rate.bps, FLOOR_BPS)
    original_bps = max((layer.rate.bps for layer in producer.layers(now_ns)), default=0)
    wanted_bps = min(WANTED_BPS, max(FLOOR_BPS, original_bps))
    return Offer([LayerInfo(0, derived.width, derived.height, needed_bps)], {0: derived}, 1, wanted_bps)


def published_layers(producer: Producer, now_ns: int) -> Offer:
    """Everything that the publisher has sent."""
    infos: list[LayerInfo] = []
    live: dict[int, Source] = {}
    for index, rid in enumerate(producer.rids):
        source = producer.sources.get(rid)
        if source is None:
            continue
        if alive := source.live(now_ns):
            live[index] = source
        infos.append(LayerInfo(index, source.width, source.height, source.rate.bps, alive))
    return Offer(infos, live, len(producer.rids))


def _name(index: int | None, layers: int) -> LayerName:
    if index is None:
        return "paused"
    if index == layers - 1:
        return "high"
    return "low" if index == 0 else "middle"
