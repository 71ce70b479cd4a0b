"""Tiny models of the hub's architectures, in the real engine beside a real browser: what they answer stands in the page."""

import asyncio
import os
import signal
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.async_api import expect

from candor.speech import CLEAN, RATE_HZ, load_script
from models import catalog
from models.settings import ModelSettings
from models.store import Store
from models.trained import TRAINED_GENERATORS, TRAINED_SPEAKERS, UNSEEN_GENERATORS, UNSEEN_SPEAKERS
from models.training.evaluate import evaluate
from models.training.train import train
from tests.e2e.meeting_kit import enter, logged_node, mistakes
from tests.e2e.pages import chromium, needs_chromium, needs_dist, visit
from tests.e2e.test_perception_page import film
from tests.unit.models.test_models_cli import MIRROR, models, needs_mirror
from tests.unit.models.training.kit import save, speech

pytest.importorskip("torch", reason="the extras speech and vision are not installed (make models)")
pytest.importorskip("transformers", reason="the extras speech and vision are not installed (make models)")

from tests import tiny_models  # only with torch
from tests.unit.models.training.test_train import order, quiet, with_base  # only with torch

pytestmark = [
    pytest.mark.weights,
    pytest.mark.chromium,
    needs_mirror,
    needs_chromium,
    needs_dist,
    pytest.mark.timeout(240),
]
SLOW_MS = 90_000
SHOWN = {
    "emotion-english-distilroberta-base": "Emotion in words",
    "wav2vec2-base-superb-er": "Emotion in the voice",
    "vit-face-expression": "Facial expression",
}
"""By model, what its finding is called in the page."""
SAID = "this is what a whisper of random numbers says"
VOICE = "Voice authenticity"


async def speak(path: Path) -> None:
    """Clean lines of the demo, with pauses, as a WAVE file for Chromium's fake microphone."""
    script = await load_script()
    sound = np.concatenate([np.pad(line.sound, (0, RATE_HZ)) for line in script.turns if line.name == CLEAN])
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(np.clip(sound * 32_767, -32_768, 32_767).astype("<i2").tobytes())


def voices(root: Path, people: int, generators: int, first_hz: int) -> tuple[Path, Path]:
    """Folders of genuine and of synthetic voices: harmonics of low pitches, and of high ones, 5 s each."""
    for number in range(people):
        save(root / "g" / f"person-{first_hz}-{number}" / "a.wav", speech(5, first_hz + 9 * number))
    for number in range(generators):
        save(root / "s" / f"generator-{first_hz}-{number}" / "a.wav", speech(5, 300 + first_hz + 9 * number))
    return root / "g", root / "s"


def install_whisper(root: Path) -> None:
    """One that says `SAID`."""
    entry = catalog.load().get("whisper-tiny")
    tiny_models.say_always(root, entry, tiny_models.install(root, entry), SAID)


def train_voices(root: Path) -> Store:
    """The head `mine` on a tiny WavLM, trained on people and generators enough, and preferred; nobody has evaluated it."""
    store = with_base(root, "wavlm-base-plus")
    media = voices(root.parent / "teaching", TRAINED_SPEAKERS + 2, TRAINED_GENERATORS + 1, first_hz=150)
    train(order("wavlm-base-plus", *media, epochs=20), store, ModelSettings(), quiet)
    mine = store.find("mine")
    assert mine is not None
    store.prefer(mine)
    return store


def examine(store: Store, root: Path) -> None:
    """On as many as it takes whom it has never met."""
    media = voices(root, UNSEEN_SPEAKERS, UNSEEN_GENERATORS, first_hz=155)
    assert evaluate("mine", *media, store, ModelSettings(), quiet).fixture == ""


def open_random_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine and whoever asks it take the tests' weights."""
    spawn = asyncio.create_subprocess_exec

    async def instead(*arguments: str, **options: Any) -> asyncio.subprocess.Process:
        swapped = ["tests.e2e.random_process" if word == "candor.process" else word for word in arguments]
        return await spawn(*swapped, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", instead)


async def test_what_models_of_the_hub_answer_stands_in_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film(tmp_path / "camera.y4m")
    await speak(tmp_path / "voice.wav")
    root = tmp_path / "models"
    assert models(root, "pull", "yunet", "--mirror", str(MIRROR)) == 0
    for name in SHOWN:
        tiny_models.install(root, catalog.load().get(name))
    install_whisper(root)
    store = train_voices(root)
    log = tmp_path / "node.log"
    open_random_weights(monkeypatch)
    async with (
        logged_node(log, models={"models_dir": root}) as node,
        chromium(tmp_path / "camera.y4m", tmp_path / "voice.wav") as browser,
        visit(browser) as ada,
    ):
        await enter(ada.page, f"{node.url}/r/hub", "Ada")
        await ada.page.get_by_role("button", name="Processing").click()
        row = ada.page.locator("li").filter(has_text=VOICE).first
        await expect(row).to_contain_text("fixture: mine: it has not been evaluated on unseen people and generators")
        await expect(row.get_by_role("switch")).to_be_disabled()
        await asyncio.to_thread(examine, store, tmp_path / "examination")
        pid = node.supervisor.pid("watch")
        assert pid is not None
        os.kill(pid, signal.SIGKILL)  # its successor looks into the store
        await expect(row.get_by_role("switch")).to_be_enabled(timeout=SLOW_MS)
        for name in ("Faces", VOICE, *SHOWN.values()):
            await ada.page.get_by_role("switch", name=name, exact=True).click()
        await ada.page.get_by_role("button", name="Close").click()
        await expect(ada.page.locator(".caption-stable").filter(has_text=SAID).first).to_be_visible(timeout=SLOW_MS)
        await ada.page.get_by_role("figure", name="Ada (you)").get_by_role("button", name="Details about").click()
        for model, name in SHOWN.items():
            section = ada.page.locator("section").filter(has=ada.page.get_by_role("heading", name=name, exact=True))
            await expect(section.locator(".chart-bands g")).not_to_have_count(0, timeout=SLOW_MS)
            await expect(section).to_contain_text(catalog.load().get(model).known)
        drawer = ada.page.get_by_role("dialog", name="Details about Ada (you)")
        await expect(drawer.locator(".evidence")).to_contain_text("raw score", timeout=SLOW_MS)
        await expect(drawer.locator(".evidence")).to_contain_text("on 4 people and 2 generators that it had never met")
        await ada.photograph("details-hub-models")
    assert mistakes(log) == []


async def test_the_product_does_not_open_them(tmp_path: Path) -> None:
    root = tmp_path / "models"
    root.mkdir()
    tiny_models.install(root, catalog.load().get("wav2vec2-base-superb-er"))
    async with (
        logged_node(tmp_path / "node.log", models={"models_dir": root}) as node,
        chromium() as browser,
        visit(browser) as ada,
    ):
        await enter(ada.page, f"{node.url}/r/hub", "Ada")
        await ada.page.get_by_role("button", name="Processing").click()
        row = ada.page.locator("li").filter(has_text="Emotion in the voice").first
        await expect(row).to_contain_text("its weights are random numbers that a test made up")
        await expect(row.get_by_role("switch")).to_be_disabled()
