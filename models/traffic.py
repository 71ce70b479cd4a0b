"""Which version of a model answers whom: shares of two arms, each question's arm by a hash, and the file that keeps it.

    <models_dir>/routes.json    {"routes": {name: Route}}; only engines write it, so that who rolls back also keeps it
    <models_dir>/routes.lock    held (flock(2)) while it is read and written anew: two engines may have one store

An arm is a version of the store (`1a2b3c4d`), or one in a precision (`1a2b3c4d+int8`). The empty arm is what the store has now.

Who is asked about twice is answered by the same arm without a table of who had which: each arm draws a number for each track from
a hash, scaled by its weight, and the highest has it (rendezvous hashing with weights: Schindelhauer and Schomaker, "Weighted
distributed hash tables", SPAA 2005). When weights change, tracks only move towards the arm that got more.
"""

import fcntl
import hashlib
import math
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.precision import PRECISIONS, Precision

FILE_NAME = "routes.json"
LOCK_NAME = "routes.lock"
CURRENT = ""
"""The arm of a model without a route: whatever the store has now."""
MOST_ARMS = 2
SUM_TOLERANCE = 1e-6

Unit = Literal["track", "room"]
Reason = Literal["errors", "latency", "drift", "unavailable", "asked"]


def parsed(arm: str) -> tuple[str, Precision | None]:
    """The version of an arm and its precision, if it names one. Raises ValueError for what is no arm."""
    for precision in PRECISIONS:
        if arm.endswith(f"+{precision}"):
            arm = arm.removesuffix(f"+{precision}")
            break
    else:
        precision = None
    if not arm:
        raise ValueError("an arm is VERSION or VERSION+PRECISION")
    return arm, precision


def _checked(arm: str) -> str:
    parsed(arm)
    return arm


Arm = Annotated[str, Field(max_length=100), AfterValidator(_checked)]


def check_weights(arms: Mapping[str, float]) -> None:
    """Raises ValueError unless each arm has a share and together they are all."""
    if not all(math.isfinite(weight) and weight > 0 for weight in arms.values()):
        raise ValueError("every weight must be above 0")
    if abs(sum(arms.values()) - 1) > SUM_TOLERANCE:
        raise ValueError("the weights must sum to 1")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(_Part):
    """By how much the newer arm may be worse before it is asked no more. Both arms are compared over the same time."""

    min_answers: int = Field(
        default=100, ge=20, le=10_000, description="of each arm; fewer are not compared, then it begins anew"
    )
    error_rate: float = Field(
        default=0.05, ge=0, le=1, description="how much more of its questions may fail; at least three standard errors"
    )
    p95_ratio: float = Field(
        default=2.0, ge=1, le=100, description="95th percentile of its answers' times to the other's; 20 ms are free"
    )
    min_units: int = Field(
        default=50, ge=20, le=5_000, description="tracks (or rooms) of each arm; of fewer nothing is told about drift"
    )
    drift_z: float = Field(
        default=4.0,
        ge=2,
        le=100,
        description="standard errors between the shares of tracks that are flagged, or of any first label",
    )


class RolledBack(_Part):
    """Why a version is asked no more: it was found worse, cannot be loaded, or somebody asked for it."""

    arm: Arm
    reason: Reason
    message: str
    at_s: float = Field(description="Unix time")


class Route(_Part):
    """Who answers for a model."""

    arms: dict[Arm, float] = Field(min_length=1, max_length=MOST_ARMS, description="share of tracks or rooms")
    stable: Arm = Field(description="the arm to which all goes back")
    shadow: Arm | None = Field(default=None, description="is asked as well, and its answers are shown nobody")
    unit: Unit = Field(default="track", description="what stays with its arm")
    limits: Limits = Limits()
    rolled_back: RolledBack | None = None

    @model_validator(mode="after")
    def _adds_up(self) -> "Route":
        check_weights(self.arms)
        if self.stable not in self.arms:
            raise ValueError("the stable arm is none of the arms")
        if self.shadow in self.arms:
            raise ValueError("what answers cannot be the shadow")
        return self

    @property
    def canary(self) -> str | None:
        """The arm that is on trial; None if one answers all."""
        return next((arm for arm in self.arms if arm != self.stable), None)

    @property
    def split(self) -> bool:
        """Whether more than one version is asked."""
        return self.canary is not None or self.shadow is not None

    @property
    def needed(self) -> tuple[str, ...]:
        """What has to be loaded, the stable arm first."""
        return tuple(arm for arm in (self.stable, self.canary, self.shadow) if arm is not None)

    def alone(self, arm: str, rolled_back: RolledBack | None = None) -> "Route":
        """Everything on one arm."""
        return Route(arms={arm: 1.0}, stable=arm, unit=self.unit, limits=self.limits, rolled_back=rolled_back)

    def unit_of(self, track_id: str, room_id: str) -> str:
        """What stays with its arm: the track, else the room, else this question alone."""
        told = room_id if self.unit == "room" else track_id or room_id
        return told or secrets.token_hex(8)

    def arm_of(self, name: str, unit: str) -> str:
        """Who answers for the model `name` about a unit."""
        if len(self.arms) == 1:
            return self.stable
        return max(self.arms, key=lambda arm: _drawn(name, unit, arm, self.arms[arm]))


def _drawn(name: str, unit: str, arm: str, weight: float) -> float:
    """An exponential variable with rate `weight`, mirrored: the least of several belongs to each with its weight's chance."""
    digest = hashlib.blake2b("\0".join((name, unit, arm)).encode(), digest_size=8).digest()
    uniform = (int.from_bytes(digest) + 0.5) / 2**64
    return math.log(uniform) / weight


def older(arms: Mapping[str, float], versions: Sequence[str]) -> str:
    """The arm that the other is compared with: of the older version; of one version in two precisions, the heavier.

    `versions`: those of the store, newest first.
    """
    return max(sorted(arms), key=lambda arm: (versions.index(parsed(arm)[0]), arms[arm]))


class Routes(BaseModel):
    """The file."""

    model_config = ConfigDict(extra="forbid")

    routes: dict[str, Route] = {}


class RoutesFile:
    """`routes.json` in the store `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root / FILE_NAME

    def read(self) -> dict[str, Route]:
        """By name of the model. Raises ValueError if the file is something else."""
        try:
            return Routes.model_validate_json(self._path.read_bytes()).routes
        except FileNotFoundError:
            return {}
        except ValidationError as error:
            raise ValueError(f"{self._path} is not a file of routes: {error.error_count()} errors") from error
        except OSError as error:
            raise ValueError(f"{self._path} cannot be read: {type(error).__name__}") from error

    def write(self, name: str, route: Route | None) -> None:
        """Replace, or remove, the route of one model; on the disk when it returns. Raises OSError, ValueError. Blocks."""
        with self._alone():
            routes = self.read()
            if routes.get(name) == route:
                return
            if route is None:
                del routes[name]
            else:
                routes[name] = route
            temporary = self._root / f".{FILE_NAME}"
            with temporary.open("w", encoding="utf-8") as file:
                file.write(Routes(routes=routes).model_dump_json(indent=2) + "\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
            self._sync_folder()

    def _sync_folder(self) -> None:
        folder = os.open(self._root, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self._root / LOCK_NAME).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
