"""A swapped face before the camera of a real, simulcasting Chromium: what the person reads about it, and how it ends."""

import re
from pathlib import Path

import cv2
import pytest
from playwright.async_api import expect

from tests.e2e.meeting_kit import enter, logged_node, mistakes
from tests.e2e.pages import chromium, needs_chromium, needs_dist, visit
from tests.integration.test_faces import shared
from tests.integration.watched_faces import HEIGHT, WIDTH, on_wall
from tests.unit.models.test_models_cli import MIRROR, models, needs_mirror

pytest.importorskip("torch", reason="the extra `vision` is not installed (make models)")
pytestmark = [
    pytest.mark.weights,
    pytest.mark.chromium,
    needs_mirror,
    needs_chromium,
    needs_dist,
    pytest.mark.timeout(240),
]
SLOW_MS = 90_000


def film(path: Path) -> None:
    """The swapped face, swaying, as YUV4MPEG2 for Chromium's fake camera."""
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F10:1 Ip A1:1 C420jpeg\n".encode())
        for shift in (0, 2, 4, 6, 4, 2):
            picture = on_wall(shared("face_deepfake.jpg"), x=140 + shift)
            file.write(b"FRAME\n")
            file.write(cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420).tobytes())


async def test_evidence_grows_before_ones_eyes_and_goes_when_switched_off(tmp_path: Path) -> None:
    film(tmp_path / "camera.y4m")
    assert models(tmp_path / "models", "pull", "--mirror", str(MIRROR)) == 0
    log = tmp_path / "node.log"
    settings = {"models": {"models_dir": tmp_path / "models"}}
    async with (
        logged_node(log, **settings) as node,
        chromium(tmp_path / "camera.y4m") as browser,
        visit(browser) as ada,
    ):
        await enter(ada.page, f"{node.url}/r/faces", "Ada")
        await ada.page.get_by_role("button", name="Processing").click()
        for name in ("Faces", "Facial expression", "Face authenticity"):
            await ada.page.get_by_role("switch", name=name, exact=True).click()
        evidence = ada.page.locator(".evidence-item")
        await expect(evidence).to_contain_text("Not enough to say", timeout=SLOW_MS)
        await expect(evidence).to_contain_text("May be synthetic", timeout=SLOW_MS)
        await expect(ada.page.get_by_text("It can be wrong about anybody", exact=False)).to_be_visible()
        await expect(ada.page.get_by_text("Face: look closer")).to_be_visible()
        await expect(ada.page.get_by_text("1 face · turned to the screen", exact=False)).to_be_visible()
        await evidence.scroll_into_view_if_needed()
        await ada.photograph("evidence-1280-light")
        await ada.page.get_by_role("button", name="Face: look closer").click()
        drawer = ada.page.get_by_role("dialog", name="Details about Ada (you)")
        await expect(drawer).to_contain_text("5 s that an answer needs, and more")
        await expect(drawer).to_contain_text("Judged by meso-inception-4@")
        await expect(drawer.get_by_role("img", name=re.compile(r"^Facial expression: \w+ \d+ %"))).to_be_visible()
        await ada.photograph("details-real-1280-light")
        await ada.page.keyboard.press("Escape")
        await ada.page.get_by_role("switch", name="Face authenticity", exact=True).click()
        await expect(evidence).to_have_count(0)
        await expect(ada.page.get_by_text("Face: look closer")).to_have_count(0)
    assert mistakes(log) == []
