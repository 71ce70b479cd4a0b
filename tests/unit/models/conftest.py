"""What tests of models share: a server on loopback that answers as the hub, GitHub and a file host do."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.unit.models.test_catalog_and_store import COMMIT

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
        self.breaks_after = 0
        """If set, the next answer with a file ends after so many bytes."""
        self.knows_ranges = True
        self.busy = 0
        """So many of the next answers with a file are 503."""
        self.sent: list[tuple[str, int]] = []
        """Files and how many bytes of each were sent."""


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        name = path.rsplit("/", 1)[1]
        if path.startswith("/api/models/owner/repo/revision/"):
            self._answer(json.dumps(self._described()).encode())
        elif path.startswith((f"/owner/repo/resolve/{self.server.commit}/", f"/owner/repo/{self.server.commit}/")):
            if self.server.redirect:
                self.send_response(302)
                self.send_header("Location", self.server.redirect.format(name=name))
                self.end_headers()
            else:
                self._send_file(name)
        elif path.startswith("/storage/"):
            self._send_file(name)
        else:
            self.send_error(404)

    def _described(self) -> dict[str, Any]:
        siblings: list[dict[str, Any]] = [{"rfilename": name, "size": size} for name, size in self.server.sizes.items()]
        siblings[-1]["lfs"] = {"sha256": self.server.promised}
        return {"sha": self.server.commit, "siblings": siblings}

    def _send_file(self, name: str) -> None:
        if self.server.busy and name == "w.bin":
            self.server.busy -= 1
            self.send_error(503)
            return
        content = self.server.files[name]
        wanted = self.headers.get("Range", "")
        first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.knows_ranges else 0
        body = content[first:]
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.breaks_after and name == "w.bin":
            body, self.server.breaks_after = body[: self.server.breaks_after], 0
            self.close_connection = True
        self.server.sent.append((name, len(body)))
        self.wfile.write(body)

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
