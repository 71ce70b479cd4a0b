"""Which models somebody wants loaded, on one machine: kept in a file, loaded again whenever the engine comes back.

An engine holds each model once. What was asked for beyond that is refused, or answered with what is really running.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import structlog

from models.catalog import ModelEntry
from models.client import InferenceClient
from models.errors import EngineGoneError, InferenceError
from models.runners import is_tunable
from models.service import splits, tasks
from models.service.changes import STOPPING, Changes
from models.service.errors import ServiceError, from_inference
from models.service.messages import LATEST, DeployConfig, ScalingConfig, UpdateRequest
from models.service.metrics import Metrics
from models.service.wishes import Wishes
from models.store import Located, Missing, Store
from models.traffic import parsed

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

    async def admit(self, entry: ModelEntry) -> frozenset[str]:
        """The versions that may answer a question which is about to go to the engine; none named: any.

        Raises ServiceError: 503 for a model that was stopped meanwhile, or that a shared engine would have to load; 409 if the
        version that was deployed is neither loaded nor here. Raises InferenceError.
        """
        self.check(entry)
        config = self.config(entry.name)
        version = config.version if config else LATEST
        if version == LATEST and not (config.precision if config else self._shared):
            return frozenset()
        loaded = (await self._client.stats()).get(entry.name)
        versions = {version, *_answering(loaded)}
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
            _check_version(entry.name, versions, loaded["version"])
        self.check(entry)
        return frozenset(versions)

    def answered(self, model_id: str, wanted: frozenset[str], model: str) -> None:
        """A model that could not be loaded when the engine came back was loaded since, by being asked.

        `wanted`: the version that might answer; `model`: name@version. Raises ServiceError (409) if another one did: the engine
        had to let ours go at just that moment. What it said is told nobody.
        """
        if wanted:
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
                if config != self.config(entry.name) or entry.name not in self.deployed:
                    self._check_one(entry)
                return await self._keep(entry, config, reroute=not self._is_split(entry))

    async def update(self, model_id: str, wanted: UpdateRequest) -> str:
        """Exchange a model for what the store has now; returns its version. Raises ServiceError, and the old one goes on."""
        entry = tasks.find(self._store, model_id)
        with self._counted(entry.name, "update"):
            async with self._change(entry.name):
                before = self._required(entry.name)
                if wanted.reroutes:
                    return await self._reroute(entry, before, wanted)
                self._check_one(entry)
                told = wanted.model_dump(include={"version", "precision", "scaling_config"}, exclude_none=True)
                config = DeployConfig.model_validate(before.model_dump() | told)
                self._check_config(entry, config)
                return await self._keep(entry, config, anew=True, reroute=True)

    async def _reroute(self, entry: ModelEntry, config: DeployConfig, wanted: UpdateRequest) -> str:
        """Have other versions answer than before; returns the one that stays. Raises ServiceError, and nothing has changed."""
        self.check(entry)
        route = splits.changed_route(self._store, entry, wanted)
        if config.version != LATEST:  # what was deployed by its name goes along
            config = config.model_copy(update={"version": parsed(route.stable)[0]})
        async with self._wishes.change(self._wishes.wanted.with_model(entry.name, config)):
            await _told(self._client.route(entry.name, route))
        self.failed.pop(entry.name, None)
        return route.stable

    def _is_split(self, entry: ModelEntry) -> bool:
        with tasks.reading():
            route = self._store.route(entry.name)
        return route is not None and route.split

    def _check_one(self, entry: ModelEntry) -> None:
        """Raises ServiceError (409) while two versions of a model are asked."""
        if self._is_split(entry):
            fix = f"candor models rollback {entry.name}"
            raise ServiceError(409, "split_running", "two versions are asked: end that first", command=fix)

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
                if forget:
                    await _told(self._client.route(model_id, None))
            except BaseException:
                self._stopping.discard(model_id)
                raise
        self._stopping.discard(model_id)
        self.failed.pop(model_id, None)

    async def _keep(self, entry: ModelEntry, config: DeployConfig, *, anew: bool = False, reroute: bool = False) -> str:
        """Have it in the engine as the wish says, and the wish on the disk; returns its version.

        `anew`: exchange it even if nothing differs. `reroute`: the version that is deployed answers everything.
        """
        located = self._located(entry, config.version)
        async with self._wishes.change(self._wishes.wanted.with_model(entry.name, config)):
            if reroute:
                version = await self._have_alone(entry, config, located, anew=anew)
            else:
                version = await self._have(entry, config, located, anew=anew)
            _check_version(entry.name, {config.version}, version)
        self.failed.pop(entry.name, None)
        return version

    async def _have_alone(self, entry: ModelEntry, config: DeployConfig, located: Located, *, anew: bool) -> str:
        """As `_have`, answering everything; if that cannot be, who answered before does."""
        with tasks.reading():
            before = self._store.route(entry.name)
        route = splits.wanted_route(self._store, entry, config)
        changed = await _told(self._client.route(entry.name, route))
        try:
            return await self._have(entry, config, located, anew=anew and not changed)
        except ServiceError:
            if changed:
                await _told(self._client.route(entry.name, before))
            raise

    async def _have(self, entry: ModelEntry, config: DeployConfig, located: Located, *, anew: bool) -> str:
        """Load or exchange it, if need be; returns the version that is, or would be, loaded."""
        with tasks.reading():
            route = self._store.route(entry.name)
        version = route.stable if route else located.version
        loaded = (await _told(self._client.stats())).get(entry.name)
        if loaded is None:
            if not config.scaling_config.min_replicas:
                return version
            return await _told(self._client.load(entry.name, config.precision))
        if not anew and loaded["version"] == version and config.precision in (None, loaded["precision"]):
            return version
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
        """What the store has of this version. Raises ServiceError (409, 503)."""
        newest = tasks.locate(self._store, entry)
        if isinstance(newest, Missing):
            raise tasks.unavailable(newest)
        if _is_version(entry.name, version, newest.version):
            return newest
        located = tasks.locate(self._store, entry, version.removeprefix(f"{entry.name}@"))
        if isinstance(located, Missing):
            _check_version(entry.name, {version}, newest.version)
            raise tasks.unavailable(located)
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
        entry = tasks.find(self._store, model_id)
        located = self._located(entry, config.version)
        with tasks.reading():
            route = self._store.route(model_id)
        if config.version == LATEST or (route is not None and located.version in map(_version, route.arms)):
            version = await self._have(entry, config, located, anew=False)
        else:
            version = await self._have_alone(entry, config, located, anew=False)
            _check_version(model_id, {config.version}, version)


def _is_version(model_id: str, wanted: str, version: str) -> bool:
    """Whether `version`, an arm or an answer's, is what was asked for; in whatever precision, unless one was named."""
    return wanted.removeprefix(f"{model_id}@") in (LATEST, version, parsed(version)[0])


def _version(arm: str) -> str:
    return parsed(arm)[0]


def _answering(loaded: dict[str, Any] | None) -> list[str]:
    """The versions that answer for a model, of what the engine tells."""
    traffic = (loaded or {}).get("traffic") or {"arms": []}
    return [arm["arm"] for arm in traffic["arms"] if arm["role"] != "shadow"]


def _check_version(model_id: str, wanted: Collection[str], version: str) -> None:
    """Raises ServiceError (409) if a version that was asked for by name is another one."""
    if not any(_is_version(model_id, name, version) for name in wanted):
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
