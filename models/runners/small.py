"""Runners of the small networks in `networks/`: a question is made into a tensor, the answer is one number per label."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Generic, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from models.errors import FailedError, UnavailableError
from models.questions import Picture, Scores, Sound
from models.runners.networks import aasist, meso_inception, mini_xception

SPEECH_RMS = 0.1
"""How loud voices are made for AASIST: above the levels at which synthetic ones pass for genuine, below those that clip."""
FRAME = 320
"""20 ms."""

Q = TypeVar("Q", Sound, Picture)
Numbers = NDArray[np.float32]


class SmallRunner(ABC, Generic[Q]):
    """`Runner` of a network, on a thread; torch frees the GIL."""

    takes: type[Q]
    max_batch: int
    max_wait_ms = 10.0
    isolated = False
    concurrency = 1

    def __init__(self, path: Path, labels: Sequence[str]) -> None:
        self._path = path
        self._labels = tuple(labels)
        self._network: torch.nn.Module | None = None

    async def start(self) -> None:
        """Load. Raises UnavailableError if the file is another network's, or its labels are not those of the catalog."""
        if self._labels != self.own_labels():
            raise UnavailableError(f"the catalog says that it answers {self._labels}, it answers {self.own_labels()}")
        try:
            self._network = await asyncio.to_thread(self._load)
        except ValueError as error:
            raise UnavailableError(f"its file cannot be loaded: {error}") from error

    def _load(self) -> torch.nn.Module:
        torch.set_num_threads(1)
        return self.load(self._path)

    @abstractmethod
    def own_labels(self) -> tuple[str, ...]:
        """What the network answers, in order."""

    @abstractmethod
    def load(self, path: Path) -> torch.nn.Module:
        """The network with its weights. Raises ValueError."""

    @abstractmethod
    def check(self, question: Q) -> None:
        """Raises ValueError for a question of another shape."""

    @abstractmethod
    def prepare(self, question: Q) -> Numbers:
        """What the network takes of one question."""

    async def run(self, batch: Sequence[Q]) -> list[Scores]:
        """Scores of each question. Raises FailedError if an answer is not a number."""
        if self._network is None:
            raise FailedError("the model is not loaded")
        answers = await asyncio.to_thread(self._forward, self._network, batch)
        if not np.isfinite(answers).all():
            raise FailedError("the model's answer is not a number")
        return [Scores(self._labels, tuple(map(float, row))) for row in answers]

    def _forward(self, network: torch.nn.Module, batch: Sequence[Q]) -> Numbers:
        tensor = torch.from_numpy(np.stack([self.prepare(question) for question in batch]))
        with torch.inference_mode():
            return np.asarray(network(tensor), np.float32).reshape(len(batch), -1)

    async def close(self) -> None:
        """Let the weights go."""
        self._network = None


class VoiceRunner(SmallRunner[Sound]):
    """Logits of `spoof` and `bonafide`."""

    takes = Sound
    max_batch = 1
    """On a CPU four together cost as much as one after the other."""

    def own_labels(self) -> tuple[str, ...]:
        """In the order of the published weights."""
        return aasist.LABELS

    def check(self, question: Sound) -> None:
        """It takes just one length."""
        if question.pcm.shape != (aasist.WINDOW_SAMPLES,):
            raise ValueError(f"a window of {question.pcm.size} samples, not {aasist.WINDOW_SAMPLES}")

    def prepare(self, question: Sound) -> Numbers:
        """[64,600] in -1..1, with speech as loud as `SPEECH_RMS`.

        The network takes loudness for evidence: measured, flite's voice scores -15 at full level, -3 at a tenth and +4 at a
        fiftieth of it, which is more genuine than people are. Nobody may become genuine by turning their microphone down, nor
        by a click: so it is the level of the louder frames that counts, not of the loudest sample, and clicks are clipped.
        """
        sound = question.pcm.astype(np.float32) / np.float32(32_768)
        frames = sound[: len(sound) // FRAME * FRAME].reshape(-1, FRAME)
        level = float(np.percentile(np.sqrt(np.square(frames).mean(axis=1)), 75))
        return np.clip(sound * np.float32(SPEECH_RMS / level), -1, 1) if level > 0 else sound


class AasistRunner(VoiceRunner):
    """AASIST or AASIST-L."""

    def load(self, path: Path) -> torch.nn.Module:
        """As published, or as trained here from that."""
        return aasist.load_published(path)


class FaceRunner(SmallRunner[Picture]):
    """Something about a face."""

    takes = Picture
    max_batch = 8

    def check(self, question: Picture) -> None:
        """A face of any size, as long as it is one."""
        if min(question.rgb.shape[:2]) < 2:
            raise ValueError(f"a face of {question.rgb.shape[1]} x {question.rgb.shape[0]} pixels")


class MiniXceptionRunner(FaceRunner):
    """Probabilities of seven expressions."""

    def own_labels(self) -> tuple[str, ...]:
        """In the order of the published weights."""
        return mini_xception.LABELS

    def load(self, path: Path) -> torch.nn.Module:
        """mini-XCEPTION."""
        return mini_xception.load_published(path)

    def prepare(self, question: Picture) -> Numbers:
        """[1, 64, 64], grey, -1..1."""
        size = (mini_xception.SIZE_PIXELS, mini_xception.SIZE_PIXELS)
        grey = cv2.resize(cv2.cvtColor(question.rgb, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
        return grey.astype(np.float32)[None] / np.float32(127.5) - np.float32(1)


class MesoInceptionRunner(FaceRunner):
    """The probability that a face is `real`."""

    def own_labels(self) -> tuple[str, ...]:
        """One number."""
        return ("real",)

    def load(self, path: Path) -> torch.nn.Module:
        """MesoInception-4, as published, or as trained here from that."""
        return meso_inception.load_published(path)

    def prepare(self, question: Picture) -> Numbers:
        """[3, 256, 256], RGB, 0..1."""
        size = (meso_inception.SIZE_PIXELS, meso_inception.SIZE_PIXELS)
        picture = cv2.resize(question.rgb, size, interpolation=cv2.INTER_AREA)
        return picture.astype(np.float32).transpose(2, 0, 1) / np.float32(255)


RUNNERS: dict[str, type[AasistRunner | MiniXceptionRunner | MesoInceptionRunner]] = {
    "aasist": AasistRunner,
    "mini_xception": MiniXceptionRunner,
    "meso_inception": MesoInceptionRunner,
}
