"""Models of the real architectures with random weights, tiny unless asked otherwise, put into a store as `pull` would have.

The lock says that their weights are random: only a `Store(..., allow_random=True)` opens them, which nothing but a test makes.
Needs torch and transformers.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.convert_slow_tokenizer import bytes_to_unicode

from models import catalog
from models.catalog import HubSource, ModelEntry
from models.runners.networks import metricgan, sepformer
from models.runners.networks.weights import renamed
from models.store import LockedModel, Store, sha256_of

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LANGUAGES = ("en", "zh")
"""Of the Whisper."""
TINY_SEPFORMER = sepformer.Shape(channels=16, chunk=20, layers=1, heads=2, hidden=32)
_TRANSFORMER = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
_CONVOLUTIONS = {
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "classifier_proj_size": 16,
}
_DECODER = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
}
Sizes = Mapping[str, Any]
"""What a configuration of transformers is made with, or the shape of a SepFormer."""
TINY: dict[str, Sizes] = {
    "whisper": _DECODER,
    "distilroberta": _TRANSFORMER,
    "wav2vec2": _TRANSFORMER | _CONVOLUTIONS,
    "wavlm": _TRANSFORMER | _CONVOLUTIONS,
    "vit": _TRANSFORMER | {"image_size": 32, "patch_size": 16},
    "bart": _DECODER | {"max_position_embeddings": 128},
    "swin2sr": {"embed_dim": 16, "depths": [1], "num_heads": [2]},
    "sepformer": {"shape": TINY_SEPFORMER},
    "metricgan": {},
}


def install(
    root: Path, entry: ModelEntry, *, labels: Sequence[str] | None = None, sizes: Mapping[str, Sizes] = TINY
) -> Path:
    """Make the model of a row of the catalog and lock it; returns its folder, which has just the files that the row names.

    `labels`: what its configuration says that it answers, if not what the catalog says. `sizes`: by architecture.
    """
    assert isinstance(entry.source, HubSource)
    folder = root / "hf" / entry.source.repository / COMMIT
    folder.mkdir(parents=True)
    torch.manual_seed(1)
    build, architecture = BUILDERS[entry.name]
    build(folder, entry.labels if labels is None else labels, sizes[architecture])
    for path in folder.iterdir():
        if path.name not in [*entry.source.files, *entry.source.one_of]:
            path.unlink()
    lock(root, entry, folder)
    return folder


def lock(root: Path, entry: ModelEntry, folder: Path) -> None:
    """Write what is in the folder now into the lock, as random weights."""
    assert isinstance(entry.source, HubSource)
    files = {path.name: sha256_of(path) for path in folder.iterdir()}
    locked = LockedModel(repository=entry.source.repository, commit=COMMIT, files=files, random=True)
    Store(root).put(entry.name, locked)


def row(name: str) -> ModelEntry:
    """A row of the real catalog."""
    return catalog.load().get(name)


def _labelled(labels: Sequence[str]) -> dict[str, Any]:
    return {"id2label": dict(enumerate(labels)), "label2id": {label: index for index, label in enumerate(labels)}}


def _byte_vocabulary(folder: Path, specials: Sequence[str], settings: dict[str, Any]) -> int:
    """A byte-level tokenizer without merges, in the files that RoBERTa's and BART's repositories have; returns its size."""
    tokens = [*specials, *sorted(bytes_to_unicode().values())]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return len(tokens)


def whisper(folder: Path, labels: Sequence[str], sizes: Sizes) -> None:
    """Whisper; it has no labels."""
    del labels
    tokenizer = _whisper_tokenizer(folder)
    ids = tokenizer.convert_tokens_to_ids
    end, start = ids("<|endoftext|>"), ids("<|startoftranscript|>")
    model = transformers.WhisperForConditionalGeneration(
        transformers.WhisperConfig(
            **{"vocab_size": len(tokenizer), **sizes},
            pad_token_id=end,
            bos_token_id=end,
            eos_token_id=end,
            decoder_start_token_id=start,
        )
    )
    model.generation_config = transformers.GenerationConfig(
        decoder_start_token_id=start,
        eos_token_id=end,
        pad_token_id=end,
        bos_token_id=end,
        max_length=448,
        is_multilingual=True,
        lang_to_id={f"<|{name}|>": ids(f"<|{name}|>") for name in LANGUAGES},
        task_to_id={"transcribe": ids("<|transcribe|>"), "translate": ids("<|translate|>")},
        no_timestamps_token_id=ids("<|notimestamps|>"),
        prev_sot_token_id=ids("<|startofprev|>"),
        suppress_tokens=[],
        begin_suppress_tokens=[end],
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    transformers.WhisperFeatureExtractor().save_pretrained(folder)


def say_always(root: Path, entry: ModelEntry, folder: Path, text: str) -> None:
    """Change an installed Whisper's weights so that it says `text` (ASCII), whatever it hears.

    Its blocks add nothing, its positions outweigh its tokens, and each position is the token that follows it.
    """
    tokenizer = transformers.WhisperTokenizer.from_pretrained(folder)
    model = transformers.WhisperForConditionalGeneration.from_pretrained(folder)
    decoder = model.model.decoder
    begin = tokenizer.convert_tokens_to_ids(["<|en|>", "<|transcribe|>", "<|notimestamps|>"])
    said = [*begin, *tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    with torch.no_grad():
        for layer in decoder.layers:
            for part in (layer.self_attn.out_proj, layer.encoder_attn.out_proj, layer.fc2):
                part.weight.zero_()
                part.bias.zero_()
        directions = torch.nn.functional.layer_norm(
            torch.randn(decoder.embed_tokens.weight.shape), (model.config.d_model,)
        )
        decoder.embed_tokens.weight.copy_(directions)
        decoder.embed_positions.weight[: len(said)] = 100 * directions[said]
    model.save_pretrained(folder)
    lock(root, entry, folder)


def _whisper_tokenizer(folder: Path) -> Any:
    vocabulary = {token: index for index, token in enumerate(sorted(bytes_to_unicode().values()))}
    specials = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{name}|>" for name in LANGUAGES)]
    specials += ["<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>"]
    specials.append("<|notimestamps|>")
    for token in specials:
        vocabulary[token] = len(vocabulary)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.WhisperTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    tokenizer.add_special_tokens({"additional_special_tokens": specials[1:]})
    return tokenizer


def distilroberta(folder: Path, labels: Sequence[str], sizes: Sizes) -> None:
    """RoBERTa with a classifier."""
    specials = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    settings = {"tokenizer_class": "RobertaTokenizer", "model_max_length": 512}
    size = _byte_vocabulary(folder, specials, settings)
    (folder / "special_tokens_map.json").write_text(json.dumps({"pad_token": "<pad>"}))
    sizes = {"vocab_size": size, **sizes}
    config = transformers.RobertaConfig(max_position_embeddings=514, type_vocab_size=1, **sizes, **_labelled(labels))
    transformers.RobertaForSequenceClassification(config).save_pretrained(folder)


def wav2vec2(folder: Path, labels: Sequence[str], sizes: Sizes) -> None:
    """wav2vec 2.0 with a classifier."""
    config = transformers.Wav2Vec2Config(**sizes, **_labelled(labels))
    transformers.Wav2Vec2ForSequenceClassification(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)


def wavlm(folder: Path, labels: Sequence[str], sizes: Sizes) -> None:
    """WavLM with a classifier."""
    config = transformers.WavLMConfig(**sizes, **_labelled(labels))
    transformers.WavLMForSequenceClassification(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)


def bare_wavlm(folder: Path, labels: Sequence[str], sizes: Sizes) -> None:
    """WavLM as `microsoft/wavlm-base-plus` has it: no classifier."""
    config = transformers.WavLMConfig(**sizes, **_labelled(labels))
    transformers.WavLMModel(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)


def vit(folder: Path, labels: Sequence[str], sizes: Sizes) -> None:
    """A vision transformer with a classifier."""
    config = transformers.ViTConfig(**sizes, **_labelled(labels))
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    third = [0.5, 0.5, 0.5]
    settings = {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": config.image_size, "width": config.image_size},
        "resample": 2,
    }
    settings |= {"do_resize": True, "do_rescale": True, "do_normalize": True, "image_mean": third, "image_std": third}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))


def bart(folder: Path, labels: Sequence[str], sizes: Sizes) -> None:
    """BART; it has no labels. Its tokenizer is told by nothing but the model's type, as in the published repository."""
    del labels
    size = _byte_vocabulary(folder, ("<s>", "<pad>", "</s>", "<unk>", "<mask>"), {"model_max_length": 1024})
    config = transformers.BartConfig(
        **{"vocab_size": size, **sizes},
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
    )
    transformers.BartForConditionalGeneration(config).save_pretrained(folder)


