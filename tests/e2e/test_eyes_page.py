"""Eye direction from a real Chromium's camera, through worker, watch host, engine and MediaPipe's own process, to the drawer."""

import re
from pathlib import Path

import cv2
import pytest
from playwright.async_api import expect

from tests.e2e.meeting_kit import enter, logged_node, mistakes
from tests.e2e.pages import chromium, needs_chromium, needs_dist, visit
from tests.integration.landmarks_here import needs_landmarks, store_with_eyes
from tests.integration.watched_faces import HEIGHT, WIDTH, on_wall
from tests.unit.models.faces import astronaut
from tests.unit.models.test_models_cli import needs_mirror

pytestmark = [
    pytest.mark.weights,
    pytest.mark.chromium,
    needs_mirror,
    needs_landmarks,
    needs_chromium,
    needs_dist,
    pytest.mark.timeout(180),
]
SLOW_MS = 60_000


def film(path: Path) -> None:
    """The astronaut, swaying, as YUV4MPEG2 for Chromium's fake camera."""
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F10:1 Ip A1:1 C420jpeg\n".encode())
        for shift in (0, 2, 4, 6, 4, 2):
            picture = on_wall(astronaut()[20:250, 100:330], x=140 + shift)
            file.write(b"FRAME\n")
            file.write(cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420).tobytes())


async def test_eyes_on_the_screen_are_told_to_their_owner_until_switched_off(tmp_path: Path) -> None:
    film(tmp_path / "camera.y4m")
    log = tmp_path / "node.log"
    settings = {"models": {"models_dir": store_with_eyes(tmp_path / "models")}}
    async with (
        logged_node(log, **settings) as node,
        chromium(tmp_path / "camera.y4m") as browser,
        visit(browser) as ada,
    ):
        await enter(ada.page, f"{node.url}/r/eyes", "Ada")
        await ada.page.get_by_role("button", name="Processing").click()
        await ada.page.get_by_role("button", name="Details about Ada (you)", exact=True).last.click()
        drawer = ada.page.get_by_role("dialog", name="Details about Ada (you)")
        eyes = drawer.locator("section").filter(has=ada.page.get_by_role("heading", name="Eye direction"))
        await eyes.get_by_role("switch", name="Eye direction").click()
        told = re.compile(r"Eyes open · seeming to look at the screen · at the screen (9\d|100) % of the last 30 s")
        await expect(eyes).to_contain_text(told, timeout=SLOW_MS)
        await expect(eyes).to_contain_text("Never held against people whose true direction was known")
        await expect(eyes).to_contain_text("mediapipe-landmarks@0.10.21")
        await eyes.scroll_into_view_if_needed()
        await ada.photograph("details-eyes-1280-light")
        await eyes.get_by_role("switch", name="Eye direction").click()
        await expect(eyes).to_contain_text("Switched off for you.")
        await expect(eyes).not_to_contain_text("seeming to look at the screen")
    assert mistakes(log) == []
