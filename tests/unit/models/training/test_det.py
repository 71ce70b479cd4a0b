"""The plot is well-formed, its scale is that of the normal distribution, and its lines go where the errors are."""

import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.training import det
from models.training.det import LEAST, LEFT, MOST, SIDE, TOP
from models.training.metrics import errors

SVG = "{http://www.w3.org/2000/svg}"


def curve_points(svg: str) -> list[tuple[float, float]]:
    """Corners of the last curve: a path of M x y, then V y H x again and again."""
    paths = [path.get("d", "") for path in ElementTree.fromstring(svg).iter(f"{SVG}path")]
    line = max(paths, key=lambda path: path.count("V"))
    first, *steps = line.removeprefix("M").split("V")
    x, y = map(float, first.split())
    points = [(x, y)]
    for step in steps:
        down, across = map(float, step.split("H"))
        points.append((across, down))
    return points


def test_the_scale_is_the_normal_distributions() -> None:
    assert det.place(LEAST) == 0
    assert det.place(MOST) == 1
    normal = NormalDist()
    ratio = (det.place(0.4) - det.place(0.2)) / (det.place(0.2) - det.place(0.05))
    expected = (normal.inv_cdf(0.4) - normal.inv_cdf(0.2)) / (normal.inv_cdf(0.2) - normal.inv_cdf(0.05))
    assert ratio == pytest.approx(expected)


@given(st.floats(0, 1))
def test_every_rate_has_a_place(rate: float) -> None:
    assert 0 <= det.place(rate) <= 1


def test_a_curve_passes_through_its_errors() -> None:
    rng = np.random.default_rng(1)
    found = errors(rng.normal(1, 1, 200), rng.normal(-1, 1, 200))
    points = curve_points(det.plot("a model", "some windows", [("as it is", found)]))
    assert len(points) == len(found.thresholds)
    for index in (0, 150, 300, -1):
        x, y = points[index]
        assert x == pytest.approx(LEFT + SIDE * det.place(float(found.false_alarms[index])), abs=0.06)
        assert y == pytest.approx(TOP + SIDE * (1 - det.place(float(found.misses[index]))), abs=0.06)
    assert all(left[0] <= right[0] and left[1] <= right[1] for left, right in pairwise(points))


def test_names_are_text_and_each_curve_has_one() -> None:
    found = errors(np.array([1.0]), np.array([0.0]))
    svg = det.plot("<model> & co", "some windows", [(f"Opus <{kbps}>", found) for kbps in range(7)])
    texts = [text.text for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]
    assert "<model> & co" in texts
    assert [text for text in texts if text and text.startswith("Opus")] == [f"Opus <{kbps}>" for kbps in range(7)]
