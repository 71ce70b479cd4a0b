"""Whisper (Radford et al., 2022, arXiv 2212.04356) by transformers, from the local store.

Every window is decoded afresh: the encoder hears it padded to 30 s, one decoder step tells the language and whether anybody
spoke, greedy generation gives the text.
"""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import transformers

from models.errors import UnavailableError
from models.runners.hub import HubRunner, noise, numbers
from models.runners.loader import read, read_model
from models.speech import SAMPLE_RATE_HZ, Transcript, Utterance, Word

MAX_NEW_TOKENS = 128
"""About 12 s of fast speech; more is a hallucination that repeats itself."""
_NO_SPEECH_TOKENS = ("<|nospeech|>", "<|nocaptions|>")
_UNSPACED = {"zh", "yue", "ja", "th", "lo", "my", "km"}
"""Languages written without spaces: a character counts as a word."""


class WhisperRunner(HubRunner[Utterance, Transcript]):
    """Windows of speech to text."""

    takes = Utterance
    max_batch = 4
    max_wait_ms = 20.0

    def load(self) -> tuple[str, Any]:
        """Weights, feature extractor and tokenizer."""
        self._features = read(transformers.WhisperFeatureExtractor.from_pretrained, self.path)
        self._tokenizer = read(transformers.WhisperTokenizer.from_pretrained, self.path)
        self._no_speech = _token_of(self._tokenizer, _NO_SPEECH_TOKENS)
        model = read_model(transformers.WhisperForConditionalGeneration, self.path)
        self._start_token = int(model.generation_config.decoder_start_token_id)
        self._languages: dict[int, str] = {
            token: name.strip("<|>") for name, token in model.generation_config.lang_to_id.items()
        }
        return str(model.config.model_type), model

    def example(self) -> Utterance:
        """One second."""
        return Utterance("", "", "", noise(1.0, SAMPLE_RATE_HZ).pcm, final=True, language="auto")

    def check(self, question: Utterance) -> None:
        """Any window will do."""

    def answer(self, batch: Sequence[Utterance]) -> list[Transcript]:
        """One transcript per utterance."""
        sounds = [utterance.pcm.astype(np.float32) / 32_768 for utterance in batch]
        features = self._features(sounds, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt").input_features
        assert self.placement is not None  # nosec B101  # set before the first answer
        encoded = self._model.get_encoder()(self.placement.send(features))
        first = torch.full((len(batch), 1), self._start_token, device=self.placement.device)
        logits = self._model(encoder_outputs=encoded, decoder_input_ids=first).logits[:, -1]
        silences = numbers(torch.softmax(logits.float(), dim=-1))[:, self._no_speech]
        languages = [self._language(row, utterance.language) for row, utterance in zip(logits, batch, strict=True)]
        tokens = self._model.generate(
            encoder_outputs=encoded,
            language=languages,
            task="transcribe",
            max_new_tokens=MAX_NEW_TOKENS,
            do_sample=False,
            num_beams=1,
        )
        texts = self._tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [_transcript(*answer) for answer in zip(texts, languages, map(float, silences), strict=True)]

    def _language(self, logits: torch.Tensor, wanted: str) -> str:
        if wanted != "auto":
            return wanted
        tokens = list(self._languages)
        return self._languages[tokens[int(logits[tokens].argmax())]]


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
