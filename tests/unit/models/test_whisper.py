"""The real Whisper loading and decoding code, on a tiny model with random weights that the test makes."""

from pathlib import Path

import numpy as np
import pytest

from models.catalog import ModelEntry
from models.errors import UnavailableError
from models.runners import create_runner
from models.settings import ModelSettings
from models.speech import Utterance
from models.store import LockedModel, Store, sha256_of
from tests.unit.models import tiny_whisper
from tests.unit.models.test_catalog_and_store import COMMIT

pytest.importorskip("torch", reason="the extra `speech` (torch, transformers) is not installed")
pytest.importorskip("transformers", reason="the extra `speech` (torch, transformers) is not installed")

pytestmark = pytest.mark.weights


def stored(root: Path) -> tuple[ModelEntry, Store, Path]:
    folder = root / "hf" / "test" / "whisper" / COMMIT
    folder.mkdir(parents=True)
    files = tiny_whisper.save(folder)
    entry = ModelEntry.model_validate(
        {
            "name": "whisper-test",
            "task": "speech_to_text",
            "runner": "whisper",
            "licence": "none",
            "languages": ["*"],
            "sound": "raw",
            "sample_rate_hz": 16_000,
            "requires": ["torch", "transformers"],
            "source": {"kind": "hf", "repository": "test/whisper", "revision": COMMIT, "files": files},
        }
    )
    store = Store(root)
    lock(store, files, folder)
    return entry, store, folder


def lock(store: Store, files: list[str], folder: Path) -> None:
    hashes = {name: sha256_of(folder / name) for name in files}
    store.put("whisper-test", LockedModel(repository="test/whisper", commit=COMMIT, files=hashes))


def utterance(language: str, seconds: float = 2.0) -> Utterance:
    noise = np.random.default_rng(1).normal(0, 3_000, int(seconds * 16_000)).astype(np.int16)
    return Utterance("room", "track", "segment", noise, True, language)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
async def test_a_batch_of_windows_and_languages(tmp_path: Path, precision: str) -> None:
    entry, store, _ = stored(tmp_path)
    runner, _ = create_runner(entry, store, ModelSettings.model_validate({"whisper_precision": precision}))
    await runner.start()
    detected, english = await runner.run([utterance("auto"), utterance("en", seconds=0.7)])
    assert detected.language in tiny_whisper.LANGUAGES
    assert english.language == "en"
    for transcript in (detected, english):
        assert transcript.no_speech_probability is not None
        assert 0 <= transcript.no_speech_probability <= 1
    await runner.close()


async def test_a_batch_answers_as_each_alone(tmp_path: Path) -> None:
    entry, store, _ = stored(tmp_path)
    runner, _ = create_runner(entry, store, ModelSettings(whisper_precision="fp32"))
    await runner.start()
    windows = [utterance("en", 1.0), utterance("en", 3.0)]
    together = await runner.run(windows)
    alone = [(await runner.run([window]))[0] for window in windows]
    assert [transcript.words for transcript in together] == [transcript.words for transcript in alone]
    await runner.close()


async def test_a_changed_file_is_never_loaded(tmp_path: Path) -> None:
    entry, store, folder = stored(tmp_path)
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    with pytest.raises(UnavailableError, match="sha256"):
        create_runner(entry, store, ModelSettings())


async def test_missing_weights_are_refused_not_made_up(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    entry, store, folder = stored(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.decoder.layer_norm.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    lock(store, sorted(path.name for path in folder.iterdir()), folder)
    runner, _ = create_runner(entry, store, ModelSettings())
    with pytest.raises(UnavailableError, match="layer_norm"):
        await runner.start()
