"""mini-XCEPTION: which expression does a face show?

Arriaga et al., "Real-time Convolutional Neural Networks for Emotion and Gender Classification", 2017, arXiv 1710.07557, Figure 1.
In: faces [batch, 1, 64, 64], grey, -1..1. Out: probabilities [batch, 7] in the order of `LABELS`. `load_published` reads the
authors' weights (https://github.com/oarriaga/face_classification), which Keras wrote.
"""

from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.runners.networks.keras import as_torch, max_pool_same, norm
from models.runners.networks.weights import fill, read_keras

SIZE_PIXELS = 64
LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
STEM = 8
MODULES = (16, 32, 64, 128)


class MiniXception(nn.Module):
    """The network."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, STEM, 3, bias=False)
        self.norm1 = norm(STEM)
        self.conv2 = nn.Conv2d(STEM, STEM, 3, bias=False)
        self.norm2 = norm(STEM)
        self.blocks = nn.Sequential(*(Block(*sizes) for sizes in pairwise((STEM, *MODULES))))
        self.head = nn.Conv2d(MODULES[-1], len(LABELS), 3, padding=1)

    def forward(self, faces: Tensor) -> Tensor:
        """Probabilities [batch, 7] of faces [batch, 1, 64, 64]."""
        image = functional.relu(self.norm1(self.conv1(faces)))
        image = functional.relu(self.norm2(self.conv2(image)))
        return torch.softmax(self.head(self.blocks(image)).mean(dim=(2, 3)), dim=1)


class Block(nn.Module):
    """Two separable convolutions, pooled, beside a shortcut of stride two."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=2, bias=False)
        self.shortcut_norm = norm(outputs)
        self.conv1 = Separable(inputs, outputs)
        self.norm1 = norm(outputs)
        self.conv2 = Separable(outputs, outputs)
        self.norm2 = norm(outputs)

    def forward(self, image: Tensor) -> Tensor:
        """[batch, inputs, height, width] -> [batch, outputs, ceil(height / 2), ceil(width / 2)]."""
        inner = functional.relu(self.norm1(self.conv1(image)))
        inner = self.norm2(self.conv2(inner))
        shortcut: Tensor = self.shortcut_norm(self.shortcut(image))
        return max_pool_same(inner, 3, 2) + shortcut


class Separable(nn.Module):
    """A 3 x 3 convolution per channel, then one across channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        """[batch, inputs, height, width] -> [batch, outputs, height, width]."""
        convolved: Tensor = self.pointwise(self.depthwise(image))
        return convolved


def _places() -> dict[str, str]:
    """The file's layers: each kind is numbered in the order of its creation, a shortcut before what it goes around."""
    places = {
        "conv2d_1": "conv1",
        "batch_normalization_1": "norm1",
        "conv2d_2": "conv2",
        "batch_normalization_2": "norm2",
    }
    for block in range(len(MODULES)):
        place, first_norm = f"blocks.{block}", 3 + 3 * block
        places |= {
            f"conv2d_{3 + block}": f"{place}.shortcut",
            f"batch_normalization_{first_norm}": f"{place}.shortcut_norm",
            f"separable_conv2d_{1 + 2 * block}": f"{place}.conv1",
            f"batch_normalization_{first_norm + 1}": f"{place}.norm1",
            f"separable_conv2d_{2 + 2 * block}": f"{place}.conv2",
            f"batch_normalization_{first_norm + 2}": f"{place}.norm2",
        }
    return places | {"conv2d_7": "head"}


def load_published(path: Path) -> MiniXception:
    """The network ready to judge. Raises ValueError if the file is not its."""
    network = MiniXception()
    fill(network, as_torch(read_keras(path), _places()))
    return network.eval()
