"""AASIST: is a voice recorded or made? Graph attention over the spectrum and the time of a raw waveform.

Jung et al., "AASIST: Audio Anti-Spoofing using Integrated Spectro-Temporal Graph Attention Networks", 2021, arXiv 2110.01200.
In: sound [batch, 64,600], 16 kHz, in -1..1. Out: logits [batch, 2]: spoof, bona fide. Inference only, so the paper's dropout
is not here. `load_published` reads the authors' weights (https://github.com/clovaai/aasist), and ours after training.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.runners.networks.weights import fill, read_torch, renamed

SAMPLE_RATE_HZ = 16_000
LABELS = ("spoof", "bonafide")
WINDOW_SAMPLES = 64_600
FILTERS = 70
FILTER_TAPS = 129
SPECTRAL_NODES = 23
"""What the encoder leaves of the filters: each pooling divides by three."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The sizes in which AASIST and its light sister differ (section 2.5 of the paper)."""

    channels: tuple[int, ...]
    """Of the encoder's blocks, each one's output."""
    graph_dim: int
    stack_dim: int
    spectral_kept: float
    temporal_kept: float
    """Shares of nodes that the first poolings keep."""
    branch_kept: float
    """The share that both poolings of a branch keep."""


AASIST = Layout((32, 32, 64, 64, 64, 64), 64, 32, spectral_kept=0.5, temporal_kept=0.7, branch_kept=0.5)
AASIST_L = Layout((32, 32, 24, 24, 24, 24), 24, 32, spectral_kept=0.4, temporal_kept=0.5, branch_kept=0.7)
GRAPH_TEMPERATURE = 2.0
STACK_TEMPERATURE = 100.0


class Aasist(nn.Module):
    """The network."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        width = layout.channels[-1]
        self.register_buffer("filters", sinc_filters(FILTERS, FILTER_TAPS), persistent=False)
        self.norm = nn.BatchNorm2d(1)
        inputs = (1, *layout.channels[:-1])
        self.blocks = nn.Sequential(*map(ResidualBlock, inputs, layout.channels))
        self.spectral_position = nn.Parameter(torch.zeros(1, SPECTRAL_NODES, width))
        self.spectral_attention = GraphAttention(width, layout.graph_dim)
        self.temporal_attention = GraphAttention(width, layout.graph_dim)
        self.spectral_pool = GraphPool(layout.graph_dim, layout.spectral_kept)
        self.temporal_pool = GraphPool(layout.graph_dim, layout.temporal_kept)
        self.branches = nn.ModuleList(Branch(layout) for _ in range(2))
        self.head = nn.Linear(5 * layout.stack_dim, 2)

    def forward(self, sound: Tensor) -> Tensor:
        """Logits [batch, 2] (spoof, bona fide) of sound [batch, samples]."""
        return self._judge(self.features(sound))

    def features(self, sound: Tensor) -> Tensor:
        """What the encoder makes of sound [batch, samples]: [batch, channels, spectral nodes, temporal nodes]."""
        bands = functional.conv1d(sound.unsqueeze(1), self.get_buffer("filters")).abs()
        image = functional.selu(self.norm(functional.max_pool2d(bands.unsqueeze(1), 3)))
        strength: Tensor = self.blocks(image).abs()
        return strength

    def _judge(self, strength: Tensor) -> Tensor:
        """Logits of what the encoder made."""
        spectral = strength.amax(dim=3).transpose(1, 2) + self.spectral_position
        temporal = strength.amax(dim=2).transpose(1, 2)
        spectral = self.spectral_pool(self.spectral_attention(spectral))
        temporal = self.temporal_pool(self.temporal_attention(temporal))
        first, second = (branch(temporal, spectral) for branch in self.branches)
        temporal, spectral, stack = (torch.maximum(one, other) for one, other in zip(first, second, strict=True))
        readout = [
            temporal.abs().amax(dim=1),
            temporal.mean(dim=1),
            spectral.abs().amax(dim=1),
            spectral.mean(dim=1),
            stack.squeeze(1),
        ]
        logits: Tensor = self.head(torch.cat(readout, dim=1))
        return logits

    def genuine(self, features: Tensor) -> Tensor:
        """Log-odds [batch] of being bona fide, of what the encoder made."""
        logits = self._judge(features)
        return logits[:, 1] - logits[:, 0]

    def learning(self) -> Iterator[nn.Parameter]:
        """What training changes: the graphs, not the encoder, which on a CPU would take 5 s for each window and epoch."""
        return (weight for name, weight in self.named_parameters() if not name.startswith(("norm.", "blocks.")))

    def learned(self) -> dict[str, Tensor]:
        """All weights: the file of a trained AASIST stands alone."""
        return dict(self.state_dict())


class ResidualBlock(nn.Module):
    """Pre-activation residual block of 2 x 3 kernels that pools the time by three (section 2.2).

    The authors' weights are those of a block whose first convolution takes the input itself; its first normalisation was
    trained beside it without effect, and is only here so that no tensor of the file is left over.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        if inputs != 1:
            self.unused_norm = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, (2, 3), padding=(1, 1))
        self.norm = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, (2, 3), padding=(0, 1))
        self.shortcut = nn.Conv2d(inputs, outputs, (1, 3), padding=(0, 1)) if inputs != outputs else nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        """[batch, inputs, height, width] -> [batch, outputs, height, width // 3]."""
        inner = self.conv2(functional.selu(self.norm(self.conv1(image))))
        return functional.max_pool2d(inner + self.shortcut(image), (1, 3))


