"""Pulling weights, from a folder and from a server on loopback that answers as the documented interfaces do."""

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

from models.catalog import ModelEntry
from models.download import InterruptedPullError, PullError
from models.origins import Internet, Mirror
from models.pull import pull
from models.store import Located, Store
from tests.unit.models.conftest import FILES, Hub
from tests.unit.models.test_catalog_and_store import COMMIT, entry_of

BUDGET_BYTES = 1_000_000
HASHES = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}


def ignore(name: str, done_bytes: int, total_bytes: int) -> None:
    del name, done_bytes, total_bytes


def github_entry(**changes: Any) -> ModelEntry:
    files = [{"path": name, "bytes": len(content), "sha256": HASHES[name]} for name, content in FILES.items()]
    source = {"kind": "github", "repository": "owner/repo", "revision": COMMIT, "files": files}
    return entry_of(source=source | changes)


def leftovers(root: Path) -> list[Path]:
    return [*root.rglob(".pull-*"), *root.glob("models.lock.*")]


def test_a_hub_model_is_pulled_locked_and_verified(hub: Hub, tmp_path: Path) -> None:
    store = Store(tmp_path)
    seen: dict[str, tuple[int, int]] = {}
    locked = pull(
        entry_of(),
        store,
        Internet(hub.url),
        lambda name, done, total: seen.update({name: (done, total)}),
        BUDGET_BYTES,
    )
    assert locked.files == HASHES
    assert isinstance(store.locate(entry_of()), Located)
    store.verify(entry_of())
    assert seen == {"config.json": (2, 2), "w.bin": (7000, 7000)}
    assert leftovers(tmp_path) == []


def test_github_files_are_pulled_by_their_pinned_hashes(hub: Hub, tmp_path: Path) -> None:
    locked = pull(github_entry(), Store(tmp_path), Internet(github=hub.url), ignore, BUDGET_BYTES)
    assert (locked.kind, locked.commit, locked.files) == ("github", COMMIT, HASHES)
    Store(tmp_path).verify(github_entry())


def test_a_file_that_is_not_the_pinned_one_is_refused_with_both_hashes(hub: Hub, tmp_path: Path) -> None:
    hub.files["w.bin"] = b"weightz" * 1000
    actual = hashlib.sha256(hub.files["w.bin"]).hexdigest()
    with pytest.raises(PullError, match=f"{actual}.*{HASHES['w.bin']}"):
        pull(github_entry(), Store(tmp_path), Internet(github=hub.url), ignore, BUDGET_BYTES)
    assert leftovers(tmp_path) == []


def test_a_branch_is_resolved_to_its_commit(hub: Hub, tmp_path: Path) -> None:
    source = {"kind": "hf", "repository": "owner/repo", "revision": "main", "files": ["config.json"]}
    assert pull(entry_of(source=source), Store(tmp_path), Internet(hub.url), ignore, BUDGET_BYTES).commit == COMMIT


def test_the_first_kind_of_weights_that_is_there_is_taken(hub: Hub, tmp_path: Path) -> None:
    source = {"kind": "hf", "repository": "owner/repo", "revision": "main", "files": ["config.json"]}
    entry = entry_of(source=source | {"one_of": ["w.safetensors", "w.bin"]})
    assert pull(entry, Store(tmp_path), Internet(hub.url), ignore, BUDGET_BYTES).files == HASHES
    with pytest.raises(PullError, match=r"none of the files w\.h5"):
        pull(entry_of(source=source | {"one_of": ["w.h5"]}), Store(tmp_path), Internet(hub.url), ignore, BUDGET_BYTES)


def test_files_may_come_by_redirect(hub: Hub, tmp_path: Path) -> None:
    hub.redirect = hub.url + "/storage/{name}"
    pull(entry_of(), Store(tmp_path), Internet(hub.url), ignore, BUDGET_BYTES)
    assert isinstance(Store(tmp_path).locate(entry_of()), Located)


def test_a_redirect_away_from_https_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.redirect = "http://192.0.2.1/{name}"
    with pytest.raises(PullError, match="https only"):
        pull(entry_of(), Store(tmp_path), Internet(hub.url), ignore, BUDGET_BYTES)
    assert leftovers(tmp_path) == []


def test_a_plain_http_hub_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PullError, match="https only"):
        pull(entry_of(), Store(tmp_path), Internet("http://192.0.2.1"), ignore, BUDGET_BYTES)


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_broken_download_goes_on_where_it_stopped(hub: Hub, tmp_path: Path, knows_ranges: bool) -> None:
    hub.breaks_after, hub.knows_ranges = 3_000, knows_ranges
    store = Store(tmp_path)
    with pytest.raises(InterruptedPullError, match="after 3000 of 7000 bytes"):
        pull(entry_of(), store, Internet(hub.url), ignore, BUDGET_BYTES)
    assert not isinstance(store.locate(entry_of()), Located)
    assert pull(entry_of(), store, Internet(hub.url), ignore, BUDGET_BYTES).files == HASHES
    assert hub.sent[-1] == ("w.bin", 4_000 if knows_ranges else 7_000)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"promised": "0" * 64}, "promised"),
        ({"commit": "f" * 40}, "pins"),
        ({"commit": "latest"}, "no commit"),
        ({"sizes": {"config.json": 2, "w.bin": 6999}}, "6999 were promised"),
        ({"sizes": {"config.json": 2, "w.bin": 7001}}, "7001 were promised"),
        ({"sizes": {"config.json": 2}}, r"no file w\.bin"),
    ],
)
def test_what_is_not_as_promised_is_refused_and_leaves_nothing(
    hub: Hub, tmp_path: Path, wrong: dict[str, Any], reason: str
) -> None:
    for name, value in wrong.items():
        setattr(hub, name, value)
    with pytest.raises(PullError, match=reason):
        pull(entry_of(), Store(tmp_path), Internet(hub.url), ignore, BUDGET_BYTES)
    assert leftovers(tmp_path) == []
    assert not isinstance(Store(tmp_path).locate(entry_of()), Located)


