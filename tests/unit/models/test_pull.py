"""Pulling weights, from a folder and from a server on loopback that answers as the hub's documented interface does."""

import argparse
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from models.cli import register
from models.cli import run as run_cli
from models.pull import PullError, pull_from_hub, pull_from_mirror
from models.settings import ModelSettings
from models.store import Located, Store
from tests.unit.models.test_catalog_and_store import COMMIT, entry_of

FILES = {"config.json": b"{}", "w.bin": b"weights" * 1000}


class Hub(ThreadingHTTPServer):
    """One repository; what is wrong with it is set by the test."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files = dict(FILES)
        self.commit = COMMIT
        self.promised = hashlib.sha256(FILES["w.bin"]).hexdigest()
        self.redirect = ""
        self.sizes = {name: len(content) for name, content in FILES.items()}


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path.startswith("/api/models/owner/repo/revision/"):
            self._answer(json.dumps(self._described()).encode())
        elif path.startswith(f"/owner/repo/resolve/{self.server.commit}/"):
            name = path.rsplit("/", 1)[1]
            if self.server.redirect:
                self.send_response(302)
                self.send_header("Location", self.server.redirect.format(name=name))
                self.end_headers()
            else:
                self._answer(self.server.files[name])
        elif path.startswith("/storage/"):
            self._answer(self.server.files[path.rsplit("/", 1)[1]])
        else:
            self.send_error(404)

    def _described(self) -> dict[str, Any]:
        siblings = [{"rfilename": name, "size": size} for name, size in self.server.sizes.items()]
        siblings[-1]["lfs"] = {"sha256": self.server.promised}
        return {"sha": self.server.commit, "siblings": siblings}

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        del args


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def ignore(name: str, done_bytes: int, total_bytes: int) -> None:
    del name, done_bytes, total_bytes


def leftovers(root: Path) -> list[Path]:
    return [*root.rglob(".pull-*"), *root.glob("models.lock.*")]


def test_a_model_is_pulled_locked_and_verified(hub: Hub, tmp_path: Path) -> None:
    store = Store(tmp_path)
    seen: list[tuple[str, int, int]] = []
    locked = pull_from_hub(entry_of(), store, hub.url, lambda *progress: seen.append(progress))
    assert locked.files == {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    assert isinstance(store.locate(entry_of()), Located)
    store.verify(entry_of())
    assert seen[-1] == ("w.bin", 7000, 7000)
    assert leftovers(tmp_path) == []


def test_a_branch_is_resolved_to_its_commit(hub: Hub, tmp_path: Path) -> None:
    source = {"kind": "hf", "repository": "owner/repo", "revision": "main", "files": ["config.json"]}
    assert pull_from_hub(entry_of(source=source), Store(tmp_path), hub.url, ignore).commit == COMMIT


def test_files_may_come_by_redirect(hub: Hub, tmp_path: Path) -> None:
    hub.redirect = hub.url + "/storage/{name}"
    pull_from_hub(entry_of(), Store(tmp_path), hub.url, ignore)
    assert isinstance(Store(tmp_path).locate(entry_of()), Located)


def test_a_redirect_away_from_https_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.redirect = "http://192.0.2.1/{name}"
    with pytest.raises(PullError, match="https only"):
        pull_from_hub(entry_of(), Store(tmp_path), hub.url, ignore)
    assert leftovers(tmp_path) == []


def test_a_plain_http_hub_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PullError, match="https only"):
        pull_from_hub(entry_of(), Store(tmp_path), "http://192.0.2.1", ignore)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"promised": "0" * 64}, "promised"),
        ({"commit": "f" * 40}, "pins"),
        ({"commit": "latest"}, "no commit"),
        ({"sizes": {"config.json": 2, "w.bin": 6999}}, "promised 6999"),
        ({"sizes": {"config.json": 2}}, "no file w.bin"),
    ],
)
def test_what_is_not_as_promised_is_refused_and_leaves_nothing(
    hub: Hub, tmp_path: Path, wrong: dict[str, Any], reason: str
) -> None:
    for name, value in wrong.items():
        setattr(hub, name, value)
    with pytest.raises(PullError, match=reason):
        pull_from_hub(entry_of(), Store(tmp_path), hub.url, ignore)
    assert leftovers(tmp_path) == []
    assert not isinstance(Store(tmp_path).locate(entry_of()), Located)


def test_a_mirror_is_copied(tmp_path: Path) -> None:
    folder = tmp_path / "mirror" / "hf" / "owner" / "repo" / COMMIT
    folder.mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    store = Store(tmp_path / "store")
    pull_from_mirror(entry_of(), store, tmp_path / "mirror")
    store.verify(entry_of())


def test_a_mirror_without_the_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(PullError, match="owner/repo"):
        pull_from_mirror(entry_of(), Store(tmp_path), tmp_path)


def command(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers(required=True))
    return parser.parse_args(["models", *words])


def test_the_command_line_lists_and_fails_with_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ModelSettings(models_dir=tmp_path)
    assert run_cli(command("list"), settings) == 0
    assert "pocketsphinx-en-us" in capsys.readouterr().out
    assert run_cli(command("pull", "nothing"), settings) == 1
    assert "no model 'nothing'" in capsys.readouterr().err
    assert run_cli(command("pull", "whisper-tiny", "--mirror", str(tmp_path)), settings) == 1
    assert "the mirror has no" in capsys.readouterr().err
    assert run_cli(command("pull", "rnnoise"), settings) == 0
    assert "nothing to pull" in capsys.readouterr().out
