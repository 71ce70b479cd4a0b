"""Summaries by BART (Lewis et al., 2019, arXiv 1910.13461) and its distilled kin, from transformers."""

from collections.abc import Sequence
from typing import Any

import torch
import transformers

from models.errors import FailedError
from models.questions import Summary, Text
from models.runners.hub import HubRunner
from models.runners.loader import read, read_model

MAX_NEW_TOKENS = 64
"""About 45 words; each costs about 30 ms of a CPU (DistilBART, int8), so an answer stays below five seconds there."""


class Summariser(HubRunner[Text, Summary]):
    """Reads as much of a text as the model was made for, and says how much that was. Greedy, no three words twice."""

    takes = Text
    max_wait_ms = 0.0

    def load(self) -> tuple[str, Any]:
        """The model and its tokenizer."""
        self._tokenizer = read(transformers.AutoTokenizer.from_pretrained, self.path, use_fast=True)
        model = read_model(transformers.AutoModelForSeq2SeqLM, self.path)
        self._longest = int(model.config.max_position_embeddings)
        return str(model.config.model_type), model

    def example(self) -> Text:
        """Two sentences."""
        return Text("We met on Monday and spoke about the plan. It will be ready by Friday, said Ada.", "en")

    def check(self, question: Text) -> None:
        """There must be something to read."""
        if not question.text.strip():
            raise ValueError("an empty text")

    def answer(self, batch: Sequence[Text]) -> list[Summary]:
        """One after the other: texts have very different lengths."""
        return [self._summary(question.text) for question in batch]

    def _summary(self, text: str) -> Summary:
        tokens = self._tokenizer(
            text, truncation=True, max_length=self._longest, return_offsets_mapping=True, return_tensors="pt"
        )
        assert self.placement is not None  # nosec B101  # set before the first answer
        generated = self._model.generate(
            input_ids=self.placement.send(tokens.input_ids),
            attention_mask=self.placement.send(tokens.attention_mask),
            generation_config=self._generation(),
            return_dict_in_generate=True,
            output_logits=True,
        )
        if not all(bool(torch.isfinite(logits).all()) for logits in generated.logits):
            raise FailedError("the model's answer is not a number")
        [summary] = self._tokenizer.batch_decode(generated.sequences, skip_special_tokens=True)
        return Summary(summary.strip(), read_characters=int(tokens.offset_mapping[0, :, 1].max()))

    def _generation(self) -> transformers.GenerationConfig:
        """Said in full: what old repositories put into their configuration is read differently by each version."""
        config = self._model.config
        return transformers.GenerationConfig(
            decoder_start_token_id=config.decoder_start_token_id,
            bos_token_id=config.bos_token_id,
            eos_token_id=config.eos_token_id,
            pad_token_id=config.pad_token_id,
            forced_bos_token_id=config.bos_token_id,
            max_new_tokens=MAX_NEW_TOKENS,
            no_repeat_ngram_size=3,
            num_beams=1,
            do_sample=False,
        )
