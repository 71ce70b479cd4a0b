"""Which simulcast layer a viewer gets: by the size of the tile, capped by bandwidth and loss. Pure; time is an argument."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

STEP_UP_NS = 5_000_000_000  # how long all must be good before one step up
RETRY_NS = 12_000_000_000  # the same, for a layer whose last try failed
TRIAL_NS = 10_000_000_000  # a layer left for loss within this time after it was reached has failed
SETTLE_NS = 1_500_000_000  # between two steps down for loss: reports tell of the time before the last one
HIGH_LOSS = 0.10
MAX_UPSCALE = 1.25  # a layer is large enough for a tile that shows it at most so much larger than it is
WATCH_SLACK = 1.1

Reason = Literal["tile", "bandwidth", "loss", "available", "hidden"]


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """A simulcast layer as the plane measures it. Without simulcast there is one, with index 0."""

    index: int
    width: int
    """Pixels; 0 while unknown."""
    height: int
    bitrate_bps: int
    live: bool = True


@dataclass(frozen=True, slots=True)
class Choice:
    """`index` None: paused. `reason` names what decided: "tile" when the viewer gets all that its tile can show."""

    index: int | None
    reason: Reason


def layer_for_tile(layers: Sequence[LayerInfo], width: int, height: int) -> int | None:
    """Index of the smallest of `layers` (low to high) that fills the tile well, else of the highest.

    None if the tile is 0 x 0 or there is no layer. A video is shown as large as fits into its tile, without cropping.
    """
    if width <= 0 or height <= 0 or not layers:
        return None
    for layer in layers:
        known = layer.width > 0 and layer.height > 0
        if known and min(width / layer.width, height / layer.height) <= MAX_UPSCALE:
            return layer.index
    return layers[-1].index


def layer_to_watch(layers: Sequence[LayerInfo], count: int, width: int, current: int | None) -> int | None:
    """Index of the layer for observers: the lowest of `layers` (live, low to high) that is `width` pixels wide, else the highest.

    A layer below the `current` one has to be a little wider than that, so that a face at the limit does not switch to and fro.
    With `width` 0, and where nobody knows how wide layers are (VP9, AV1), the middle one of all `count`, or the next one below
    that is live. None if there is no layer.
    """
    if not layers:
        return None
    if width and layers[-1].width:
        for layer in layers:
            below = current is not None and layer.index < current
            if layer.width >= width * (WATCH_SLACK if below else 1):
                return layer.index
        return layers[-1].index
    return max((layer.index for layer in layers if layer.index <= (count - 1) // 2), default=layers[0].index)


class LayerSelector:
    """The layer of one consumer. A ceiling falls at once, and rises one layer at a time after a time without trouble.

    It falls to what the bandwidth allows, below the lowest layer too: then the video pauses. For loss it falls by one layer, never
    below the lowest. A layer that was reached and left again for loss within 10 s is tried again after 12 s, others after 5 s.
    """

    def __init__(self) -> None:
        self._ceiling: int | None = None  # None: no limit; -1: below the lowest
        self._limit: Reason = "bandwidth"  # what lowered the ceiling last
        self._good_since_ns: int | None = None
        self._lowered_ns: int | None = None
        self._raised_ns: int | None = None  # since when the ceiling is where it was raised to
        self._failed: int | None = None

    def update(
        self,
        now_ns: int,
        layers: Sequence[LayerInfo],
        tile: tuple[int, int],
        cap_bps: int | None,
        loss: float,
    ) -> Choice:
        """Choose again. `layers` low to high; `tile` in pixels, (0, 0) hidden; `cap_bps` None: no limit; `loss` 0 to 1."""
        live = [layer for layer in layers if layer.live]
        if not live:
            return Choice(None, "available")
        wanted = layer_for_tile(live, *tile)
        if wanted is None:
            return Choice(None, "hidden")
        allowed = _highest_within(live, cap_bps)
        self._lower(now_ns, live, wanted, allowed, loss)
        self._raise(now_ns, live, allowed, loss)
        if self._ceiling is None or wanted <= self._ceiling:
            return Choice(wanted, "tile" if wanted == layer_for_tile(layers, *tile) else "available")
        below = [layer.index for layer in live if layer.index <= self._ceiling]
        return Choice(below[-1] if below else None, self._limit)

    def _lower(self, now_ns: int, live: list[LayerInfo], wanted: int, allowed: int, loss: float) -> None:
        ceiling = live[-1].index if self._ceiling is None else self._ceiling
        current = min(wanted, ceiling)
        if allowed < current:
            self._set_ceiling(now_ns, allowed, "bandwidth")
            return
        settled = self._lowered_ns is None or now_ns - self._lowered_ns >= SETTLE_NS
        lower = [layer.index for layer in live if layer.index < current]
        if loss > HIGH_LOSS and settled and lower:
            self._set_ceiling(now_ns, lower[-1], "loss")

    def _set_ceiling(self, now_ns: int, ceiling: int, limit: Reason) -> None:
        if limit == "loss" and self._raised_ns is not None and now_ns - self._raised_ns < TRIAL_NS:
            self._failed = self._ceiling
        self._raised_ns = None
        self._ceiling = ceiling
        self._limit = limit
        self._lowered_ns = now_ns
        self._good_since_ns = None

    def _raise(self, now_ns: int, live: list[LayerInfo], allowed: int, loss: float) -> None:
        if self._ceiling is None:
            return
        if self._raised_ns is not None and now_ns - self._raised_ns >= TRIAL_NS:
            self._failed = None
        above = [layer.index for layer in live if layer.index > self._ceiling]
        if not above:
            return
        if loss > HIGH_LOSS or allowed < above[0]:
            self._good_since_ns = None
            return
        if self._good_since_ns is None:
            self._good_since_ns = now_ns
        wait_ns = RETRY_NS if above[0] == self._failed else STEP_UP_NS
        since_ns = max(self._good_since_ns, self._lowered_ns or 0)
        if now_ns - since_ns >= wait_ns:
            self._ceiling = above[0]
            self._raised_ns = now_ns
            self._good_since_ns = None


def _highest_within(live: list[LayerInfo], cap_bps: int | None) -> int:
    """Index of the highest live layer that the cap has room for, -1 if not even the lowest."""
    if cap_bps is None:
        return live[-1].index
    fitting = [layer.index for layer in live if layer.bitrate_bps <= cap_bps]
    return fitting[-1] if fitting else -1