class GraphAttention(nn.Module):
    """Attention among the nodes of one graph, weighted by the product of each pair (section 2.3)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.pair = nn.Linear(inputs, outputs)
        self.score = nn.Parameter(torch.zeros(outputs, 1))
        self.attended = nn.Linear(inputs, outputs)
        self.own = nn.Linear(inputs, outputs)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, nodes: Tensor) -> Tensor:
        """[batch, nodes, inputs] -> [batch, nodes, outputs]."""
        scores = torch.tanh(self.pair(_pairs(nodes))) @ self.score
        weights = functional.softmax(scores.squeeze(-1) / GRAPH_TEMPERATURE, dim=-1)
        return _normalised(self.norm, self.attended(weights @ nodes) + self.own(nodes))


class StackAttention(nn.Module):
    """Attention over two kinds of nodes at once, with a stack node that listens to all of them (section 2.4)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.from_temporal = nn.Linear(inputs, inputs)
        self.from_spectral = nn.Linear(inputs, inputs)
        self.pair = nn.Linear(inputs, outputs)
        self.score_temporal = nn.Parameter(torch.zeros(outputs, 1))
        self.score_spectral = nn.Parameter(torch.zeros(outputs, 1))
        self.score_across = nn.Parameter(torch.zeros(outputs, 1))
        self.attended = nn.Linear(inputs, outputs)
        self.own = nn.Linear(inputs, outputs)
        self.norm = nn.BatchNorm1d(outputs)
        self.stack_pair = nn.Linear(inputs, outputs)
        self.stack_score = nn.Parameter(torch.zeros(outputs, 1))
        self.stack_attended = nn.Linear(inputs, outputs)
        self.stack_own = nn.Linear(inputs, outputs)

    def forward(self, temporal: Tensor, spectral: Tensor, stack: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Nodes [batch, *, inputs] and stack [batch, 1, inputs] -> the same with `outputs`."""
        count = temporal.shape[1]
        nodes = torch.cat([self.from_temporal(temporal), self.from_spectral(spectral)], dim=1)
        weights = functional.softmax(self._scores(nodes, count) / STACK_TEMPERATURE, dim=-1)
        stack = self._listen(nodes, stack)
        nodes = _normalised(self.norm, self.attended(weights @ nodes) + self.own(nodes))
        return nodes[:, :count], nodes[:, count:], stack

    def _scores(self, nodes: Tensor, temporal: int) -> Tensor:
        """One score a pair [batch, nodes, nodes]; which vector weighs it depends on the kinds of both."""
        pairs = torch.tanh(self.pair(_pairs(nodes)))
        within, across = slice(None, temporal), slice(temporal, None)
        scores = (pairs @ self.score_across).squeeze(-1)
        scores[:, within, within] = (pairs[:, within, within] @ self.score_temporal).squeeze(-1)
        scores[:, across, across] = (pairs[:, across, across] @ self.score_spectral).squeeze(-1)
        return scores

    def _listen(self, nodes: Tensor, stack: Tensor) -> Tensor:
        scores = torch.tanh(self.stack_pair(nodes * stack)) @ self.stack_score
        weights = functional.softmax(scores / STACK_TEMPERATURE, dim=-2)
        heard: Tensor = self.stack_attended(weights.transpose(1, 2) @ nodes) + self.stack_own(stack)
        return heard


class GraphPool(nn.Module):
    """Keeps the share of the nodes that score highest, each weighted by its score."""

    def __init__(self, width: int, kept: float) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)
        self.kept = kept

    def forward(self, nodes: Tensor) -> Tensor:
        """[batch, nodes, width] -> [batch, kept * nodes, width], best first."""
        scores = torch.sigmoid(self.score(nodes))
        count = max(int(nodes.shape[1] * self.kept), 1)
        best = scores.topk(count, dim=1).indices.expand(-1, -1, nodes.shape[2])
        return (nodes * scores).gather(1, best)


class Branch(nn.Module):
    """One of the two branches whose element-wise maximum is read out (section 2.5)."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.stack = nn.Parameter(torch.zeros(1, 1, layout.graph_dim))
        self.first = StackAttention(layout.graph_dim, layout.stack_dim)
        self.second = StackAttention(layout.stack_dim, layout.stack_dim)
        self.spectral_pool = GraphPool(layout.stack_dim, layout.branch_kept)
        self.temporal_pool = GraphPool(layout.stack_dim, layout.branch_kept)

    def forward(self, temporal: Tensor, spectral: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Temporal nodes, spectral nodes, stack node."""
        temporal, spectral, stack = self.first(temporal, spectral, self.stack)
        temporal, spectral = self.temporal_pool(temporal), self.spectral_pool(spectral)
        more_temporal, more_spectral, more_stack = self.second(temporal, spectral, stack)
        return temporal + more_temporal, spectral + more_spectral, stack + more_stack


def sinc_filters(count: int, taps: int) -> Tensor:
    """Fixed band-pass filters [count, 1, taps] between `count + 1` frequencies that are even on the mel scale.

    The first layer of RawNet2 (Tak et al., 2021, arXiv 2011.01108, section 3.1), with a Hamming window.
    """
    highest_mel = 2595 * np.log10(1 + SAMPLE_RATE_HZ / 2 / 700)
    edges_hz = 700 * (10 ** (np.linspace(0, highest_mel, count + 1) / 2595) - 1)
    at = np.arange(taps) - (taps - 1) / 2
    low_pass = [2 * edge / SAMPLE_RATE_HZ * np.sinc(2 * edge * at / SAMPLE_RATE_HZ) for edge in edges_hz]
    bands = np.diff(np.stack(low_pass), axis=0) * np.hamming(taps)
    return torch.from_numpy(bands.astype(np.float32)).unsqueeze(1)


def _pairs(nodes: Tensor) -> Tensor:
    """Products of every two nodes [batch, nodes, nodes, width]."""
    return nodes.unsqueeze(2) * nodes.unsqueeze(1)


def _normalised(norm: nn.BatchNorm1d, nodes: Tensor) -> Tensor:
    """Normalise over all nodes of the batch, then SELU."""
    return functional.selu(norm(nodes.flatten(0, 1)).view(nodes.shape))


_NAMES = [
    (r"^first_bn\.", "norm."),
    (r"^encoder\.(\d)\.0\.bn1\.", r"blocks.\1.unused_norm."),
    (r"^encoder\.(\d)\.0\.bn2\.", r"blocks.\1.norm."),
    (r"^encoder\.(\d)\.0\.conv_downsample\.", r"blocks.\1.shortcut."),
    (r"^encoder\.(\d)\.0\.", r"blocks.\1."),
    (r"^pos_S$", "spectral_position"),
    (r"^GAT_layer_S\.", "spectral_attention."),
    (r"^GAT_layer_T\.", "temporal_attention."),
    (r"^pool_S\.proj\.", "spectral_pool.score."),
    (r"^pool_T\.proj\.", "temporal_pool.score."),
    (r"^master1$", "branches.0.stack"),
    (r"^master2$", "branches.1.stack"),
    (r"^pool_hS1\.proj\.", "branches.0.spectral_pool.score."),
    (r"^pool_hS2\.proj\.", "branches.1.spectral_pool.score."),
    (r"^pool_hT1\.proj\.", "branches.0.temporal_pool.score."),
    (r"^pool_hT2\.proj\.", "branches.1.temporal_pool.score."),
    (r"^HtrgGAT_layer_ST11\.", "branches.0.first."),
    (r"^HtrgGAT_layer_ST12\.", "branches.0.second."),
    (r"^HtrgGAT_layer_ST21\.", "branches.1.first."),
    (r"^HtrgGAT_layer_ST22\.", "branches.1.second."),
    (r"^out_layer\.", "head."),
    (r"\.proj_type1\.", ".from_temporal."),
    (r"\.proj_type2\.", ".from_spectral."),
    (r"\.att_proj\.", ".pair."),
    (r"\.att_projM\.", ".stack_pair."),
    (r"\.att_weight$", ".score"),
    (r"\.att_weight11$", ".score_temporal"),
    (r"\.att_weight22$", ".score_spectral"),
    (r"\.att_weight12$", ".score_across"),
    (r"\.att_weightM$", ".stack_score"),
    (r"\.proj_with_att\.", ".attended."),
    (r"\.proj_without_att\.", ".own."),
    (r"\.proj_with_attM\.", ".stack_attended."),
    (r"\.proj_without_attM\.", ".stack_own."),
    (r"attention\.bn\.", "attention.norm."),
    (r"(first|second)\.bn\.", r"\1.norm."),
]
"""The published names, and ours; applied one after the other. No rule changes one of ours."""


def load_published(path: Path) -> Aasist:
    """AASIST or AASIST-L, told apart by their sizes, ready to judge. Raises ValueError if the file is neither."""
    tensors = renamed(read_torch(path), _NAMES)
    width = tensors.get("spectral_position", torch.empty(0)).shape[-1]
    network = Aasist(AASIST_L if width == AASIST_L.channels[-1] else AASIST)
    fill(network, tensors)
    return network.eval()
