"""Asking a model: its turn, its time, and what is counted. Also what more than one question is needed for: faces and voices."""

import asyncio
import statistics
import time
from collections import deque
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from models import choosing
from models.calibration import genuine_score
from models.catalog import ModelEntry
from models.client import Answered, InferenceClient
from models.errors import DeadlineError, FailedError, InferenceError
from models.faces import FACE_PX, MARGIN, cut_out
from models.questions import MAX_PIXELS, Answer, FaceBox, Faces, Picture, Question, Scores, Sound
from models.service import answers, media
from models.service.errors import ServiceError, from_inference
from models.service.gate import Gate
from models.service.messages import Evidence, InferenceAnswer, InputData, Latency, Parameters, Result
from models.service.metrics import Metrics
from models.service.settings import ServiceSettings
from models.service.tasks import SHAPES, unavailable
from models.speech import SAMPLE_RATE_HZ
from models.store import Missing, Store
from models.voice_quality import recording_refusal

A = TypeVar("A", bound=Answer)

VOICE_NEEDS_S = 10.0
FACE_NEEDS_S = 5.0
"""Less is insufficient evidence, in a meeting and here; so a single picture always is."""
WINDOW_S = 4.0
"""Of a model of voices that takes any length."""
REMEMBERED = 512
"""Answers per model that the percentiles are of."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Who wants to know, until when, and how urgently."""

    caller_id: str
    request_id: str
    until_s: float
    """On the event loop's clock."""
    priority: int


class Desk:
    """Puts questions to the engine, as any host does: a caller is to it what a room is, and callers take turns."""

    def __init__(self, client: InferenceClient, store: Store, settings: ServiceSettings, metrics: Metrics) -> None:
        self._client = client
        self._store = store
        self._settings = settings
        self._metrics = metrics
        self._gates: dict[str, Gate] = {}
        self._durations_ms: dict[str, deque[float]] = {}

    async def answer(self, entry: ModelEntry, data: InputData, parameters: Parameters, asker: Asker) -> InferenceAnswer:
        """What the model says, with its version. Raises ServiceError."""
        began_s = time.monotonic()
        try:
            answers.check_modality(entry, data)
            answer = await self._answer(entry, data, parameters, asker)
        except InferenceError as error:
            self._metrics.requests.labels(entry.name, entry.task, error.code).inc()
            raise from_inference(error) from error
        except ServiceError as error:
            self._metrics.requests.labels(entry.name, entry.task, error.code).inc()
            raise
        self._metrics.requests.labels(entry.name, entry.task, "ok").inc()
        self._took(entry.name, time.monotonic() - began_s)
        return answer.model_copy(update={"duration_ms": round((time.monotonic() - began_s) * 1000, 1)})

    def waiting(self) -> dict[str, int]:
        """By model, how many questions wait for their turn to go to the engine."""
        return {name: gate.waiting for name, gate in self._gates.items()}

    def latency(self, name: str) -> Latency:
        """Of the newest answers of a model."""
        known = sorted(self._durations_ms.get(name, ()))
        if not known:
            return Latency(answers=0, p50_ms=None, p95_ms=None)
        p95 = known[min(len(known) - 1, round(0.95 * (len(known) - 1)))]
        return Latency(answers=len(known), p50_ms=round(statistics.median(known), 1), p95_ms=round(p95, 1))

    def _took(self, name: str, seconds: float) -> None:
        self._metrics.seconds.labels(name).observe(seconds)
        self._durations_ms.setdefault(name, deque(maxlen=REMEMBERED)).append(seconds * 1000)

    async def _answer(
        self, entry: ModelEntry, data: InputData, parameters: Parameters, asker: Asker
    ) -> InferenceAnswer:
        if entry.task == "voice_authenticity":
            return await self._voice(entry, data, asker)
        if entry.task in ("face_authenticity", "expression"):
            return await self._face(entry, data, asker)
        if entry.task == "face_detection":
            return await self._faces(entry, data, asker)
        question = await answers.question_of(entry, data, parameters, asker.request_id)
        answered = await self._ask(entry, question, SHAPES[entry.task].answers, asker)
        result = await asyncio.to_thread(answers.result_of, entry, answered.answer)
        return _told(entry, answered.model, result)

    async def _ask(self, entry: ModelEntry, question: Question, wanted: type[A], asker: Asker) -> Answered[A]:
        """Raises InferenceError, and ServiceError (413) for what does not fit into a message."""
        settings = self._settings
        gate = self._gates.setdefault(entry.name, Gate(settings.in_flight, settings.max_waiting))
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(asker.until_s):
                await gate.enter(asker.priority)
        except TimeoutError as error:
            raise DeadlineError("its turn did not come before the time-out") from error
        try:
            left_ms = max(0.0, asker.until_s - loop.time()) * 1000
            return await self._client.ask(entry.name, question, wanted, room_id=asker.caller_id, deadline_ms=left_ms)
        except ValueError as error:
            raise ServiceError(413, "too_large", str(error)) from error
        finally:
            gate.leave()

    async def _voice(self, entry: ModelEntry, data: InputData, asker: Asker) -> InferenceAnswer:
        """Every whole window, one after the other: evidence is their mean. The gate before it is that of a meeting."""
        sound = await answers.sound_of(entry, data)
        rate_hz = entry.sample_rate_hz or SAMPLE_RATE_HZ
        length = entry.window_samples or round(WINDOW_S * rate_hz)
        windows = [sound.pcm[at : at + length] for at in range(0, sound.pcm.size - length + 1, length)]
        if not windows:
            raise ServiceError(422, "too_short", f"a voice is judged from {length / rate_hz:.2f} s on")
        unfit = await asyncio.to_thread(recording_refusal, sound.pcm.astype(np.float32) / np.float32(32_768))
        if unfit:
            raise ServiceError(422, "unfit_voice", f"the voice is {unfit}: about such voices the models are wrong")
        answered = [await self._ask(entry, Sound(window), Scores, asker) for window in windows]
        if len({one.model for one in answered}) > 1:
            raise FailedError("the model was exchanged between two windows")
        scores = [one.answer for one in answered]
        evidence = _evidence(entry, scores, len(windows) * length / rate_hz, VOICE_NEEDS_S)
        return _told(entry, answered[0].model, Result(scores=_mean(scores), evidence=evidence))

    async def _face(self, entry: ModelEntry, data: InputData, asker: Asker) -> InferenceAnswer:
        """The largest face of the picture, cut out as in a meeting."""
        finder = await asyncio.to_thread(choosing.choose, "face_detection", self._store)
        if isinstance(finder, Missing):
            raise unavailable(finder)
        image = await answers.picture_of(data)
        smaller, scale = media.shrunk(image, MAX_PIXELS)
        found = await self._ask(finder.entry, Picture(smaller), Faces, asker)
        if not found.answer.boxes:
            raise ServiceError(422, "no_face", f"{found.model} finds no face in the picture")
        largest = max(found.answer.boxes, key=lambda box: box.width * box.height)
        picture = Picture(media.shrunk(_cut(entry, image, largest, scale), MAX_PIXELS)[0])
        answered = await self._ask(entry, picture, Scores, asker)
        result = Result(scores=answers.scores_of(answered.answer), faces=answers.faces_of(Faces((largest,)), scale))
        if entry.task == "face_authenticity":
            evidence = _evidence(entry, [answered.answer], 0.0, FACE_NEEDS_S)
            result = result.model_copy(update={"evidence": evidence})
        return _told(entry, answered.model, result, found.model)

    async def _faces(self, entry: ModelEntry, data: InputData, asker: Asker) -> InferenceAnswer:
        """In pixels of the picture that was sent, whatever the detector was shown."""
        smaller, scale = media.shrunk(await answers.picture_of(data), MAX_PIXELS)
        found = await self._ask(entry, Picture(smaller), Faces, asker)
        return _told(entry, found.model, Result(faces=answers.faces_of(found.answer, scale)))


