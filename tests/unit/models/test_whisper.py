"""The real Whisper loading and decoding code, on a tiny model with random weights that the test makes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.precision import Precision
from models.runners import create_runner
from models.settings import ModelSettings
from models.speech import Utterance
from models.store import Store

pytest.importorskip("torch", reason="the extra `speech` is not installed (make models)")
pytest.importorskip("transformers", reason="the extra `speech` is not installed (make models)")

from tests import tiny_models  # only with torch

pytestmark = pytest.mark.weights


def stored(root: Path, precision: Precision) -> Any:
    entry = tiny_models.row("whisper-tiny")
    tiny_models.install(root, entry)
    runner, _ = create_runner(entry, Store(root, allow_random=True), ModelSettings(), {"cpu": precision})
    return runner


def utterance(language: str, seconds: float = 2.0) -> Utterance:
    noise = np.random.default_rng(1).normal(0, 3_000, int(seconds * 16_000)).astype(np.int16)
    return Utterance("room", "track", "segment", noise, True, language)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
async def test_a_batch_of_windows_and_languages(tmp_path: Path, precision: Precision) -> None:
    runner = stored(tmp_path, precision)
    await runner.start()
    detected, english = await runner.run([utterance("auto"), utterance("en", seconds=0.7)])
    assert detected.language in tiny_models.LANGUAGES
    assert english.language == "en"
    for transcript in (detected, english):
        assert transcript.no_speech_probability is not None
        assert 0 <= transcript.no_speech_probability <= 1
    await runner.close()


async def test_a_batch_answers_as_each_alone(tmp_path: Path) -> None:
    runner = stored(tmp_path, "fp32")
    await runner.start()
    windows = [utterance("en", 1.0), utterance("en", 3.0)]
    together = await runner.run(windows)
    alone = [(await runner.run([window]))[0] for window in windows]
    assert [transcript.words for transcript in together] == [transcript.words for transcript in alone]
    await runner.close()
