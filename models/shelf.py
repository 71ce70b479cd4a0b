"""The models that are loaded: each with its runner and batcher, within a budget of memory, exchangeable while calls run.

Of a model several arms may be loaded (`models.traffic`): versions of it, which who asks tells apart. Without more there is one,
`CURRENT`: whatever the store had when it was loaded.
"""

import asyncio
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Literal

import structlog

from models import tracing
from models.batching import Batcher
from models.catalog import Catalog, ModelEntry
from models.errors import InferenceError, LoadingError, UnavailableError
from models.journal import Journal
from models.precision import Device, Precision
from models.questions import Answer, Question
from models.runners import Runner, create_runner, is_tunable
from models.settings import ModelSettings
from models.store import CorruptModelError, Located, Missing, Store
from models.traffic import CURRENT, parsed

log = structlog.get_logger()

State = Literal["loading", "ready", "draining", "closed"]
Key = tuple[str, str]
"""Of a loaded model: its name and its arm."""


class LoadedModel:
    """A model, its runner and its batcher."""

    def __init__(
        self,
        entry: ModelEntry,
        version: str,
        runner: Runner[Any, Any],
        journal: Journal,
        max_queued: int,
        known_as: str = "",
    ) -> None:
        self.entry = entry
        self.version = version
        """As its answers name it: with its precision where that is part of the arm."""
        self.runner = runner
        self._journal = journal
        self._known_as = known_as or entry.name
        """In the journal."""
        self.state: State = "loading"
        self.memory_bytes = 0
        """By how much the process grew while it was loaded: what unloading it is hoped to free."""
        self.used_s = time.monotonic()
        self.load_s = 0.0
        self.batcher: Batcher[Question, Answer] = Batcher(
            self._run,
            max_batch=runner.max_batch,
            max_wait_ms=runner.max_wait_ms,
            max_queued=max_queued,
            concurrency=runner.concurrency,
        )

    async def start(self) -> None:
        """Load the weights. Raises UnavailableError."""
        began, before = time.monotonic(), resident_bytes()
        with self._at_work():
            await self.runner.start()
        self.batcher.start()
        self.load_s = time.monotonic() - began
        self.memory_bytes = max(self.entry.size_bytes, resident_bytes() - before)
        self.state = "ready"

    async def ask(self, question: Question, room_id: str, deadline_ms: float) -> Answer:
        """Raises InferenceError, and ValueError for a question that this model does not take."""
        if not isinstance(question, self.runner.takes):
            raise ValueError(f"{self.entry.name} takes no {type(question).__name__.lower()}")
        self.runner.check(question)
        self.used_s = time.monotonic()
        return await self.batcher.submit(question, room_id=room_id, deadline_ms=deadline_ms)

    async def _run(self, batch: Sequence[Question]) -> Sequence[Answer]:
        with self._at_work():
            answers: Sequence[Answer] = await self.runner.run(batch)
            return answers

    def _at_work(self) -> AbstractContextManager[None]:
        """What runs in processes of its own cannot end this one."""
        return nullcontext() if self.runner.isolated else self._journal.at_work(self._known_as)

    @property
    def full_version(self) -> str:
        """name@version."""
        return f"{self.entry.name}@{self.version}"

    @property
    def idle(self) -> bool:
        """Whether nobody waits for it."""
        return self.batcher.idle

    async def close(self, *, drain: bool = False) -> None:
        """Free everything, after what waits if `drain`; idempotent."""
        try:
            if drain and self.state == "ready":
                self.state = "draining"
                await self.batcher.drained()
        finally:
            self.state = "closed"
            await self.batcher.close()
            await self.runner.close()

    def stats(self) -> dict[str, Any]:
        """Counters and figures. `device` and `precision` are told by models of the hub alone; the others have no choice."""
        placement = getattr(self.runner, "placement", None)
        return dataclasses.asdict(self.batcher.stats) | {
            "queued": self.batcher.queued,
            "state": self.state,
            "version": self.version,
            "memory_bytes": self.memory_bytes,
            "load_s": round(self.load_s, 3),
            "device": placement.device if placement else None,
            "precision": placement.precision if placement else None,
        }


