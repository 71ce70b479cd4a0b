"""The families of hub models by the name that the catalog has for them (`runner`)."""

from typing import Any

from models.runners.classifiers import AudioClassifier, ImageClassifier, TextClassifier
from models.runners.enhancers import MetricGanRunner, SepFormerRunner, Upscaler
from models.runners.hub import HubRunner
from models.runners.summariser import Summariser
from models.runners.whisper import WhisperRunner

FAMILIES: dict[str, type[HubRunner[Any, Any]]] = {
    "whisper": WhisperRunner,
    "text_classification": TextClassifier,
    "audio_classification": AudioClassifier,
    "image_classification": ImageClassifier,
    "summary": Summariser,
    "upscaling": Upscaler,
    "sepformer": SepFormerRunner,
    "metricgan": MetricGanRunner,
}
