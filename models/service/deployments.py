"""Which models somebody wants loaded, on one machine: kept in a file, loaded again whenever the engine comes back.

An engine holds each model once. What was asked for beyond that is refused, or answered with what is really running.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

import structlog

from models.catalog import ModelEntry
from models.client import InferenceClient
from models.errors import EngineGoneError, InferenceError
from models.runners import is_tunable
from models.service import tasks
from models.service.changes import STOPPING, Changes
from models.service.errors import ServiceError, from_inference
from models.service.messages import DeployConfig, ScalingConfig, UpdateRequest
from models.service.metrics import Metrics
from models.service.wishes import Wishes
from models.store import Located, Missing, Store

LATEST = "latest"
MOST_REPLICAS = 1

T = TypeVar("T")

log = structlog.get_logger()


class Deployments:
    """The wishes, and what became of them. One change at a time; `Changes` makes each to its end.

    `shared`: the engine is not ours alone, so by questions nothing is loaded into it that was not deployed.
    """

    def __init__(
        self, store: Store, client: InferenceClient, metrics: Metrics, changes: Changes, *, shared: bool = False
    ) -> None:
        self._store = store
        self._client = client
        self._metrics = metrics
        self._changes = changes
        self._shared = shared
        self._wishes = Wishes(store.root)
        self._restoring: asyncio.Task[None] | None = None
        self._stopping: set[str] = set()
        """Models that are being unloaded: who waited for one of them does not have it loaded again."""
        self.busy: set[str] = set()
        """Models that are being loaded for somebody who deploys them."""
        self.failed: dict[str, ServiceError] = {}
        """Deployed models that the engine could not load when it came back."""
        self.restored = False
        """Whether all deployed models were tried since the engine is there."""
        self.losses = 0

    def start(self) -> None:
        """Read the wishes, and load the models whenever the engine is there. Raises ValueError, as `Wishes.open` does."""
        self._wishes.open()
        self._client.on_connection = self._engine

    async def close(self) -> None:
        """Load nothing any more; the wishes stay. Idempotent."""
        task, self._restoring = self._restoring, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._wishes.close()

    @property
    def deployed(self) -> frozenset[str]:
        """Models that shall be answered for, loaded or not."""
        return frozenset(self._wishes.wanted.deployed).difference(self._wishes.wanted.stopped)

    @property
    def kept_loaded(self) -> frozenset[str]:
        """Models that shall be loaded, without waiting for a question."""
        configs = self._wishes.wanted.deployed
        return frozenset(name for name in self.deployed if configs[name].scaling_config.min_replicas)

    @property
    def stopped(self) -> frozenset[str]:
        """Models that shall not be asked."""
        return frozenset(self._wishes.wanted.stopped)

    def config(self, model_id: str) -> DeployConfig | None:
        """With what a model was deployed."""
        return self._wishes.wanted.deployed.get(model_id)

    def check(self, entry: ModelEntry) -> None:
        """Raises ServiceError (503) for a model that was stopped."""
        if entry.name in self._stopping or entry.name in self._wishes.wanted.stopped:
            fix = f"candor models deploy {entry.name}"
            raise ServiceError(503, "unavailable", f"{entry.name} was stopped here", command=fix)

    async def admit(self, entry: ModelEntry) -> str:
        """The version that may answer a question which is about to go to the engine, where whatever the store has now is loaded.

        Raises ServiceError: 503 for a model that was stopped meanwhile, or that a shared engine would have to load; 409 if the
        version that was deployed is neither loaded nor here. Raises InferenceError.
        """
        self.check(entry)
        config = self.config(entry.name)
        version = config.version if config else LATEST
        if version == LATEST and not (config.precision if config else self._shared):
            return version
        loaded = (await self._client.stats()).get(entry.name)
        if config is None:
            if loaded is None:
                fix = f"candor models deploy {entry.name}"
                raise ServiceError(
                    503, "unavailable", f"{entry.name} is not loaded: others use this engine", command=fix
                )
        elif loaded is None:
            await asyncio.to_thread(self._located, entry, version)
            if config.precision is not None:
                await self._client.load(entry.name, config.precision)
        else:
            _check_version(entry.name, version, loaded["version"])
        self.check(entry)
        return version

    def answered(self, model_id: str, wanted: str, model: str) -> None:
        """A model that could not be loaded when the engine came back was loaded since, by being asked.

        `wanted`: the version that might answer; `model`: name@version. Raises ServiceError (409) if another one did: the engine
        had to let ours go at just that moment. What it said is told nobody.
        """
        _check_version(model_id, wanted, model.rpartition("@")[2])
        self.failed.pop(model_id, None)

    async def deploy(self, config: DeployConfig) -> str:
        """Load a model and keep it; one that is deployed is exchanged if anything changed. Returns its version.

        With `min_replicas` 0 one that is not loaded stays so until it is asked. Raises ServiceError, and nothing has changed.
        """
        entry = tasks.find(self._store, config.model_id)
        with self._counted(entry.name, "deploy"):
            self._check_config(entry, config)
            async with self._change(entry.name):
                return await self._keep(entry, config)

    async def update(self, model_id: str, wanted: UpdateRequest) -> str:
        """Exchange a model for what the store has now; returns its version. Raises ServiceError, and the old one goes on."""
        entry = tasks.find(self._store, model_id)
        with self._counted(entry.name, "update"):
            if wanted.traffic_split is not None or wanted.shadow is not None:
                what = "traffic_split" if wanted.traffic_split is not None else "shadow"
                raise ServiceError(501, "not_supported", f"{what}: one version answers at a time")
            async with self._change(entry.name):
                before = self._required(entry.name)
                told = wanted.model_dump(include={"version", "precision", "scaling_config"}, exclude_none=True)
                config = DeployConfig.model_validate(before.model_dump() | told)
                self._check_config(entry, config)
                return await self._keep(entry, config, anew=True)

    async def scale(self, model_id: str, replicas: int) -> None:
        """To none or one. Raises ServiceError."""
        entry = tasks.find(self._store, model_id)
        with self._counted(entry.name, "scale"):
            _check_replicas(replicas)
            async with self._change(entry.name):
                config = self._required(entry.name)
                if replicas == 0:
                    await self._stop(entry.name, forget=False)
                    return
                scaling = config.scaling_config.model_copy(update={"min_replicas": replicas})
                await self._keep(entry, config.model_copy(update={"scaling_config": scaling}))

    async def delete(self, model_id: str) -> None:
        """Unload a model after its last call, and answer no more for it. Raises ServiceError."""
        if self.config(model_id) is None:  # one that was, and that nobody knows any more, can still be deleted
            tasks.find(self._store, model_id)
        with self._counted(model_id, "delete"):
            async with self._change(model_id):
                await self._stop(model_id, forget=True)

    async def _stop(self, model_id: str, *, forget: bool) -> None:
        wanted = self._wishes.wanted
        async with self._wishes.change(wanted.without(model_id) if forget else wanted.stopping(model_id)):
            self._stopping.add(model_id)
            try:
                await _told(self._client.unload(model_id))
            except BaseException:
                self._stopping.discard(model_id)
                raise
        self._stopping.discard(model_id)
        self.failed.pop(model_id, None)

    async def _keep(self, entry: ModelEntry, config: DeployConfig, *, anew: bool = False) -> str:
        """Have it in the engine as the wish says, and the wish on the disk; returns its version.

        `anew`: exchange it even if nothing differs.
        """
        located = self._located(entry, config.version)
        async with self._wishes.change(self._wishes.wanted.with_model(entry.name, config)):
            version = await self._have(entry, config, located, anew=anew)
            _check_version(entry.name, config.version, version)
        self.failed.pop(entry.name, None)
        return version

    async def _have(self, entry: ModelEntry, config: DeployConfig, located: Located, *, anew: bool) -> str:
        """Load or exchange it, if need be; returns the version that is, or would be, loaded."""
        loaded = (await _told(self._client.stats())).get(entry.name)
        if loaded is None:
            if not config.scaling_config.min_replicas:
                return located.version
            return await _told(self._client.load(entry.name, config.precision))
        if not anew and loaded["version"] == located.version and config.precision in (None, loaded["precision"]):
            return located.version
        return await _told(self._client.reload(entry.name, config.precision))

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
        located = tasks.locate(self._store, entry)
        if isinstance(located, Missing):
            raise tasks.unavailable(located)
        _check_version(entry.name, version, located.version)
        return located

    def _required(self, model_id: str) -> DeployConfig:
        config = self.config(model_id)
        if config is None:
            raise ServiceError(409, "not_deployed", "deploy it first", command=f"candor models deploy {model_id}")
        return config

    @contextmanager
    def _counted(self, model_id: str, action: str) -> Iterator[None]:
        result = "failed"
        try:
            yield
            result = "ok"
        except ServiceError as error:
            result = error.code
            raise
        finally:
            self._metrics.deployments.labels(model_id, action, result).inc()

    @asynccontextmanager
    async def _change(self, model_id: str) -> AsyncIterator[None]:
        """One at a time; the model is `busy` while it is its turn."""
        async with self._changes.turn():
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
                if error.code in (EngineGoneError.code, STOPPING):
                    return
                log.error("deployed_model_failed", model=model_id, reason=error.message, command=error.command)
                self.failed[model_id] = error
        self.restored = True

    async def _load_again(self, model_id: str) -> None:
        """Raises ServiceError, also if only another version can be loaded than the one that was deployed."""
        config = self.config(model_id)
        if config is None or model_id not in self.kept_loaded:  # it was deleted while others were loaded
            return
        loaded = (await _told(self._client.stats())).get(model_id)
        if loaded is None or not _is_version(model_id, config.version, loaded["version"]):
            entry = tasks.find(self._store, model_id)
            version = await self._have(entry, config, self._located(entry, config.version), anew=False)
            _check_version(model_id, config.version, version)


def _is_version(model_id: str, wanted: str, version: str) -> bool:
    return wanted in (LATEST, version, f"{model_id}@{version}")


def _check_version(model_id: str, wanted: str, version: str) -> None:
    """Raises ServiceError (409) if a version that was asked for by name is another one."""
    if not _is_version(model_id, wanted, version):
        raise ServiceError(
            409,
            "version_not_here",
            f"{model_id} was wanted in another version than {version}, which is here",
            command=f"candor models pull {model_id}",
        )


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
