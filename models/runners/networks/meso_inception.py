"""MesoInception-4: is a face a person's, or was it swapped in?

Afchar et al., "MesoNet: a Compact Facial Video Forgery Detection Network", 2018, arXiv 1809.00888, section 3.2.
In: faces [batch, 3, 256, 256], RGB, 0..1. Out: [batch], the probability that a face is real. `load_published` reads the authors'
weights (https://github.com/DariusAf/MesoNet), which Keras wrote.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.runners.networks.keras import as_torch, norm
from models.runners.networks.weights import fill, read_keras, read_torch

SIZE_PIXELS = 256


class MesoInception4(nn.Module):
    """The network."""

    def __init__(self) -> None:
        super().__init__()
        self.inception1 = Inception(3, (1, 4, 4, 2))
        self.norm1 = norm(11)
        self.inception2 = Inception(11, (2, 4, 4, 2))
        self.norm2 = norm(12)
        self.conv3 = nn.Conv2d(12, 16, 5, padding=2)
        self.norm3 = norm(16)
        self.conv4 = nn.Conv2d(16, 16, 5, padding=2)
        self.norm4 = norm(16)
        self.dense = nn.Linear(1024, 16)
        self.head = nn.Linear(16, 1)

    def forward(self, faces: Tensor) -> Tensor:
        """Probabilities [batch] of faces [batch, 3, 256, 256]."""
        return torch.sigmoid(self.genuine(self.features(faces)))

    def features(self, faces: Tensor) -> Tensor:
        """What both inceptions make of faces: [batch, 12, 64, 64]."""
        image = functional.max_pool2d(self.norm1(self.inception1(faces)), 2)
        return functional.max_pool2d(self.norm2(self.inception2(image)), 2)

    def genuine(self, features: Tensor) -> Tensor:
        """Log-odds [batch] of being real, of what the inceptions made."""
        image = functional.max_pool2d(self.norm3(functional.relu(self.conv3(features))), 2)
        image = functional.max_pool2d(self.norm4(functional.relu(self.conv4(image))), 4)
        flat = image.permute(0, 2, 3, 1).flatten(1)  # the dense layer counts rows, columns, channels
        dense = functional.leaky_relu(self.dense(flat), 0.1)
        logits: Tensor = self.head(dense)
        return logits.squeeze(1)

    def learning(self) -> Iterator[nn.Parameter]:
        """What training changes: all above the inceptions, nine tenths of the weights."""
        return (
            weight for name, weight in self.named_parameters() if not name.startswith(("inception", "norm1", "norm2"))
        )

    def learned(self) -> dict[str, Tensor]:
        """All weights: the file of a trained network stands alone."""
        return dict(self.state_dict())


class Inception(nn.Module):
    """1 x 1, 3 x 3 and two dilated 3 x 3 convolutions side by side: the same face at four sizes (Figure 4)."""

    def __init__(self, inputs: int, outputs: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.point = nn.ModuleList(nn.Conv2d(inputs, width, 1) for width in outputs)
        self.wide = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
            for dilation, width in enumerate(outputs[1:], start=1)
        )

    def forward(self, image: Tensor) -> Tensor:
        """[batch, inputs, height, width] -> [batch, sum(outputs), height, width]."""
        points = [functional.relu(point(image)) for point in self.point]
        wides = [functional.relu(wide(point)) for wide, point in zip(self.wide, points[1:], strict=True)]
        return torch.cat([points[0], *wides], dim=1)


def _places() -> dict[str, str]:
    """The file's layers: convolutions are numbered along the branches of each inception, point before wide."""
    places = {"conv2d_15": "conv3", "conv2d_16": "conv4", "dense_1": "dense", "dense_2": "head"}
    for number in (1, 2):
        first, place = 7 * number - 6, f"inception{number}"
        places[f"conv2d_{first}"] = f"{place}.point.0"
        for branch in range(3):
            places[f"conv2d_{first + 1 + 2 * branch}"] = f"{place}.point.{branch + 1}"
            places[f"conv2d_{first + 2 + 2 * branch}"] = f"{place}.wide.{branch}"
    return places | {f"batch_normalization_{number}": f"norm{number}" for number in range(1, 5)}


def load_published(path: Path) -> MesoInception4:
    """The network ready to judge, as its authors' Keras or our training wrote it. Raises ValueError if the file is not its."""
    network = MesoInception4()
    fill(network, as_torch(read_keras(path), _places()) if path.suffix == ".h5" else read_torch(path))
    return network.eval()
