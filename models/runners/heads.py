"""Runners of heads that were trained here on a base of the hub: WavLM for voices, ViT for faces. In fp32, as they were trained."""

import json
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import transformers

from models.errors import UnavailableError
from models.questions import Picture, Sound
from models.runners.loader import quiet, read_model
from models.runners.networks.heads import FaceOnBase, OnBase, VoiceOnBase
from models.runners.networks.weights import fill, read_torch
from models.runners.small import FaceRunner, Numbers, Q, SmallRunner, VoiceRunner


class HeadRunner(SmallRunner[Q]):
    """`Runner` of a head and its base."""

    def __init__(self, path: Path, labels: Sequence[str], base: Path) -> None:
        super().__init__(path, labels)
        self._base = base

    def load(self, path: Path) -> OnBase:
        """The base with the head of a file. Raises ValueError, UnavailableError."""
        network: OnBase = self.begin().eval()
        fill(network.head, read_torch(path))
        return network

    @abstractmethod
    def begin(self) -> OnBase:
        """The base with a head that has learned nothing: for training. Raises UnavailableError."""


class WavlmHeadRunner(HeadRunner[Sound], VoiceRunner):
    """On WavLM."""

    def begin(self) -> VoiceOnBase:
        """The base hears what it learned from: preprocessor_config.json says whether that was normalised."""
        quiet()
        base = read_model(transformers.WavLMModel, self._base)
        return VoiceOnBase(base, bool(preprocessing(self._base).get("do_normalize", False)))


class VitHeadRunner(HeadRunner[Picture], FaceRunner):
    """On ViT: the probability that a face is `real`."""

    def own_labels(self) -> tuple[str, ...]:
        """As MesoInception-4."""
        return ("real",)

    def begin(self) -> FaceOnBase:
        """The base without its own head, which knows ImageNet."""
        quiet()
        base = read_model(transformers.ViTForImageClassification, self._base).vit
        self._pixels = int(base.config.image_size)
        found = preprocessing(self._base)
        return FaceOnBase(base, found.get("image_mean", [0.5] * 3), found.get("image_std", [0.5] * 3))

    def prepare(self, question: Picture) -> Numbers:
        """[3, size, size], RGB, 0..1."""
        picture = cv2.resize(question.rgb, (self._pixels, self._pixels), interpolation=cv2.INTER_AREA)
        return picture.astype(np.float32).transpose(2, 0, 1) / np.float32(255)


def preprocessing(base: Path) -> dict[str, Any]:
    """What a base's `preprocessor_config.json` says. Raises UnavailableError."""
    try:
        return dict(json.loads((base / "preprocessor_config.json").read_text()))
    except (OSError, ValueError) as error:
        raise UnavailableError(f"its base's preprocessor_config.json cannot be read: {error}") from error


HEADS: dict[str, type[WavlmHeadRunner | VitHeadRunner]] = {"wavlm_head": WavlmHeadRunner, "vit_head": VitHeadRunner}
