"""Voice authenticity: is a voice recorded or made? Evidence from windows of speech, judged by a model only where it may be.

One window per 5 s of speech, of the length that the model takes, with the pauses that speech has. The gate comes before the
model: a voice that is narrow or noisy is not judged.
"""

from typing import ClassVar, Literal

from media_processors.asking import Choice
from media_processors.audio.judging import JudgingObserver, JudgingStream
from media_processors.audio.windows import RATE_HZ, Pcm, WindowCollector
from media_processors.base import Emit
from media_processors.evidence import Assessment, Evidence
from media_processors.findings import Finding, VoiceAuthenticity
from media_processors.frames import AudioFrame, TrackRef, VideoFrame
from models.calibration import genuine_score
from models.catalog import Task
from models.questions import Sound
from models.voice_quality import QualityMeter

NAME: Task = "voice_authenticity"
ENOUGH_MS = 10_000
"""Speech before anything is said of a voice."""
KEPT = 12
"""Windows that count: the last minute of speech."""


class VoiceAuthenticityObserver(JudgingObserver):
    """The observer `voice_authenticity`."""

    task: ClassVar[Task] = NAME
    about: ClassVar[Literal["biometric", "emotion"]] = "biometric"

    def open(self, track: TrackRef, emit: Emit) -> "VoiceAuthenticityStream":
        """Evidence about one track. Raises UnavailableError if there is no model."""
        return VoiceAuthenticityStream(self.choice, track, emit)


class VoiceAuthenticityStream(JudgingStream[tuple[Pcm, int]]):
    """Evidence about one track."""

    max_waiting = 2
    deadline_ms = 20_000

    def __init__(self, choice: Choice, track: TrackRef, emit: Emit) -> None:
        super().__init__(choice, track, emit)
        self._meter = QualityMeter()
        self._start_ms: int | None = None
        self._end_ms = 0
        self._begin_anew()

    def push(self, frame: AudioFrame | VideoFrame) -> list[Finding]:
        """Take a frame of 16 kHz sound. A window that may not be judged is answered at once; others through `emit`."""
        if not isinstance(frame, AudioFrame):
            return []
        self._meter.push(frame.samples, frame.speech)
        self._end_ms = frame.start_ms + round(len(frame.samples) * 1000 / RATE_HZ)
        if self._start_ms is None:
            self._start_ms = frame.start_ms
        due = self._collector.push(frame)
        if due is None:
            return []
        refusal = self.refusal()
        if refusal:
            return [self._finding(self._evidence.refuse(refusal))]
        self.post(due)
        return []

    def refusal(self) -> str:
        """Why the voice may not be judged just now; empty if it may."""
        quality = self._meter.quality()
        return quality.refusal if quality else "noisy"

    async def judge(self, what: tuple[Pcm, int]) -> VoiceAuthenticity:
        """What is known of the voice with this window."""
        pcm, speech_ms = what
        scores = await self.scores(Sound(pcm))
        if self.choice.version != self._model:
            self._begin_anew()
        return self._finding(self._evidence.add(genuine_score(scores), speech_ms))

    def _begin_anew(self) -> None:
        """With the model that answers now: the scores of another one mean something else."""
        self.entry, self._model = self.choice.required(), self.choice.version
        self._evidence = Evidence(self.choice.calibration(), ENOUGH_MS, KEPT)
        self._collector = WindowCollector(self.entry.window_samples or RATE_HZ * 4)

    def _finding(self, found: Assessment) -> VoiceAuthenticity:
        spans = {"start_ms": self._start_ms or 0, "end_ms": self._end_ms, "model": self._model}
        return VoiceAuthenticity.model_validate(self.whose | spans | found.told() | {"known_errors": self.entry.known})
