"""Media to train and evaluate with: folders of recordings or pictures, who made each, and the windows that a model is shown.

GENUINE/<person>/**/<file>                 a folder for each person
SYNTHETIC/<generator>/<person>/**/<file>   a folder for each generator; in it, if known, one for each person who is imitated
SYNTHETIC/<generator>/<file>
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from models.questions import Picture, Sound
from models.store import sha256_of
from models.trained import Counts

Question = Sound | Picture
Tell = Callable[[str], None]


class MediaError(Exception):
    """There is too little, or a file cannot be read; the message names it."""


class Medium(Protocol):
    """Voices or faces."""

    suffixes: frozenset[str]
    codec: str
    training_kbps: tuple[int, int]
    """Between these, before training, each window goes once through the codec."""
    rows_kbps: tuple[int, ...]
    """An evaluation has a row for each."""
    meeting_kbps: int
    """The row that counts: as meetings sound, or look."""

    def windows(self, path: Path) -> list[Question]:
        """What a model may be shown of a file; empty if it is too short or shows no face. Raises MediaError, naming it."""

    def coded(self, question: Question, kbps: int) -> Question:
        """The same window after the codec."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A file."""

    path: Path
    person: str
    """Who is heard or seen, or imitated; empty if nobody said."""
    generator: str = ""
    """What made it; empty for a genuine one."""

    @property
    def genuine(self) -> bool:
        """Whether nothing made it."""
        return not self.generator

    @property
    def group(self) -> str:
        """What it is split by: the person of genuine media, the generator of synthetic."""
        return self.generator or self.person


@dataclass(frozen=True, slots=True)
class Window:
    """A piece of a recording."""

    recording: Recording
    question: Question


@dataclass(slots=True)
class Collection:
    """Windows, and what gave none."""

    windows: list[Window] = field(default_factory=list)
    recordings: Counter[bool] = field(default_factory=Counter)
    """How many were opened, by whether they are genuine."""
    refused: list[Recording] = field(default_factory=list)
    """Too short, or without a face."""

    def of(self, genuine: bool) -> list[Window]:
        """One kind."""
        return [window for window in self.windows if window.recording.genuine == genuine]

    def groups(self, genuine: bool) -> list[str]:
        """The people, or the generators, that have windows; sorted."""
        return sorted({window.recording.group for window in self.of(genuine)})


def find(genuine: Path, synthetic: Path, suffixes: frozenset[str]) -> list[Recording]:
    """All recordings of two folders, sorted. Raises MediaError for a folder without any, or a file that lies in no folder there."""
    recordings = []
    for root, real in ((genuine, True), (synthetic, False)):
        if not root.is_dir():
            raise MediaError(f"{root} is not a folder")
        files = sorted(path for path in root.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
        if not files:
            raise MediaError(f"{root} has no file that ends with {', '.join(sorted(suffixes))}")
        recordings += [_recording(path, path.relative_to(root).parts, real) for path in files]
    return recordings


def _recording(path: Path, parts: Sequence[str], genuine: bool) -> Recording:
    if len(parts) < 2:
        owner = "person who is heard or seen in it" if genuine else "generator that made it"
        raise MediaError(f"{path} belongs into a folder named after the {owner}")
    if genuine:
        return Recording(path, parts[0])
    return Recording(path, parts[1] if len(parts) > 2 else "", parts[0])


def collect(recordings: Iterable[Recording], medium: Medium, most: int, tell: Tell) -> Collection:
    """Windows of each kind, at most `most`, of each group an equal part; further files are not opened. Raises MediaError."""
    groups: dict[tuple[bool, str], list[Recording]] = defaultdict(list)
    for recording in recordings:
        groups[recording.genuine, recording.group].append(recording)
    kinds = Counter(genuine for genuine, _ in groups)
    found = Collection()
    for (genuine, group), members in groups.items():
        share = max(1, most // kinds[genuine])
        taken = _take(members, medium, share, found)
        tell(f"{'genuine' if genuine else 'synthetic'}, {group}: {taken} windows")
    return found


def _take(members: list[Recording], medium: Medium, share: int, found: Collection) -> int:
    taken = 0
    for recording in members:
        if taken >= share:
            break
        found.recordings[recording.genuine] += 1
        windows = medium.windows(recording.path)
        if not windows:
            found.refused.append(recording)
        windows = windows[: share - taken]
        found.windows += [Window(recording, question) for question in windows]
        taken += len(windows)
    return taken


def counts(windows: Sequence[Window]) -> Counts:
    """How much, of how many."""
    genuine = [window.recording for window in windows if window.recording.genuine]
    synthetic = [window.recording for window in windows if not window.recording.genuine]
    return Counts(
        speakers=len({recording.person for recording in genuine}),
        generators=len({recording.generator for recording in synthetic}),
        genuine_windows=len(genuine),
        synthetic_windows=len(synthetic),
    )


def fingerprints(recordings: Iterable[Recording]) -> set[str]:
    """By which media is known again: the folder it was in, in whatever case, and its contents. Hashes, so that they name nobody."""
    marks = set()
    for recording in recordings:
        kind = "generator" if recording.generator else "person"
        marks.add(hashlib.sha256(f"{kind} {recording.group.casefold()}".encode()).hexdigest()[:16])
        marks.add(sha256_of(recording.path)[:16])
    return marks


def weights(windows: Sequence[Window]) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    """So that both kinds count the same, and within a kind each group; shape (n,), of mean 1. Both kinds must be there."""
    sizes = Counter((window.recording.genuine, window.recording.group) for window in windows)
    kinds = Counter(genuine for genuine, _ in sizes)
    keys = [(window.recording.genuine, window.recording.group) for window in windows]
    return np.array([len(windows) / 2 / kinds[key[0]] / sizes[key] for key in keys], np.float32)
