"""`candor models train`: media in, a head in the store out, as a `fixture` until it has been evaluated."""

import importlib.util
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from models import catalog
from models.catalog import Task
from models.questions import Faces
from models.settings import ModelSettings
from models.store import WEIGHTS_NAME, CorruptModelError, Located, LockedModel, Missing, Store, sha256_of
from models.trained import BASES, TrainedModel
from models.training import media
from models.training.judge import Judge
from models.training.media import Collection, Medium, Recording, Tell, Window
from models.training.pictures import FacesMedium
from models.training.split import Split, split
from models.training.voices import Voices

if TYPE_CHECKING:
    from models.runners import fit

SEEN_NAME = "seen.json"
MOST_WINDOWS = 1_000
"""Of each kind. Each is there twice, once after the codec: up to 3 GB, and half an hour of a CPU for AASIST to look at them."""


class TrainingError(Exception):
    """It cannot be done; the message says why, and the command that helps if there is one."""


class Seen(BaseModel):
    """The file `seen.json` beside the weights: `media.fingerprints` of all that training looked at."""

    model_config = ConfigDict(extra="forbid")

    fingerprints: list[str]


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for."""

    base: str
    name: str
    genuine: Path
    synthetic: Path
    epochs: int
    minutes: float
    seed: int


def train(order: Order, store: Store, settings: ModelSettings, tell: Tell) -> TrainedModel:
    """Train and register. Raises TrainingError, MediaError, UnavailableError, Busy, CorruptModelError, OSError."""
    base = BASES[order.base]
    located = _located(order.base, store)
    if order.name in {entry.name for entry in catalog.load().model}:
        raise TrainingError(f"{order.name} is a model of the catalog: choose another --name")
    with ExitStack() as stack:
        medium = medium_of(base.task, store, settings, stack)
        recordings = media.find(order.genuine, order.synthetic, medium.suffixes)
        found = media.collect(recordings, medium, MOST_WINDOWS, tell)
        parts = split(found, order.seed)
        _describe(found, parts, tell)
        sides = [_examples(_with_codec(side, medium, order.seed, tell)) for side in (parts.train, parts.held_out)]
    fitted = _fit(order, located, sides, tell)
    trained = TrainedModel(
        base=order.base,
        base_commit=located.path.name,
        base_files=dict(located.files) if catalog.load().get(order.base).task == "base" else {},
        day=datetime.now(UTC).date(),
        seed=order.seed,
        trained=media.counts(parts.train),
        held_out=media.counts(parts.held_out),
    )
    with store.alone():
        _register(order.name, fitted, trained, recordings, store)
    return trained


def _located(base: str, store: Store) -> Located:
    if importlib.util.find_spec("torch") is None:
        raise TrainingError("the package torch is not installed: make models")
    located = store.locate(catalog.load().get(base))
    if isinstance(located, Missing):
        raise TrainingError(f"{base}: {located.reason}" + (f": {located.command}" if located.command else ""))
    try:
        located.verify()
    except CorruptModelError as error:
        raise CorruptModelError(f"{base}: {error}") from error
    return located


def medium_of(task: Task, store: Store, settings: ModelSettings, stack: ExitStack) -> Medium:
    """What a task looks at. Raises UnavailableError if faces are wanted and the model that finds them is not here."""
    if task == "voice_authenticity":
        return Voices()
    finder = stack.enter_context(Judge(catalog.load().get("yunet"), store, settings))

    def find(picture: media.Question) -> Faces:
        [faces] = finder.ask([picture])
        return faces if isinstance(faces, Faces) else Faces(())

    return FacesMedium(find)


def _describe(found: Collection, parts: Split, tell: Tell) -> None:
    for what, windows in (("to train on", parts.train), ("held out", parts.held_out)):
        count = media.counts(windows)
        tell(
            f"{what}: {count.genuine_windows} genuine windows (people: {count.speakers}), "
            f"{count.synthetic_windows} synthetic (generators: {count.generators})"
        )
    if parts.left_out:
        tell(f"left out: {parts.left_out} windows that imitate people who are held out")
    if found.refused:
        tell(
            f"without a window, because too short or without a face: {len(found.refused)} of {found.recordings.total()} files"
        )


def _with_codec(windows: list[Window], medium: Medium, seed: int, tell: Tell) -> list[Window]:
    """Each window as it is, and once after the codec at a bitrate that the seed draws."""
    rates = np.random.default_rng(seed).integers(*medium.training_kbps, len(windows), endpoint=True)
    tell(
        f"{len(windows)} windows through {medium.codec} at {medium.training_kbps[0]} to {medium.training_kbps[1]} kb/s"
    )
    coded = [
        Window(window.recording, medium.coded(window.question, int(rate)))
        for window, rate in zip(windows, rates, strict=True)
    ]
    return [*windows, *coded]


def _fit(order: Order, base: Located, sides: list["fit.Examples"], tell: Tell) -> "fit.Fitted":
    """Of the side that teaches and the one that examines. Raises TrainingError."""
    from models.runners import fit

    plan = fit.Plan(order.epochs, order.minutes * 60, order.seed)
    kind = BASES[order.base]
    teaching, examining = sides
    try:
        fitted = fit.fit(kind.runner, base, kind.labels, teaching, examining, plan, tell)
    except (fit.FitError, ValueError) as error:
        raise TrainingError(str(error)) from error
    best = fitted.epochs[fitted.best]
    tell(
        f"kept: epoch {fitted.best + 1}, loss on held-out media {best.held_out_loss:.3f}, before {fitted.before_loss:.3f}"
    )
    return fitted


def _examples(windows: Sequence[Window]) -> "fit.Examples":
    from models.runners import fit

    genuine = np.array([window.recording.genuine for window in windows], bool)
    return fit.Examples([window.question for window in windows], genuine, media.weights(windows))


def _register(
    name: str, fitted: "fit.Fitted", trained: TrainedModel, recordings: Sequence[Recording], store: Store
) -> None:
    """Files first, then the lock: until that names them nobody sees them."""
    staging = store.root / "local" / f".train-{name}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    fitted.save(staging / WEIGHTS_NAME)
    seen = Seen(fingerprints=sorted(media.fingerprints(recordings)))
    (staging / SEEN_NAME).write_text(seen.model_dump_json())
    files = {file: sha256_of(staging / file) for file in (WEIGHTS_NAME, SEEN_NAME)}
    locked = LockedModel(kind="local", repository=name, commit=files[WEIGHTS_NAME][:40], files=files)
    final = store.root / locked.folder
    shutil.rmtree(final, ignore_errors=True)
    final.parent.mkdir(parents=True, exist_ok=True)
    staging.rename(final)
    store.put(name, locked, trained)
