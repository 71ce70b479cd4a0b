"""One file over https: continued where an earlier attempt stopped, hashed as it comes, never by a plain-text redirect."""

import hashlib
import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from http.client import HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO, Any

TIMEOUT_S = 30
CHUNK_BYTES = 1 << 20
MAX_METADATA_BYTES = 4 << 20
PARTIAL_CONTENT = 206
FOR_NOW = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses of a host that may answer better later."""

Progress = Callable[[str, int, int], None]
"""Called with a file's name, the bytes that are here and the bytes that there are (0: not told)."""


class PullError(Exception):
    """Weights could not be fetched; the message says which file and why."""


class AbsentError(PullError):
    """Where weights were looked for there are none."""


class InterruptedPullError(PullError):
    """The network failed. What is here stays, and another attempt continues from it."""


class Downloader:
    """Fetches from `base` and wherever it redirects to over https.

    A `base` in plain http must be on this machine (a test, a mirror), and may redirect to itself only.
    """

    def __init__(self, base: str) -> None:
        self.base = base.rstrip("/")
        self._opener = urllib.request.build_opener(_SafeRedirects(self.base))

    def json(self, path: str) -> dict[str, Any]:
        """The object at `base/path`. Raises PullError."""
        with self._open(f"{self.base}/{path}", 0) as response:
            body = response.read(MAX_METADATA_BYTES)
        try:
            answer = json.loads(body)
        except ValueError as error:
            raise PullError(f"{self.base}/{path} did not answer JSON") from error
        if not isinstance(answer, dict):
            raise PullError(f"{self.base}/{path} did not answer an object")
        return answer

    def file(self, path: str, target: Path, name: str, size_bytes: int, progress: Progress) -> str:
        """Write the file at `base/path` to `target`; returns its sha256. Raises PullError if it is not as long as promised.

        While it comes it is `target` with `.part` at the end. `size_bytes` 0: not known.
        """
        part = target.with_name(f"{target.name}.part")
        digest, done_bytes = _so_far(part)
        if not size_bytes or done_bytes < size_bytes:
            digest, done_bytes = self._append(path, part, digest, done_bytes, name, size_bytes, progress)
        if size_bytes and done_bytes != size_bytes:
            raise PullError(f"{name} has {done_bytes} bytes, {size_bytes} were promised")
        progress(name, done_bytes, size_bytes or done_bytes)
        part.rename(target)
        return digest.hexdigest()

    def _append(
        self,
        path: str,
        part: Path,
        digest: "hashlib._Hash",
        done_bytes: int,
        name: str,
        size_bytes: int,
        progress: Progress,
    ) -> tuple["hashlib._Hash", int]:
        with self._open(f"{self.base}/{path}", done_bytes) as response:
            if done_bytes and response.status != PARTIAL_CONTENT:  # it sends everything again
                digest, done_bytes = hashlib.sha256(), 0
            with part.open("ab" if done_bytes else "wb") as file:
                while chunk := _read(response, name):
                    done_bytes += len(chunk)
                    if size_bytes and done_bytes > size_bytes:
                        break
                    file.write(chunk)
                    digest.update(chunk)
                    progress(name, done_bytes, size_bytes)
            cut_short = bool(response.length) and not (size_bytes and done_bytes > size_bytes)
        if cut_short:
            raise InterruptedPullError(
                f"{name}: the connection ended after {done_bytes} of {size_bytes or 'its'} bytes"
            )
        return digest, done_bytes

    def _open(self, url: str, from_byte: int) -> HTTPResponse:
        check_address(url, self.base)
        headers = {"User-Agent": "candor", "Accept-Encoding": "identity"}
        if from_byte:
            headers["Range"] = f"bytes={from_byte}-"
        try:
            response: HTTPResponse = self._opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            error.close()
            kind = InterruptedPullError if error.code in FOR_NOW else PullError
            raise kind(f"{url}: HTTP {error.code}") from error
        except (urllib.error.URLError, OSError) as error:
            raise InterruptedPullError(f"{url}: {getattr(error, 'reason', error)}") from error
        return response


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    def __init__(self, base: str) -> None:
        self._base = base

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        """Raises PullError for an address that is not allowed."""
        try:
            check_address(newurl, self._base)
        except PullError:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def check_address(url: str, base: str) -> None:
    """https, or plain http to `base` itself if that is on this machine. Raises PullError."""
    parts, base_parts = urllib.parse.urlsplit(url), urllib.parse.urlsplit(base)
    local = base_parts.hostname in ("127.0.0.1", "::1", "localhost")
    if parts.scheme == "https" or (parts.scheme == "http" and local and parts.netloc == base_parts.netloc):
        return
    raise PullError(f"weights come over https only, not from {parts.scheme}://{parts.hostname}")


def _so_far(part: Path) -> tuple["hashlib._Hash", int]:
    """Hash and length of what an earlier attempt left."""
    digest = hashlib.sha256()
    if not part.exists():
        return digest, 0
    with part.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest, part.stat().st_size


def _read(response: HTTPResponse, name: str) -> bytes:
    try:
        return response.read(CHUNK_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise InterruptedPullError(f"{name}: the connection broke: {type(error).__name__}") from error
