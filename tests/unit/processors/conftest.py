"""What is slow to load is loaded once."""

import pytest

from media_processors.audio.rnnoise import Rnnoise
from media_processors.audio.vad import SileroVad
from media_processors.frames import TrackRef


@pytest.fixture(scope="session")
def vad() -> SileroVad:
    return SileroVad()


@pytest.fixture(scope="session")
def rnnoise() -> Rnnoise:
    return Rnnoise()


@pytest.fixture
def track() -> TrackRef:
    return TrackRef("r", "p", "t", "audio", "microphone", 7)
