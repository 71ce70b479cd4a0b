"""Folders of media: who made what, refusals that name the file, equal parts, and people who are on one side only."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.questions import Sound
from models.training import media
from models.training.media import Collection, MediaError, Question, Recording
from models.training.split import split
from tests.unit.models.training.kit import window

SUFFIXES = frozenset({".wav"})


class Letters:
    """A medium whose windows are the letters of a file."""

    suffixes = SUFFIXES
    codec = "nothing"
    training_kbps = (1, 2)
    rows_kbps: tuple[int, ...] = (1,)
    meeting_kbps = 1

    def __init__(self) -> None:
        self.opened: list[str] = []

    def windows(self, path: Path) -> list[Question]:
        self.opened.append(path.name)
        return [Sound(np.array([ord(letter)], np.int16)) for letter in path.read_text()]

    def coded(self, question: Question, kbps: int) -> Question:
        return question


def tree(root: Path, *names: str, text: str = "abc") -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def quiet(line: str) -> None:
    """Tell nobody."""


def test_folders_say_who_made_what(tmp_path: Path) -> None:
    genuine = tree(tmp_path / "g", "ann/a.wav", "ann/deep/er/b.WAV", "ben/c.wav", "ben/notes.txt")
    synthetic = tree(tmp_path / "s", "flite/a.wav", "clone/ann/b.wav", "clone/ann/2020/c.wav")
    found = media.find(genuine, synthetic, SUFFIXES)
    assert [(one.person, one.generator, one.group) for one in found] == [
        ("ann", "", "ann"),
        ("ann", "", "ann"),
        ("ben", "", "ben"),
        ("ann", "clone", "clone"),
        ("ann", "clone", "clone"),
        ("", "flite", "flite"),
    ]
    assert [one.genuine for one in found] == [True] * 3 + [False] * 3


def test_what_is_missing_or_in_no_folder_is_named(tmp_path: Path) -> None:
    good, empty = tree(tmp_path / "good", "ann/a.wav"), tree(tmp_path / "empty", "ann/a.txt")
    loose = tree(tmp_path / "loose", "a.wav")
    with pytest.raises(MediaError, match="nowhere is not a folder"):
        media.find(tmp_path / "nowhere", good, SUFFIXES)
    with pytest.raises(MediaError, match=r"empty has no file that ends with \.wav"):
        media.find(good, empty, SUFFIXES)
    with pytest.raises(MediaError, match=r"a\.wav belongs into a folder named after the generator"):
        media.find(good, loose, SUFFIXES)
    with pytest.raises(MediaError, match=r"a\.wav belongs into a folder named after the person"):
        media.find(loose, good, SUFFIXES)


def test_each_group_has_an_equal_part_and_no_more_is_opened(tmp_path: Path) -> None:
    genuine = tree(tmp_path / "g", "ann/a1.wav", "ann/a2.wav", "ann/a3.wav", "ben/b1.wav")
    synthetic = tree(tmp_path / "s", "flite/f1.wav")
    tree(tmp_path / "g", "ben/b0.wav", text="")
    medium = Letters()
    found = media.collect(media.find(genuine, synthetic, SUFFIXES), medium, 8, quiet)
    assert Counter(one.recording.group for one in found.windows) == {"ann": 4, "ben": 3, "flite": 3}
    assert medium.opened == ["a1.wav", "a2.wav", "b0.wav", "b1.wav", "f1.wav"]
    assert [one.path.name for one in found.refused] == ["b0.wav"]
    assert found.recordings == {True: 4, False: 1}


def test_media_is_known_again_by_its_folder_or_its_contents(tmp_path: Path) -> None:
    first = media.find(tree(tmp_path / "1", "Ann/a.wav", text="1"), tree(tmp_path / "s", "x/s.wav"), SUFFIXES)[:1]
    same_person = media.find(tree(tmp_path / "2", "ann/b.wav", text="2"), tmp_path / "s", SUFFIXES)[:1]
    same_file = media.find(tree(tmp_path / "3", "eve/c.wav", text="1"), tmp_path / "s", SUFFIXES)[:1]
    neither = media.find(tree(tmp_path / "4", "eve/c.wav", text="4"), tmp_path / "s", SUFFIXES)[:1]
    generator = [Recording(first[0].path, "", "ann")]
    known = media.fingerprints(first)
    assert known & media.fingerprints(same_person)
    assert known & media.fingerprints(same_file)
    assert not known & media.fingerprints(neither)
    assert len(known & media.fingerprints(generator)) == 1, (
        "a generator of that name is somebody else; the file is the same"
    )
    assert not any("ann" in mark for mark in known)


PEOPLE = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=30)
SYNTHETIC = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("uvwxyz")), min_size=1, max_size=30)


@given(PEOPLE, SYNTHETIC, st.integers(0, 5))
def test_nobody_is_on_both_sides(people: list[str], synthetic: list[tuple[str, str]], seed: int) -> None:
    windows = [window(person, mark=number) for number, person in enumerate(people)]
    windows += [window(person, generator, 100 + number) for number, (person, generator) in enumerate(synthetic)]
    found = Collection(windows)
    try:
        sides = split(found, seed)
    except MediaError:
        few = len(set(people)) < 2 or len({generator for _, generator in synthetic}) < 2
        assert few or len({person for person, _ in synthetic} & set(people)) > 0
        return
    taught = [one.recording for one in sides.train]
    examined = [one.recording for one in sides.held_out]
    assert {one.group for one in taught} & {one.group for one in examined} == set()
    assert {one.person for one in taught} & {one.person for one in examined if one.genuine} == set()
    assert {one.genuine for one in taught} == {one.genuine for one in examined} == {True, False}
    assert len(taught) + len(examined) + sides.left_out == len(windows)
    again = split(found, seed)
    assert (again.train, again.held_out) == (sides.train, sides.held_out)


@pytest.mark.parametrize(
    ("windows", "reason"),
    [
        ([window("ann"), window("ann", "u"), window("ann", "v")], "of 1 people"),
        ([window("ann"), window("ben"), window("eve", "u")], "of 1 generators"),
        ([window("eve", "u"), window("eve", "v")], "of 0 people"),
    ],
)
def test_too_little_is_refused(windows: list[media.Window], reason: str) -> None:
    with pytest.raises(MediaError, match=reason):
        split(Collection(windows), 1)


@given(PEOPLE, SYNTHETIC)
def test_both_kinds_weigh_the_same_and_each_group_in_them(people: list[str], synthetic: list[tuple[str, str]]) -> None:
    windows = [window(person) for person in people] + [window(*each) for each in synthetic]
    weights = media.weights(windows)
    genuine = np.array([one.recording.genuine for one in windows])
    assert weights.mean() == pytest.approx(1, abs=1e-4)
    assert weights[genuine].sum() == pytest.approx(weights[~genuine].sum(), rel=1e-4)
    for kind in (True, False):
        sums: Counter[str] = Counter()
        for one, weight in zip(windows, weights, strict=True):
            if one.recording.genuine == kind:
                sums[one.recording.group] += float(weight)
        assert max(sums.values()) == pytest.approx(min(sums.values()), rel=1e-4)


def test_counts() -> None:
    found = media.counts([window("ann"), window("ann"), window("ben"), window("", "u")])
    assert found.model_dump() == {"speakers": 2, "generators": 1, "genuine_windows": 3, "synthetic_windows": 1}
