"""The arms of models at work: which one is asked, what became of it, and the end of one that is worse than the other.

Routes (`models.traffic`) come from who manages models, or from the file, when the engine starts. A newer arm that the guard finds
worse, or that cannot be loaded, is asked no more from the same moment on; then that is written into the file.

A shadow is asked after the question was answered, so nobody waits for it. It goes first under load: nothing is put to it while
others wait for the arm that answers, or while `MOST_SHADOWED` questions to it are open.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from models.calibration import genuine_score
from models.catalog import ModelEntry
from models.errors import (
    DeadlineError,
    FailedError,
    InferenceError,
    LoadingError,
    OverloadedError,
    RefusedError,
    UnavailableError,
)
from models.precision import Precision
from models.questions import Answer, Faces, Question, Scores, Summary
from models.shelf import LoadedModel, Shelf
from models.speech import Transcript
from models.traffic import CURRENT, Reason, RolledBack, Route, RoutesFile
from models.traffic_guard import CLEAR, FLAGGED, NOTHING, ArmFigures, CanaryGuard, Verdict

MOST_SHADOWED = 2
SHADOW_DEADLINE_MS = 60_000
SUMMED = ("asked", "answered", "shed", "late", "failed", "batches", "queued")
"""Counters of a model that are those of all arms that answer."""

log = structlog.get_logger()
audit = structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger(0)).bind(audit=True)
"""Who changed what; not silenced by any log level."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Who is asked."""

    model: LoadedModel
    arm: str
    unit: str
    """About what: a track, a room, or this question alone."""


@dataclass(slots=True)
class _Watched:
    """A route and what became of it."""

    route: Route
    guard: CanaryGuard | None
    figures: dict[str, ArmFigures]
    shadowed: set[asyncio.Task[None]] = field(default_factory=set)


