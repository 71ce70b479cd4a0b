"""A model service over a real engine, whose runners answer at once, and a client that asks it over loopback."""

import asyncio
import base64
import io
import json
import wave
from collections.abc import Sequence
from typing import Any

import aiohttp
import cv2
import numpy as np

from models.errors import UnavailableError
from models.questions import Answer, FaceBox, Faces, Picture, Question, Scores, Sound, Summary, Text
from models.speech import Transcript, Utterance, Word

RATE_HZ = 16_000


class Runner:
    """Answers whatever its task demands, about the question and nothing else."""

    max_batch = 4
    max_wait_ms = 0.0
    isolated = True
    concurrency = 1

    def __init__(self, takes: type[Question], answer: Any) -> None:
        self.takes = takes
        self.answer = answer
        self.held = asyncio.Event()
        self.held.set()
        """Cleared: it does not answer."""
        self.closed = False
        self.asked: list[Question] = []

    async def start(self) -> None:
        """Nothing to load."""

    def check(self, question: Question) -> None:
        """Nothing to check."""

    async def run(self, batch: Sequence[Question]) -> list[Answer]:
        self.asked.extend(batch)
        await self.held.wait()
        return [self.answer(question) for question in batch]

    async def close(self) -> None:
        self.closed = True


def heard(question: Utterance) -> Transcript:
    return Transcript((Word(f" {question.pcm.size}", 0, 10, 0.5), Word(" samples")), "en")


def face(question: Picture) -> Faces:
    height, width = question.rgb.shape[:2]
    return Faces((FaceBox(width / 4, height / 4, width / 2, height / 2, 0.9, ()),))


def runners() -> dict[str, Runner]:
    """By model."""
    return {
        "pocketsphinx-en-us": Runner(Utterance, heard),
        "emotion-english-distilroberta-base": Runner(Text, lambda _: Scores(("joy", "anger"), (0.75, 0.25))),
        "yunet": Runner(Picture, face),
        "mini-xception": Runner(Picture, lambda _: Scores(("happy", "sad"), (0.9, 0.1))),
        "aasist": Runner(Sound, lambda _: Scores(("spoof", "bonafide"), (-3.0, 3.0))),
        "meso-inception-4": Runner(Picture, lambda _: Scores(("real",), (0.9,))),
        "distilbart-cnn-6-6": Runner(Text, lambda text: Summary(text.text[:5], len(text.text))),
        "metricgan-plus-voicebank": Runner(Sound, lambda sound: Sound(sound.pcm // 2)),
        "swin2sr-classical-x2": Runner(Picture, lambda picture: Picture(picture.rgb.repeat(2, 0).repeat(2, 1))),
    }


def missing(name: str) -> UnavailableError:
    return UnavailableError("its weights have not been pulled", f"candor models pull {name}")


def wav(seconds: float, rate_hz: int = RATE_HZ) -> bytes:
    """A tone."""
    pcm = (8_000 * np.sin(np.arange(round(seconds * rate_hz)) * 440 * 2 * np.pi / rate_hz)).astype("<i2")
    return _wav(pcm, rate_hz)


def _wav(pcm: np.ndarray[tuple[int], np.dtype[np.int16]], rate_hz: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate_hz)
        writer.writeframes(pcm.tobytes())
    return file.getvalue()


def voice(seconds: float, padded_s: float = 0.0) -> bytes:
    """What passes for a wideband voice: half a second of noise and a shorter pause, again and again; then silence."""
    count = round(seconds * RATE_HZ)
    speaks = np.arange(count) % (RATE_HZ * 9 // 10) < RATE_HZ // 2
    noise = np.random.default_rng(1).normal(0, 3_000, count) * speaks
    return _wav(np.concatenate([noise, np.zeros(round(padded_s * RATE_HZ))]).astype("<i2"), RATE_HZ)


def png(width: int, height: int) -> bytes:
    """Grey, with a gradient."""
    image = np.tile(np.linspace(0, 255, width, dtype=np.uint8), (height, 1))
    return cv2.imencode(".png", image)[1].tobytes()


def packed(data: bytes) -> str:
    return base64.b64encode(data).decode()


class Http:
    """Asks a service."""

    def __init__(self, url: str, key: str = "") -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    async def __call__(
        self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None, data: Any = None
    ) -> tuple[int, Any]:
        """The status, and the body read as JSON."""
        async with aiohttp.ClientSession() as session:
            sent = self._headers | (headers or {})
            if body is not None:
                data, sent = io.BytesIO(json.dumps(body).encode()), sent | {"Content-Type": "application/json"}
            async with session.request(method, self._url + path, data=data, headers=sent) as response:
                if response.content_type == "application/json":
                    return response.status, await response.json()
                return response.status, await response.text()
