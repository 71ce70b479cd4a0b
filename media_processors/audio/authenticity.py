"""Voice authenticity: is a voice recorded or made? Evidence from windows of speech, judged by a model only where it may be.

One window per 5 s of speech, of the length that the model takes, with the pauses that speech has. The gate comes before the
model: a voice that is narrow or noisy is not judged.
"""

import asyncio
from collections import deque
from typing import ClassVar, Literal

import structlog

from media_processors.asking import Choice
from media_processors.audio.validity import QualityMeter
from media_processors.audio.windows import RATE_HZ, Pcm, WindowCollector
from media_processors.base import Emit, HostServices
from media_processors.errors import ProcessorError
from media_processors.evidence import Assessment, Evidence
from media_processors.findings import Finding, ProcessorInfo, VoiceAuthenticity
from media_processors.frames import AudioFrame, TrackRef, VideoFrame
from models.calibration import genuine_score
from models.errors import InferenceError
from models.questions import Scores, Sound

NAME = "voice_authenticity"
ENOUGH_MS = 10_000
"""Speech before anything is said of a voice."""
KEPT = 12
"""Windows that count: the last minute of speech."""
DEADLINE_MS = 20_000
MAX_WAITING = 2
"""Windows that wait for the engine. One more, and the oldest is not judged."""

log = structlog.get_logger()


class VoiceAuthenticityObserver:
    """The observer. Off until somebody asks for it: it is about the body of a person."""

    kind: ClassVar[Literal["observer"]] = "observer"
    media: Literal["audio", "video"] = "audio"
    sound: Literal["raw", "processed"] = "raw"
    sample_rate_hz = RATE_HZ

    def __init__(self) -> None:
        self.choice = Choice("voice_authenticity")

    def attach(self, services: HostServices) -> None:
        """Choose the model."""
        self.choice.attach(services.engine, services.store)

    def info(self) -> ProcessorInfo:
        """Available if a model is here and the engine has not refused it."""
        here = self.choice.entry is not None
        return ProcessorInfo(
            name=NAME,
            kind="observer",
            media="audio",
            available=here,
            reason="" if here else self.choice.missing.reason,
            command="" if here else self.choice.missing.command,
            model=self.choice.version if here else "",
            default_on=False,
            about="biometric",
        )

    def open(self, track: TrackRef, emit: Emit) -> "VoiceAuthenticityStream":
        """Evidence about one track. Raises UnavailableError if there is no model."""
        self.choice.required()
        return VoiceAuthenticityStream(self.choice, track, emit)


class VoiceAuthenticityStream:
    """Evidence about one track."""

    def __init__(self, choice: Choice, track: TrackRef, emit: Emit) -> None:
        self._entry = choice.required()
        self._model = choice.version
        self._choice = choice
        self._track = track
        self._emit = emit
        self._meter = QualityMeter()
        self._collector = WindowCollector(self._entry.window_samples or RATE_HZ * 4)
        self._evidence = Evidence(choice.calibration(), ENOUGH_MS, KEPT)
        self._start_ms: int | None = None
        self._end_ms = 0
        self._waiting: deque[tuple[Pcm, int]] = deque(maxlen=MAX_WAITING)
        self._posted = asyncio.Event()
        self._task = asyncio.create_task(self._serve(), name=f"authenticity-{track.track_id}")

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
        self._waiting.append(due)
        self._posted.set()
        return []

    def refusal(self) -> str:
        """Why the voice may not be judged just now; empty if it may."""
        quality = self._meter.quality()
        return quality.refusal if quality else "noisy"

    def flush(self) -> list[Finding]:
        """A pause changes nothing: what was said stands."""
        return []

    async def aclose(self) -> None:
        """Nobody waits for what was not judged yet."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _serve(self) -> None:
        while True:
            await self._posted.wait()
            self._posted.clear()
            while self._waiting:
                await self._judge(*self._waiting.popleft())

    async def _judge(self, pcm: Pcm, speech_ms: int) -> None:
        try:
            scores = await self._choice.ask(Sound(pcm), Scores, room_id=self._track.room_id, deadline_ms=DEADLINE_MS)
            self._adopt()
            found = self._evidence.add(genuine_score(scores), speech_ms)
        except (InferenceError, ProcessorError, ValueError) as error:
            log.debug("voice_window_lost", track=self._track.track_id, error=type(error).__name__)
            return
        self._emit(self._finding(found))

    def _adopt(self) -> None:
        """Another model may have answered than before: its scores mean something else, so evidence begins anew."""
        if self._choice.version == self._model:
            return
        self._entry, self._model = self._choice.required(), self._choice.version
        self._evidence = Evidence(self._choice.calibration(), ENOUGH_MS, KEPT)
        self._collector = WindowCollector(self._entry.window_samples or RATE_HZ * 4)

    def _finding(self, found: Assessment) -> VoiceAuthenticity:
        return VoiceAuthenticity(
            room_id=self._track.room_id,
            participant_id=self._track.participant_id,
            track_id=self._track.track_id,
            epoch=self._track.epoch,
            start_ms=self._start_ms or 0,
            end_ms=self._end_ms,
            model=self._model,
            **found.told(),
            known_errors=self._entry.known,
        )
