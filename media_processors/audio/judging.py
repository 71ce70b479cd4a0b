"""What observers of sound that put questions to one model have in common: the model, a short queue, and patience."""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from typing import ClassVar, Generic, Literal, TypeVar

import structlog

from media_processors.asking import Choice
from media_processors.audio.windows import RATE_HZ
from media_processors.base import Emit, HostServices
from media_processors.errors import ProcessorError
from media_processors.findings import Finding, ProcessorInfo
from media_processors.frames import TrackRef
from models.catalog import Task
from models.errors import InferenceError
from models.questions import Question, Scores

log = structlog.get_logger()
W = TypeVar("W")


class JudgingObserver(ABC):
    """An observer of one task. Off until somebody asks for it: it is about the body or the feelings of a person."""

    kind: ClassVar[Literal["observer"]] = "observer"
    media: Literal["audio", "video"] = "audio"
    sound: Literal["raw", "processed"] = "raw"
    sample_rate_hz = RATE_HZ
    task: ClassVar[Task]
    """Also its name."""
    about: ClassVar[Literal["biometric", "emotion"]]

    def __init__(self) -> None:
        self.choice = Choice(self.task)

    def attach(self, services: HostServices) -> None:
        """Choose the model."""
        self.choice.attach(services.engine, services.store)

    def info(self) -> ProcessorInfo:
        """Available if a model is here and the engine has not refused it."""
        here = self.choice.here
        return ProcessorInfo(
            name=self.task,
            kind="observer",
            media="audio",
            available=here,
            reason="" if here else self.choice.missing.reason,
            command="" if here else self.choice.missing.command,
            model=self.choice.version if here else "",
            default_on=False,
            about=self.about,
        )


class JudgingStream(ABC, Generic[W]):
    """One track. Asks one question after the other; of those that wait only the newest `max_waiting` are asked."""

    max_waiting: ClassVar[int]
    deadline_ms: ClassVar[int]

    def __init__(self, choice: Choice, track: TrackRef, emit: Emit) -> None:
        """Raises UnavailableError if there is no model."""
        self.choice = choice
        self.entry = choice.required()
        self.track = track
        self._emit = emit
        self._waiting: deque[W] = deque(maxlen=self.max_waiting)
        self._posted = asyncio.Event()
        self._task = asyncio.create_task(self._serve(), name=f"judge-{track.track_id}")

    def post(self, what: W) -> None:
        """Judge this, soon."""
        self._waiting.append(what)
        self._posted.set()

    def flush(self) -> list[Finding]:
        """A pause changes nothing: what was said stands."""
        return []

    async def aclose(self) -> None:
        """Nobody waits for what was not judged yet."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @abstractmethod
    async def judge(self, what: W) -> Finding:
        """What is to be told. Raises InferenceError, ProcessorError or ValueError: then nothing is."""

    async def scores(self, question: Question) -> Scores:
        """What the model answers. Raises InferenceError, UnavailableError."""
        room_id, track_id = self.track.room_id, self.track.track_id
        return await self.choice.ask(question, Scores, room_id=room_id, track_id=track_id, deadline_ms=self.deadline_ms)

    @property
    def whose(self) -> dict[str, str | int]:
        """The fields of a finding that say about whom it is, and under which consent."""
        track = self.track
        return {
            "room_id": track.room_id,
            "participant_id": track.participant_id,
            "track_id": track.track_id,
            "epoch": track.epoch,
        }

    async def _serve(self) -> None:
        while True:
            await self._posted.wait()
            self._posted.clear()
            while self._waiting:
                await self._judge(self._waiting.popleft())

    async def _judge(self, what: W) -> None:
        try:
            finding = await self.judge(what)
        except (InferenceError, ProcessorError, ValueError) as error:
            log.debug("judgement_lost", track=self.track.track_id, error=type(error).__name__)
            return
        self._emit(finding)
