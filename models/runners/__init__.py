"""Code that runs a family of models. Only modules in here may import torch or transformers, and only when they are asked for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from models import environments, precision
from models.catalog import EnvironmentSource, ModelEntry
from models.errors import UnavailableError
from models.precision import Device, Precision
from models.runners.base import Runner
from models.settings import ModelSettings
from models.store import CorruptModelError, Located, Missing, Store

__all__ = ["Runner", "create_runner", "is_tunable"]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is known of a model before its runner is made."""

    entry: ModelEntry
    located: Located
    settings: ModelSettings
    tuned: Mapping[Device, Precision]
    """By kind of device, what it computes in best; only models of the hub look at it."""


def create_runner(
    entry: ModelEntry,
    store: Store,
    settings: ModelSettings,
    tuned: Mapping[Device, Precision] | None = None,
    version: str | None = None,
) -> tuple[Runner[Any, Any], str]:
    """The runner of a model, its weights verified, not yet started, and their version. Raises UnavailableError.

    Reads every file of the model: call it from a thread. The lock is read once: what is verified is what is loaded.
    `tuned` replaces what `candor models tune` wrote into the store; `version` is the newest unless it names one.
    """
    located = store.locate(entry, version)
    if isinstance(located, Missing):
        raise UnavailableError(located.reason, located.command)
    try:
        located.verify()
    except (CorruptModelError, OSError) as error:
        raise UnavailableError(f"{entry.name}: {error}", _again(entry)) from error
    if entry.runner not in _RUNNERS:
        raise UnavailableError(f"{entry.name} is not a model that the engine runs")
    try:
        choice = precision.chosen(store.root, entry.name, located.version) if tuned is None else tuned
    except ValueError as error:
        raise UnavailableError(str(error), "candor models tune") from error
    return _RUNNERS[entry.runner](_Wanted(entry, located, settings, choice)), located.version


def _again(entry: ModelEntry) -> str:
    """The command that fetches a model anew."""
    if isinstance(entry.source, EnvironmentSource):
        return environments.command(entry.source)
    return f"candor models pull {entry.name}"


def is_tunable(entry: ModelEntry) -> bool:
    """Whether the model can compute in several precisions."""
    return _RUNNERS.get(entry.runner) is _hub


def _pocketsphinx(wanted: _Wanted) -> Runner[Any, Any]:
    from models.runners.pocketsphinx import PocketSphinxRunner

    return PocketSphinxRunner(wanted.settings.pocketsphinx_decoders)


def _yunet(wanted: _Wanted) -> Runner[Any, Any]:
    from models.runners.yunet import YunetRunner

    return YunetRunner(wanted.located.file, wanted.entry.image_pixels or 320)


def _landmarks(wanted: _Wanted) -> Runner[Any, Any]:
    from models.runners.landmarks import LandmarksRunner, command

    return LandmarksRunner(command(wanted.located.path), wanted.located.verify)


def _network(wanted: _Wanted) -> Runner[Any, Any]:
    from models.runners.small import RUNNERS

    return RUNNERS[wanted.entry.runner](wanted.located.file, wanted.entry.labels)


def _head(wanted: _Wanted) -> Runner[Any, Any]:
    from models.runners.heads import HEADS

    if wanted.located.base is None:
        raise UnavailableError("the lock does not name the base that it was trained on")
    return HEADS[wanted.entry.runner](wanted.located.file, wanted.entry.labels, wanted.located.base.path)


def _hub(wanted: _Wanted) -> Runner[Any, Any]:
    from models.runners.families import FAMILIES

    return FAMILIES[wanted.entry.runner](wanted.entry, wanted.located.path, wanted.tuned)


_RUNNERS: dict[str, Callable[[_Wanted], Runner[Any, Any]]] = {
    "pocketsphinx": _pocketsphinx,
    "yunet": _yunet,
    "landmarks": _landmarks,
    "aasist": _network,
    "mini_xception": _network,
    "meso_inception": _network,
    "wavlm_head": _head,
    "vit_head": _head,
    "whisper": _hub,
    "text_classification": _hub,
    "audio_classification": _hub,
    "image_classification": _hub,
    "summary": _hub,
    "upscaling": _hub,
    "sepformer": _hub,
    "metricgan": _hub,
}
