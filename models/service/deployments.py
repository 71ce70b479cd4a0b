"""Which models somebody wants loaded, on one machine: kept in a file, loaded again whenever the engine comes back.

    <models_dir>/deployments.json   {"deployed": {model_id: config}, "stopped": [model_id]}

An engine holds each model once. What was asked for beyond that is refused, or answered with what is really running.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from models.catalog import ModelEntry
from models.client import InferenceClient
from models.errors import EngineGoneError, InferenceError
from models.precision import Precision
from models.runners import is_tunable
from models.service import tasks
from models.service.errors import ServiceError, from_inference
from models.service.messages import DeployConfig, ScalingConfig, UpdateRequest
from models.service.metrics import Metrics
from models.store import Located, Missing, Store

FILE_NAME = "deployments.json"
LATEST = "latest"
MOST_REPLICAS = 1

T = TypeVar("T")

log = structlog.get_logger()


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    deployed: dict[str, DeployConfig] = {}
    stopped: list[str] = []


class Deployments:
    """The wishes, and what became of them. One change at a time."""

    def __init__(self, store: Store, client: InferenceClient, metrics: Metrics) -> None:
        self._store = store
        self._client = client
        self._metrics = metrics
        self._path = store.root / FILE_NAME
        self._file = _File()
        self._changing = asyncio.Lock()
        self._restoring: asyncio.Task[None] | None = None
        self.busy: set[str] = set()
        """Models that are being loaded for somebody who deploys them."""
        self.failed: dict[str, ServiceError] = {}
        """Deployed models that the engine could not load when it came back."""
        self.restored = False
        """Whether all deployed models were tried since the engine is there."""
        self.losses = 0

    def start(self) -> None:
        """Read the wishes, and load the models whenever the engine is there. Raises ValueError if the file is something else."""
        try:
            self._file = _File.model_validate_json(self._path.read_text())
        except FileNotFoundError:
            self._file = _File()
        except ValidationError as error:
            raise ValueError(f"{self._path} is not a file of deployments: {error.error_count()} errors") from error
        self._client.on_connection = self._engine

    async def close(self) -> None:
        """Load nothing any more; the wishes stay. Idempotent."""
        task, self._restoring = self._restoring, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @property
    def deployed(self) -> frozenset[str]:
        """Models that shall be loaded."""
        return frozenset(self._file.deployed).difference(self._file.stopped)

    @property
    def stopped(self) -> frozenset[str]:
        """Models that shall not be asked."""
        return frozenset(self._file.stopped)

    def config(self, model_id: str) -> DeployConfig | None:
        """With what a model was deployed."""
        return self._file.deployed.get(model_id)

    def check(self, entry: ModelEntry) -> None:
        """Raises ServiceError (503) for a model that was stopped."""
        if entry.name in self._file.stopped:
            fix = f"candor models deploy {entry.name}"
            raise ServiceError(503, "unavailable", "the model was stopped here", command=fix)

    def answered(self, model_id: str) -> None:
        """A model that could not be loaded when the engine came back was loaded since, by being asked."""
        self.failed.pop(model_id, None)

    async def deploy(self, config: DeployConfig) -> str:
        """Load a model and keep it; one that is deployed is exchanged if anything changed. Returns its version.

        Raises ServiceError, and nothing has changed.
        """
        entry = tasks.find(self._store, config.model_id)
        with self._counted(entry.name, "deploy"):
            self._check_config(entry, config)
            located = self._located(entry, config.version)
            async with self._change(entry.name):
                version = await self._load(entry, located, config.precision)
                self._keep(entry.name, config)
                return version

    async def update(self, model_id: str, wanted: UpdateRequest) -> str:
        """Exchange a model for what the store has now; returns its version. Raises ServiceError, and the old one goes on."""
        entry = tasks.find(self._store, model_id)
        with self._counted(entry.name, "update"):
            if wanted.traffic_split is not None or wanted.shadow is not None:
                what = "traffic_split" if wanted.traffic_split is not None else "shadow"
                raise ServiceError(501, "not_supported", f"{what}: one version answers at a time")
            config = self._required(entry.name)
            scaling = wanted.scaling_config or config.scaling_config
            config = config.model_copy(
                update={
                    "version": wanted.version,
                    "precision": wanted.precision or config.precision,
                    "scaling_config": scaling,
                }
            )
            self._check_config(entry, config)
            self._located(entry, wanted.version)
            async with self._change(entry.name):
                version = await _told(self._client.reload(entry.name, config.precision))
                self._keep(entry.name, config)
                return version

    async def scale(self, model_id: str, replicas: int) -> None:
        """To none or one. Raises ServiceError."""
        entry = tasks.find(self._store, model_id)
        with self._counted(entry.name, "scale"):
            _check_replicas(replicas)
            config = self._required(entry.name)
            if replicas == 0:
                await self._stop(entry.name, keep=True)
                return
            located = self._located(entry, config.version)
            async with self._change(entry.name):
                await self._load(entry, located, config.precision)
                self._keep(entry.name, config)

    async def delete(self, model_id: str) -> None:
        """Unload a model after its last call, and answer no more for it. Raises ServiceError."""
        if model_id not in self._file.deployed:  # one that was, and that nobody knows any more, can still be deleted
            tasks.find(self._store, model_id)
        with self._counted(model_id, "delete"):
            await self._stop(model_id, keep=False)

    async def _stop(self, model_id: str, *, keep: bool) -> None:
        async with self._change(model_id):
            await _told(self._client.unload(model_id))
            if not keep:
                self._file.deployed.pop(model_id, None)
            self._file.stopped = sorted({*self._file.stopped, model_id})
            self.failed.pop(model_id, None)
            self._write()

    async def _load(self, entry: ModelEntry, located: Located, precision: Precision | None) -> str:
        """Exchange what is loaded only if it differs."""
        loaded = (await _told(self._client.stats())).get(entry.name)
        if loaded is None:
            return await _told(self._client.load(entry.name, precision))
        if loaded["version"] == located.version and precision in (None, loaded["precision"]):
            return located.version
        return await _told(self._client.reload(entry.name, precision))

    def _check_config(self, entry: ModelEntry, config: DeployConfig) -> None:
        """Raises ServiceError (422, 501, 503)."""
        if config.docker_image is not None:
            raise ServiceError(
                501, "no_cluster", "docker_image needs a cluster; models of this machine run in its engine"
            )
        missing = tasks.missing(self._store, entry)
        if missing is not None:
            raise tasks.unavailable(missing)
        if not tasks.is_type(entry, config.model_type):
            raise ServiceError(422, "wrong_model_type", f"{entry.name} is for {entry.task}")
        if not tasks.is_framework(entry, config.framework):
            raise ServiceError(422, "wrong_framework", f"{entry.name} runs on {tasks.framework(entry)}")
        if config.precision is not None and not is_tunable(entry):
            raise ServiceError(422, "one_precision", f"{entry.name} computes in one precision only")
        _check_replicas(config.scaling_config.min_replicas)

    def _located(self, entry: ModelEntry, version: str) -> Located:
        """What the store has, if it is this version. Raises ServiceError (409, 503)."""
        located = self._store.locate(entry)
        if isinstance(located, Missing):
            raise tasks.unavailable(located)
        if not _is_version(entry.name, version, located.version):
            raise ServiceError(
                409,
                "version_not_here",
                f"the store has version {located.version}",
                command=f"candor models pull {entry.name}",
            )
        return located

    def _required(self, model_id: str) -> DeployConfig:
        config = self.config(model_id)
        if config is None:
            raise ServiceError(409, "not_deployed", "deploy it first", command=f"candor models deploy {model_id}")
        return config

    def _keep(self, model_id: str, config: DeployConfig) -> None:
        self._file.deployed[model_id] = config
        self._file.stopped = [name for name in self._file.stopped if name != model_id]
        self.failed.pop(model_id, None)
        self._write()

    def _write(self) -> None:
        self._store.root.mkdir(parents=True, exist_ok=True)
        temporary = Path(f"{self._path}.new")
        temporary.write_text(self._file.model_dump_json(indent=2) + "\n")
        temporary.replace(self._path)

    @contextmanager
    def _counted(self, model_id: str, action: str) -> Iterator[None]:
        result = "ok"
        try:
            yield
        except ServiceError as error:
            result = error.code
            raise
        finally:
            self._metrics.deployments.labels(model_id, action, result).inc()

    @asynccontextmanager
    async def _change(self, model_id: str) -> AsyncIterator[None]:
        """One at a time; the model is `busy` while it is its turn."""
        async with self._changing:
            self.busy.add(model_id)
            try:
                yield
            finally:
                self.busy.discard(model_id)

    def _engine(self, connected: bool) -> None:
        """The engine is there, or gone; a new one has nothing loaded."""
        self.restored = False
        if self._restoring is not None:
            self._restoring.cancel()
        if connected:
            self._restoring = asyncio.create_task(self._restore(), name="restore-deployments")
        else:
            self.losses += 1

    async def _restore(self) -> None:
        for model_id in sorted(self.deployed):
            try:
                async with self._change(model_id):
                    await self._load_again(model_id)
                self.failed.pop(model_id, None)
            except ServiceError as error:
                if error.code == EngineGoneError.code:
                    return
                log.error("deployed_model_failed", model=model_id, reason=error.message, command=error.command)
                self.failed[model_id] = error
        self.restored = True

    async def _load_again(self, model_id: str) -> None:
        """Raises ServiceError, also if only another version can be loaded than the one that was deployed."""
        config = self._file.deployed.get(model_id)
        if config is None or model_id not in self.deployed:  # it was deleted while others were loaded
            return
        loaded = (await _told(self._client.stats())).get(model_id)
        if loaded is None or not _is_version(model_id, config.version, loaded["version"]):
            self._located(tasks.find(self._store, model_id), config.version)
            await _told(self._client.load(model_id, config.precision))


def _is_version(model_id: str, wanted: str, version: str) -> bool:
    return wanted in (LATEST, version, f"{model_id}@{version}")


async def _told(asking: Awaitable[T]) -> T:
    """What the engine says. Raises ServiceError."""
    try:
        return await asking
    except InferenceError as error:
        raise from_inference(error) from error


def _check_replicas(replicas: int) -> None:
    if replicas > MOST_REPLICAS:
        raise ServiceError(
            422,
            "replicas_not_supported",
            "an engine holds each model once per device, and batches; more replicas need a cluster",
        )


def replicas_note(config: ScalingConfig) -> str:
    """Why there are not as many as was asked for; empty if there are."""
    if config.max_replicas <= MOST_REPLICAS:
        return ""
    return "max_replicas is more than can run here: one engine per device holds each model once"
