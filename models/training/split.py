"""Who teaches and who examines: whole people and whole generators on one side or the other, never a file of one on both."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.training.media import Collection, MediaError, Window

HELD_OUT = 0.2
"""The share of people, and of generators, that is held out: at least one of each."""


@dataclass(frozen=True, slots=True)
class Split:
    """Two sides."""

    train: list[Window]
    held_out: list[Window]
    left_out: int
    """Windows of neither: imitations of people who are held out, by generators that are not."""


def split(found: Collection, seed: int) -> Split:
    """Hold people and generators out, drawn by `seed`. Raises MediaError if there are not two of each."""
    rng = np.random.default_rng(seed)
    people = _draw(found.groups(genuine=True), rng, "people", "genuine")
    generators = _draw(found.groups(genuine=False), rng, "generators", "synthetic")
    train, held_out, left_out = [], [], 0
    for window in found.windows:
        recording = window.recording
        if recording.group in (people if recording.genuine else generators):
            held_out.append(window)
        elif recording.person in people:
            left_out += 1
        else:
            train.append(window)
    if not any(not window.recording.genuine for window in train):
        raise MediaError(
            "all synthetic media to train on imitate people who are held out: add others, or other generators"
        )
    return Split(train, held_out, left_out)


def _draw(groups: Sequence[str], rng: np.random.Generator, what: str, kind: str) -> set[str]:
    if len(groups) < 2:
        raise MediaError(
            f"the {kind} media with enough in it is of {len(groups)} {what}: at least two are needed, one to train on and one to "
            "hold out"
        )
    count = max(1, round(HELD_OUT * len(groups)))
    return set(rng.permutation(np.array(groups))[:count].tolist())
