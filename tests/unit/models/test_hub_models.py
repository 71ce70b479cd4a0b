"""A tiny model of each hub architecture through the whole way: store, lock, loader, engine, socket, client."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import catalog
from models.catalog import Catalog
from models.client import InferenceClient
from models.engine import SOCKET_NAME, Engine
from models.errors import FailedError, RefusedError, UnavailableError
from models.questions import Picture, Scores, Sound, Summary, Text
from models.settings import ModelSettings
from models.speech import Transcript, Utterance
from models.store import Missing, Store
from tests.unit.models.test_models_cli import models
from tests.until import until

torch = pytest.importorskip("torch", reason="the extras speech and vision are not installed (make models)")
pytest.importorskip("transformers", reason="the extras speech and vision are not installed (make models)")

from safetensors.torch import load_file, save_file  # noqa: E402  # only with torch

from models.runners.networks import sepformer  # noqa: E402  # only with torch
from tests import tiny_models  # noqa: E402  # only with torch

pytestmark = pytest.mark.weights
ROOM = {"room_id": "room", "deadline_ms": 60_000}
CLASSIFIERS = {
    "emotion-english-distilroberta-base": "text",
    "wav2vec2-base-superb-er": "sound",
    "wavlm-test": "sound",
    "vit-face-expression": "picture",
    "deep-fake-detector-v2": "picture",
}
Ask = Callable[..., Any]


def noise(seconds: float, rate_hz: int = 16_000) -> Sound:
    return Sound(np.random.default_rng(3).normal(0, 3_000, round(seconds * rate_hz)).astype(np.int16))


def picture(width: int, height: int, seed: int = 3) -> Picture:
    return Picture(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


QUESTIONS: dict[str, Text | Sound | Picture] = {
    "text": Text("What a pleasant surprise!", "en"),
    "sound": noise(1.0),
    "picture": picture(90, 120),
}


def rows() -> Catalog:
    """The real catalog and two rows of WavLM."""
    return Catalog(model=[*catalog.load().model, *tiny_models.wavlm_rows()])


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sepformer, "PUBLISHED", tiny_models.TINY_SEPFORMER)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    root = tmp_path / "store"
    root.mkdir()
    store = Store(root, allow_random=True)
    engine = Engine(tmp_path / SOCKET_NAME, ModelSettings(models_dir=root), rows(), store)
    await engine.start()
    yield engine
    await engine.close()


@pytest.fixture
async def ask(engine: Engine, tmp_path: Path) -> AsyncIterator[Ask]:
    client = InferenceClient(tmp_path / SOCKET_NAME)
    client.start()
    await until(lambda: "" if client.connected else "the engine")

    async def asked(name: str, question: Any, wanted: Any) -> Any:
        answered = await client.ask(name, question, wanted, **ROOM)
        assert answered.model == f"{name}@{tiny_models.COMMIT[:8]}"
        return answered.answer

    yield asked
    await client.close()


def installed(tmp_path: Path, name: str, **options: Any) -> Path:
    return tiny_models.install(tmp_path / "store", rows().get(name), **options)


def relock(tmp_path: Path, name: str, folder: Path) -> None:
    tiny_models.lock(tmp_path / "store", rows().get(name), folder)


@pytest.mark.parametrize("name", CLASSIFIERS)
async def test_a_classifier_answers_one_probability_per_label(ask: Ask, tmp_path: Path, name: str) -> None:
    installed(tmp_path, name)
    scores = await ask(name, QUESTIONS[CLASSIFIERS[name]], Scores)
    assert list(scores.labels) == rows().get(name).labels
    assert sum(scores.values) == pytest.approx(1, abs=1e-5)
    assert min(scores.values) > 0


async def test_speech_becomes_text(ask: Ask, tmp_path: Path) -> None:
    installed(tmp_path, "whisper-tiny")
    utterance = Utterance("room", "track", "segment", noise(1.0).pcm, True, "en")
    transcript = await ask("whisper-tiny", utterance, Transcript)
    assert transcript.language == "en"
    assert 0 <= transcript.no_speech_probability <= 1


async def test_a_summary_says_how_much_was_read(ask: Ask, tmp_path: Path) -> None:
    installed(tmp_path, "distilbart-cnn-6-6")
    short = "They agreed to meet again on Friday."
    whole = await ask("distilbart-cnn-6-6", Text(short, "en"), Summary)
    assert whole.read_characters == len(short)
    long = await ask("distilbart-cnn-6-6", Text(short * 100, "en"), Summary)
    assert 100 < long.read_characters < 128  # a byte is a token, and two tokens mark begin and end


async def test_a_picture_comes_back_twice_as_large(ask: Ask, tmp_path: Path) -> None:
    installed(tmp_path, "swin2sr-classical-x2")
    larger = await ask("swin2sr-classical-x2", picture(21, 12), Picture)
    assert larger.rgb.shape == (24, 42, 3)
    with pytest.raises(FailedError, match="640 x 360"):
        await ask("swin2sr-classical-x2", picture(640, 360), Picture)


@pytest.mark.parametrize("name", ["sepformer-wham16k-enhancement", "metricgan-plus-voicebank"])
async def test_sound_comes_back_as_long_as_it_was(ask: Ask, tmp_path: Path, name: str) -> None:
    installed(tmp_path, name)
    noisy = noise(0.503)
    clean = await ask(name, noisy, Sound)
    assert clean.pcm.shape == noisy.pcm.shape
    assert np.abs(clean.pcm).max() > 0
    assert not np.array_equal(clean.pcm, noisy.pcm)
    with pytest.raises(FailedError, match=r"11\.00 s"):
        await ask(name, noise(11.0), Sound)


@pytest.mark.parametrize("name", CLASSIFIERS)
async def test_a_batch_answers_as_each_alone(engine: Engine, tmp_path: Path, name: str) -> None:
    installed(tmp_path, name)
    runner = (await engine.shelf.get(name)).runner
    questions: dict[str, list[Any]] = {
        "text": [Text("No.", "en"), Text("I would rather not go there again, ever.", "en")],
        "sound": [noise(1.0), noise(0.4), noise(1.0)],
        "picture": [picture(50, 60), picture(224, 100, seed=4)],
    }
    batch = questions[CLASSIFIERS[name]]
    together = await runner.run(batch)
    alone = [(await runner.run([question]))[0] for question in batch]
    for one, other in zip(together, alone, strict=True):
        assert one.values == pytest.approx(other.values, abs=0.02)  # int8 scales by the largest of a batch


async def test_text_in_another_language_is_unavailable_never_scored(ask: Ask, tmp_path: Path) -> None:
    installed(tmp_path, "emotion-english-distilroberta-base")
    with pytest.raises(UnavailableError, match="language: emotion-english-distilroberta-base does not know 'zh'"):
        await ask("emotion-english-distilroberta-base", Text("今天很好", "zh"), Scores)
    with pytest.raises(ValueError, match="language"):
        await ask("emotion-english-distilroberta-base", Text("hello", "auto"), Scores)


async def test_a_text_that_is_too_long_is_refused_not_cut(ask: Ask, tmp_path: Path) -> None:
    installed(tmp_path, "emotion-english-distilroberta-base")
    with pytest.raises(FailedError, match="a text of 602 tokens"):
        await ask("emotion-english-distilroberta-base", Text("a" * 600, "en"), Scores)


@pytest.mark.parametrize(
    ("name", "question"),
    [
        ("wav2vec2-base-superb-er", noise(0.01)),
        ("wav2vec2-base-superb-er", noise(31.0)),
        ("vit-face-expression", picture(100, 1)),
        ("distilbart-cnn-6-6", Text(" ", "en")),
        ("swin2sr-classical-x2", picture(100, 4)),
    ],
)
async def test_what_a_model_cannot_take_is_refused(ask: Ask, tmp_path: Path, name: str, question: Any) -> None:
    installed(tmp_path, name)
    with pytest.raises(RefusedError):
        await ask(name, question, Scores)


@pytest.mark.parametrize(
    ("name", "question", "wanted"),
    [
        ("wav2vec2-base-superb-er", Sound(np.zeros(16_000, np.int16)), Scores),
        ("vit-face-expression", Picture(np.zeros((64, 64, 3), np.uint8)), Scores),
        ("sepformer-wham16k-enhancement", Sound(np.zeros(8_000, np.int16)), Sound),
        ("metricgan-plus-voicebank", Sound(np.zeros(8_000, np.int16)), Sound),
        ("swin2sr-classical-x2", Picture(np.zeros((16, 16, 3), np.uint8)), Picture),
    ],
)
async def test_silence_and_darkness_get_an_answer(
    ask: Ask, tmp_path: Path, name: str, question: Any, wanted: Any
) -> None:
    installed(tmp_path, name)
    answer = await ask(name, question, wanted)
    if wanted is Scores:
        assert sum(answer.values) == pytest.approx(1, abs=1e-5)
    if wanted is Sound:
        assert np.abs(answer.pcm).max() < 200


async def test_weights_in_a_bin_file_are_read_as_tensors_only(ask: Ask, tmp_path: Path) -> None:
    name = "wav2vec2-base-superb-er"
    folder = installed(tmp_path, name)
    tensors = load_file(folder / "model.safetensors")
    for part, index in (("g", 0), ("v", 1)):  # as files from before 2023 name a convolution's weight norm
        kernel = tensors.pop(f"wav2vec2.encoder.pos_conv_embed.conv.parametrizations.weight.original{index}")
        tensors[f"wav2vec2.encoder.pos_conv_embed.conv.weight_{part}"] = kernel
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    relock(tmp_path, name, folder)
    assert (await ask(name, noise(1.0), Scores)).labels == ("neu", "hap", "ang", "sad")


class Trap:
    """What a pickle could do."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (Path.touch, (Path("touched"),))


