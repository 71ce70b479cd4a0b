"""Enhancement: pictures made larger by Swin2SR (transformers), speech without its noise by SepFormer and MetricGAN+ (ours).

None of them is for live media on a CPU: figures are in the README of `models`.
"""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from models.errors import UnavailableError
from models.questions import MAX_PIXELS, Picture, Sound
from models.runners.hub import HubRunner, noise, numbers, samples
from models.runners.loader import read_model
from models.runners.networks import metricgan, sepformer

RATE_HZ = 16_000
SHORTEST_S = 0.1
LONGEST_S = 10
"""Of a sound: SepFormer takes seconds of computing and half a gigabyte per second of it."""
SMALLEST_PX = 8
"""Of a picture: one window of Swin2SR's attention."""


class Upscaler(HubRunner[Picture, Picture]):
    """Swin2SR (Conde et al., 2022, arXiv 2209.11345): a picture, larger by a whole factor."""

    takes = Picture

    def load(self) -> tuple[str, Any]:
        """The model. Its configuration says by how much it enlarges."""
        model = read_model(transformers.Swin2SRForImageSuperResolution, self.path)
        self._factor = int(model.config.upscale)
        self._window = int(model.config.window_size)
        return str(model.config.model_type), model

    def example(self) -> Picture:
        """A tile of 64 x 64."""
        return Picture(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8))

    def check(self, question: Picture) -> None:
        """What comes of it must fit into a message."""
        height, width = question.rgb.shape[:2]
        if min(height, width) < SMALLEST_PX or height * width * self._factor**2 > MAX_PIXELS:
            raise ValueError(f"a picture of {width} x {height} pixels, to be enlarged {self._factor} times")

    def answer(self, batch: Sequence[Picture]) -> list[Picture]:
        """One after the other: they may have different sizes."""
        return [self._enlarged(question) for question in batch]

    def _enlarged(self, picture: Picture) -> Picture:
        height, width = picture.rgb.shape[:2]
        whole_windows = np.pad(
            picture.rgb, ((0, -height % self._window), (0, -width % self._window), (0, 0)), "symmetric"
        )
        pixels = torch.from_numpy(whole_windows.astype(np.float32) / np.float32(255)).permute(2, 0, 1)[None]
        larger = numbers(self.forward(pixel_values=pixels).reconstruction[0])
        larger = larger[:, : height * self._factor, : width * self._factor].transpose(1, 2, 0)
        return Picture((larger.clip(0, 1) * 255).round().astype(np.uint8))


class SpeechEnhancer(HubRunner[Sound, Sound]):
    """A network that takes [1, samples] and gives the same without noise."""

    takes = Sound
    architecture: str

    @abstractmethod
    def network(self, folder: Path) -> torch.nn.Module:
        """Raises ValueError if the files are another network's."""

    def load(self) -> tuple[str, Any]:
        """The network with its published weights."""
        try:
            return self.architecture, self.network(self.path)
        except ValueError as error:
            raise UnavailableError(f"its files cannot be loaded: {error}") from error

    def example(self) -> Sound:
        """One second."""
        return noise(1.0, RATE_HZ)

    def check(self, question: Sound) -> None:
        """Not too long at a time."""
        if not SHORTEST_S * RATE_HZ <= question.pcm.size <= LONGEST_S * RATE_HZ:
            raise ValueError(f"a sound of {question.pcm.size / RATE_HZ:.2f} s, not {SHORTEST_S} to {LONGEST_S}")

    def answer(self, batch: Sequence[Sound]) -> list[Sound]:
        """One after the other: they may have different lengths. What would be louder than full scale is clipped."""
        return [self._enhanced(question) for question in batch]

    def _enhanced(self, sound: Sound) -> Sound:
        clean = numbers(self.forward(sound=torch.from_numpy(samples(sound))[None])[0])
        return Sound((clean * 32_768).round().clip(-32_768, 32_767).astype(np.int16))


class SepFormerRunner(SpeechEnhancer):
    """SepFormer, one source."""

    architecture = "sepformer"

    def network(self, folder: Path) -> torch.nn.Module:
        """Of the published size."""
        return sepformer.load_published(folder)


class MetricGanRunner(SpeechEnhancer):
    """MetricGAN+."""

    architecture = "metricgan"

    def network(self, folder: Path) -> torch.nn.Module:
        """Of the published size."""
        return metricgan.load_published(folder)
