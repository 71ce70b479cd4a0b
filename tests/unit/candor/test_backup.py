"""`candor backup` and `candor restore`: what is kept comes back as it was, and nothing else ever does."""

import fcntl
import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from candor import backup, cli
from candor.backup import MANIFEST_NAME, BackupError, Weights
from candor.restore import STAGING_NAME, restore
from candor.settings import load
from models.precision import PrecisionFile
from models.service.wishes import Wanted
from models.settings import ModelSettings
from models.store import LOCK_NAME, Lock, LockedModel, Store

COMMIT = "0123456789abcdef0123456789abcdef01234567"
COUNTS = {"speakers": 1, "generators": 1, "genuine_windows": 1, "synthetic_windows": 1}
HEAD = {
    "base": "aasist",
    "base_commit": COMMIT,
    "day": "2026-01-02",
    "seed": 1,
    "trained": COUNTS,
    "held_out": COUNTS,
    "evaluation": {
        "day": "2026-01-03",
        "condition": "opus",
        "unseen": COUNTS,
        "eer": 0.1,
        "auc": 0.9,
        "brier": 0.1,
        "ece": 0.1,
    },
}
STATE = {"models.lock", "deployments.json", "precision.json"}
WEIGHTS = "models/local/mine/%s/weights.pth"
Members = dict[str, bytes]


def put(root: Path, locked: LockedModel, contents: dict[str, bytes]) -> LockedModel:
    """Files of a model, and what the lock says of them."""
    folder = root / locked.folder
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return locked.model_copy(
        update={"files": {name: sha256(content).hexdigest() for name, content in contents.items()}}
    )


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where --lan's certificates are."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in list(os.environ):
        if name.startswith("CANDOR_"):
            monkeypatch.delenv(name)
    tls = tmp_path / "home/.local/share/candor/tls"
    tls.mkdir(parents=True)
    (tls / "192.0.2.7.crt").write_text("certificate")
    (tls / "192.0.2.7.key").write_text("key")
    return tmp_path / "home"


@pytest.fixture
def old(tmp_path: Path, home: Path) -> Store:
    """A machine with a pulled model and a head that was trained and evaluated there."""
    store = Store(tmp_path / "old")
    pulled = put(
        store.root,
        LockedModel(kind="github", repository="Xiaobin-Rong/gtcrn", commit=COMMIT, files={}),
        {"w.bin": b"pulled"},
    )
    head = put(
        store.root,
        LockedModel(kind="local", repository="mine", commit=COMMIT, files={}),
        {"weights.pth": b"learned", "seen.json": b"{}"},
    )
    lock = Lock.model_validate({"trained": {"mine": HEAD}, "preferred": {"voice_authenticity": "mine"}})
    lock.models = {"gtcrn": pulled, "mine": head}
    (store.root / LOCK_NAME).write_text(lock.model_dump_json())
    (store.root / "deployments.json").write_text(Wanted(stopped=["mine"]).model_dump_json())
    (store.root / "precision.json").write_text(PrecisionFile().model_dump_json())
    return store


@pytest.fixture
def new(tmp_path: Path) -> ModelSettings:
    """A machine with nothing."""
    return ModelSettings(models_dir=tmp_path / "new")


def made(store: Store, path: Path, weights: Weights = "trained", config: Path | None = None) -> Path:
    backup.make(path, store, config, weights)
    return path


def tree(root: Path) -> dict[str, bytes]:
    """All files but locks that are held."""
    files = (path for path in root.rglob("*") if path.is_file() and path.name not in (".busy", "service.lock"))
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def unpacked(archive: Path) -> Members:
    with tarfile.open(archive) as file:
        return {member.name: file.extractfile(member).read() for member in file}  # type: ignore[union-attr]  # regular files


def packed(path: Path, members: Members, *others: tarfile.TarInfo) -> Path:
    """An archive with whatever one likes in it; the manifest as it is among the members."""
    with gzip.open(path, "wb") as plain, tarfile.open(fileobj=plain, mode="w|") as archive:
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
        for header in others:
            archive.addfile(header)
    return path


def restated(members: Members) -> Members:
    """The same, with a manifest that is right about them."""
    manifest = json.loads(members[MANIFEST_NAME])
    files = {name: content for name, content in members.items() if name != MANIFEST_NAME}
    manifest["files"] = {
        name: {"bytes": len(content), "sha256": sha256(content).hexdigest()} for name, content in files.items()
    }
    return {MANIFEST_NAME: json.dumps(manifest).encode(), **files}


