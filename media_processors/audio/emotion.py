"""Two guesses at emotion: from the words of final captions, and from the sound of speech. Off until their owner wants them.

What comes of it is a word and a probability, for the speaker alone, with what is published about the model's errors.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from typing import ClassVar, Generic, Literal, TypeVar

import structlog

from media_processors.asking import Choice
from media_processors.audio.windows import RATE_HZ, Pcm, WindowCollector
from media_processors.base import Emit, HostServices
from media_processors.errors import ProcessorError
from media_processors.findings import Caption, Finding, ProcessorInfo, TextEmotion, VoiceEmotion
from media_processors.frames import AudioFrame, TrackRef, VideoFrame
from models.catalog import Task
from models.errors import InferenceError
from models.questions import Question, Scores, Sound, Text

WINDOW_S = 4
DEADLINE_MS = 15_000
MAX_WAITING = 4
"""Questions that wait for the engine. One more, and the oldest is not asked."""
LANGUAGE = "language"
"""Why nothing is said of words that the model was not made for."""

log = structlog.get_logger()
W = TypeVar("W")


class EmotionObserver(ABC):
    """What both have in common."""

    kind: ClassVar[Literal["observer"]] = "observer"
    media: Literal["audio", "video"] = "audio"
    sound: Literal["raw", "processed"] = "raw"
    sample_rate_hz = RATE_HZ
    task: ClassVar[Task]

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
            about="emotion",
        )


class EmotionStream(ABC, Generic[W]):
    """Asks one question after the other; the newest few wait."""

    def __init__(self, choice: Choice, track: TrackRef, emit: Emit) -> None:
        self.silent_because = ""
        self.track = track
        self.entry = choice.required()
        self._choice = choice
        self._emit = emit
        self._waiting: deque[W] = deque(maxlen=MAX_WAITING)
        self._posted = asyncio.Event()
        self._task = asyncio.create_task(self._serve(), name=f"emotion-{track.track_id}")

    def ask(self, what: W) -> None:
        """Soon."""
        self._waiting.append(what)
        self._posted.set()

    def flush(self) -> list[Finding]:
        """A pause changes nothing."""
        return []

    async def aclose(self) -> None:
        """Nobody waits for what was not asked yet."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @abstractmethod
    def question(self, what: W) -> Question:
        """What the model is asked."""

    @abstractmethod
    def finding(self, what: W, felt: dict[str, object]) -> Finding:
        """What is told; `felt` are the fields that both kinds have."""

    async def _serve(self) -> None:
        while True:
            await self._posted.wait()
            self._posted.clear()
            while self._waiting:
                await self._judge(self._waiting.popleft())

    async def _judge(self, what: W) -> None:
        room_id = self.track.room_id
        try:
            scores = await self._choice.ask(self.question(what), Scores, room_id=room_id, deadline_ms=DEADLINE_MS)
        except (InferenceError, ProcessorError, ValueError) as error:
            log.debug("emotion_lost", track=self.track.track_id, error=type(error).__name__)
            return
        probabilities = dict(zip(scores.labels, scores.values, strict=True))
        label = max(probabilities, key=probabilities.__getitem__)
        self._emit(
            self.finding(
                what,
                {
                    "room_id": room_id,
                    "participant_id": self.track.participant_id,
                    "track_id": self.track.track_id,
                    "epoch": self.track.epoch,
                    "model": self._choice.version,
                    "label": label,
                    "probability": probabilities[label],
                    "probabilities": probabilities,
                    "known_errors": self.entry.known,
                },
            )
        )


class TextEmotionObserver(EmotionObserver):
    """The observer `text_emotion`. It hears nothing: it reads captions, so these must be on as well."""

    task: ClassVar[Task] = "text_emotion"

    def open(self, track: TrackRef, emit: Emit) -> "TextEmotionStream":
        """Emotions of one track's captions. Raises UnavailableError if there is no model."""
        return TextEmotionStream(self.choice, track, emit)


class TextEmotionStream(EmotionStream[Caption]):
    """Emotions of one track's captions."""

    def push(self, frame: AudioFrame | VideoFrame) -> list[Finding]:
        """Nothing of sound."""
        return []

    def read(self, finding: Finding) -> list[Finding]:
        """A final caption is judged; the answer comes through `emit`. One in a language that the model does not know is not."""
        if isinstance(finding, Caption) and finding.final and finding.text.strip():
            known = self.entry.speaks(_language(finding))
            self.silent_because = "" if known else LANGUAGE
            if known:
                self.ask(finding)
        return []

    def question(self, what: Caption) -> Text:
        """Its words."""
        return Text(what.text, _language(what))

    def finding(self, what: Caption, felt: dict[str, object]) -> TextEmotion:
        """About the caption's stretch of time."""
        span = {"segment_id": what.segment_id, "start_ms": what.start_ms, "end_ms": what.end_ms}
        return TextEmotion.model_validate(felt | span)


class VoiceEmotionObserver(EmotionObserver):
    """The observer `voice_emotion`."""

    task: ClassVar[Task] = "voice_emotion"

    def open(self, track: TrackRef, emit: Emit) -> "VoiceEmotionStream":
        """Emotions of one voice. Raises UnavailableError if there is no model."""
        return VoiceEmotionStream(self.choice, track, emit)


class VoiceEmotionStream(EmotionStream[tuple[Pcm, int, int]]):
    """Emotions of one voice: a window of 4 s for every 5 s of speech."""

    def __init__(self, choice: Choice, track: TrackRef, emit: Emit) -> None:
        super().__init__(choice, track, emit)
        self._collector = WindowCollector(self.entry.window_samples or WINDOW_S * RATE_HZ)

    def push(self, frame: AudioFrame | VideoFrame) -> list[Finding]:
        """16 kHz sound."""
        if isinstance(frame, AudioFrame) and (due := self._collector.push(frame)) is not None:
            pcm, speech_ms = due
            self.ask((pcm, speech_ms, frame.start_ms + round(len(frame.samples) * 1000 / RATE_HZ)))
        return []

    def question(self, what: tuple[Pcm, int, int]) -> Sound:
        """The window."""
        return Sound(what[0])

    def finding(self, what: tuple[Pcm, int, int], felt: dict[str, object]) -> VoiceEmotion:
        """About the window's stretch of time, as if it had no pauses cut short."""
        pcm, speech_ms, end_ms = what
        start_ms = max(0, end_ms - round(len(pcm) * 1000 / RATE_HZ))
        return VoiceEmotion.model_validate(felt | {"speech_ms": speech_ms, "start_ms": start_ms, "end_ms": end_ms})


def _language(caption: Caption) -> str:
    """ISO 639-1, of BCP 47."""
    return caption.language.split("-")[0].lower()