def test_a_store_takes_no_more_than_its_budget(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(PullError, match="candor models remove"):
        pull(entry_of(), Store(tmp_path), Internet(hub.url), ignore, 7_001)
    assert hub.sent == []


def test_a_copy_that_was_killed_is_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "mirror" / "hf" / "owner" / "repo" / COMMIT
    folder.mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    staging = tmp_path / "store" / "hf" / "owner" / "repo" / f".pull-{COMMIT}"
    staging.mkdir(parents=True)
    (staging / "w.bin").write_bytes(FILES["w.bin"][:400])
    assert (
        pull(entry_of(), Store(tmp_path / "store"), Mirror(tmp_path / "mirror"), ignore, BUDGET_BYTES).files == HASHES
    )


def test_a_host_that_is_busy_does_not_cost_what_is_here(hub: Hub, tmp_path: Path) -> None:
    hub.breaks_after = 3_000
    with pytest.raises(InterruptedPullError):
        pull(entry_of(), Store(tmp_path), Internet(hub.url), ignore, BUDGET_BYTES)
    hub.busy = 1
    with pytest.raises(InterruptedPullError, match="HTTP 503"):
        pull(entry_of(), Store(tmp_path), Internet(hub.url), ignore, BUDGET_BYTES)
    pull(entry_of(), Store(tmp_path), Internet(hub.url), ignore, 7_002)  # of the budget, what is here counts once
    assert hub.sent[-1] == ("w.bin", 4_000)


def test_a_branch_that_moved_on_leaves_nothing_behind(hub: Hub, tmp_path: Path) -> None:
    source = {"kind": "hf", "repository": "owner/repo", "revision": "main", "files": ["config.json", "w.bin"]}
    pull(entry_of(source=source), Store(tmp_path), Internet(hub.url), ignore, BUDGET_BYTES)
    hub.commit = "a" * 40
    pull(entry_of(source=source), Store(tmp_path), Internet(hub.url), ignore, BUDGET_BYTES)
    assert [path.name for path in (tmp_path / "hf" / "owner" / "repo").iterdir()] == ["a" * 40]


def test_two_pulls_at_once_do_not_mix(hub: Hub, tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.alone(), pytest.raises(PullError, match="another command"):
        pull(entry_of(), Store(tmp_path), Internet(hub.url), ignore, BUDGET_BYTES)
    pull(entry_of(), store, Internet(hub.url), ignore, BUDGET_BYTES)


def test_a_mirror_is_copied(tmp_path: Path) -> None:
    for kind in ("hf", "github"):
        folder = tmp_path / "mirror" / kind / "owner" / "repo" / COMMIT
        folder.mkdir(parents=True)
        for name, content in FILES.items():
            (folder / name).write_bytes(content)
    for entry in (entry_of(), github_entry()):
        store = Store(tmp_path / entry.source.kind)
        pull(entry, store, Mirror(tmp_path / "mirror"), ignore, BUDGET_BYTES)
        store.verify(entry)


def test_a_mirror_without_the_model_says_so(tmp_path: Path) -> None:
    for entry in (entry_of(), github_entry()):
        with pytest.raises(PullError, match=r"the mirror has no .*owner/repo"):
            pull(entry, Store(tmp_path / "store"), Mirror(tmp_path), ignore, BUDGET_BYTES)


def test_two_models_of_one_commit_do_not_harm_each_other(hub: Hub, tmp_path: Path) -> None:
    files = github_entry().source.files  # type: ignore[union-attr]  # it is a GithubSource
    first, second = (github_entry(files=[file.model_dump()]).model_copy(update={"name": file.path}) for file in files)
    store = Store(tmp_path)
    for entry in (first, second):
        pull(entry, store, Internet(github=hub.url), ignore, BUDGET_BYTES)
    store.verify(first)
    assert store.remove(first.name) == 2
    store.verify(second)
    store.remove(second.name)
    assert [path.name for path in tmp_path.iterdir()] == ["models.lock", ".busy"] or not list(tmp_path.glob("github"))


def archive(members: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return packed.getvalue()


def test_an_archive_is_unpacked_without_its_top_folder(hub: Hub, tmp_path: Path) -> None:
    packed = archive({f"model-0.1/{name}": content for name, content in FILES.items()})
    sha256 = hashlib.sha256(packed).hexdigest()
    source = {"kind": "url", "url": "https://files.example/m.zip", "bytes": len(packed), "sha256": sha256}
    mirrored = tmp_path / "mirror" / "url" / "files.example" / sha256 / "m.zip"
    mirrored.parent.mkdir(parents=True)
    mirrored.write_bytes(packed)
    store = Store(tmp_path / "store")
    locked = pull(entry_of(source=source), store, Mirror(tmp_path / "mirror"), ignore, BUDGET_BYTES)
    assert (locked.kind, locked.commit, locked.files) == ("url", sha256, HASHES)
    store.verify(entry_of(source=source))
    assert leftovers(tmp_path / "store") == []
