"""A head on a base that stays as it is: the base's layers, weighted, into one number.

In: what the base takes. Out, as the siblings that it stands in for: logits [batch, 2] (spoof, bona fide) of voices, probabilities
[batch] of faces. The weighted sum over all layers is SUPERB's (Yang et al., 2021, arXiv 2105.01051, section 2.2); each layer is
normalised first, because their sizes differ a hundredfold.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Head(nn.Module):
    """What is trained: one weight per layer of the base, one per feature."""

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        self.mixture = nn.Parameter(torch.zeros(layers))
        self.linear = nn.Linear(width, 1)

    def genuine(self, features: Tensor) -> Tensor:
        """Log-odds [batch] of being genuine, of features [batch, layers, width]."""
        normal = functional.layer_norm(features, features.shape[-1:])
        mixed = torch.einsum("l,blw->bw", torch.softmax(self.mixture, dim=0), normal)
        logits: Tensor = self.linear(mixed)
        return logits.squeeze(1)


class OnBase(nn.Module):
    """A base and a head."""

    def __init__(self, base: Any) -> None:
        super().__init__()
        self.base = base.eval().requires_grad_(False)
        self.head = Head(base.config.num_hidden_layers + 1, base.config.hidden_size)

    @abstractmethod
    def features(self, inputs: Tensor) -> Tensor:
        """What the base makes of the inputs: [batch, layers, width]."""

    def genuine(self, features: Tensor) -> Tensor:
        """Log-odds [batch] of being genuine, of what the base made."""
        return self.head.genuine(features)

    def learning(self) -> Iterator[nn.Parameter]:
        """What training changes: the head."""
        return iter(self.head.parameters())

    def learned(self) -> dict[str, Tensor]:
        """The head's weights; the base has files of its own."""
        return dict(self.head.state_dict())


class VoiceOnBase(OnBase):
    """On a base that hears (WavLM); in: sound [batch, samples], 16 kHz, in -1..1."""

    def __init__(self, base: Any, normalised: bool) -> None:
        super().__init__(base)
        self._normalised = normalised
        """Whether the base learned from sound of mean 0 and variance 1."""

    def features(self, inputs: Tensor) -> Tensor:
        """The mean over the time of each layer."""
        sound = functional.layer_norm(inputs, inputs.shape[-1:]) if self._normalised else inputs
        layers = self.base(sound, output_hidden_states=True).hidden_states
        return torch.stack([layer.mean(dim=1) for layer in layers], dim=1)

    def forward(self, sound: Tensor) -> Tensor:
        """Logits [batch, 2]. Only their difference was learned."""
        genuine = self.genuine(self.features(sound))
        return torch.stack([-genuine / 2, genuine / 2], dim=1)


class FaceOnBase(OnBase):
    """On a base that sees (ViT); in: faces [batch, 3, size, size], RGB, in 0..1."""

    def __init__(self, base: Any, mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__(base)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation).view(1, 3, 1, 1), persistent=False)

    def features(self, inputs: Tensor) -> Tensor:
        """The class token of each layer."""
        pixels = (inputs - self.get_buffer("mean")) / self.get_buffer("deviation")
        layers = self.base(pixel_values=pixels, output_hidden_states=True).hidden_states
        return torch.stack([layer[:, 0] for layer in layers], dim=1)

    def forward(self, faces: Tensor) -> Tensor:
        """Probabilities [batch] of being real."""
        return torch.sigmoid(self.genuine(self.features(faces)))
