"""Fetching weights: from a hub over https, or from a mirror folder. Nothing is visible in the store until all of it is there.

The hub's interface (https://huggingface.co/docs/hub/api): `GET /api/models/<repository>/revision/<revision>?blobs=true` answers
`{sha, siblings: [{rfilename, size, lfs: {sha256}}]}`; `GET /<repository>/resolve/<commit>/<file>` answers the file, often by a
redirect to a host that only stores files.
"""

import hashlib
import json
import re
import shutil
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from http.client import HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO, Any

from models.catalog import HubSource, ModelEntry
from models.store import LockedModel, Store, sha256_of

DEFAULT_HUB = "https://huggingface.co"
TIMEOUT_S = 30
CHUNK_BYTES = 1 << 20
MAX_METADATA_BYTES = 4 << 20
_COMMIT = re.compile(r"[0-9a-f]{40}")

Progress = Callable[[str, int, int], None]
"""Called with a file's name, the bytes that are here and the bytes that there are (0: not told)."""


class PullError(Exception):
    """Weights could not be fetched; the message says which file and why."""


def pull_from_hub(entry: ModelEntry, store: Store, hub: str, progress: Progress) -> LockedModel:
    """Download a hub model into the store and lock it. Raises PullError, OSError."""
    source = _hub_source(entry)
    opener = urllib.request.build_opener(_SafeRedirects(hub))
    quoted = urllib.parse.quote(source.revision, safe="")
    described = _json(opener, f"{hub}/api/models/{source.repository}/revision/{quoted}?blobs=true", hub)
    commit = str(described.get("sha"))
    if not _COMMIT.fullmatch(commit):
        raise PullError(f"{hub} gave no commit for {source.repository} at {source.revision}")
    if _COMMIT.fullmatch(source.revision) and commit != source.revision:
        raise PullError(f"{hub} answered commit {commit}, the catalog pins {source.revision}")
    known = {str(sibling.get("rfilename")): sibling for sibling in described.get("siblings", [])}
    absent = [name for name in source.files if name not in known]
    if absent:
        raise PullError(f"{source.repository} has no file {absent[0]} at {commit}")

    def fetch(name: str, target: Path) -> str:
        url = f"{hub}/{source.repository}/resolve/{commit}/{urllib.parse.quote(name)}"
        digest = _download(opener, url, hub, target, name, int(known[name].get("size") or 0), progress)
        promised = (known[name].get("lfs") or {}).get("sha256")
        if promised is not None and promised != digest:
            raise PullError(f"{name} has sha256 {digest}, the hub promised {promised}")
        return digest

    return _install(entry.name, source, commit, store, fetch)


def pull_from_mirror(entry: ModelEntry, store: Store, mirror: Path) -> LockedModel:
    """Copy a hub model from a folder into the store and lock it. Raises PullError, OSError."""
    source = _hub_source(entry)
    repository = mirror / "hf" / source.repository
    commits = sorted(path.name for path in repository.glob("*") if _COMMIT.fullmatch(path.name))
    if source.revision in commits:
        commit = source.revision
    elif len(commits) == 1 and not _COMMIT.fullmatch(source.revision):
        commit = commits[0]
    else:
        raise PullError(f"the mirror has no {repository / source.revision}")

    def fetch(name: str, target: Path) -> str:
        origin = repository / commit / name
        if not origin.is_file():
            raise PullError(f"the mirror has no {origin}")
        shutil.copyfile(origin, target)
        return sha256_of(target)

    return _install(entry.name, source, commit, store, fetch)


def _hub_source(entry: ModelEntry) -> HubSource:
    if not isinstance(entry.source, HubSource):
        raise PullError(f"{entry.name} comes with a package; there is nothing to pull")
    return entry.source


def _install(name: str, source: HubSource, commit: str, store: Store, fetch: Callable[[str, Path], str]) -> LockedModel:
    """Fetch every file beside its place, then move them there at once and write the lock."""
    final = store.directory(source, commit)
    final.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".pull-", dir=final.parent))
    try:
        files: dict[str, str] = {}
        for path in source.files:
            (staging / path).parent.mkdir(parents=True, exist_ok=True)
            files[path] = fetch(path, staging / path)
        if final.exists():
            shutil.rmtree(final)
        staging.rename(final)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    locked = LockedModel(repository=source.repository, commit=commit, files=files)
    store.put(name, locked)
    return locked


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https only; a plain-http hub (a test, a mirror on this machine) may redirect to itself."""

    def __init__(self, hub: str) -> None:
        self._hub = hub

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        """Raises PullError for an address that is not allowed."""
        _check_address(newurl, self._hub)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_address(url: str, hub: str) -> None:
    """https, or plain http to the hub itself if that is on this machine. Raises PullError."""
    parts, hub_parts = urllib.parse.urlsplit(url), urllib.parse.urlsplit(hub)
    local = hub_parts.hostname in ("127.0.0.1", "::1", "localhost")
    if parts.scheme == "https" or (parts.scheme == "http" and local and parts.netloc == hub_parts.netloc):
        return
    raise PullError(f"weights come over https only, not from {parts.scheme}://{parts.hostname}")


def _open(opener: urllib.request.OpenerDirector, url: str, hub: str) -> HTTPResponse:
    _check_address(url, hub)
    request = urllib.request.Request(url, headers={"User-Agent": "candor", "Accept-Encoding": "identity"})
    try:
        response: HTTPResponse = opener.open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        raise PullError(f"{url}: HTTP {error.code}") from error
    except urllib.error.URLError as error:
        raise PullError(f"{url}: {error.reason}") from error
    return response


def _json(opener: urllib.request.OpenerDirector, url: str, hub: str) -> dict[str, Any]:
    with _open(opener, url, hub) as response:
        body = response.read(MAX_METADATA_BYTES)
    try:
        answer = json.loads(body)
    except ValueError as error:
        raise PullError(f"{url} did not answer JSON") from error
    if not isinstance(answer, dict):
        raise PullError(f"{url} did not answer an object")
    return answer


def _download(
    opener: urllib.request.OpenerDirector,
    url: str,
    hub: str,
    target: Path,
    name: str,
    size_bytes: int,
    progress: Progress,
) -> str:
    """Write a file; returns its sha256. Raises PullError if it is not as long as promised."""
    digest = hashlib.sha256()
    done_bytes = 0
    with _open(opener, url, hub) as response, target.open("wb") as file:
        while chunk := response.read(CHUNK_BYTES):
            done_bytes += len(chunk)
            if size_bytes and done_bytes > size_bytes:
                break
            file.write(chunk)
            digest.update(chunk)
            progress(name, done_bytes, size_bytes)
    if size_bytes and done_bytes != size_bytes:
        raise PullError(f"{name} has {done_bytes} bytes, the hub promised {size_bytes}")
    return digest.hexdigest()
