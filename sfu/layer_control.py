"""Which layer each video consumer of one subscriber gets: tiles, the estimate of its downlink, losses; decided every 250 ms."""

from typing import Literal

from sfu.bandwidth import Demand, DownlinkEstimate, allocate
from sfu.channel.messages import LayerState
from sfu.consumer import Consumer
from sfu.dataplane.base import DataPlane
from sfu.layers import Choice, LayerInfo, LayerSelector, layer_for_tile
from sfu.producer import Producer, Source

DEFAULT_TILE = (1280, 720)
AUDIO_BPS = 50_000
"""Reserved for each audio consumer before video is shared out."""

LayerName = Literal["low", "middle", "high", "paused"]


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
        self._choices: dict[Consumer, Choice] = {}
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
        offers = {consumer: known_layers(consumer.producer, now_ns) for consumer in self._selectors}
        demands = [self._demand(consumer, layers) for consumer, (layers, _) in offers.items()]
        shares = allocate(self.estimate.estimate_bps(now_ns), AUDIO_BPS * len(self._audio), demands)
        self.estimate.aim_at(shares.next_bps)
        loss = self.estimate.loss(now_ns)
        for (consumer, (layers, sources)), cap_bps in zip(offers.items(), shares.caps_bps, strict=True):
            choice = self._selectors[consumer].update(now_ns, layers, self._tile(consumer), cap_bps, loss)
            self._choices[consumer] = choice
            target = sources.get(choice.index) if choice.index is not None else None
            if target is not None or choice.reason != "available":
                self._plane.set_target(consumer, target, now_ns)

    def _tile(self, consumer: Consumer) -> tuple[int, int]:
        return self._tiles.get(consumer.producer.track_id, DEFAULT_TILE)

    def _demand(self, consumer: Consumer, layers: list[LayerInfo]) -> Demand:
        width, height = self._tile(consumer)
        live = [layer for layer in layers if layer.live]
        wanted = layer_for_tile(layers, width, height)
        useful = [layer for layer in live if wanted is not None and layer.index <= wanted]
        current = consumer.target
        rank = -1
        if current is not None:
            rank = sum(1 for layer in useful if layer.index <= consumer.producer.rids.index(current.rid)) - 1
        return Demand(width * height, tuple(layer.bitrate_bps for layer in useful), rank)

    def states(self) -> list[LayerState]:
        """What each video consumer gets, and why not more."""
        return [
            LayerState(
                track_id=consumer.producer.track_id,
                layer=_name(choice.index, len(consumer.producer.rids)),
                reason=choice.reason,
            )
            for consumer, choice in self._choices.items()
        ]


def known_layers(producer: Producer, now_ns: int) -> tuple[list[LayerInfo], dict[int, Source]]:
    """Everything that the publisher has sent, low to high, and the live sources by index."""
    infos: list[LayerInfo] = []
    live: dict[int, Source] = {}
    for index, rid in enumerate(producer.rids):
        source = producer.sources.get(rid)
        if source is None:
            continue
        if alive := source.live(now_ns):
            live[index] = source
        infos.append(LayerInfo(index, source.width, source.height, source.rate.bps, alive))
    return infos, live


def _name(index: int | None, layers: int) -> LayerName:
    if index is None:
        return "paused"
    if index == layers - 1:
        return "high"
    return "low" if index == 0 else "middle"