class Arms:
    """Of all models of a shelf. `file` None: there are no routes here, and none can be made."""

    def __init__(self, shelf: Shelf, file: RoutesFile | None = None) -> None:
        self._shelf = shelf
        self._file = file
        self._watched: dict[str, _Watched] = {}
        self._rollbacks: Counter[tuple[str, Reason]] = Counter()
        self._turn = asyncio.Lock()
        self._keeping: set[asyncio.Task[Any]] = set()
        """Changes, which are made to their end."""

    def open(self) -> None:
        """Read the routes. If the file is none, every model answers in its newest version, and that is said."""
        try:
            routes = self._file.read() if self._file else {}
        except ValueError as error:
            log.error("routes_unreadable", error=str(error))
            return
        for name, route in routes.items():
            self._set(name, route)

    async def close(self) -> None:
        """Ask shadows no more; what was decided is written. Idempotent."""
        shadowed = [task for watched in self._watched.values() for task in watched.shadowed]
        for task in shadowed:
            task.cancel()
        await asyncio.gather(*shadowed, *self._keeping, return_exceptions=True)

    async def choose(self, name: str, track_id: str, room_id: str) -> Asked:
        """Who is asked, loaded now if need be. Raises UnavailableError."""
        watched = self._watched.get(name)
        if watched is None:
            return Asked(await self._shelf.get(name, CURRENT), CURRENT, "")
        unit = watched.route.unit_of(track_id, room_id)
        arm = watched.route.arm_of(name, unit)
        try:
            return Asked(await self._shelf.get(name, arm), arm, unit)
        except UnavailableError as error:
            if arm == watched.route.stable:
                raise
            self._roll_back(name, watched, Verdict("unavailable", error.message))
        stable = watched.route.stable
        return Asked(await self._shelf.get(name, stable), stable, unit)

    def answered(self, asked: Asked, question: Question, answer: Answer, seconds: float, room_id: str) -> None:
        """What became of a question; its shadow is asked now."""
        name = asked.model.entry.name
        watched = self._watched.get(name)
        if watched is None or asked.arm not in watched.figures:
            return
        said = in_a_word(asked.model.entry, answer)
        watched.figures[asked.arm].answer(seconds, said)
        if watched.route.shadow is not None:
            self._shadow(watched, asked, question, answer, room_id)
        if watched.guard is not None:
            self._judge(name, watched, watched.guard.answered(asked.arm, seconds, asked.unit, said))

    def failed(self, asked: Asked, error: InferenceError) -> None:
        """A question was not answered; it counts against the arm unless it was no question, or a model has yet to be loaded."""
        name = asked.model.entry.name
        watched = self._watched.get(name)
        counts = isinstance(error, FailedError | DeadlineError | OverloadedError)
        if watched is None or not counts or isinstance(error, RefusedError | LoadingError):
            return
        if asked.arm in watched.figures:
            watched.figures[asked.arm].failed += 1
            if watched.guard is not None:
                self._judge(name, watched, watched.guard.failed(asked.arm))

    async def load(self, name: str, precision: Precision | None) -> str:
        """Have every arm loaded; returns the version of the one that stays. Raises UnavailableError."""
        model = await self._shelf.get_in(name, precision)
        watched = self._watched.get(name)
        if watched is not None:
            try:
                await self._shelf.ready(name, watched.route.needed)
            except UnavailableError as error:
                log.error("arm_unavailable", model=name, reason=error.message, command=error.command)
                if watched.route.canary is not None:
                    await self._try_canary(name, watched)
        return model.version

    async def _try_canary(self, name: str, watched: _Watched) -> None:
        try:
            await self._shelf.get(name, watched.route.canary)
        except UnavailableError as error:
            self._roll_back(name, watched, Verdict("unavailable", error.message))

    async def reload(self, name: str, precision: Precision | None) -> str:
        """See `Shelf.reload`. Raises RefusedError while two versions are asked."""
        watched = self._watched.get(name)
        if watched is not None and watched.route.split:
            raise RefusedError(f"{name} is asked in two versions: end that first", f"candor models rollback {name}")
        return await self._shelf.reload(name, precision)

    async def change(self, name: str, route: Route | None) -> bool:
        """Have a model answer by `route`, or in its newest version; whether that is new.

        What has to be loaded is loaded before anything changes, unless one version answers all and is not loaded now. Raises
        UnavailableError, RefusedError; then all is as it was.
        """
        if self._file is None:
            raise RefusedError("one version of each model is asked here")
        task = asyncio.create_task(self._change(self._file, name, route), name="change-route")
        self._keeping.add(task)
        task.add_done_callback(self._kept)
        return await asyncio.shield(task)  # who hangs up leaves no half of it

    def _kept(self, task: "asyncio.Task[Any]") -> None:
        self._keeping.discard(task)
        if not task.cancelled():
            task.exception()  # who asked for it may be gone

    async def _change(self, file: RoutesFile, name: str, route: Route | None) -> bool:
        async with self._turn:
            before = self._watched.get(name)
            if route == (before.route if before else None):
                return False
            if route is not None:
                await asyncio.to_thread(self._shelf.check, name, route.needed)
            try:
                if name in self._shelf.loaded() or (route is not None and route.split):
                    await self._shelf.ready(name, route.needed if route else (CURRENT,))
                await asyncio.to_thread(file.write, name, route)
            except BaseException as error:
                self._shelf.serve(name, self._needed(name))
                if isinstance(error, OSError | ValueError):
                    raise UnavailableError(f"the route cannot be written: {type(error).__name__}") from error
                raise
            self._set(name, route)
            return True

    def stats(self) -> dict[str, dict[str, Any]]:
        """Counters per loaded model, of all arms that answer; `traffic` where there is a route."""
        told: dict[str, dict[str, Any]] = {}
        for name, first in self._shelf.loaded().items():
            watched = self._watched.get(name)
            arms = self._shelf.arms(name)
            told[name] = first.stats()
            if watched is None:
                continue
            answering = [model.stats() for arm, model in arms.items() if arm in watched.route.arms]
            told[name] |= {counter: sum(stats[counter] for stats in answering) for counter in SUMMED}
            told[name]["memory_bytes"] = sum(model.memory_bytes for model in arms.values())
            told[name]["traffic"] = self._traffic(name, watched, arms)
        return told

    def _traffic(self, name: str, watched: _Watched, arms: Mapping[str, LoadedModel]) -> dict[str, Any]:
        route = watched.route
        return {
            "arms": [
                {
                    "arm": arm,
                    "role": "stable" if arm == route.stable else "canary" if arm in route.arms else "shadow",
                    "weight": route.arms.get(arm, 0.0),
                    "loaded": arm in arms,
                    **_told(watched.figures[arm]),
                }
                for arm in route.needed
            ],
            "rollbacks": {reason: count for (other, reason), count in self._rollbacks.items() if other == name},
        }

    def _needed(self, name: str) -> tuple[str, ...]:
        watched = self._watched.get(name)
        return watched.route.needed if watched else (CURRENT,)

    def _set(self, name: str, route: Route | None) -> None:
        """From now on."""
        old = self._watched.pop(name, None)
        for task in old.shadowed if old else ():
            task.cancel()
        if route is not None:
            guard = CanaryGuard(route.stable, route.canary, route.limits) if route.canary is not None else None
            self._watched[name] = _Watched(route, guard, {arm: ArmFigures() for arm in route.needed})
        self._shelf.serve(name, self._needed(name))

    def _judge(self, name: str, watched: _Watched, verdict: Verdict | None) -> None:
        if verdict is not None:
            self._roll_back(name, watched, verdict)

    def _roll_back(self, name: str, watched: _Watched, verdict: Verdict) -> None:
        """All to the stable arm, and what was on trial goes after its last call."""
        canary = watched.route.canary
        if canary is None or self._watched.get(name) is not watched:  # it was decided already
            return
        audit.info("model_rolled_back", model=name, arm=canary, to=watched.route.stable, reason=verdict.reason)
        self._rollbacks[name, verdict.reason] += 1
        why = RolledBack(arm=canary, reason=verdict.reason, message=verdict.message, at_s=time.time())
        self._set(name, watched.route.alone(watched.route.stable, why))
        task = asyncio.create_task(self._keep(name), name="keep-rollback")
        self._keeping.add(task)
        task.add_done_callback(self._kept)

    async def _keep(self, name: str) -> None:
        """Write what counts by now: somebody may have changed it since."""
        async with self._turn:
            watched = self._watched.get(name)
            try:
                if self._file is not None and watched is not None:
                    await asyncio.to_thread(self._file.write, name, watched.route)
            except (OSError, ValueError) as error:
                log.error("rollback_not_kept", model=name, error=type(error).__name__)

    def _shadow(self, watched: _Watched, asked: Asked, question: Question, answer: Answer, room_id: str) -> None:
        shadow = watched.route.shadow or CURRENT
        if asked.model.batcher.queued or len(watched.shadowed) >= MOST_SHADOWED:
            watched.figures[shadow].shed += 1
            return
        name = asked.model.entry.name
        asking = self._ask_shadow(name, shadow, watched.figures[shadow], question, answer, room_id)
        task = asyncio.create_task(asking, name="shadow")
        watched.shadowed.add(task)
        task.add_done_callback(watched.shadowed.discard)

    async def _ask_shadow(
        self, name: str, arm: str, figures: ArmFigures, question: Question, given: Answer, room_id: str
    ) -> None:
        try:
            model = await self._shelf.get(name, arm)
            began_s = time.monotonic()
            answer = await model.ask(question, room_id, SHADOW_DEADLINE_MS)
        except (InferenceError, ValueError):
            figures.failed += 1
            return
        figures.answer(time.monotonic() - began_s, in_a_word(model.entry, answer))
        one, other = comparable(given), comparable(answer)
        if one is not None:
            figures.agreed += one == other
            figures.differed += one != other


