"""Code that runs a family of models. Only modules in here may import torch or transformers, and only when they are asked for."""

from models.catalog import ModelEntry
from models.errors import UnavailableError
from models.runners.base import SpeechRunner
from models.settings import ModelSettings
from models.store import CorruptModelError, Missing, Store

__all__ = ["SpeechRunner", "create_speech_runner"]


def create_speech_runner(entry: ModelEntry, store: Store, settings: ModelSettings) -> SpeechRunner:
    """The runner of a speech model, its weights verified, not yet started. Raises UnavailableError.

    Reads every file of the model: call it from a thread.
    """
    located = store.locate(entry)
    if isinstance(located, Missing):
        raise UnavailableError(located.reason, located.command)
    try:
        store.verify(entry)
    except CorruptModelError as error:
        raise UnavailableError(str(error), f"candor models pull {entry.name}") from error
    if entry.runner == "pocketsphinx":
        from models.runners.pocketsphinx import PocketSphinxRunner

        return PocketSphinxRunner(settings.pocketsphinx_decoders)
    if entry.runner == "whisper":
        from models.runners.whisper import WhisperRunner

        return WhisperRunner(located.path, settings.whisper_precision)
    raise UnavailableError(f"{entry.name} is not a model that the engine runs")
