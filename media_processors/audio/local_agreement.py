"""LocalAgreement-2: what two successive hypotheses share is stable and never taken back.

Machacek, Dabre, Bojar, "Turning Whisper into Real-Time Transcription System" (2023), after Liu et al., "Low-Latency
Sequence-to-Sequence Speech Recognition and Translation by Partial Hypothesis Selection" (2020).
"""

import unicodedata
from collections.abc import Sequence


class LocalAgreement:
    """The words of one segment, as its hypotheses come."""

    def __init__(self) -> None:
        self.stable: list[str] = []
        """Words that stay, each with the space before it."""
        self.tail: list[str] = []
        """The words behind them in the latest hypothesis."""

    def update(self, words: Sequence[str]) -> None:
        """A hypothesis for the whole segment so far."""
        tail = _after(self.stable, words)
        agreed = _common(self.tail, tail)
        self.stable += tail[:agreed]
        self.tail = tail[agreed:]

    def finish(self, words: Sequence[str]) -> None:
        """The last hypothesis: what is behind the stable words is as good as it will get."""
        self.stable += _after(self.stable, words)
        self.tail = []

    @property
    def text(self) -> str:
        """Everything that is to be shown."""
        return "".join((*self.stable, *self.tail)).strip()

    @property
    def stable_chars(self) -> int:
        """How many characters of `text` are stable."""
        return len("".join(self.stable).strip())


def _key(word: str) -> str:
    """Words that differ only in case or punctuation are the same word."""
    folded = "".join(char for char in word.casefold() if not unicodedata.category(char).startswith(("P", "Z")))
    return folded or word.strip()


def _common(left: Sequence[str], right: Sequence[str]) -> int:
    """Length of the common prefix."""
    for index, (a, b) in enumerate(zip(left, right, strict=False)):
        if _key(a) != _key(b):
            return index
    return min(len(left), len(right))


def _after(stable: Sequence[str], words: Sequence[str]) -> list[str]:
    """The part of a hypothesis that lies behind the stable words.

    A later hypothesis may say the stable part otherwise, with more or fewer words. The cut is where the words before it are
    nearest to the stable ones by edit distance; of equal ones the last, for a word lost is better than one said twice.
    """
    keys = [_key(word) for word in words]
    distances = list(range(len(keys) + 1))
    for row, word in enumerate(map(_key, stable), start=1):
        above, distances[0] = distances[0], row
        for column, key in enumerate(keys, start=1):
            substituted = above + (key != word)
            above = distances[column]
            distances[column] = min(substituted, above + 1, distances[column - 1] + 1)
    best = min(distances)
    cut = max(column for column, distance in enumerate(distances) if distance == best)
    return list(words[cut:])