def swin2sr(folder: Path, labels: Sequence[str], sizes: Sizes) -> None:
    """Swin2SR, twice as large; it has no labels."""
    del labels
    config = transformers.Swin2SRConfig(window_size=8, upscale=2, upsampler="pixelshuffle", **sizes)
    transformers.Swin2SRForImageSuperResolution(config).save_pretrained(folder)


_PUBLISHED_NAMES = (
    (r"^blocks\.", "dual_mdl."),
    (r"^narrow\.", "conv1d."),
    (r"^spread\.", "conv2d."),
    (r"^widen\.", "end_conv1x1."),
    (r"^output\.", "output.0."),
    (r"^gate\.", "output_gate.0."),
    (r"\.(intra|inter)\.", r".\1_mdl.mdl."),
    (r"mdl\.norm\.", "mdl.norm.norm."),
    (r"\.(norm[12])\.", r".\1.norm."),
    (r"\.self_attn\.", ".self_att.att."),
    (r"\.linear1\.", ".pos_ffn.ffn.0."),
    (r"\.linear2\.", ".pos_ffn.ffn.3."),
)
"""From our names of the parts of a SepFormer to speechbrain's (`tests/contract/test_speechbrain.py` holds them against it)."""


def speechbrain_sepformer(folder: Path, labels: Sequence[str], sizes: Sizes) -> None:
    """SepFormer in the three files that speechbrain publishes; to be loaded, its shape must be `sepformer.PUBLISHED`."""
    del labels
    shape: sepformer.Shape = sizes["shape"]
    network = sepformer.SepFormer(shape)
    masknet = {
        name: tensor for name, tensor in network.state_dict().items() if not name.startswith(("encoder.", "decoder."))
    }
    masknet = renamed(masknet, _PUBLISHED_NAMES)
    for block in range(shape.blocks):
        for path in ("intra", "inter"):
            masknet[f"dual_mdl.{block}.{path}_mdl.pos_enc.pe"] = torch.zeros(1, 2500, shape.channels)
    torch.save(masknet, folder / "masknet.ckpt")
    torch.save({"conv1d.weight": network.encoder.weight.data}, folder / "encoder.ckpt")
    torch.save({"weight": network.decoder.weight.data}, folder / "decoder.ckpt")