def _told(entry: ModelEntry, model: str, result: Result, *also: str) -> InferenceAnswer:
    return InferenceAnswer(
        model_id=entry.name, model=model, also=list(also), task=entry.task, result=result, duration_ms=0.0
    )


def _cut(entry: ModelEntry, image: media.Rgb, box: FaceBox, scale: float) -> media.Rgb:
    """The face out of the picture as it was sent. Raises ServiceError (422) if it is too small to be judged."""
    own = FaceBox(box.x / scale, box.y / scale, box.width / scale, box.height / scale, box.score, ())
    judged = entry.task == "face_authenticity"
    if judged and own.width < FACE_PX:
        raise ServiceError(422, "face_too_small", f"the face is {own.width:.0f} pixels wide, less than {FACE_PX}")
    try:
        return cut_out(image, own, margin=MARGIN if judged else 0.0, square=judged)
    except ValueError as error:
        raise ServiceError(422, "no_face", str(error)) from error


def _mean(scores: list[Scores]) -> list[Any]:
    values = np.mean([one.values for one in scores], axis=0)
    return answers.scores_of(Scores(scores[0].labels, tuple(map(float, values))))


def _evidence(entry: ModelEntry, scores: list[Scores], seconds: float, needed_s: float) -> Evidence:
    score = statistics.fmean(genuine_score(one) for one in scores)
    enough = seconds >= needed_s
    likelihood = entry.calibration.likelihood(score) if entry.calibration and enough else None
    status = "insufficient_evidence" if entry.calibration else "not_calibrated"
    return Evidence.model_validate(
        {
            "status": status if likelihood is None else "likelihood",
            "likelihood_synthetic": None if likelihood is None else round(likelihood, 3),
            "score": round(score, 2),
            "windows": len(scores),
            "seconds": round(seconds, 2),
            "needed_seconds": needed_s,
            "known_errors": entry.known,
        }
    )
