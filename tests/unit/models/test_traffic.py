"""Shares, stickiness and the guard, in numbers alone; the file of routes; versions in the store."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from models.store import CorruptModelError, Located, LockedModel, Missing, Store, sha256_of
from models.traffic import FILE_NAME, Limits, Route, RoutesFile, older, parsed
from models.traffic_guard import CanaryGuard, Verdict
from tests.unit.models.test_catalog_and_store import COMMIT, entry_of, filled

OLD, NEW = "aaaaaaaa", "bbbbbbbb"
LIMITS = Limits(min_answers=50, min_units=50)


def split(new: float, **more: Any) -> Route:
    return Route(arms={OLD: 1 - new, NEW: new}, stable=OLD, **more)


# --- shares


def test_a_thousand_tracks_are_shared_by_weight_within_four_standard_deviations() -> None:
    route = split(0.2)
    count = sum(route.arm_of("m", f"track-{number}") == NEW for number in range(1_000))
    assert abs(count - 200) < 4 * math.sqrt(1_000 * 0.2 * 0.8)


def test_another_model_shares_otherwise() -> None:
    route = split(0.5)
    same = sum(route.arm_of("m", str(number)) == route.arm_of("n", str(number)) for number in range(1_000))
    assert abs(same - 500) < 4 * math.sqrt(250)


@given(st.text(max_size=40), st.floats(0.01, 0.98), st.floats(0.01, 0.98))
def test_tracks_move_only_towards_the_arm_that_got_more(unit: str, one: float, other: float) -> None:
    less, more = sorted((one, other))
    if split(less).arm_of("m", unit) == NEW:
        assert split(more).arm_of("m", unit) == NEW


def test_what_stays_with_its_arm_is_the_track_else_the_room_else_nothing() -> None:
    by_track, by_room = split(0.5), split(0.5, unit="room")
    assert (by_track.unit_of("t", "r"), by_track.unit_of("", "r")) == ("t", "r")
    assert by_room.unit_of("t", "r") == "r"
    assert by_track.unit_of("", "") != by_track.unit_of("", "")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"arms": {OLD: 0.8, NEW: 0.1}, "stable": OLD}, "sum to 1"),
        ({"arms": {OLD: 1.5, NEW: -0.5}, "stable": OLD}, "above 0"),
        ({"arms": {OLD: math.nan, NEW: 1.0}, "stable": OLD}, "above 0"),
        ({"arms": {OLD: 1.0}, "stable": NEW}, "none of the arms"),
        ({"arms": {OLD: 1.0}, "stable": OLD, "shadow": OLD}, "cannot be the shadow"),
        ({"arms": {"": 1.0}, "stable": ""}, "an arm is"),
        ({"arms": {}, "stable": OLD}, "at least 1"),
        ({"arms": {OLD: 0.4, NEW: 0.3, "c": 0.3}, "stable": OLD}, "at most 2"),
    ],
)
def test_a_route_that_is_none_is_refused(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Route.model_validate(fields)


def test_the_older_version_is_what_the_other_is_compared_with() -> None:
    assert older({OLD: 0.2, NEW: 0.8}, [NEW, OLD]) == OLD
    assert older({NEW: 0.9, f"{NEW}+int8": 0.1}, [NEW]) == NEW
    assert parsed(f"{NEW}+int8") == (NEW, "int8")
    assert parsed("0.10+local") == ("0.10+local", None)


# --- the guard


def fed(
    guard: CanaryGuard, *, slow_s: float = 0.1, said: str = "joy", fails: int = 0, count: int = 400
) -> Verdict | None:
    """What is decided when the newer arm answers so, and the older one always within .1 s, `joy` and `anger` in turns."""
    for number in range(count):
        own = ("joy", "anger")[number % 2]
        verdict = guard.answered(OLD, 0.1, f"old-{number}", own)
        if fails and number % fails == 0:
            verdict = verdict or guard.failed(NEW)
        else:
            verdict = verdict or guard.answered(NEW, slow_s, f"new-{number}", own if said == "joy" else said)
        if verdict is not None:
            return verdict
    return None


def test_two_arms_that_are_alike_stay() -> None:
    assert fed(CanaryGuard(OLD, NEW, LIMITS)) is None
    assert fed(CanaryGuard(OLD, NEW, LIMITS), slow_s=0.19) is None
    assert fed(CanaryGuard(OLD, NEW, LIMITS), fails=40) is None


@pytest.mark.parametrize(
    ("worse", "reason"),
    [({"fails": 5}, "errors"), ({"fails": 1}, "errors"), ({"slow_s": 0.21}, "latency"), ({"said": "fear"}, "drift")],
)
def test_an_arm_that_is_worse_is_found_within_a_block(worse: dict[str, Any], reason: str) -> None:
    verdict = fed(CanaryGuard(OLD, NEW, LIMITS), count=51, **worse)
    assert verdict is not None
    assert verdict.reason == reason
    assert OLD in verdict.message


def test_an_arm_that_is_better_stays() -> None:
    guard = CanaryGuard(OLD, NEW, LIMITS)
    for number in range(400):
        assert guard.failed(OLD) is None
        assert guard.answered(NEW, 0.01, str(number), "") is None


def test_a_few_milliseconds_are_nobodys_concern() -> None:
    guard = CanaryGuard(OLD, NEW, LIMITS)
    for _ in range(400):
        assert guard.answered(OLD, 0.001, "", "") is None
        assert guard.answered(NEW, 0.02, "", "") is None


def test_before_there_is_enough_nothing_is_told() -> None:
    assert fed(CanaryGuard(OLD, NEW, LIMITS), fails=1, slow_s=9.0, said="fear", count=49) is None


def test_one_track_that_is_asked_about_often_is_no_drift() -> None:
    guard = CanaryGuard(OLD, NEW, LIMITS)
    for number in range(1_000):
        assert guard.answered(OLD, 0.1, f"old-{number}", "joy") is None
        assert guard.answered(NEW, 0.1, f"new-{number % 3}", "fear") is None


def test_equal_arms_are_rolled_back_hardly_ever() -> None:
    """Two hundred blocks of tracks that say one of four things by chance, from the same chances."""
    guard = CanaryGuard(OLD, NEW, LIMITS)
    verdicts = 0
    for number in range(10_000):
        for arm in (OLD, NEW):
            said = "abcd"[hash_of(arm, number) % 4]
            verdicts += guard.answered(arm, 0.1, f"{arm}-{number}", said) is not None
    assert verdicts == 0


def hash_of(arm: str, number: int) -> int:
    """By chance, the same in every run."""
    return int.from_bytes(hashlib.sha256(f"{arm}{number}".encode()).digest()[:4])


# --- the file


def test_a_route_is_kept_beside_the_others_and_can_be_removed(tmp_path: Path) -> None:
    file = RoutesFile(tmp_path)
    assert file.read() == {}
    file.write("one", split(0.2, shadow="cccccccc"))
    RoutesFile(tmp_path).write("two", split(0.5))
    file.write("two", None)
    assert RoutesFile(tmp_path).read() == {"one": split(0.2, shadow="cccccccc")}


@pytest.mark.parametrize("text", ["", "[]", '{"routes": {"m": {"arms": {"a": 0.5}, "stable": "a"}}}'])
def test_a_file_of_routes_that_is_none_is_refused_and_not_overwritten(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(ValueError, match="not a file of routes"):
        RoutesFile(tmp_path).read()
    with pytest.raises(ValueError, match="not a file of routes"):
        RoutesFile(tmp_path).write("m", split(0.2))
    assert (tmp_path / FILE_NAME).read_text() == text


# --- versions in the store


def put(store: Store, first: str, keep: int = 1) -> str:
    """A version whose commit begins with `first`; returns what it is called."""
    name, commit = entry_of().name, (first * 40)[:40]
    locked = LockedModel(repository="owner/repo", commit=commit, files={})
    folder = store.root / locked.folder
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("config.json", "w.bin"):
        (folder / file).write_text(f"{file} of {first}")
    files = {path.name: sha256_of(path) for path in folder.iterdir()}
    store.put(name, locked.model_copy(update={"files": files}), keep=keep)
    return commit[:8]


def test_a_version_before_stays_and_its_files_go_when_nobody_has_it(tmp_path: Path) -> None:
    entry = entry_of()
    store = filled(tmp_path, entry)
    first, second = COMMIT[:8], put(store, "b")
    assert store.versions(entry) == [second, first]
    older_one = store.locate(entry, first)
    assert isinstance(older_one, Located)
    older_one.verify()
    assert (older_one.path / "w.bin").read_text() == "contents of w.bin"
    third = put(store, "c")
    assert store.versions(entry) == [third, second]
    assert not older_one.path.exists()
    assert isinstance(store.locate(entry, first), Missing)
    assert put(store, "b") == second  # back, by pulling: it is the newest then, and there once
    assert store.versions(entry) == [second, third]
    assert store.remove_version(entry.name, third) > 0
    with pytest.raises(KeyError):
        store.remove_version(entry.name, third)
    assert put(store, "d", keep=0)
    assert [path.name for path in (tmp_path / "hf" / "owner" / "repo").iterdir()] == ["d" * 40]


def test_a_version_that_is_asked_stays_whatever_is_pulled(tmp_path: Path) -> None:
    entry = entry_of()
    store = filled(tmp_path, entry)
    first = COMMIT[:8]
    RoutesFile(tmp_path).write(entry.name, Route(arms={first: 1.0}, stable=first))
    for letter in "bcd":
        put(store, letter)
    assert store.versions(entry) == ["dddddddd", "cccccccc", first]
    with pytest.raises(ValueError, match="is asked"):
        store.remove_version(entry.name, first)
    RoutesFile(tmp_path).write(entry.name, None)
    store.remove(entry.name)
    assert not (tmp_path / "hf").exists()


def test_nothing_is_deleted_while_the_routes_cannot_be_read(tmp_path: Path) -> None:
    entry = entry_of()
    store = filled(tmp_path, entry)
    (tmp_path / FILE_NAME).write_text("{")
    with pytest.raises(CorruptModelError, match="not a file of routes"):
        put(store, "b", keep=0)
    assert store.versions(entry) == [COMMIT[:8]]


def test_a_lock_of_before_there_were_versions_is_read(tmp_path: Path) -> None:
    entry = entry_of()
    store = filled(tmp_path, entry)
    path = tmp_path / "models.lock"
    lock = json.loads(path.read_text())
    del lock["earlier"]
    path.write_text(json.dumps(lock))
    assert store.versions(entry) == [COMMIT[:8]]