def metricgan_plus(folder: Path, labels: Sequence[str], sizes: Sizes) -> None:
    """MetricGAN+ of the real size, which is small."""
    del labels, sizes
    names = {"slope": "Learnable_sigmoid.slope"}
    tensors = metricgan.MetricGanPlus().state_dict()
    published = {names.get(name, name.replace("blstm.", "blstm.rnn.")): tensor for name, tensor in tensors.items()}
    torch.save(published, folder / metricgan.FILE)


BUILDERS: dict[str, tuple[Callable[[Path, Sequence[str], Sizes], None], str]] = {
    "whisper-tiny": (whisper, "whisper"),
    "emotion-english-distilroberta-base": (distilroberta, "distilroberta"),
    "wav2vec2-base-superb-er": (wav2vec2, "wav2vec2"),
    "wavlm-test": (wavlm, "wavlm"),
    "wavlm-bare": (bare_wavlm, "wavlm"),
    "vit-face-expression": (vit, "vit"),
    "deep-fake-detector-v2": (vit, "vit"),
    "distilbart-cnn-6-6": (bart, "bart"),
    "swin2sr-classical-x2": (swin2sr, "swin2sr"),
    "sepformer-wham16k-enhancement": (speechbrain_sepformer, "sepformer"),
    "metricgan-plus-voicebank": (metricgan_plus, "metricgan"),
}
"""How each is made, and whose size it has."""


def wavlm_rows() -> list[ModelEntry]:
    """Two rows that the catalog has not: WavLM with a classifier, and as `wavlm-base-plus` is, without."""
    base = row("wavlm-base-plus").model_dump()
    base |= {"runner": "audio_classification", "task": "voice_authenticity", "labels": ["spoof", "bonafide"]}
    return [
        ModelEntry.model_validate(base | {"name": name, "source": base["source"] | {"repository": f"test/{name}"}})
        for name in ("wavlm-test", "wavlm-bare")
    ]
