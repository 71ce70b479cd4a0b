"""Our SepFormer and MetricGAN+ against speechbrain's own classes, where somebody has speechbrain (`pip install speechbrain`).

Candor does not depend on it: it needs torchaudio, which breaks transformers' audio models on a CPU, and its loader makes whatever
Python classes the repository's `hyperparams.yaml` names. Last run against speechbrain 1.1.2.
"""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the extra `speech` is not installed (make models)")
dual_path: Any = pytest.importorskip(
    "speechbrain.lobes.models.dual_path", reason="speechbrain is not installed", exc_type=ImportError
)
metric_gan: Any = pytest.importorskip("speechbrain.lobes.models.MetricGAN", reason="speechbrain is not installed")
features: Any = pytest.importorskip("speechbrain.processing.features", reason="speechbrain is not installed")
signals: Any = pytest.importorskip("speechbrain.processing.signal_processing", reason="speechbrain is not installed")

from models.runners.networks import metricgan, sepformer  # noqa: E402  # only with torch
from tests.tiny_models import TINY_SEPFORMER  # noqa: E402  # only with torch

pytestmark = [pytest.mark.weights, pytest.mark.filterwarnings("ignore")]


def published_sepformer(shape: sepformer.Shape) -> dict[str, Any]:
    """As the recipe `WHAMandWHAMR/enhancement` puts it together."""

    def transformer() -> Any:
        return dual_path.SBTransformerBlock(
            num_layers=shape.layers,
            d_model=shape.channels,
            nhead=shape.heads,
            d_ffn=shape.hidden,
            dropout=0,
            use_positional_encoding=True,
            norm_before=True,
        )

    masknet = dual_path.Dual_Path_Model(
        num_spks=1,
        in_channels=shape.channels,
        out_channels=shape.channels,
        num_layers=shape.blocks,
        K=shape.chunk,
        intra_model=transformer(),
        inter_model=transformer(),
        norm="ln",
        linear_layer_after_inter_intra=False,
        skip_around_intra=True,
    )
    encoder = dual_path.Encoder(kernel_size=shape.kernel, out_channels=shape.channels)
    decoder = dual_path.Decoder(
        in_channels=shape.channels, out_channels=1, kernel_size=shape.kernel, stride=shape.kernel // 2, bias=False
    )
    return {"encoder": encoder.eval(), "masknet": masknet.eval(), "decoder": decoder.eval()}


@pytest.mark.parametrize("samples", [8_000, 8_003])
def test_sepformer_does_what_speechbrains_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, samples: int) -> None:
    torch.manual_seed(5)
    theirs = published_sepformer(TINY_SEPFORMER)
    for name, module in theirs.items():
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        torch.save(module.state_dict(), tmp_path / f"{name}.ckpt")
    monkeypatch.setattr(sepformer, "PUBLISHED", TINY_SEPFORMER)
    sound = torch.randn(1, samples)
    with torch.inference_mode():
        encoded = theirs["encoder"](sound)
        expected = theirs["decoder"](encoded * theirs["masknet"](encoded)[0]).reshape(-1)
        actual = sepformer.load_published(tmp_path)(sound)[0]
    assert float(expected.abs().max()) > 0.1
    assert torch.allclose(actual[: len(expected)], expected, atol=1e-4)
    assert not actual[len(expected) :].any()


def test_metricgan_does_what_speechbrains_does(tmp_path: Path) -> None:
    torch.manual_seed(5)
    generator = metric_gan.EnhancementGenerator().eval()
    torch.nn.init.normal_(generator.Learnable_sigmoid.slope)
    torch.save(generator.state_dict(), tmp_path / metricgan.FILE)
    stft = features.STFT(16_000, win_length=32, hop_length=16, n_fft=512, window_fn=torch.hamming_window)
    istft = features.ISTFT(16_000, win_length=32, hop_length=16, window_fn=torch.hamming_window)
    sound = torch.randn(1, 8_003) * 0.1
    with torch.inference_mode():
        loud = torch.log1p(features.spectral_magnitude(stft(sound), power=0.5))
        enhanced = torch.expm1(generator(loud, lengths=torch.tensor([1.0])) * loud)
        expected = signals.resynthesize(enhanced, sound, stft, istft, normalize_wavs=False)
        actual = metricgan.load_published(tmp_path)(sound)
    assert float(expected.abs().max()) > 0.01
    assert torch.allclose(actual, expected, atol=1e-4)
