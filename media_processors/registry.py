"""Finds processors: whatever is registered under the entry point `candor.processors`, ours and other people's.

One that does not import, construct or describe itself is reported as unavailable with its error; it never takes the host with it.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Literal

import structlog

from media_processors.base import Observer, Transform, VideoTransform
from media_processors.findings import ProcessorInfo

GROUP = "candor.processors"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Loaded:
    """An entry point and what came of it."""

    info: ProcessorInfo
    processor: Transform | VideoTransform | Observer | None
    """None if it is broken."""


def load_processors(prepare: Callable[[object], None] = lambda processor: None) -> dict[str, Loaded]:
    """All processors by name, in the order of their names; of two with one name the first distribution's stays.

    `prepare` is called with each before it says what it is. One for which it raises is broken.
    """
    found: dict[str, Loaded] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        if entry.name in found:
            log.warning("processor_name_taken", processor=entry.name, object=entry.value)
            continue
        found[entry.name] = _load(entry, prepare)
    return found


def transforms(found: dict[str, Loaded]) -> dict[str, Transform]:
    """Those that change sound and can run here."""
    return {
        name: loaded.processor
        for name, loaded in found.items()
        if loaded.info.available and isinstance(loaded.processor, Transform) and loaded.info.kind == "transform"
    }


def video_transforms(found: dict[str, Loaded], names: Collection[str]) -> dict[str, Loaded]:
    """Those that change pictures, of these names, available or not."""
    return {
        name: loaded
        for name, loaded in found.items()
        if name in names and loaded.info.kind == "transform" and loaded.info.media == "video"
    }


def observers(found: dict[str, Loaded]) -> dict[str, Observer]:
    """Those that report and can run here."""
    return {
        name: loaded.processor
        for name, loaded in found.items()
        if loaded.info.available and isinstance(loaded.processor, Observer) and loaded.info.kind == "observer"
    }


def infos(found: dict[str, Loaded], kind: Literal["transform", "observer"]) -> list[ProcessorInfo]:
    """What there is of a kind, available or not, but for what changes pictures: the video host tells of that, if there is one.

    What could not even say its kind counts as an observer.
    """
    infos = [loaded.info for loaded in found.values() if loaded.info.kind == kind]
    return [info for info in infos if (info.kind, info.media) != ("transform", "video")]


def _load(entry: EntryPoint, prepare: Callable[[object], None]) -> Loaded:
    try:
        processor = entry.load()()
        prepare(processor)
        info = processor.info()
        if info.name != entry.name:
            raise ValueError(f"calls itself {info.name!r}")
        if not isinstance(processor, Transform | Observer | VideoTransform):
            raise TypeError("is neither a Transform nor an Observer")
    except Exception as error:  # anybody's code
        log.error("processor_broken", processor=entry.name, object=entry.value, error=type(error).__name__)
        reason = f"{entry.value} is broken: {type(error).__name__}: {error}"
        info = ProcessorInfo(name=entry.name, kind="observer", media="audio", available=False, reason=reason)
        return Loaded(info, None)
    return Loaded(info, processor)
