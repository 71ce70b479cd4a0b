"""Tiny models of the hub's architectures, in the real engine beside a real browser: what they answer stands in the page."""

import asyncio
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.async_api import expect

from candor.speech import CLEAN, RATE_HZ, load_script
from models import catalog
from tests.e2e.meeting_kit import enter, logged_node, mistakes
from tests.e2e.pages import chromium, needs_chromium, needs_dist, visit
from tests.e2e.test_perception_page import film
from tests.unit.models.test_models_cli import MIRROR, models, needs_mirror

pytest.importorskip("torch", reason="the extras speech and vision are not installed (make models)")
pytest.importorskip("transformers", reason="the extras speech and vision are not installed (make models)")

from tests import tiny_models  # only with torch

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


async def speak(path: Path) -> None:
    """Clean lines of the demo, with pauses, as a WAVE file for Chromium's fake microphone."""
    script = await load_script()
    sound = np.concatenate([np.pad(line.sound, (0, RATE_HZ)) for line in script.turns if line.name == CLEAN])
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(np.clip(sound * 32_767, -32_768, 32_767).astype("<i2").tobytes())


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
    log = tmp_path / "node.log"
    open_random_weights(monkeypatch)
    async with (
        logged_node(log, models={"models_dir": root}) as node,
        chromium(tmp_path / "camera.y4m", tmp_path / "voice.wav") as browser,
        visit(browser) as ada,
    ):
        await enter(ada.page, f"{node.url}/r/hub", "Ada")
        await ada.page.get_by_role("button", name="Processing").click()
        for name in ("Faces", *SHOWN.values()):
            await ada.page.get_by_role("switch", name=name, exact=True).click()
        await ada.page.get_by_role("button", name="Close").click()
        await ada.page.get_by_role("figure", name="Ada (you)").get_by_role("button", name="Details about").click()
        for model, name in SHOWN.items():
            section = ada.page.locator("section").filter(has=ada.page.get_by_role("heading", name=name, exact=True))
            await expect(section.locator(".chart-bands g")).not_to_have_count(0, timeout=SLOW_MS)
            await expect(section).to_contain_text(catalog.load().get(model).known)
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
