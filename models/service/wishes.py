"""What somebody wants deployed, on the disk. A change is on the disk before it is made, and counts once it was made.

<models_dir>/deployments.json   {"deployed": {model_id: config}, "stopped": [model_id]}
<models_dir>/service.lock       held (flock(2)) by the one service of this store, for as long as it runs
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ParamSpec

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from models.service.errors import ServiceError
from models.service.messages import DeployConfig

FILE_NAME = "deployments.json"
LOCK_NAME = "service.lock"

P = ParamSpec("P")

log = structlog.get_logger()


class Wanted(BaseModel):
    """The file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    deployed: dict[str, DeployConfig] = {}
    stopped: list[str] = []

    def with_model(self, model_id: str, config: DeployConfig) -> "Wanted":
        """This, and a model deployed with `config`."""
        return Wanted(deployed=self.deployed | {model_id: config}, stopped=[n for n in self.stopped if n != model_id])

    def stopping(self, model_id: str) -> "Wanted":
        """This, and a model that shall not be asked; with what it was deployed is remembered."""
        return Wanted(deployed=self.deployed, stopped=sorted({*self.stopped, model_id}))

    def without(self, model_id: str) -> "Wanted":
        """This, and a model that shall not be asked, forgotten otherwise."""
        deployed = {name: config for name, config in self.deployed.items() if name != model_id}
        return Wanted(deployed=deployed, stopped=self.stopped).stopping(model_id)


class Wishes:
    """The file of one store, and the right to write it."""

    def __init__(self, root: Path) -> None:
        self.wanted = Wanted()
        self._root = root
        self._path = root / FILE_NAME
        self._lock: int | None = None

    def open(self) -> None:
        """Read the file. Raises ValueError if it is something else, or another service has this store."""
        self.take()
        try:
            self.wanted = Wanted.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            self.wanted = Wanted()
        except ValidationError as error:
            self.close()
            raise ValueError(f"{self._path} is not a file of deployments: {error.error_count()} errors") from error

    def close(self) -> None:
        """Let another service have the store. Idempotent."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def take(self) -> None:
        """Have the right to write the file, until `close`. Raises ValueError if a service has it.

        A store that nobody can write needs no lock: whoever serves it changes nothing in it.
        """
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._root / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            log.warning("store_unwritable", error=type(error).__name__)
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise ValueError(
                f"another model service has the store {self._root}: stop it, or give this one another "
                "(CANDOR_MODELS__MODELS_DIR)"
            ) from error
        self._lock = lock

    @asynccontextmanager
    async def change(self, wanted: Wanted) -> AsyncIterator[None]:
        """`wanted` counts if the block ends well; before it begins, all of it is on the disk, under another name.

        Raises ServiceError (503, `store_unwritable`), as a rule before the block; then nothing has changed.
        """
        temporary = Path(f"{self._path}.new")
        await _on_disk(self._prepare, temporary, wanted)
        try:
            yield
            await _on_disk(self._commit, temporary)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self.wanted = wanted

    def _prepare(self, temporary: Path, wanted: Wanted) -> None:
        text = wanted.model_dump_json(indent=2) + "\n"
        self._root.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            temporary.unlink(missing_ok=True)  # half a file, on a full disk
            raise

    def _commit(self, temporary: Path) -> None:
        """The new name is on the disk as well when it returns."""
        temporary.replace(self._path)
        folder = os.open(self._root, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


async def _on_disk(work: Callable[P, None], *arguments: P.args, **named: P.kwargs) -> None:
    """Off the event loop: a disk may take its time. Raises ServiceError (503)."""
    try:
        await asyncio.to_thread(work, *arguments, **named)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ServiceError(503, "store_unwritable", f"the models directory cannot be written: {why.lower()}") from error