class Shelf:
    """All loaded models of an engine."""

    def __init__(self, models: Catalog, store: Store, settings: ModelSettings, journal: Journal) -> None:
        self._catalog = models
        self._store = store
        self._journal = journal
        self._settings = settings
        self._models: dict[Key, LoadedModel] = {}
        self._serving: dict[str, tuple[str, ...]] = {}
        """The arms of models that have more than `CURRENT`, or another: first the one that is asked unless one is named."""
        self._wishes: dict[str, Precision] = {}
        self._loading = asyncio.Lock()
        self._loads: dict[Key, asyncio.Task[LoadedModel]] = {}
        self._unwanted: set[Key] = set()
        """Of those that are on their way, what was let go meanwhile."""
        self._leaving: set[asyncio.Task[None]] = set()
        self.on_batch: Callable[[str, Sequence[float]], None] = _ignore
        """Called when a batch of a model begins, with the seconds that each of its questions has waited."""

    def loaded(self) -> dict[str, LoadedModel]:
        """By name, the first of its arms."""
        names = dict.fromkeys(name for name, _ in self._models)
        return {name: next(iter(self.arms(name).values())) for name in names}

    def arms(self, name: str) -> dict[str, LoadedModel]:
        """The arms of a model that are loaded, in the order in which `serve` named them."""
        order = self._serving.get(name, (CURRENT,))
        here = [arm for other, arm in self._models if other == name]
        known = [arm for arm in order if arm in here]
        return {arm: self._models[name, arm] for arm in dict.fromkeys([*known, *here])}

    def loading(self) -> frozenset[str]:
        """Those that are on their way."""
        return frozenset(name for name, _ in self._loads)

    def known_as(self, name: str) -> tuple[str, str]:
        """(name, task) to count something under: whatever else is asked for is `other`."""
        if arms := self.arms(name):
            return name, next(iter(arms.values())).entry.task
        try:
            return name, self._catalog.get(name).task
        except KeyError:
            return "other", "other"

    async def get(self, name: str, arm: str | None = None) -> LoadedModel:
        """The loaded model `name`, loading it now if need be; whoever stops waiting does not stop it. Raises UnavailableError.

        Raises LoadingError if it was let go meanwhile. `arm`: None for the one that is asked unless one is named.
        """
        key = name, self._first(name) if arm is None else arm
        if key in self._models:
            return self._models[key]
        self._unwanted.discard(key)
        if key not in self._loads:
            task = asyncio.create_task(self._load_for_all(key), name="model-load")
            task.add_done_callback(lambda task: self._loaded(key, task))
            self._loads[key] = task
        return await asyncio.shield(self._loads[key])

    def _first(self, name: str) -> str:
        return self._serving.get(name, (CURRENT,))[0]

    async def _load_for_all(self, key: Key) -> LoadedModel:
        async with self._loading:
            if key not in self._models:
                model = await self._twin(key) or await self._load(key, self._wishes.get(key[0]))
                if key in self._unwanted:
                    if model not in self._models.values():
                        self._retire(model)
                    raise LoadingError("it was let go while it was being loaded")
                self._models[key] = model
            return self._models[key]

    def _loaded(self, key: Key, task: "asyncio.Task[LoadedModel]") -> None:
        del self._loads[key]
        self._unwanted.discard(key)
        if not task.cancelled():
            task.exception()  # everybody who waited may be gone

    async def _twin(self, key: Key) -> LoadedModel | None:
        """Another arm that is just this one, loaded."""
        name, arm = key
        arms = self.arms(name)
        if arm == CURRENT and arms:
            located = await asyncio.to_thread(self._store.locate, self._entry(name))
            arm = located.version if isinstance(located, Located) else arm
        return next((model for model in arms.values() if model.version == arm), None)

    def check(self, name: str, arms: Sequence[str]) -> None:
        """Raises UnavailableError unless the store has every one of these arms. Blocks."""
        entry = self._entry(name)
        for version, precision in map(parsed, arms):
            located = self._store.locate(entry, version)
            if isinstance(located, Missing):
                raise UnavailableError(located.reason, located.command)
            if precision is not None and not is_tunable(entry):
                raise UnavailableError(f"{name} computes in one precision only")

    async def ready(self, name: str, arms: Sequence[str]) -> None:
        """Have these arms loaded, beside what is. Raises UnavailableError; what was loaded until then stays until `serve`."""
        for arm in arms:
            await self.get(name, arm)

    def serve(self, name: str, arms: Sequence[str]) -> None:
        """From now on a model has these arms; the others go after their last call."""
        if tuple(arms) == (CURRENT,):
            self._serving.pop(name, None)
        else:
            self._serving[name] = tuple(arms)
        self._let_go([key for key in (*self._models, *self._loads) if key[0] == name and key[1] not in arms])

    def _let_go(self, keys: Sequence[Key]) -> None:
        """After their last call; an arm may be loaded under another name as well, and stays then."""
        self._unwanted.update(key for key in keys if key in self._loads)
        gone = {self._models.pop(key) for key in keys if key in self._models}
        for model in gone.difference(self._models.values()):
            self._retire(model)

    async def get_in(self, name: str, precision: Precision | None) -> LoadedModel:
        """As `get`, and in this precision if it is loaded now or later; unless it cannot be loaded so: then nothing has changed."""
        before = self._wishes.get(name)
        if precision is not None:
            self._wishes[name] = precision
        try:
            return await self.get(name)
        except BaseException:
            if before is None:
                self._wishes.pop(name, None)
            else:
                self._wishes[name] = before
            raise

    async def reload(self, name: str, precision: Precision | None = None) -> str:
        """Exchange the first arm of a model for what the store has now; returns its version. Calls that run end with the old one.

        Raises UnavailableError; then the old one stays, and so does the precision that was wished for before.
        """
        async with self._loading:
            key = name, self._first(name)
            fresh = await self._load(key, precision or self._wishes.get(name))
            if precision is not None:
                self._wishes[name] = precision
            self._let_go([key])
            self._models[key] = fresh
            return fresh.version

    async def unload(self, name: str) -> None:
        """Let a model go after its last call, with all arms, and forget its precision; nothing if it is not loaded."""
        self._wishes.pop(name, None)
        self._let_go([key for key in (*self._models, *self._loads) if key[0] == name])

    async def close(self) -> None:
        """Free everything; idempotent."""
        loads = list(self._loads.values())
        for load in loads:
            load.cancel()
        await asyncio.gather(*loads, return_exceptions=True)
        models, self._models = set(self._models.values()), {}
        for model in models:
            await model.close()
        for task in tuple(self._leaving):
            task.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)

    async def _load(self, key: Key, precision: Precision | None) -> LoadedModel:
        with tracing.span("model.load", self.known_as(key[0])[0]) as running:
            model = await self._load_now(key, precision)
            running.set_attribute("candor.model", model.full_version)
            return model

    async def _load_now(self, key: Key, precision: Precision | None) -> LoadedModel:
        name, arm = key
        entry = self._entry(name)
        known_as = f"{name}@{arm}" if arm != CURRENT else name
        if (banned_s := self._journal.banned_s(known_as)) > 0:
            minutes = math.ceil(banned_s / 60)
            raise UnavailableError(
                f"the engine died twice while it was at work; it is tried again in {minutes} min",
                f"candor models verify {name}",
                retry_s=banned_s,
            )
        runner, version = await asyncio.to_thread(self._runner, entry, arm, precision)
        model = LoadedModel(entry, version, runner, self._journal, self._settings.max_queued, known_as)
        model.batcher.on_batch = partial(self.on_batch, name)
        self._make_room(entry)
        try:
            await model.start()
        except InferenceError:
            await model.close()
            raise
        except Exception as error:  # torch tells of too little memory, and of anything else, by RuntimeError
            await model.close()
            log.error("model_failed_to_load", model=name, error=type(error).__name__)
            raise UnavailableError(f"it cannot be loaded: {type(error).__name__}: {error}") from error
        except asyncio.CancelledError:
            await model.close()
            raise
        log.info("model_loaded", model=name, version=version, load_s=round(model.load_s, 2))
        return model

    def _runner(self, entry: ModelEntry, arm: str, wished: Precision | None) -> tuple[Runner[Any, Any], str]:
        """What runs an arm, and its version. Raises UnavailableError. Blocks: every file is read."""
        version, own = (None, None) if arm == CURRENT else parsed(arm)
        precision = own or wished
        tuned: dict[Device, Precision] | None = None
        if precision is not None:
            if not is_tunable(entry):
                raise UnavailableError(f"{entry.name} computes in one precision only")
            tuned = {"cpu": precision, "cuda": precision}
        runner, found = create_runner(entry, self._store, self._settings, tuned, version)
        return runner, arm if own else found

    def _entry(self, name: str) -> ModelEntry:
        """Of the catalog, or trained here and no fixture. Raises UnavailableError."""
        try:
            trained = self._store.lock().trained.get(name)
            if trained is None:
                return self._catalog.get(name)
        except (KeyError, CorruptModelError) as error:
            raise UnavailableError(str(error.args[0])) from error
        if trained.fixture:
            raise UnavailableError(f"fixture: {name}: {trained.fixture}", f"candor models evaluate {name}")
        return trained.entry(name)

    def _make_room(self, wanted: ModelEntry) -> None:
        """While the process would be over its budget, the idle model that was not used for longest goes."""
        excess = resident_bytes() + wanted.size_bytes - self._settings.memory_budget_bytes
        loaded = set(self._models.values())
        idle = [model for model in loaded if model.idle and model.entry is not wanted]
        if 0 < sum(model.memory_bytes for model in idle) < excess:
            # Even all of them would not do: it is the libraries that are large. Loading everything anew would not help.
            log.warning("memory_budget_too_small", excess_bytes=excess)
            return
        for model in sorted(idle, key=lambda model: model.used_s):
            if excess <= 0:
                return
            excess -= model.memory_bytes
            log.info("model_unloaded", model=model.entry.name, for_model=wanted.name)
            self._let_go([key for key, other in self._models.items() if other is model])

    def _retire(self, model: LoadedModel) -> None:
        task = asyncio.create_task(model.close(drain=True), name="model-drain")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)


def _ignore(model: str, waited_s: Sequence[float]) -> None:
    del model, waited_s


def resident_bytes() -> int:
    """What this process has in memory (proc(5), /proc/self/status, VmRSS); 0 where nobody tells."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return 0
    return 0