async def test_a_bin_file_with_anything_but_tensors_is_refused(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "wav2vec2-base-superb-er"
    folder = installed(tmp_path, name)
    (folder / "model.safetensors").unlink()
    torch.save({"classifier.weight": Trap()}, folder / "pytorch_model.bin")
    relock(tmp_path, name, folder)
    with pytest.raises(UnavailableError, match="cannot be loaded"):
        await ask(name, noise(1.0), Scores)
    assert not (tmp_path / "touched").exists()


def _without_head(tensors: dict[str, Any]) -> None:
    del tensors["classifier.weight"]


def _other_shape(tensors: dict[str, Any]) -> None:
    tensors["classifier.weight"] = torch.zeros(9, 32)


def _not_a_number(tensors: dict[str, Any]) -> None:
    tensors["classifier.bias"][0] = float("nan")


def _overflows(tensors: dict[str, Any]) -> None:
    tensors["vit.layernorm.weight"][:] = 3e38


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_without_head, "1 weights are missing and would be random, among them classifier.weight"),
        (_other_shape, "cannot be loaded"),
        (_not_a_number, "classifier.bias holds what is not a number"),
        (_overflows, "the model's answer is not a number"),
    ],
)
async def test_damaged_weights_are_refused(
    ask: Ask, tmp_path: Path, damage: Callable[[dict[str, Any]], None], reason: str
) -> None:
    name = "deep-fake-detector-v2"
    folder = installed(tmp_path, name)
    tensors = load_file(folder / "model.safetensors")
    damage(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    relock(tmp_path, name, folder)
    with pytest.raises(UnavailableError, match=reason):
        await ask(name, picture(64, 64), Scores)


async def test_a_foreign_head_is_refused_with_both_lists(ask: Ask, tmp_path: Path) -> None:
    installed(tmp_path, "deep-fake-detector-v2", labels=["tench", "goldfish"])
    with pytest.raises(UnavailableError, match=r"\['tench', 'goldfish'\], not \['Realism', 'Deepfake'\]"):
        await ask("deep-fake-detector-v2", picture(64, 64), Scores)


async def test_a_base_without_a_head_is_no_detector(ask: Ask, tmp_path: Path) -> None:
    installed(tmp_path, "wavlm-bare")
    with pytest.raises(UnavailableError, match="weights are missing and would be random, among them classifier"):
        await ask("wavlm-bare", noise(1.0), Scores)


async def test_what_the_catalog_has_no_labels_for_may_not_classify(tmp_path: Path) -> None:
    entry = rows().get("wavlm-test").model_copy(update={"labels": []})
    tiny_models.install(tmp_path / "store", entry, labels=["spoof", "bonafide"])
    store = Store(tmp_path / "store", allow_random=True)
    engine = Engine(tmp_path / SOCKET_NAME, ModelSettings(models_dir=store.root), Catalog(model=[entry]), store)
    with pytest.raises(UnavailableError, match="does not know what it answers; its files say"):
        await engine.shelf.get("wavlm-test")
    await engine.close()


@pytest.mark.parametrize("change", ["truncated", "swapped"])
async def test_a_changed_file_is_refused_with_both_hashes(ask: Ask, tmp_path: Path, change: str) -> None:
    name = "vit-face-expression"
    path = installed(tmp_path, name) / "model.safetensors"
    other = installed(tmp_path, "deep-fake-detector-v2") / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100] if change == "truncated" else other.read_bytes())
    with pytest.raises(UnavailableError, match=r"model.safetensors has sha256 \w{64}, the lock says \w{64}"):
        await ask(name, picture(64, 64), Scores)


