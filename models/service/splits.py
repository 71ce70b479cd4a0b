"""What becomes of the route of a model when somebody splits its traffic, ends that, or goes back."""

import time
from collections.abc import Sequence

from pydantic import ValidationError

from models.catalog import ModelEntry
from models.service import tasks
from models.service.errors import ServiceError, from_validation
from models.service.messages import LATEST, DeployConfig, UpdateRequest
from models.store import Missing, Store
from models.traffic import Limits, RolledBack, Route, older, parsed


def wanted_route(store: Store, entry: ModelEntry, config: DeployConfig) -> Route | None:
    """Of a model that is deployed in one version. None: the newest, whichever that will be.

    `latest` is not the version that was taken back: that has to be named. Raises ServiceError (503).
    """
    if config.version != LATEST:
        version = config.version.removeprefix(f"{entry.name}@")
        return Route(arms={version: 1.0}, stable=version)
    with tasks.reading():
        route, versions = store.route(entry.name), store.versions(entry)
    back = route.rolled_back if route else None
    return route if back is not None and versions and parsed(back.arm)[0] == versions[0] else None


def changed_route(store: Store, entry: ModelEntry, wanted: UpdateRequest) -> Route:
    """After a split, a shadow, or the way back was asked for. Raises ServiceError (409, 422, 503)."""
    with tasks.reading():
        now, versions = store.route(entry.name), store.versions(entry)
    located = tasks.locate(store, entry)
    if isinstance(located, Missing):
        raise tasks.unavailable(located)
    now = now or Route(arms={versions[0]: 1.0}, stable=versions[0])
    return _back(entry, now, versions) if wanted.rollback else _split(entry, now, versions, wanted)


def _split(entry: ModelEntry, now: Route, versions: Sequence[str], wanted: UpdateRequest) -> Route:
    arms = now.arms if wanted.traffic_split is None else wanted.traffic_split
    shadow = wanted.shadow or None if wanted.shadow is not None else now.shadow
    if wanted.shadow is None and shadow in arms:
        shadow = None  # it answers from now on
    for arm in (*arms, *([shadow] if shadow else [])):
        _check(entry, arm, versions)
    try:
        return Route(
            arms=arms,
            stable=older(arms, versions),
            shadow=shadow,
            unit=wanted.sticky or now.unit,
            limits=wanted.guard or (now.limits if now.split else Limits()),
        )
    except ValidationError as error:
        raise from_validation(error) from error


def _check(entry: ModelEntry, arm: str, versions: Sequence[str]) -> None:
    try:
        version = parsed(arm)[0]
    except ValueError as error:
        raise ServiceError(422, "bad_request", str(error)) from error
    if version not in versions:
        raise ServiceError(
            409,
            "version_not_here",
            f"{entry.name} is here as {', '.join(versions)}",
            command=f"candor models pull {entry.name}",
        )


def _back(entry: ModelEntry, now: Route, versions: Sequence[str]) -> Route:
    """To the older arm of a split; without one, to the version before."""
    if now.canary is not None:
        gone, stable = now.canary, now.stable
    else:
        gone = now.stable
        before = versions[versions.index(parsed(gone)[0]) + 1 :] if parsed(gone)[0] in versions else []
        if not before:
            raise ServiceError(409, "nothing_before", f"of {entry.name} no version before this one is here")
        stable = before[0]
    why = RolledBack(arm=gone, reason="asked", message="somebody asked for it", at_s=time.time())
    return now.alone(stable, why)