def in_a_word(entry: ModelEntry, answer: Answer) -> str:
    """Flagged or clear where a calibration says what scores mean, else the first label; `NOTHING` of what has none."""
    if not isinstance(answer, Scores) or not answer.labels:
        return NOTHING
    if entry.calibration is not None:
        return FLAGGED if entry.calibration.likelihood(genuine_score(answer)) > 0.5 else CLEAR
    return max(zip(answer.values, answer.labels, strict=True))[1]


def comparable(answer: Answer) -> object:
    """What two answers must have in common to agree: first label, text, or number of faces. None: they cannot be compared."""
    match answer:
        case Scores():
            return max(zip(answer.values, answer.labels, strict=True), default=(0.0, ""))[1]
        case Transcript():
            return "".join(word.text for word in answer.words).strip().lower()
        case Summary():
            return answer.text
        case Faces():
            return len(answer.boxes)
    return None


def _told(figures: ArmFigures) -> dict[str, Any]:
    return {
        "answered": figures.answered,
        "failed": figures.failed,
        "agreed": figures.agreed,
        "differed": figures.differed,
        "shed": figures.shed,
        "p50_ms": None if figures.p50_s is None else round(figures.p50_s * 1000, 1),
        "p95_ms": None if figures.p95_s is None else round(figures.p95_s * 1000, 1),
        "flag_rate": figures.flag_rate,
    }
