"""Asking a model: its turn, its time, and what is counted. Also what more than one question is needed for: faces and voices."""

import asyncio
import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from models.catalog import ModelEntry
from models.client import Answered, InferenceClient
from models.errors import DeadlineError, FailedError, InferenceError, LoadingError
from models.questions import MAX_PIXELS, Answer, Faces, Picture, Question, Scores, Sound
from models.service import answers, evidence, media, tasks
from models.service.deployments import Deployments
from models.service.errors import ServiceError, from_inference
from models.service.gate import Gate
from models.service.messages import InferenceAnswer, InputData, Latency, Parameters, Result
from models.service.metrics import Metrics
from models.service.settings import ServiceSettings
from models.service.tasks import SHAPES
from models.service.workbench import Workbench
from models.store import Store

A = TypeVar("A", bound=Answer)

T = TypeVar("T")

PACKING = 10
"""A priority above all that can be asked for."""
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
    track_id: str
    """What stays with one version while two answer."""


class Desk:
    """Puts questions to the engine, as any host does: a caller is to it what a room is, and callers take turns."""

    def __init__(
        self,
        client: InferenceClient,
        store: Store,
        deployments: Deployments,
        settings: ServiceSettings,
        metrics: Metrics,
    ) -> None:
        self._client = client
        self._deployments = deployments
        self._store = store
        self._settings = settings
        self._metrics = metrics
        self._bench = Workbench()
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

    def close(self) -> None:
        """Unpack nothing more. Idempotent."""
        self._bench.close()

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

        def asked() -> Question:
            return answers.question_of(entry, data, parameters, asker.request_id, asker.until_s)

        if SHAPES[entry.task].takes == "text":
            question = asked()
        else:
            question = await self._at_bench(asked, asker)
        answered = await self._ask(entry, question, SHAPES[entry.task].answers, asker)
        if isinstance(answered.answer, Sound | Picture):  # nearly done, so before all that have yet to be unpacked
            packing = partial(answers.result_of, entry, answered.answer)
            result = await self._bench.do(packing, asker.until_s, PACKING)
        else:
            result = answers.result_of(entry, answered.answer)
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
            versions = await self._admitted(entry, asker)
            left_ms = max(0.0, asker.until_s - loop.time()) * 1000
            answered = await self._client.ask(
                entry.name, question, wanted, room_id=asker.caller_id, track_id=asker.track_id, deadline_ms=left_ms
            )
            self._deployments.answered(entry.name, versions, answered.model)
            return answered
        except ValueError as error:
            raise ServiceError(413, "too_large", str(error)) from error
        finally:
            gate.leave()

    async def _admitted(self, entry: ModelEntry, asker: Asker) -> frozenset[str]:
        """The versions that may answer: while it waited for its turn, the model may have been stopped or exchanged.

        Raises ServiceError, InferenceError.
        """
        try:
            async with asyncio.timeout_at(asker.until_s):
                return await self._deployments.admit(entry)
        except TimeoutError as error:
            raise LoadingError("the model is still being loaded") from error

    async def _at_bench(self, work: Callable[[], T], asker: Asker) -> T:
        """Raises what it raises, and InferenceError."""
        return await self._bench.do(work, asker.until_s, asker.priority)

    async def _voice(self, entry: ModelEntry, data: InputData, asker: Asker) -> InferenceAnswer:
        """Window after window: evidence is their mean."""

        def heard() -> evidence.Voice:
            return evidence.voice(entry, answers.sound_of(entry, data, asker.until_s))

        voice = await self._at_bench(heard, asker)
        answered = [await self._ask(entry, Sound(window), Scores, asker) for window in voice.windows]
        if len({one.model for one in answered}) > 1:
            raise FailedError("the model was exchanged between two windows")
        scores = [one.answer for one in answered]
        weighed = evidence.weighed(entry, scores, voice.speech_s, evidence.VOICE_NEEDS_S)
        return _told(entry, answered[0].model, Result(scores=evidence.mean(scores), evidence=weighed))

    async def _face(self, entry: ModelEntry, data: InputData, asker: Asker) -> InferenceAnswer:
        """The largest face of the picture, cut out as in a meeting.

        The picture is unpacked twice: a batch of those that wait for the detector would hold gigabytes.
        """
        finder = await asyncio.to_thread(tasks.preferred, self._store, "face_detection")
        found, scale = await self._found(finder, data, asker)
        if not found.answer.boxes:
            raise ServiceError(422, "no_face", f"{found.model} finds no face in the picture")
        largest = max(found.answer.boxes, key=lambda box: box.width * box.height)

        def cut() -> Picture:
            face = evidence.face(entry, answers.picture_of(data), largest, scale)
            return Picture(media.shrunk(face, MAX_PIXELS)[0])

        picture = await self._at_bench(cut, asker)
        answered = await self._ask(entry, picture, Scores, asker)
        result = Result(scores=answers.scores_of(answered.answer), faces=answers.faces_of(Faces((largest,)), scale))
        if entry.task == "face_authenticity":
            weighed = evidence.weighed(entry, [answered.answer], 0.0, evidence.FACE_NEEDS_S)
            result = result.model_copy(update={"evidence": weighed})
        return _told(entry, answered.model, result, found.model)

    async def _faces(self, entry: ModelEntry, data: InputData, asker: Asker) -> InferenceAnswer:
        """In pixels of the picture that was sent, whatever the detector was shown."""
        found, scale = await self._found(entry, data, asker)
        return _told(entry, found.model, Result(faces=answers.faces_of(found.answer, scale)))

    async def _found(self, finder: ModelEntry, data: InputData, asker: Asker) -> tuple[Answered[Faces], float]:
        """The faces in the picture made small enough for the detector, and by what their coordinates were multiplied."""
        smaller, scale = await self._at_bench(lambda: media.shrunk(answers.picture_of(data), MAX_PIXELS), asker)
        return await self._ask(finder, Picture(smaller), Faces, asker), scale


def _told(entry: ModelEntry, model: str, result: Result, *also: str) -> InferenceAnswer:
    return InferenceAnswer(
        model_id=entry.name, model=model, also=list(also), task=entry.task, result=result, duration_ms=0.0
    )
