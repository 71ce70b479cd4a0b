"""Captions: one track is one speaker, so every line has its speaker.

Speech is cut into segments; the growing window of a segment goes to the model engine every 0.7 s of speech, and what two
successive answers share is stable. The engine's answers come later than the frames, so captions leave through `emit`.
"""

import asyncio
import secrets
import time
from collections import deque
from typing import ClassVar, Literal

import structlog

from media_processors.audio.local_agreement import LocalAgreement
from media_processors.audio.segments import RATE_HZ, Segmenter, Window
from media_processors.base import Emit, HostServices
from media_processors.findings import Caption, Finding, ProcessorInfo
from media_processors.frames import AudioFrame, TrackRef, VideoFrame
from models import catalog
from models.catalog import ModelEntry
from models.client import InferenceClient
from models.errors import InferenceError, UnavailableError
from models.inventory import Inventory
from models.speech import Transcript, Utterance
from models.store import Located, Missing

NAME = "captions"
INTERIM_DEADLINE_MS = 3_000
FINAL_DEADLINE_MS = 30_000
"""A line that comes late still belongs into the meeting; on a computer without a core to spare it may take 15 s."""
MAX_WAITING = 4
"""Windows of one track that wait for the engine. One more, and the oldest segment ends with what is known of it."""
NO_SPEECH_PROBABILITY = 0.6
COMPRESSION_RATIO = 2.4
"""Beyond either, Whisper is inventing (its authors' own limits, arXiv 2212.04356, Section 4.5)."""

log = structlog.get_logger()


class Captions:
    """The observer."""

    kind: ClassVar[Literal["observer"]] = "observer"
    media: Literal["audio", "video"] = "audio"
    sound: Literal["raw", "processed"] = "raw"
    sample_rate_hz = RATE_HZ

    def __init__(self) -> None:
        self.language = "auto"
        self.engine: InferenceClient | None = None
        self.entry: ModelEntry | None = None
        self.model = ""
        self._missing = Missing("captions run in the watch host", "")
        self._services: HostServices | None = None

    def attach(self, services: HostServices) -> None:
        """Choose the model: the one asked for, or the best that is here."""
        self._services = services
        self.language = services.settings.captions_language
        self.engine = services.engine
        chosen = choose_model(services.settings.captions_model, self.language, services.store)
        if isinstance(chosen, Missing):
            self._missing = chosen
            return
        self.entry, located = chosen
        self.sound = self.entry.sound
        self.model = f"{self.entry.name}@{located.version}"

    def info(self) -> ProcessorInfo:
        """Available if a model is here and the engine has not refused it."""
        missing = self._missing if self.entry is None else None
        return ProcessorInfo(
            name=NAME,
            kind="observer",
            media="audio",
            available=missing is None,
            reason=missing.reason if missing else "",
            command=missing.command if missing else "",
            model=self.model,
        )

    def open(self, track: TrackRef, emit: Emit) -> "CaptionStream":
        """Captions of one track. Raises UnavailableError if there is no model."""
        if self.engine is None or self.entry is None:
            raise UnavailableError(self._missing.reason, self._missing.command)
        return CaptionStream(self, self.engine, self.entry, track, emit)

    def refused(self, error: UnavailableError) -> None:
        """The engine cannot run the model, whatever the store looked like from here; perhaps it can later."""
        self._missing = Missing(error.message, error.command)
        self.entry = None
        if error.retry_s and self._services is not None:
            asyncio.get_running_loop().call_later(error.retry_s, self.attach, self._services)
        log.error("captions_unavailable", reason=error.message)


def choose_model(wanted: str, language: str, store: Inventory) -> tuple[ModelEntry, Located] | Missing:
    """A speech model that is here and knows the language: the one wanted, or for `auto` the first of standard quality."""
    models = catalog.load()
    if wanted != "auto":
        try:
            candidates = [models.get(wanted)]
        except KeyError as error:
            return Missing(str(error.args[0]), "candor models list")
    else:
        candidates = sorted(models.for_task("speech_to_text"), key=lambda entry: entry.quality != "standard")
    missing: Missing | None = None
    for entry in candidates:
        if not entry.speaks(language):
            missing = missing or Missing(f"language: {entry.name} does not know {language!r}", "candor models list")
            continue
        located = store.locate(entry)
        if isinstance(located, Located):
            return entry, located
        missing = missing or located
    return missing or Missing("the catalog has no speech model", "")


class _Segment:
    """What is known of a segment."""

    def __init__(self, segment_id: str) -> None:
        self.segment_id = segment_id
        self.agreement = LocalAgreement()
        self.rev = 0
        self.shown = ""
        self.language = ""


