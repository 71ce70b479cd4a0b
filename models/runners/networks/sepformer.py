"""SepFormer (Subakan et al., 2021, arXiv 2010.13154), as far as it enhances: learned encoder, mask and decoder, one source.

The published weights are those of speechbrain, whose own loader takes the shape of the network from a file that may name any
Python class. Here the shape is written down, and a file of another shape is refused.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from models.runners.networks.weights import fill, read_torch, renamed

FILES = ("encoder.ckpt", "masknet.ckpt", "decoder.ckpt")
_RULES = (
    (r"^encoder\.conv1d\.", "encoder."),
    (r"^masknet\.norm\.", "norm."),
    (r"^masknet\.conv1d\.", "narrow."),
    (r"^masknet\.dual_mdl\.", "blocks."),
    (r"^masknet\.prelu\.", "prelu."),
    (r"^masknet\.conv2d\.", "spread."),
    (r"^masknet\.output\.0\.", "output."),
    (r"^masknet\.output_gate\.0\.", "gate."),
    (r"^masknet\.end_conv1x1\.", "widen."),
    (r"_mdl\.mdl\.norm\.norm\.", ".norm."),
    (r"_mdl\.mdl\.layers\.", ".layers."),
    (r"\.self_att\.att\.", ".self_attn."),
    (r"\.pos_ffn\.ffn\.0\.", ".linear1."),
    (r"\.pos_ffn\.ffn\.3\.", ".linear2."),
    (r"\.(norm[12])\.norm\.", r".\1."),
)
"""From the names in the published files to ours."""
_COMPUTED = ".pos_enc.pe"
"""A table of sines that the files have too; here it is computed."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a SepFormer."""

    channels: int = 256
    kernel: int = 16
    chunk: int = 250
    """Encoded steps in a chunk; even."""
    blocks: int = 2
    layers: int = 8
    heads: int = 8
    hidden: int = 1024


PUBLISHED = Shape()
"""Of speechbrain's enhancement models."""


class SepFormer(nn.Module):
    """Sound [batch, samples], -1..1, to the same without its noise. Not causal."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width, stride = shape.channels, shape.kernel // 2
        self.encoder = nn.Conv1d(1, width, shape.kernel, stride, bias=False)
        self.norm = nn.GroupNorm(1, width, eps=1e-8)
        self.narrow = nn.Conv1d(width, width, 1, bias=False)
        self.blocks = nn.ModuleList(_DualPath(shape) for _ in range(shape.blocks))
        self.prelu = nn.PReLU()
        self.spread = nn.Conv2d(width, width, 1)
        self.output = nn.Conv1d(width, width, 1)
        self.gate = nn.Conv1d(width, width, 1)
        self.widen = nn.Conv1d(width, width, 1, bias=False)
        self.decoder = nn.ConvTranspose1d(width, 1, shape.kernel, stride, bias=False)
        self._chunk = shape.chunk

    def forward(self, sound: Tensor) -> Tensor:
        """As long as what came in; what the encoder could not cover of its end is silent."""
        encoded = torch.relu(self.encoder(sound[:, None]))
        enhanced = self.decoder(encoded * self._mask(encoded))[:, 0]
        return nn.functional.pad(enhanced, (0, sound.shape[1] - enhanced.shape[1]))

    def _mask(self, encoded: Tensor) -> Tensor:
        """[batch, channels, steps], not negative."""
        steps = encoded.shape[-1]
        chunks = _cut(self.narrow(self.norm(encoded)), self._chunk)
        for block in self.blocks:
            chunks = block(chunks)
        joined = _join(self.spread(self.prelu(chunks)))[..., :steps]
        return torch.relu(self.widen(torch.tanh(self.output(joined)) * torch.sigmoid(self.gate(joined))))


class _DualPath(nn.Module):
    """A transformer along each chunk, and one across the chunks."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.intra = _transformer(shape)
        self.intra_norm = nn.GroupNorm(1, shape.channels, eps=1e-8)
        self.inter = _transformer(shape)
        self.inter_norm = nn.GroupNorm(1, shape.channels, eps=1e-8)

    def forward(self, chunks: Tensor) -> Tensor:
        """[batch, channels, position in the chunk, chunk], in and out."""
        chunks = chunks + self.intra_norm(_along(self.intra, chunks.transpose(2, 3)).transpose(2, 3))
        return chunks + self.inter_norm(_along(self.inter, chunks))


def _transformer(shape: Shape) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(
        shape.channels, shape.heads, shape.hidden, 0.0, layer_norm_eps=1e-6, batch_first=True, norm_first=True
    )
    norm = nn.LayerNorm(shape.channels, eps=1e-6)
    return nn.TransformerEncoder(layer, shape.layers, norm=norm, enable_nested_tensor=False)


def _along(transformer: nn.TransformerEncoder, tensor: Tensor) -> Tensor:
    """Over the last axis of [batch, channels, rows, steps]; each row by itself."""
    batch, channels, rows, steps = tensor.shape
    sequences = tensor.permute(0, 2, 3, 1).reshape(batch * rows, steps, channels)
    answered = transformer(sequences + _positions(steps, channels).to(sequences))
    return answered.reshape(batch, rows, steps, channels).permute(0, 3, 1, 2)


def _positions(steps: int, channels: int) -> Tensor:
    """Sines and cosines of a position (Vaswani et al., 2017, arXiv 1706.03762, section 3.5): [steps, channels]."""
    rates = torch.exp(torch.arange(0, channels, 2) * (-math.log(10_000.0) / channels))
    angles = torch.arange(steps)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def _cut(encoded: Tensor, chunk: int) -> Tensor:
    """[batch, channels, steps] in chunks that overlap by half, an even number of them: [batch, channels, chunk, chunks]."""
    half = chunk // 2
    gap = chunk - (half + encoded.shape[-1] % chunk) % chunk
    return nn.functional.pad(encoded, (half, gap + half)).unfold(-1, chunk, half).transpose(2, 3)


def _join(chunks: Tensor) -> Tensor:
    """Chunks laid over each other again; ends with what `_cut` added."""
    half = chunks.shape[2] // 2
    rows = chunks.transpose(2, 3)
    return rows[:, :, 0::2].flatten(2)[..., half:] + rows[:, :, 1::2].flatten(2)[..., :-half]


def load_published(folder: Path) -> SepFormer:
    """The network with its weights from `FILES`. Raises ValueError if they are another network's."""
    tensors = {
        f"{name.removesuffix('.ckpt')}.{key}": tensor
        for name in FILES
        for key, tensor in read_torch(folder / name).items()
        if not key.endswith(_COMPUTED)
    }
    network = SepFormer(PUBLISHED)
    fill(network, renamed(tensors, _RULES))
    return network.eval()