def test_all_that_cannot_be_had_again_comes_back(old: Store, new: ModelSettings, home: Path, tmp_path: Path) -> None:
    config = tmp_path / "candor.toml"
    config.write_text(f'[models]\nmodels_dir = "{new.models_dir}"\n')
    archive = made(old, tmp_path / "b.tar.gz", config=config)
    assert archive.stat().st_mode & 0o777 == 0o600
    before = tree(old.root)
    tls = home / ".local/share/candor/tls"
    for path in (config, tls / "192.0.2.7.crt", tls / "192.0.2.7.key"):
        path.unlink()
    lines = restore(archive, new, config, force=False)
    del before["github/Xiaobin-Rong/gtcrn/" + COMMIT + "/w.bin"]
    assert tree(new.store_dir) == before
    assert config.read_text().startswith("[models]")
    assert (tls / "192.0.2.7.key").read_text() == "key"
    assert (tls / "192.0.2.7.key").stat().st_mode & 0o777 == 0o600
    assert config.stat().st_mode & 0o777 == 0o600
    store = Store(new.store_dir)
    entry = store.find("mine")
    assert entry is not None
    store.verify(entry)
    assert store.lock().trained["mine"].evaluation is not None
    assert lines[0] == "8 files put back, 0 were there already."
    assert any("candor models pull gtcrn" in line for line in lines)


def test_weights_are_as_was_asked(old: Store, tmp_path: Path) -> None:
    expected: dict[Weights, set[str]] = {
        "none": set(),
        "trained": {"weights.pth", "seen.json"},
        "all": {"weights.pth", "seen.json", "w.bin"},
    }
    for weights, files in expected.items():
        names = unpacked(made(old, tmp_path / f"{weights}.tar.gz", weights))
        assert {Path(name).name for name in names if name.count("/") > 1} == files
        assert {Path(name).name for name in names} >= STATE


