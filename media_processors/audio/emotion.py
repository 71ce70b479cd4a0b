"""Two guesses at emotion: from the words of final captions, and from the sound of speech. Off until their owner wants them.

What comes of it is a word and a probability, for the speaker alone, with what is published about the model's errors.
"""

from typing import ClassVar, Literal, TypeVar

from media_processors.asking import Choice
from media_processors.audio.judging import JudgingObserver, JudgingStream
from media_processors.audio.windows import RATE_HZ, Pcm, WindowCollector
from media_processors.base import Emit
from media_processors.findings import Caption, Finding, TextEmotion, VoiceEmotion
from media_processors.frames import AudioFrame, TrackRef, VideoFrame
from models.catalog import Task
from models.questions import Scores, Sound, Text

WINDOW_S = 4
LANGUAGE = "language"
"""Why nothing is said of words that the model was not made for."""

W = TypeVar("W")


class EmotionObserver(JudgingObserver):
    """What both have in common."""

    about: ClassVar[Literal["biometric", "emotion"]] = "emotion"


class EmotionStream(JudgingStream[W]):
    """What both have in common."""

    max_waiting = 4
    deadline_ms = 15_000

    def felt(self, scores: Scores) -> dict[str, object]:
        """The fields of a finding that both kinds have."""
        probabilities = dict(zip(scores.labels, scores.values, strict=True))
        label = max(probabilities, key=probabilities.__getitem__)
        return {
            **self.whose,
            "model": self.choice.version,
            "label": label,
            "probability": probabilities[label],
            "probabilities": probabilities,
            "known_errors": self.choice.required().known,
        }


class TextEmotionObserver(EmotionObserver):
    """The observer `text_emotion`. It hears nothing: it reads captions, so these must be on as well."""

    task: ClassVar[Task] = "text_emotion"

    def open(self, track: TrackRef, emit: Emit) -> "TextEmotionStream":
        """Emotions of one track's captions. Raises UnavailableError if there is no model."""
        return TextEmotionStream(self.choice, track, emit)


class TextEmotionStream(EmotionStream[Caption]):
    """Emotions of one track's captions."""

    def __init__(self, choice: Choice, track: TrackRef, emit: Emit) -> None:
        super().__init__(choice, track, emit)
        self.silent_because = ""
        """See `MayRefuse`."""

    def push(self, frame: AudioFrame | VideoFrame) -> list[Finding]:
        """Nothing of sound."""
        return []

    def read(self, finding: Finding) -> list[Finding]:
        """A final caption is judged; the answer comes through `emit`. One in a language that the model does not know is not."""
        if isinstance(finding, Caption) and finding.final and finding.text.strip():
            known = self.entry.speaks(_language(finding))
            self.silent_because = "" if known else LANGUAGE
            if known:
                self.post(finding)
        return []

    async def judge(self, what: Caption) -> TextEmotion:
        """About the caption's stretch of time."""
        felt = self.felt(await self.scores(Text(what.text, _language(what))))
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
            self.post((pcm, speech_ms, frame.start_ms + round(len(frame.samples) * 1000 / RATE_HZ)))
        return []

    async def judge(self, what: tuple[Pcm, int, int]) -> VoiceEmotion:
        """About the window's stretch of time."""
        pcm, speech_ms, end_ms = what
        felt = self.felt(await self.scores(Sound(pcm)))
        start_ms = max(0, end_ms - round(len(pcm) * 1000 / RATE_HZ))
        return VoiceEmotion.model_validate(felt | {"speech_ms": speech_ms, "start_ms": start_ms, "end_ms": end_ms})


def _language(caption: Caption) -> str:
    """ISO 639-1, of BCP 47."""
    return caption.language.split("-")[0].lower()