@pytest.mark.parametrize("name", ["sepformer-wham16k-enhancement", "metricgan-plus-voicebank"])
async def test_weights_of_another_network_are_refused(ask: Ask, tmp_path: Path, name: str) -> None:
    folder = installed(tmp_path, name)
    first = sorted(folder.iterdir())[0]
    torch.save({"weight": torch.zeros(3)}, first)
    relock(tmp_path, name, folder)
    with pytest.raises(
        UnavailableError,
        match=r"cannot be loaded: (not weights of MetricGanPlus|decoder.weight is \[3\], SepFormer has)",
    ):
        await ask(name, noise(0.5), Sound)


async def test_random_weights_are_refused_outside_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "emotion-english-distilroberta-base"
    installed(tmp_path, name)
    root = tmp_path / "store"
    command = f"candor models pull {name}"
    assert Store(root).locate(rows().get(name)) == Missing(
        "its weights are random numbers that a test made up", command
    )
    models(root, "list")
    assert "its weights are random numbers that a test made up" in capsys.readouterr().out
    for variable in ("CANDOR_MODELS__ALLOW_RANDOM", "ALLOW_RANDOM"):
        monkeypatch.setenv(variable, "true")
    engine = Engine(tmp_path / SOCKET_NAME, ModelSettings(models_dir=root))
    with pytest.raises(UnavailableError, match="random numbers"):
        await engine.shelf.get(name)
    await engine.close()
