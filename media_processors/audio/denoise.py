"""The transform `denoise`: RNNoise, which is built in, or what the setting `processing.denoise_model` chooses instead."""

from typing import ClassVar, Literal

from media_processors.audio.gtcrn import Gtcrn
from media_processors.audio.rnnoise import Rnnoise
from media_processors.base import TransformStream
from media_processors.findings import ProcessorInfo
from media_processors.frames import TrackRef
from media_processors.settings import ProcessingSettings
from models.store import Store


class Denoise:
    """One of the two. A chosen one that is not here makes `denoise` unavailable: nobody gets another than they chose."""

    kind: ClassVar[Literal["transform"]] = "transform"

    def __init__(self) -> None:
        self._by: Rnnoise | Gtcrn = Rnnoise()

    def choose_model(self, settings: ProcessingSettings, store: Store) -> None:
        """Before the first track."""
        if settings.denoise_model == "gtcrn":
            self._by = Gtcrn(store)

    @property
    def sample_rate_hz(self) -> int:
        """48 kHz, whichever it is."""
        return self._by.sample_rate_hz

    @property
    def frame_samples(self) -> int:
        """Of the one that is chosen."""
        return self._by.frame_samples

    def info(self) -> ProcessorInfo:
        """Whether the one that is chosen can run."""
        return self._by.info()

    def open(self, track: TrackRef) -> TransformStream:
        """State for one track. Raises UnavailableError."""
        return self._by.open(track)
