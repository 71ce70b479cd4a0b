"""What is told of a model: from the catalog, the store, the engine and the deployments."""

from collections.abc import Mapping
from typing import Any

from models import catalog
from models.catalog import ModelEntry
from models.service import tasks
from models.service.asking import Desk
from models.service.deployments import MOST_REPLICAS, Deployments, replicas_note
from models.service.errors import ServiceError
from models.service.messages import (
    ArmStatus,
    Counters,
    ModelStatus,
    Replicas,
    ScalingConfig,
    State,
    Traffic,
    TrainedHere,
)
from models.store import CorruptModelError, Located, Missing, Store

_ARM = tuple(name for name in ArmStatus.model_fields if name != "version")

Told = dict[str, dict[str, Any]]
"""What the engine tells of its models (`Engine`, `stats`)."""


class Statuses:
    """Puts them together. Reads the store: call it from a thread."""

    def __init__(self, store: Store, desk: Desk, deployments: Deployments) -> None:
        self._store = store
        self._desk = desk
        self._deployments = deployments

    def all(self, told: Told, connected: bool) -> list[ModelStatus]:
        """In the catalog's order, then those that were trained here."""
        try:
            trained = [model.entry(name) for name, model in self._store.lock().trained.items()]
        except CorruptModelError:
            trained = []  # each model of the catalog says so
        return [self.one(entry, told, connected) for entry in [*catalog.load().model, *trained]]

    def deployed(self, told: Told, connected: bool) -> dict[str, State]:
        """Of those that shall be loaded; one that nobody knows any more is `failed`."""
        states: dict[str, State] = {}
        for model_id in sorted(self._deployments.deployed):
            try:
                states[model_id] = self.one(tasks.find(self._store, model_id), told, connected).state
            except ServiceError:
                states[model_id] = "failed"
        return states

    def one(self, entry: ModelEntry, told: Told, connected: bool) -> ModelStatus:
        """One model."""
        loaded = told.get(entry.name)
        missing = self._missing(entry)
        state, reason, command = self._state(entry, loaded, missing, connected)
        shape = tasks.SHAPES.get(entry.task)
        config = self._deployments.config(entry.name)
        scaling = config.scaling_config if config else ScalingConfig(min_replicas=0)
        return ModelStatus(
            model_id=entry.name,
            name=config.name if config else entry.name,
            task=entry.task,
            framework=tasks.framework(entry),
            input=shape.takes if shape and entry.runner not in ("", "host") else None,
            state=state,
            reason=reason,
            command=command,
            version=loaded["version"] if loaded else self._version(entry),
            versions=self._versions(entry),
            traffic=self._traffic(entry, loaded),
            replicas=Replicas(
                wanted_min=scaling.min_replicas,
                wanted_max=scaling.max_replicas,
                running=int(loaded is not None),
                most=MOST_REPLICAS,
                note=replicas_note(scaling),
            ),
            device=loaded["device"] if loaded else None,
            precision=loaded["precision"] if loaded else None,
            memory_bytes=loaded["memory_bytes"] if loaded else 0,
            counters=_counters(loaded) if loaded else None,
            latency=self._desk.latency(entry.name),
            licence=entry.licence,
            commercial=entry.commercial,
            languages=entry.languages,
            labels=entry.labels,
            known=entry.known,
            calibrated=entry.calibration is not None,
            evaluation=self._evaluation(entry),
        )

    def _state(
        self, entry: ModelEntry, loaded: Mapping[str, Any] | None, missing: Missing | None, connected: bool
    ) -> tuple[State, str, str]:
        """With the reason and the command that would help."""
        deployments = self._deployments
        if entry.name in deployments.stopped:
            return "stopped", "it was stopped here", f"candor models deploy {entry.name}"
        if entry.name in deployments.busy:
            return "deploying", "", ""
        if missing is not None:
            return "unavailable", missing.reason, missing.command
        if entry.name not in deployments.deployed:
            return "available", "", ""
        if loaded is not None:
            return "deployed", "", ""
        if not connected:
            return "unloaded", "the model engine is not running; it is being restarted", ""
        if entry.name not in deployments.kept_loaded:
            return "idle", "min_replicas is 0: it is loaded when asked", ""
        if failed := deployments.failed.get(entry.name):
            return "failed", failed.message, failed.command
        return "unloaded", "its memory was needed; it is loaded when asked next", ""

    def _missing(self, entry: ModelEntry) -> Missing | None:
        try:
            return tasks.missing(self._store, entry)
        except ServiceError as error:
            return Missing(error.message, error.command)

    def _version(self, entry: ModelEntry) -> str | None:
        try:
            located = self._store.locate(entry)
            route = self._store.route(entry.name)
        except CorruptModelError:
            return None
        if route is not None:
            return route.stable
        return located.version if isinstance(located, Located) else None

    def _versions(self, entry: ModelEntry) -> list[str]:
        try:
            return self._store.versions(entry)
        except CorruptModelError:
            return []

    def _traffic(self, entry: ModelEntry, loaded: Mapping[str, Any] | None) -> Traffic | None:
        """What was decided is told by the file, what became of it by the engine."""
        try:
            route = self._store.route(entry.name)
        except CorruptModelError:
            return None
        if route is None:
            return None
        told = (loaded or {}).get("traffic") or {"arms": []}
        return Traffic(
            sticky=route.unit,
            guard=route.limits,
            arms=[ArmStatus(version=arm["arm"], **{name: arm[name] for name in _ARM}) for arm in told["arms"]],
            weights=route.arms,
            stable=route.stable,
            shadow=route.shadow,
            rolled_back=route.rolled_back,
        )

    def _evaluation(self, entry: ModelEntry) -> TrainedHere | None:
        try:
            trained = self._store.lock().trained.get(entry.name)
        except CorruptModelError:
            return None
        found = trained.evaluation if trained else None
        if found is None:
            return None
        unseen = found.unseen
        return TrainedHere(
            day=found.day,
            condition=found.condition,
            eer=found.eer,
            auc=found.auc,
            speakers=unseen.speakers,
            generators=unseen.generators,
        )


def _counters(loaded: Mapping[str, Any]) -> Counters:
    return Counters(**{name: loaded[name] for name in Counters.model_fields})
