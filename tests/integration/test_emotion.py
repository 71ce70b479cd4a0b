"""Emotion of words and of voices: real observers, the real engine and its socket, tiny models of the real architectures."""

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from candor.speech import CLEAN, load_script
from media_processors.audio.emotion import LANGUAGE, TextEmotionObserver, VoiceEmotionObserver
from media_processors.base import HostServices
from media_processors.findings import Caption, Finding, TextEmotion, VoiceEmotion
from media_processors.frames import AudioFrame, TrackRef
from media_processors.settings import ProcessingSettings
from models import catalog
from models.client import InferenceClient
from models.engine import SOCKET_NAME, Engine
from models.settings import ModelSettings
from models.store import Store
from tests.until import until

pytest.importorskip("torch", reason="the extras speech and vision are not installed (make models)")
pytest.importorskip("transformers", reason="the extras speech and vision are not installed (make models)")

from tests import tiny_models  # only with torch

pytestmark = pytest.mark.weights
TRACK = TrackRef("room", "participant", "track", "audio", "microphone", 3)
MODELS = ("emotion-english-distilroberta-base", "wav2vec2-base-superb-er")


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[HostServices]:
    root = tmp_path / "store"
    root.mkdir()
    for name in MODELS:
        tiny_models.install(root, catalog.load().get(name))
    store = Store(root, allow_random=True)
    engine = Engine(tmp_path / SOCKET_NAME, ModelSettings(models_dir=root), catalog.load(), store)
    await engine.start()
    client = InferenceClient(tmp_path / SOCKET_NAME)
    client.start()
    await until(lambda: "" if client.connected else "the engine")
    for name in MODELS:
        await client.load(name)
    yield HostServices(client, store, ProcessingSettings())
    await client.close()
    await engine.close()


def caption(text: str, language: str, *, final: bool = True) -> Caption:
    return Caption(
        room_id="room",
        participant_id="participant",
        track_id="track",
        epoch=3,
        start_ms=100,
        end_ms=900,
        model="whisper-tiny@1",
        segment_id="s1",
        rev=1,
        text=text,
        stable_chars=len(text),
        final=final,
        language=language,
        quality="standard",
        latency_ms=5,
    )


async def test_words_of_final_captions_are_judged_in_languages_that_the_model_knows(services: HostServices) -> None:
    observer = TextEmotionObserver()
    observer.attach(services)
    info = observer.info()
    assert (info.available, info.about, info.default_on) == (True, "emotion", False)
    said: list[Finding] = []
    stream = observer.open(TRACK, said.append)
    stream.read(caption("What a pleasant", "en", final=False))
    stream.read(caption("What a pleasant surprise!", "en-GB"))
    await until(lambda: "" if said else "a finding")
    [found] = said
    assert isinstance(found, TextEmotion)
    assert (found.segment_id, found.epoch, found.start_ms) == ("s1", 3, 100)
    assert found.label in catalog.load().get(MODELS[0]).labels
    assert sum(found.probabilities.values()) == pytest.approx(1, abs=1e-4)
    assert found.probability == max(found.probabilities.values())
    assert "66 %" in found.known_errors
    stream.read(caption("今天天气很好", "zh"))
    assert stream.silent_because == LANGUAGE
    stream.read(caption("Good.", "en"))
    assert stream.silent_because == ""
    await until(lambda: "" if len(said) == 2 else "one more finding, of the English line")
    await stream.aclose()


async def test_a_voice_is_judged_once_in_five_seconds_of_speech(services: HostServices) -> None:
    observer = VoiceEmotionObserver()
    observer.attach(services)
    said: list[Finding] = []
    stream = observer.open(TRACK, said.append)
    script = await load_script()
    sound = np.concatenate([line.sound for line in script.turns if line.name == CLEAN])[::3]
    for index in range(12_000 // 20):
        samples = np.roll(sound, -index * 320)[:320].astype(np.float32)
        stream.push(AudioFrame(samples, 16_000, index * 20, 0, 0.9, False))
    await until(lambda: "" if len(said) == 2 else f"two findings, there are {len(said)}")
    assert all(isinstance(one, VoiceEmotion) and one.speech_ms >= 3_900 for one in said)
    assert {one.label for one in said if isinstance(one, VoiceEmotion)} <= {"neu", "hap", "ang", "sad"}
    await stream.aclose()


async def test_what_was_made_for_tests_is_refused_by_a_store_as_the_product_opens_it(services: HostServices) -> None:
    plain = HostServices(services.engine, Store(services.store.root), services.settings)
    for observer in (TextEmotionObserver(), VoiceEmotionObserver()):
        observer.attach(plain)
        info = observer.info()
        assert not info.available
        assert "random" in info.reason
