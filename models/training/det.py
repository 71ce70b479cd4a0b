"""A DET plot as SVG: misses over false alarms, on the scales of the normal distribution, where usual detectors are straight lines.

Martin et al., "The DET Curve in Assessment of Detection Task Performance", Eurospeech 1997.
"""

from collections.abc import Sequence
from html import escape
from statistics import NormalDist

from models.training.metrics import Errors

LEAST = 0.001
MOST = 0.9
"""Rates beyond are drawn at the edge."""
TICKS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9)
SIDE = 480
LEFT, TOP, RIGHT, BOTTOM = 76, 60, 24, 56
LEGEND = LEFT + SIDE - 200
COLOURS = ("#1b6ca8", "#c8553d", "#5b8c5a", "#8e5ea2", "#b8860b", "#444444")
DASHES = ("", "7 3", "2 3", "9 3 2 3", "12 4", "4 4")
"""Lines differ in colour and in dashes: colour alone does not reach everybody."""
_NORMAL = NormalDist()


def place(rate: float) -> float:
    """Where a rate lies along an axis, 0 to 1."""
    low, high = _NORMAL.inv_cdf(LEAST), _NORMAL.inv_cdf(MOST)
    return (_NORMAL.inv_cdf(min(MOST, max(LEAST, rate))) - low) / (high - low)


def plot(title: str, subtitle: str, curves: Sequence[tuple[str, Errors]]) -> str:
    """An SVG document with one line for each curve (name, errors)."""
    width, height = LEFT + SIDE + RIGHT, TOP + SIDE + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' font-family="sans-serif" font-size="12" fill="#222">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="{LEFT}" y="26" font-size="15" font-weight="bold">{escape(title)}</text>',
        f'<text x="{LEFT}" y="45">{escape(subtitle)}</text>',
        *_axes(),
        f'<rect x="{LEGEND}" y="{TOP + 8}" width="{LEFT + SIDE - LEGEND - 8}" height="{20 * len(curves) + 8}" fill="#fff"/>',
    ]
    for number, (name, errors) in enumerate(curves):
        parts += _curve(number, name, errors)
    return "\n".join([*parts, "</svg>", ""])


def _axes() -> list[str]:
    parts = []
    for rate in TICKS:
        x, y = _x(rate), _y(rate)
        parts += [
            f'<path d="M{x:.1f} {TOP}V{TOP + SIDE}M{LEFT} {y:.1f}H{LEFT + SIDE}" stroke="#ddd"/>',
            f'<text x="{x:.1f}" y="{TOP + SIDE + 18}" text-anchor="middle">{rate * 100:g}</text>',
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{rate * 100:g}</text>',
        ]
    middle = TOP + SIDE / 2
    return [
        *parts,
        f'<path d="M{LEFT} {TOP + SIDE}L{LEFT + SIDE} {TOP}" stroke="#aaa" stroke-dasharray="3 3"/>',
        f'<rect x="{LEFT}" y="{TOP}" width="{SIDE}" height="{SIDE}" fill="none" stroke="#555"/>',
        f'<text x="{LEFT + SIDE / 2}" y="{TOP + SIDE + 42}" text-anchor="middle">genuine media called synthetic, %</text>',
        f'<text x="20" y="{middle}" text-anchor="middle" transform="rotate(-90 20 {middle})">'
        "synthetic media called genuine, %</text>",
    ]


def _curve(number: int, name: str, errors: Errors) -> list[str]:
    """Rates change in steps, from one threshold to the next."""
    colour, dashes = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
    style = f'fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"'
    points = list(zip(errors.false_alarms.tolist(), errors.misses.tolist(), strict=True))
    path = f"M{_x(points[0][0]):.1f} {_y(points[0][1]):.1f}"
    for false_alarm, miss in points[1:]:
        path += f"V{_y(miss):.1f}H{_x(false_alarm):.1f}"
    y = TOP + 22 + 20 * number
    x = LEGEND + 10
    return [
        f'<path d="{path}" {style}/>',
        f'<path d="M{x} {y}h36" {style}/>',
        f'<text x="{x + 44}" y="{y + 4}">{escape(name)}</text>',
    ]


def _x(rate: float) -> float:
    return LEFT + SIDE * place(rate)


def _y(rate: float) -> float:
    return TOP + SIDE * (1 - place(rate))
