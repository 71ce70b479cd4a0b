"""The choice of a layer: tile, bandwidth, loss."""

import pytest

from sfu.layers import Choice, LayerInfo, LayerSelector, layer_for_tile, layer_to_watch

S = 1_000_000_000
Q = LayerInfo(0, 320, 180, 150_000)
H = LayerInfo(1, 640, 360, 500_000)
F = LayerInfo(2, 1280, 720, 1_500_000)
ALL = [Q, H, F]
LARGE = (1280, 720)


class Viewer:
    """A selector that is asked every 100 ms."""

    def __init__(self) -> None:
        self.selector = LayerSelector()
        self.now_ns = 0

    def choose(
        self,
        seconds: float = 0.1,
        *,
        layers: list[LayerInfo] = ALL,
        tile: tuple[int, int] = LARGE,
        cap_bps: int | None = None,
        loss: float = 0.0,
    ) -> Choice:
        for _ in range(round(seconds * 10)):
            self.now_ns += S // 10
            choice = self.selector.update(self.now_ns, layers, tile, cap_bps, loss)
        return choice


@pytest.mark.parametrize(
    ("tile", "index"),
    [
        ((160, 90), 0),
        ((400, 225), 0),
        ((401, 226), 1),
        ((800, 450), 1),
        ((801, 451), 2),
        ((4000, 3000), 2),
        ((4000, 180), 0),
        ((300, 1000), 0),
        ((0, 0), None),
        ((640, 0), None),
    ],
)
def test_the_smallest_layer_that_fills_the_tile(tile: tuple[int, int], index: int | None) -> None:
    assert layer_for_tile(ALL, *tile) == index


def test_a_layer_of_unknown_size_is_not_trusted_to_be_large_enough() -> None:
    assert layer_for_tile([LayerInfo(0, 0, 0, 0), F], 100, 100) == 2
    assert layer_for_tile([LayerInfo(0, 0, 0, 0)], 100, 100) == 0


def test_a_good_link_gives_what_the_tile_can_show_at_once() -> None:
    viewer = Viewer()
    assert viewer.choose(tile=(160, 90)) == Choice(0, "tile")
    assert viewer.choose(tile=LARGE) == Choice(2, "tile")
    assert viewer.choose(tile=(0, 0)) == Choice(None, "hidden")
    assert viewer.choose(tile=(640, 360)) == Choice(1, "tile")


def test_only_live_layers_count() -> None:
    viewer = Viewer()
    off = LayerInfo(2, 1280, 720, 0, live=False)
    assert viewer.choose(layers=[Q, H, off]) == Choice(1, "available")
    assert viewer.choose(layers=[Q, H, off], tile=(160, 90)) == Choice(0, "tile")
    assert viewer.choose(layers=[off]) == Choice(None, "available")
    assert viewer.choose(layers=[]) == Choice(None, "available")
    assert viewer.choose(layers=[F], tile=(160, 90)) == Choice(2, "tile"), "no smaller one exists"


def test_bandwidth_lowers_at_once_and_raises_one_layer_every_5_s() -> None:
    viewer = Viewer()
    viewer.choose()
    assert viewer.choose(cap_bps=200_000) == Choice(0, "bandwidth")
    assert viewer.choose(4.9) == Choice(0, "bandwidth")
    assert viewer.choose(0.2) == Choice(1, "bandwidth")
    assert viewer.choose(4.9) == Choice(1, "bandwidth")
    assert viewer.choose(0.2) == Choice(2, "tile")


def test_a_dip_starts_the_5_s_anew() -> None:
    viewer = Viewer()
    viewer.choose(cap_bps=200_000)
    viewer.choose(4)
    assert viewer.choose(cap_bps=200_000) == Choice(0, "bandwidth")
    assert viewer.choose(4.9).index == 0
    assert viewer.choose(0.3).index == 1


