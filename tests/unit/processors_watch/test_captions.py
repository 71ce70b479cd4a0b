"""The caption stream against a scripted engine: revisions, hallucinations, a slow engine, an engine that is gone."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from media_processors.audio.captions import MAX_WAITING, Captions, CaptionStream, choose_model
from media_processors.base import HostServices
from media_processors.findings import Caption, Finding
from media_processors.frames import AudioFrame, TrackRef
from media_processors.settings import ProcessingSettings
from models.client import Answered, InferenceClient
from models.errors import DeadlineError, EngineGoneError, InferenceError, UnavailableError
from models.speech import Transcript, Utterance, Word
from models.store import Missing, Store
from tests.until import until

TRACK = TrackRef("room", "participant", "track", "audio", "microphone", 3)
Answer = Transcript | InferenceError


class ScriptedEngine(InferenceClient):
    """Answers from a list; waits while `held`."""

    def __init__(self) -> None:
        super().__init__(Path("unused"))
        self.answers: list[Answer] = []
        self.asked: list[Utterance] = []
        self.version = "pocketsphinx-en-us@5.1.1"
        self.released = asyncio.Event()
        self.released.set()

    async def load(self, model: str, timeout_ms: float = 0) -> None:
        """Everything is loaded."""

    async def transcribe(self, model: str, utterance: Utterance, deadline_ms: float) -> Answered[Transcript]:
        self.asked.append(utterance)
        await self.released.wait()
        answer = self.answers.pop(0)
        if isinstance(answer, InferenceError):
            raise answer
        return Answered(answer, self.version)


def heard(text: str, no_speech: float | None = None, compression: float | None = None) -> Transcript:
    return Transcript(tuple(Word(f" {word}") for word in text.split()), "en", no_speech, compression)


@dataclass
class Scene:
    """A stream, its engine, and what it said."""

    engine: ScriptedEngine
    observer: Captions
    stream: CaptionStream
    said: list[Caption] = field(default_factory=list)
    at_ms: int = 0

    def push(self, speech: float, frames: int) -> None:
        for _ in range(frames):
            samples = np.full(320, 0.1, np.float32)
            self.stream.push(AudioFrame(samples, 16_000, self.at_ms, 0, speech, concealed=False))
            self.at_ms += 20

    async def settled(self) -> None:
        await until(lambda: "" if self.stream._idle.is_set() else "the stream to be idle")

    async def speak(self, ms: int) -> None:
        self.push(0.9, ms // 20)
        await self.settled()

    async def rest(self, ms: int = 700) -> None:
        self.push(0.0, ms // 20)
        await self.settled()


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    engine, observer = ScriptedEngine(), Captions()
    observer.attach(HostServices(engine, Store(tmp_path), ProcessingSettings()))
    said: list[Caption] = []

    def emit(finding: Finding) -> None:
        assert isinstance(finding, Caption)
        said.append(finding)

    stream = observer.open(TRACK, emit)
    yield Scene(engine, observer, stream, said)
    await stream.aclose()


async def test_interim_then_final_with_a_stable_prefix(scene: Scene) -> None:
    scene.engine.answers = [heard("and so"), heard("and so my"), heard("and so my fellow americans")]
    await scene.speak(720)
    await scene.speak(700)
    await scene.rest()
    assert [(c.rev, c.text, c.stable_chars, c.final) for c in scene.said] == [
        (0, "and so", 0, False),
        (1, "and so my", 6, False),
        (2, "and so my fellow americans", 26, True),
    ]
    first = scene.said[0]
    assert {caption.segment_id for caption in scene.said} == {first.segment_id}
    assert (first.epoch, first.track_id, first.quality, first.language) == (3, "track", "test", "en")
    assert first.model.startswith("pocketsphinx-en-us@")
    assert [utterance.final for utterance in scene.engine.asked] == [False, False, True]


async def test_a_caption_names_the_version_that_heard_it(scene: Scene) -> None:
    scene.engine.answers = [heard("and so"), heard("and so my")]
    await scene.speak(720)
    scene.engine.version = "pocketsphinx-en-us@6"
    await scene.speak(700)
    assert [caption.model for caption in scene.said] == ["pocketsphinx-en-us@5.1.1", "pocketsphinx-en-us@6"]


async def test_silence_asks_nothing(scene: Scene) -> None:
    await scene.rest(5_000)
    assert scene.engine.asked == []
    assert scene.said == []


@pytest.mark.parametrize("doubt", [heard("thanks for watching", no_speech=0.9), heard("la la la la", compression=3.1)])
async def test_what_the_model_doubts_is_not_shown(scene: Scene, doubt: Transcript) -> None:
    scene.engine.answers = [doubt, doubt]
    await scene.speak(720)
    await scene.rest()
    assert scene.said == []


async def test_a_doubted_end_leaves_what_was_shown(scene: Scene) -> None:
    scene.engine.answers = [heard("ask not"), heard("thank you", no_speech=0.9)]
    await scene.speak(720)
    await scene.rest()
    assert [(c.text, c.final) for c in scene.said] == [("ask not", False), ("ask not", True)]


@pytest.mark.parametrize("error", [DeadlineError(), EngineGoneError()])
async def test_a_lost_end_still_ends_the_caption(scene: Scene, error: InferenceError) -> None:
    scene.engine.answers = [heard("ask not"), error]
    await scene.speak(720)
    await scene.rest()
    assert [(c.text, c.final) for c in scene.said] == [("ask not", False), ("ask not", True)]
    scene.engine.answers = [heard("again")]
    await scene.speak(300)
    await scene.rest()
    assert scene.said[-1].text == "again"
    assert scene.said[-1].segment_id != scene.said[0].segment_id


async def test_a_slow_engine_gets_only_the_longest_window(scene: Scene) -> None:
    scene.engine.released.clear()
    scene.engine.answers = [heard("one"), heard("one two three")]
    scene.push(0.9, 36)
    await until(lambda: "" if scene.engine.asked else "the first question")
    scene.push(0.9, 140)
    scene.engine.released.set()
    await scene.settled()
    assert len(scene.engine.asked) == 2
    assert len(scene.engine.asked[1].pcm) > 4 * len(scene.engine.asked[0].pcm)


async def test_an_engine_that_is_far_too_slow_loses_the_oldest_and_counts(scene: Scene) -> None:
    scene.engine.released.clear()
    scene.push(0.9, 10)
    scene.push(0.0, 40)
    await until(lambda: "" if scene.engine.asked else "the first question")
    for _ in range(MAX_WAITING + 2):
        scene.push(0.9, 10)
        scene.push(0.0, 40)
    assert scene.stream.dropped == 2
    scene.engine.answers = [heard(str(number)) for number in range(1 + MAX_WAITING)]
    scene.engine.released.set()
    await scene.settled()
    assert [caption.text for caption in scene.said] == ["0", "1", "2", "3", "4"]


async def test_closing_after_flush_waits_for_the_end(scene: Scene) -> None:
    scene.engine.answers = [heard("good"), heard("good bye")]
    await scene.speak(800)
    scene.stream.flush()
    await scene.stream.aclose()
    assert (scene.said[-1].text, scene.said[-1].final) == ("good bye", True)


async def test_closing_without_flush_asks_nothing_more(scene: Scene) -> None:
    scene.push(0.9, 10)
    await scene.stream.aclose()
    assert scene.engine.asked == []


async def test_a_model_that_the_engine_refuses_makes_captions_unavailable(scene: Scene) -> None:
    assert scene.observer.info().available
    scene.engine.answers = [UnavailableError("w.bin has sha256 1, the lock says 2", "candor models pull whisper-tiny")]
    await scene.speak(300)
    await scene.rest()
    info = scene.observer.info()
    assert not info.available
    assert "sha256" in info.reason
    assert info.command == "candor models pull whisper-tiny"


def test_whisper_is_named_with_its_command_if_asked_for_and_absent(tmp_path: Path) -> None:
    missing = choose_model("whisper-tiny", "auto", Store(tmp_path))
    assert isinstance(missing, Missing)
    assert missing.command in ("make models", "candor models pull whisper-tiny")


def test_pocketsphinx_is_the_default_and_knows_only_english(tmp_path: Path) -> None:
    chosen = choose_model("auto", "auto", Store(tmp_path))
    assert not isinstance(chosen, Missing)
    assert (chosen[0].name, chosen[0].quality) == ("pocketsphinx-en-us", "test")
    missing = choose_model("pocketsphinx-en-us", "zh", Store(tmp_path))
    assert isinstance(missing, Missing)
    assert missing.reason.startswith("language:")


def test_before_a_host_attached_it_captions_are_unavailable() -> None:
    info = Captions().info()
    assert not info.available
    assert info.reason
