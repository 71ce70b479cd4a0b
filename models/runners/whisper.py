"""Whisper (Radford et al., 2022, arXiv 2212.04356) by transformers, from the local store.

Every window is decoded afresh: the encoder hears it padded to 30 s, one decoder step tells the language and whether anybody
spoke, greedy generation gives the text.
"""

import asyncio
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import transformers

from models.errors import FailedError, UnavailableError
from models.speech import SAMPLE_RATE_HZ, Transcript, Utterance, Word

MAX_NEW_TOKENS = 128
"""About 12 s of fast speech; more is a hallucination that repeats itself."""
_NO_SPEECH_TOKENS = ("<|nospeech|>", "<|nocaptions|>")
_UNSPACED = {"zh", "yue", "ja", "th", "lo", "my", "km"}
"""Languages written without spaces: a character counts as a word."""


class WhisperRunner:
    """`Runner` on one thread of its own, which torch frees the GIL from."""

    takes = Utterance
    max_batch = 4
    max_wait_ms = 20.0
    concurrency = 1

    def __init__(self, path: Path, precision: Literal["int8", "fp32"]) -> None:
        self._path = path
        self._precision = precision
        self._model: _Loaded | None = None

    async def start(self) -> None:
        """Load the weights. Raises UnavailableError if they are not a whole Whisper."""
        self._model = await asyncio.to_thread(_Loaded, self._path, self._precision)

    def check(self, question: Utterance) -> None:
        """Any window will do."""

    async def run(self, batch: Sequence[Utterance]) -> list[Transcript]:
        """One transcript per utterance. Raises FailedError before `start`."""
        if self._model is None:
            raise FailedError("the model is not loaded")
        return await asyncio.to_thread(self._model.transcribe, batch)

    async def close(self) -> None:
        """Let the weights go."""
        self._model = None


class _Loaded:
    """Weights, feature extractor and tokenizer. Called from one thread at a time."""

    def __init__(self, path: Path, precision: Literal["int8", "fp32"]) -> None:
        torch.set_num_threads(1)
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        # B615 wants a revision for each; these are files of the store, already verified against its lock.
        try:
            self._features = transformers.WhisperFeatureExtractor.from_pretrained(path, **local)  # nosec B615
            self._tokenizer = transformers.WhisperTokenizer.from_pretrained(path, **local)  # nosec B615
            model, report = transformers.WhisperForConditionalGeneration.from_pretrained(  # nosec B615
                path, use_safetensors=True, output_loading_info=True, **local
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise UnavailableError(f"its files cannot be loaded: {error}") from error
        missing = sorted(report["missing_keys"])
        if missing:
            raise UnavailableError(f"{len(missing)} weights are missing and would be random, among them {missing[0]}")
        self._model = _quantised(model.eval()) if precision == "int8" else model.eval()
        self._start = int(model.generation_config.decoder_start_token_id)
        self._languages: dict[int, str] = {
            token: name.strip("<|>") for name, token in model.generation_config.lang_to_id.items()
        }
        self._no_speech = _token_of(self._tokenizer, _NO_SPEECH_TOKENS)

    def transcribe(self, batch: Sequence[Utterance]) -> list[Transcript]:
        sounds = [utterance.pcm.astype(np.float32) / 32_768 for utterance in batch]
        features = self._features(sounds, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt").input_features
        with torch.inference_mode():
            encoded = self._model.get_encoder()(features)
            first = torch.full((len(batch), 1), self._start)
            logits = self._model(encoder_outputs=encoded, decoder_input_ids=first).logits[:, -1]
            languages = [self._language(row, utterance.language) for row, utterance in zip(logits, batch, strict=True)]
            tokens = self._model.generate(
                encoder_outputs=encoded,
                language=languages,
                task="transcribe",
                max_new_tokens=MAX_NEW_TOKENS,
                do_sample=False,
                num_beams=1,
            )
        silences = torch.softmax(logits.float(), dim=-1)[:, self._no_speech].tolist()
        texts = self._tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [_transcript(*answer) for answer in zip(texts, languages, silences, strict=True)]

    def _language(self, logits: torch.Tensor, wanted: str) -> str:
        if wanted != "auto":
            return wanted
        tokens = list(self._languages)
        return self._languages[tokens[int(logits[tokens].argmax())]]


def _quantised(model: Any) -> Any:
    """Linear layers in int8, activations quantised as they come."""
    with warnings.catch_warnings():
        # Its successor torchao is one more package; torch is pinned to a version that still has this.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", UserWarning)
        return torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)


def _token_of(tokenizer: Any, names: Sequence[str]) -> int:
    vocabulary = tokenizer.get_vocab()
    for name in names:
        if name in vocabulary:
            return int(vocabulary[name])
    raise UnavailableError("its tokenizer has no token for silence: not a Whisper tokenizer")


def _transcript(text: str, language: str, no_speech: float) -> Transcript:
    text = text.strip()
    raw = text.encode()
    return Transcript(
        words=tuple(Word(word) for word in split_words(text, language)),
        language=language,
        no_speech_probability=round(no_speech, 3),
        compression_ratio=round(len(raw) / len(zlib.compress(raw)), 2) if raw else None,
    )


def split_words(text: str, language: str) -> list[str]:
    """What LocalAgreement compares: words with the space before them, characters where a script has no spaces."""
    if language in _UNSPACED:
        return list(text)
    return [f" {word}" for word in text.split()]