def test_below_the_lowest_layer_the_video_pauses_and_comes_back() -> None:
    viewer = Viewer()
    viewer.choose()
    assert viewer.choose(cap_bps=100_000) == Choice(None, "bandwidth")
    assert viewer.choose(10, cap_bps=149_999) == Choice(None, "bandwidth")
    assert viewer.choose(4.9, cap_bps=150_000) == Choice(None, "bandwidth")
    assert viewer.choose(0.3, cap_bps=150_000) == Choice(0, "bandwidth")


def test_loss_lowers_one_layer_at_a_time_and_never_pauses() -> None:
    viewer = Viewer()
    viewer.choose()
    assert viewer.choose(loss=0.10).index == 2
    assert viewer.choose(loss=0.11) == Choice(1, "loss")
    assert viewer.choose(1.3, loss=0.2) == Choice(1, "loss")
    assert viewer.choose(0.3, loss=0.2) == Choice(0, "loss")
    assert viewer.choose(30, loss=0.9) == Choice(0, "loss")
    assert viewer.choose(4.9) == Choice(0, "loss")
    assert viewer.choose(0.3) == Choice(1, "loss")


def test_loss_at_a_small_tile_lowers_below_that_tile() -> None:
    viewer = Viewer()
    assert viewer.choose(tile=(640, 360)).index == 1
    assert viewer.choose(tile=(640, 360), loss=0.2) == Choice(0, "loss")


def test_a_layer_that_fails_by_loss_is_tried_again_after_12_s() -> None:
    viewer = Viewer()
    viewer.choose()
    viewer.choose(loss=0.2)
    assert viewer.choose(5.2).index == 2
    assert viewer.choose(loss=0.2).index == 1
    assert viewer.choose(11.9).index == 1
    assert viewer.choose(0.3).index == 2
    assert viewer.choose(15).index == 2, "and has passed its trial"
    viewer.choose(loss=0.2)
    assert viewer.choose(5.2).index == 2


def test_a_ceiling_rises_while_the_tile_is_small() -> None:
    viewer = Viewer()
    viewer.choose(cap_bps=0)
    assert viewer.choose(0.1, tile=(0, 0)) == Choice(None, "hidden")
    viewer.choose(20, tile=(160, 90))
    assert viewer.choose() == Choice(2, "tile")


def test_a_single_layer_is_all_or_nothing() -> None:
    viewer = Viewer()
    only = [LayerInfo(0, 1280, 720, 900_000)]
    assert viewer.choose(layers=only, tile=(10, 10)) == Choice(0, "tile")
    assert viewer.choose(layers=only, cap_bps=800_000) == Choice(None, "bandwidth")
    assert viewer.choose(5.3, layers=only, cap_bps=1_000_000) == Choice(0, "tile")


# --- what observers are shown


def simulcast(*live: int) -> list[LayerInfo]:
    return [LayerInfo(index, 320 << index, 180 << index, 100_000 << index) for index in live]


@pytest.mark.parametrize(
    ("live", "count", "width", "current", "expected"),
    [
        ((0, 1, 2), 3, 0, None, 1),  # no wish: the middle one
        ((0, 2), 3, 0, None, 0),  # it is not live: the one below
        ((2,), 3, 0, None, 2),
        ((0,), 1, 0, None, 0),
        ((0, 1), 2, 0, None, 0),
        ((0, 1, 2), 3, 320, None, 0),
        ((0, 1, 2), 3, 321, 0, 1),
        ((0, 1, 2), 3, 5000, 1, 2),  # nothing is wide enough: the highest
        ((0, 1, 2), 3, 300, 1, 1),  # a lower one must be a little wider than that
        ((0, 1, 2), 3, 290, 1, 0),
        ((0, 2), 3, 600, 1, 2),
        ((), 3, 300, None, None),
    ],
)
def test_layer_to_watch(
    live: tuple[int, ...], count: int, width: int, current: int | None, expected: int | None
) -> None:
    assert layer_to_watch(simulcast(*live), count, width, current) == expected


def test_where_nobody_knows_how_wide_layers_are_observers_get_the_middle_one() -> None:
    unknown = [LayerInfo(index, 0, 0, 100_000 << index) for index in range(3)]
    assert layer_to_watch(unknown, 3, 1000, 0) == 1
