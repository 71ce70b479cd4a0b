"""MetricGAN+ (Fu et al., 2021, arXiv 2104.03538): a mask over the log spectrum, by two bidirectional LSTM layers.

The published weights are speechbrain's. Spectrum: 32 ms Hamming windows every 16 ms at 16 kHz; the phase stays that of the noisy
sound.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from models.runners.networks.weights import fill, read_torch, renamed

FILE = "enhance_model.ckpt"
WINDOW_SAMPLES = 512
HOP_SAMPLES = 256
_BINS = WINDOW_SAMPLES // 2 + 1
_RULES = ((r"^blstm\.rnn\.", "blstm."), (r"^Learnable_sigmoid\.", ""))
"""From the names in the published file to ours."""


class MetricGanPlus(nn.Module):
    """Sound [batch, samples], -1..1, to the same without its noise. Not causal."""

    def __init__(self) -> None:
        super().__init__()
        self.blstm = nn.LSTM(_BINS, 200, num_layers=2, bidirectional=True, batch_first=True)
        self.linear1 = nn.Linear(400, 300)
        self.linear2 = nn.Linear(300, _BINS)
        self.slope = nn.Parameter(torch.ones(_BINS))

    def forward(self, sound: Tensor) -> Tensor:
        """As long as what came in."""
        window = torch.hamming_window(WINDOW_SAMPLES, device=sound.device)
        spectrum = torch.stft(
            sound, WINDOW_SAMPLES, HOP_SAMPLES, window=window, pad_mode="constant", return_complex=True
        )
        loudness = torch.log1p(spectrum.abs()).transpose(1, 2)
        enhanced = torch.expm1(self._mask(loudness) * loudness).transpose(1, 2)
        clean = torch.polar(enhanced, spectrum.angle())
        return torch.istft(clean, WINDOW_SAMPLES, HOP_SAMPLES, window=window, length=sound.shape[1])

    def _mask(self, loudness: Tensor) -> Tensor:
        """0..1.2 for each step and frequency."""
        hidden = nn.functional.leaky_relu(self.linear1(self.blstm(loudness)[0]), 0.3)
        return 1.2 * torch.sigmoid(self.slope * self.linear2(hidden))


def load_published(folder: Path) -> MetricGanPlus:
    """The network with its weights from `FILE`. Raises ValueError if they are another network's."""
    network = MetricGanPlus()
    fill(network, renamed(read_torch(folder / FILE), _RULES))
    return network.eval()