class CaptionStream:
    """Captions of one track: segments in, windows to the engine one after the other, captions out."""

    def __init__(
        self, observer: Captions, engine: InferenceClient, entry: ModelEntry, track: TrackRef, emit: Emit
    ) -> None:
        self.dropped = 0
        """Windows that the engine never saw, because it was too slow."""
        self._observer = observer
        self._engine = engine
        self._entry = entry
        self._track = track
        self._emit = emit
        self._model = observer.model
        self._name = secrets.token_hex(4)  # segments of an earlier life of this host must not be taken for ours
        self._segmenter = Segmenter()
        self._segments: dict[int, _Segment] = {}
        self._waiting: deque[Window] = deque()
        self._posted = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task = asyncio.create_task(self._serve(), name=f"captions-{track.track_id}")

    def push(self, frame: AudioFrame | VideoFrame) -> list[Finding]:
        """Take a frame of 16 kHz sound; captions follow through `emit`."""
        if isinstance(frame, AudioFrame):
            for window in self._segmenter.push(frame):
                self._post(window)
        return []

    def flush(self) -> list[Finding]:
        """The sound stopped: end the segment."""
        for window in self._segmenter.flush():
            self._post(window)
        return []

    async def aclose(self) -> None:
        """Let segments that ended be decoded, then stop."""
        try:
            self._waiting = deque(window for window in self._waiting if window.final)
            if self._waiting:
                await self._idle.wait()
        finally:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _post(self, window: Window) -> None:
        if self._waiting and self._waiting[-1].segment == window.segment:
            self._waiting.pop()  # a longer window of the same segment says it all
        self._waiting.append(window)
        if len(self._waiting) > MAX_WAITING:
            self.dropped += 1
            oldest = self._waiting.popleft()
            self._settle(oldest, self._segment_of(oldest))
        self._idle.clear()
        self._posted.set()

    async def _serve(self) -> None:
        try:
            await self._engine.load(self._entry.name)
        except InferenceError as error:
            self._lost(error)
        while True:
            await self._posted.wait()
            while self._waiting:
                await self._decode(self._waiting.popleft())
            self._posted.clear()
            self._idle.set()

    async def _decode(self, window: Window) -> None:
        segment = self._segment_of(window)
        utterance = Utterance(
            room_id=self._track.room_id,
            track_id=self._track.track_id,
            segment_id=segment.segment_id,
            pcm=window.pcm,
            final=window.final,
            language=self._observer.language,
        )
        deadline_ms = FINAL_DEADLINE_MS if window.final else INTERIM_DEADLINE_MS
        try:
            answered = await self._engine.transcribe(self._entry.name, utterance, deadline_ms)
        except InferenceError as error:
            self._lost(error)
            self._settle(window, segment)
            return
        transcript, self._model = answered.answer, answered.model
        segment.language = transcript.language
        if invented(transcript):
            self._settle(window, segment)
            return
        words = [word.text for word in transcript.words]
        if window.final:
            segment.agreement.finish(words)
        else:
            segment.agreement.update(words)
        self._say(window, segment)

    def _lost(self, error: InferenceError) -> None:
        if isinstance(error, UnavailableError):
            self._observer.refused(error)
        log.debug("caption_window_lost", track=self._track.track_id, code=error.code)

    def _settle(self, window: Window, segment: _Segment) -> None:
        """There is no answer for this window. If it was the last, what was shown becomes final, so that nobody waits for it."""
        if window.final:
            segment.agreement.finish([*segment.agreement.stable, *segment.agreement.tail])
            self._say(window, segment)

    def _say(self, window: Window, segment: _Segment) -> None:
        text = segment.agreement.text
        if window.final:
            self._segments.pop(window.segment, None)
        if not segment.rev and not text:
            return  # nothing was shown and nothing is to be
        if not window.final and text == segment.shown:
            return
        segment.shown = text
        caption = Caption(
            room_id=self._track.room_id,
            participant_id=self._track.participant_id,
            track_id=self._track.track_id,
            epoch=self._track.epoch,
            start_ms=window.start_ms,
            end_ms=window.end_ms,
            model=self._model,
            segment_id=segment.segment_id,
            rev=segment.rev,
            text=text,
            stable_chars=segment.agreement.stable_chars,
            final=window.final,
            language=segment.language,
            quality=self._entry.quality,
            latency_ms=max(0, (time.monotonic_ns() - window.end_arrival_ns) // 1_000_000),
        )
        segment.rev += 1
        self._emit(caption)

    def _segment_of(self, window: Window) -> _Segment:
        if window.segment not in self._segments:
            self._segments[window.segment] = _Segment(f"{self._name}-{window.segment}")
        return self._segments[window.segment]


def invented(transcript: Transcript) -> bool:
    """Whether the model itself doubts that anybody spoke, or repeats itself."""
    if transcript.no_speech_probability is not None and transcript.no_speech_probability > NO_SPEECH_PROBABILITY:
        return True
    return transcript.compression_ratio is not None and transcript.compression_ratio > COMPRESSION_RATIO
