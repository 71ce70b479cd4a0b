"""Code that runs a family of models. Only modules in here may import torch or transformers, and only when they are asked for."""

from collections.abc import Callable
from typing import Any

from models.catalog import ModelEntry
from models.errors import UnavailableError
from models.runners.base import Runner
from models.settings import ModelSettings
from models.store import CorruptModelError, Located, Missing, Store

__all__ = ["Runner", "create_runner"]


def create_runner(entry: ModelEntry, store: Store, settings: ModelSettings) -> tuple[Runner[Any, Any], str]:
    """The runner of a model, its weights verified, not yet started, and their version. Raises UnavailableError.

    Reads every file of the model: call it from a thread. The lock is read once: what is verified is what is loaded.
    """
    located = store.locate(entry)
    if isinstance(located, Missing):
        raise UnavailableError(located.reason, located.command)
    try:
        located.verify()
    except (CorruptModelError, OSError) as error:
        raise UnavailableError(f"{entry.name}: {error}", f"candor models pull {entry.name}") from error
    if entry.runner not in _RUNNERS:
        raise UnavailableError(f"{entry.name} is not a model that the engine runs")
    return _RUNNERS[entry.runner](entry, located, settings), located.version


def _pocketsphinx(entry: ModelEntry, located: Located, settings: ModelSettings) -> Runner[Any, Any]:
    from models.runners.pocketsphinx import PocketSphinxRunner

    return PocketSphinxRunner(settings.pocketsphinx_decoders)


def _whisper(entry: ModelEntry, located: Located, settings: ModelSettings) -> Runner[Any, Any]:
    from models.runners.whisper import WhisperRunner

    return WhisperRunner(located.path, settings.whisper_precision)


def _yunet(entry: ModelEntry, located: Located, settings: ModelSettings) -> Runner[Any, Any]:
    from models.runners.yunet import YunetRunner

    return YunetRunner(located.file, entry.image_pixels or 320)


def _network(entry: ModelEntry, located: Located, settings: ModelSettings) -> Runner[Any, Any]:
    from models.runners.small import RUNNERS

    return RUNNERS[entry.runner](located.file, entry.labels)


_RUNNERS: dict[str, Callable[[ModelEntry, Located, ModelSettings], Runner[Any, Any]]] = {
    "pocketsphinx": _pocketsphinx,
    "whisper": _whisper,
    "yunet": _yunet,
    "aasist": _network,
    "mini_xception": _network,
    "meso_inception": _network,
}