def test_what_the_environment_says_is_not_in_it(old: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANDOR_SIGNALING__SECRET", "s" * 64)
    assert not any(b"s" * 64 in content for content in unpacked(made(old, tmp_path / "b.tar.gz", "all")).values())


def test_an_archive_is_whole_or_not_there(old: Store, tmp_path: Path) -> None:
    (old.root / "local/mine" / COMMIT / "weights.pth").write_bytes(b"LEARNED")
    with pytest.raises(BackupError, match="candor models verify"):
        made(old, tmp_path / "b.tar.gz")
    (old.root / "local/mine" / COMMIT / "weights.pth").unlink()
    with pytest.raises(BackupError, match="is missing"):
        made(old, tmp_path / "b.tar.gz")
    assert [path.name for path in tmp_path.iterdir() if "tar" in path.name] == []
    made(old, tmp_path / "b.tar.gz", "none")
    with pytest.raises(BackupError, match="there already"):
        made(old, tmp_path / "b.tar.gz", "none")


def test_nothing_to_keep_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(BackupError, match="nothing to keep"):
        made(Store(tmp_path / "none"), tmp_path / "b.tar.gz")
    assert list(tmp_path.iterdir()) == []


def test_only_force_overwrites_and_what_is_the_same_is_left(old: Store, new: ModelSettings, tmp_path: Path) -> None:
    archive = made(old, tmp_path / "b.tar.gz")
    restore(archive, new, None, force=False)
    assert restore(archive, new, None, force=False)[0].startswith("0 files put back")
    lock = new.store_dir / LOCK_NAME
    kept = lock.read_bytes()
    lock.write_text(Lock().model_dump_json())
    before = tree(new.store_dir)
    with pytest.raises(BackupError, match="--force"):
        restore(archive, new, None, force=False)
    assert tree(new.store_dir) == before
    restore(archive, new, None, force=True)
    assert lock.read_bytes() == kept


def test_a_lock_never_comes_before_its_weights(
    old: Store, new: ModelSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine stops after every file; the same command, again and again, ends what it began."""
    archive = made(old, tmp_path / "b.tar.gz")
    replace, left = Path.replace, 0

    def dying(path: Path, target: Path) -> Path:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError("the disk is gone")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", dying)
    for _ in range(4):
        left = 1
        with pytest.raises(OSError, match="the disk is gone"):
            restore(archive, new, None, force=False)
        for name, locked in Store(new.store_dir).lock().models.items():
            folder = new.store_dir / locked.folder
            assert name == "gtcrn" or all((folder / file).is_file() for file in locked.files)
    left = 100
    restore(archive, new, None, force=False)
    assert not (new.store_dir / STAGING_NAME).exists()
    assert Store(new.store_dir).lock().models.keys() == {"gtcrn", "mine"}


def with_(name: str, content: bytes) -> Callable[[Members], Members]:
    return lambda members: restated({**members, name: content})


def _damaged(members: Members) -> Members:
    return {**members, WEIGHTS % COMMIT: b"LEARNED"}


def _longer(members: Members) -> Members:
    return {**members, WEIGHTS % COMMIT: b"learned, and more"}


def _without_weights(members: Members) -> Members:
    return {name: content for name, content in members.items() if "weights" not in name}


def _unstated(members: Members) -> Members:
    return {**members, "models/precision.json.new": b"{}"}


def _other_format(members: Members) -> Members:
    return {**members, MANIFEST_NAME: json.dumps({**json.loads(members[MANIFEST_NAME]), "format": 2}).encode()}


def _no_manifest(members: Members) -> Members:
    return {name: content for name, content in members.items() if name != MANIFEST_NAME}


def _lock_that_climbs(members: Members) -> Members:
    lock = json.loads(members["models/models.lock"])
    lock["models"]["gtcrn"]["files"] = {"../../../../../victim": "0" * 64}
    return restated({**members, "models/models.lock": json.dumps(lock).encode()})


def _lock_that_climbs_in_a_version_before(members: Members) -> Members:
    lock = json.loads(members["models/models.lock"])
    lock["earlier"] = {"gtcrn": [lock["models"]["gtcrn"] | {"files": {"../../../../../victim": "0" * 64}}]}
    return restated({**members, "models/models.lock": json.dumps(lock).encode()})


def _not_of_the_lock(members: Members) -> Members:
    return restated({**members, WEIGHTS % COMMIT: b"another head"})


BAD: dict[str, tuple[Callable[[Members], Members], str]] = {
    "damaged": (_damaged, "damaged"),
    "longer": (_longer, "not what the manifest says"),
    "missing": (_without_weights, "is missing from it"),
    "unstated": (_unstated, "not what the manifest says"),
    "other format": (_other_format, "format is 2"),
    "no manifest": (_no_manifest, "does not begin"),
    "no json": (lambda members: {**members, MANIFEST_NAME: b"["}, "cannot be read"),
    "half a manifest": (lambda members: {**members, MANIFEST_NAME: b'{"format": 1}'}, "2 errors"),
    "climbs": (with_("../victim", b""), "no path of an archive"),
    "climbs within": (with_("models/hf/../../../victim", b""), "no path of an archive"),
    "absolute": (with_("/tmp/victim", b""), "no path of an archive"),
    "stranger": (with_("models/engine.py", b""), "nothing that belongs"),
    "weights of nobody": (with_("models/hf/owner/repo/x/w.bin", b""), "nothing that belongs"),
    "key of a stranger": (with_("tls/server.key", b""), "nothing that belongs"),
    "another head": (_not_of_the_lock, "nothing that belongs"),
    "lock that climbs": (_lock_that_climbs, "no path of a store"),
    "version before that climbs": (_lock_that_climbs_in_a_version_before, "no path of a store"),
    "lock of the future": (
        with_("models/models.lock", b'{"models": {}, "arms": {}}'),
        "does not understand its models.lock",
    ),
    "wishes": (with_("models/deployments.json", b"[]"), "does not understand its deployments.json"),
    "config of the future": (with_("config.toml", b"teleport = true"), "does not take its config.toml"),
    "other models_dir": (with_("config.toml", b'[models]\nmodels_dir = "/elsewhere"'), "set CANDOR_MODELS__MODELS_DIR"),
}


@pytest.mark.parametrize("bad", BAD)
def test_what_is_not_as_it_should_be_changes_nothing(
    bad: str, old: Store, new: ModelSettings, home: Path, tmp_path: Path
) -> None:
    change, complaint = BAD[bad]
    archive = packed(tmp_path / "bad.tar.gz", change(unpacked(made(old, tmp_path / "b.tar.gz"))))
    new.store_dir.mkdir()
    (new.store_dir / LOCK_NAME).write_text("what is here")
    before = tree(tmp_path)
    with pytest.raises(BackupError, match=complaint):
        restore(archive, new, tmp_path / "config.toml", force=True)
    assert tree(tmp_path) == before
    assert sorted(path.name for path in new.store_dir.iterdir()) == [".busy", LOCK_NAME, "service.lock"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_nothing_but_regular_files(kind: bytes, old: Store, new: ModelSettings, tmp_path: Path) -> None:
    header = tarfile.TarInfo("models/precision.json")
    header.type, header.linkname = kind, "/etc/passwd"
    members = unpacked(made(old, tmp_path / "b.tar.gz"))
    with pytest.raises(BackupError, match="no regular file"):
        restore(packed(tmp_path / "bad.tar.gz", members, header), new, None, force=True)
    assert tree(new.store_dir) == {}


def test_a_header_that_claims_gigabytes_is_not_read(new: ModelSettings, tmp_path: Path) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 4 << 30
    path = tmp_path / "bad.tar.gz"
    path.write_bytes(gzip.compress(header.tobuf(tarfile.USTAR_FORMAT) + bytes(1024)))
    with pytest.raises(BackupError, match="no regular file"):
        restore(path, new, None, force=True)


@pytest.mark.parametrize("cut", [0, 1, 20, 300])
def test_half_an_archive_is_refused(cut: int, old: Store, new: ModelSettings, tmp_path: Path) -> None:
    archive = made(old, tmp_path / "b.tar.gz")
    archive.write_bytes(archive.read_bytes()[:cut])
    with pytest.raises(BackupError, match=r"damaged|missing"):
        restore(archive, new, None, force=True)
    assert tree(new.store_dir) == {}


def test_what_has_no_room_is_not_unpacked(old: Store, tmp_path: Path) -> None:
    new = ModelSettings(models_dir=tmp_path / "new", max_store_gb=1e-7)
    with pytest.raises(BackupError, match="max_store_gb"):
        restore(made(old, tmp_path / "b.tar.gz"), new, None, force=True)


def test_a_running_service_or_command_keeps_its_store(old: Store, new: ModelSettings, tmp_path: Path) -> None:
    archive = made(old, tmp_path / "b.tar.gz")
    new.store_dir.mkdir()
    with (new.store_dir / "service.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="another model service"):
            restore(archive, new, None, force=True)
    with Store(new.store_dir).alone(), pytest.raises(Exception, match="another command"):
        restore(archive, new, None, force=True)
    assert tree(new.store_dir) == {}


def test_a_folder_where_a_file_belongs_stays(old: Store, new: ModelSettings, tmp_path: Path) -> None:
    (new.store_dir / LOCK_NAME / "mine").mkdir(parents=True)
    with pytest.raises(BackupError, match="is a folder"):
        restore(made(old, tmp_path / "b.tar.gz"), new, None, force=True)
    assert (new.store_dir / LOCK_NAME / "mine").is_dir()
    assert tree(new.store_dir) == {}


def test_through_pipes_as_with_containers(old: Store, tmp_path: Path) -> None:
    """The command itself, with - for the file."""
    candor = [sys.executable, "-m", "candor.cli"]
    environment = {**os.environ, "CANDOR_MODELS__MODELS_DIR": str(old.root)}
    archive = subprocess.run([*candor, "backup", "-"], env=environment, capture_output=True, check=True).stdout
    environment["CANDOR_MODELS__MODELS_DIR"] = str(tmp_path / "new")
    done = subprocess.run([*candor, "restore", "-"], env=environment, input=archive, capture_output=True, check=True)
    assert b"files put back" in done.stdout
    assert (tmp_path / "new" / LOCK_NAME).read_bytes() == (old.root / LOCK_NAME).read_bytes()


def test_the_command_says_why_not(
    old: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CANDOR_MODELS__MODELS_DIR", str(old.root))
    assert load().models.store_dir == old.root
    (tmp_path / "bad.tar.gz").write_bytes(b"no archive")
    monkeypatch.setattr(sys, "argv", ["candor", "restore", str(tmp_path / "bad.tar.gz")])
    assert cli.main() == 1
    assert "candor restore: it is damaged" in capsys.readouterr().err
