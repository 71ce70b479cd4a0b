"""Classifiers of texts, sounds and pictures by transformers: one probability per label.

A batch is answered as each of its questions would be alone: texts are padded under a mask; sounds share a batch only if they are
equally long (wav2vec 2.0's smaller models know no mask); pictures are all scaled to one size.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import transformers

from models.questions import Picture, Scores, Sound, Text
from models.runners.hub import HubRunner, Q, noise, numbers, samples
from models.runners.loader import check_labels, read, read_model

LONGEST_S = 30
"""Of a sound: attention takes the square of it."""
SHORTEST_S = 0.1


class Classifier(HubRunner[Q, Scores]):
    """Probabilities, which sum to 1."""

    max_batch = 8
    kind: Any
    """The class of transformers that has the head."""

    def load(self) -> tuple[str, Any]:
        """The model, and what makes its input."""
        config = read(transformers.AutoConfig.from_pretrained, self.path)
        self._labels = check_labels(config, self.entry.labels)
        self.load_input()
        return str(config.model_type), read_model(self.kind, self.path)

    @abstractmethod
    def load_input(self) -> None:
        """Read what makes tensors of questions. Raises UnavailableError."""

    @abstractmethod
    def prepare(self, batch: Sequence[Q]) -> dict[str, torch.Tensor]:
        """What the model takes."""

    def answer(self, batch: Sequence[Q]) -> list[Scores]:
        """Scores of each."""
        logits = self.forward(**self.prepare(batch)).logits
        probabilities = numbers(torch.softmax(logits.float(), dim=-1))
        return [Scores(self._labels, tuple(map(float, row))) for row in probabilities]


class TextClassifier(Classifier[Text]):
    """Texts of as many tokens as the model was made for."""

    takes = Text
    kind = transformers.AutoModelForSequenceClassification

    def load_input(self) -> None:
        """The tokenizer."""
        self._tokenizer = read(transformers.AutoTokenizer.from_pretrained, self.path)
        self._longest = int(min(self._tokenizer.model_max_length, 512))

    def example(self) -> Text:
        """Twenty words."""
        return Text("so we meet again tomorrow at ten " * 3, next(iter(self.entry.languages)))

    def check(self, question: Text) -> None:
        """Nothing of a text is left out, so it may not be too long."""
        length = len(self._tokenizer(question.text).input_ids)
        if length > self._longest:
            raise ValueError(f"a text of {length} tokens, more than {self._longest}")

    def prepare(self, batch: Sequence[Text]) -> dict[str, torch.Tensor]:
        """Tokens under a mask."""
        texts = [question.text for question in batch]
        return dict(self._tokenizer(texts, padding=True, return_tensors="pt"))


class AudioClassifier(Classifier[Sound]):
    """Sounds at the model's rate."""

    takes = Sound
    kind = transformers.AutoModelForAudioClassification

    def load_input(self) -> None:
        """The feature extractor, which knows whether the sound is to be normalised."""
        self._features = read(transformers.AutoFeatureExtractor.from_pretrained, self.path)
        self._rate_hz = int(self._features.sampling_rate)

    def example(self) -> Sound:
        """Four seconds, unless it takes just one length."""
        return noise((self.entry.window_samples or 4 * self._rate_hz) / self._rate_hz, self._rate_hz)

    def check(self, question: Sound) -> None:
        """As long as the catalog says, else within bounds."""
        length = question.pcm.size
        if self.entry.window_samples not in (None, length):
            raise ValueError(f"a window of {length} samples, not {self.entry.window_samples}")
        if not SHORTEST_S * self._rate_hz <= length <= LONGEST_S * self._rate_hz:
            raise ValueError(f"a sound of {length / self._rate_hz:.2f} s, not {SHORTEST_S} to {LONGEST_S}")

    def prepare(self, batch: Sequence[Sound]) -> dict[str, torch.Tensor]:
        """Of equally long sounds."""
        waves = [samples(question) for question in batch]
        features = self._features(waves, sampling_rate=self._rate_hz, return_tensors="pt")
        return {"input_values": features.input_values}

    def answer(self, batch: Sequence[Sound]) -> list[Scores]:
        """Together if they are equally long, else each alone."""
        if len({question.pcm.size for question in batch}) == 1:
            return super().answer(batch)
        return [scores for question in batch for scores in super(AudioClassifier, self).answer([question])]


class ImageClassifier(Classifier[Picture]):
    """Pictures of any size; the processor scales them."""

    takes = Picture
    kind = transformers.AutoModelForImageClassification

    def load_input(self) -> None:
        """The image processor; by Pillow, so that torchvision is not needed."""
        self._images = read(transformers.AutoImageProcessor.from_pretrained, self.path, backend="pil")

    def example(self) -> Picture:
        """Noise."""
        size = self.entry.image_pixels or 224
        return Picture(np.random.default_rng(1).integers(0, 256, (size, size, 3), np.uint8))

    def check(self, question: Picture) -> None:
        """A face of any size, as long as it is one."""
        if min(question.rgb.shape[:2]) < 2:
            raise ValueError(f"a picture of {question.rgb.shape[1]} x {question.rgb.shape[0]} pixels")

    def prepare(self, batch: Sequence[Picture]) -> dict[str, torch.Tensor]:
        """[batch, 3, height, width]."""
        pictures = [question.rgb for question in batch]
        return {"pixel_values": self._images(pictures, return_tensors="pt").pixel_values}
