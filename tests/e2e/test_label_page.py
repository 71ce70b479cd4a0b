"""A label in the picture of a real, simulcasting Chromium, as another Chromium shows it."""

from pathlib import Path

import pytest
from playwright.async_api import Page

from tests.e2e.meeting_kit import COUNT_CONNECTIONS, enter, logged_node, mistakes, plays, write_camera
from tests.e2e.pages import chromium, needs_chromium, needs_dist, visit
from tests.integration.verdicts import NAME, installed_verdicts
from tests.until import until

pytestmark = [pytest.mark.chromium, needs_chromium, needs_dist, pytest.mark.timeout(240)]

LABELLED = """
[...document.querySelectorAll('video')].filter((video) => video.videoWidth > 0).some((video) => {
  const canvas = document.createElement('canvas');
  canvas.width = 320;
  canvas.height = 180;
  const context = canvas.getContext('2d');
  context.drawImage(video, 0, 0, 320, 180);
  const { data } = context.getImageData(0, 2, 320, 20);
  const luma = [];
  for (let at = 0; at < data.length; at += 4) luma.push((data[at] + data[at + 1] + data[at + 2]) / 3);
  luma.sort((a, b) => a - b);
  return luma[luma.length >> 1] < 60 && luma[luma.length - 1] > 150;
})
"""
"""Whether one of the pictures on the page has a dark bar with bright letters at its top."""


UNCOVERED = """
(() => {
  const video = document.querySelector('.tile-labelled video');
  const foot = document.querySelector('.tile-labelled .tile-foot');
  if (!video || !foot) return 'no labelled tile';
  if (getComputedStyle(video).objectFit !== 'contain') return 'a picture that is cropped';
  const [box, name] = [video.getBoundingClientRect(), foot.getBoundingClientRect()];
  return name.top < box.top + 0.2 * box.height ? 'a name over the label' : '';
})()
"""
"""What hides a label; nothing if it is seen whole."""


async def shows(page: Page, label: bool) -> None:
    """Wait until it is so, three times in a row."""
    run = [0]

    async def missing() -> str:
        run[0] = run[0] + 1 if await page.evaluate(LABELLED) is label else 0
        return "" if run[0] >= 3 else f"a picture {'with' if label else 'without'} a label"

    await until(missing, 90)  # while the machine is too busy, observers of cameras are shed


async def test_a_label_comes_and_goes_in_a_browsers_picture(tmp_path: Path) -> None:
    camera, log = tmp_path / "camera.y4m", tmp_path / "node.log"
    write_camera(camera)
    policy = {"watermark": "on_alert"}
    with installed_verdicts(tmp_path / "installed") as say:
        async with (
            logged_node(log, signaling={"port": 0, "policy": policy}) as node,
            chromium(camera) as browser,
            visit(browser) as ada,
            visit(browser, script=COUNT_CONNECTIONS) as bert,
        ):
            await enter(ada.page, f"{node.url}/r/labels", "Ada")
            await enter(bert.page, f"{node.url}/r/labels", "Bert")
            await plays(bert.page)
            await ada.page.get_by_role("button", name="Processing").click()
            await ada.page.get_by_role("switch", name=NAME).click()
            await shows(bert.page, label=False)
            say("likely_synthetic")
            await shows(bert.page, label=True)
            await until(lambda: bert.page.evaluate(UNCOVERED), 10)
            await bert.photograph("label")
            figures = await plays(bert.page)
            assert figures["frameWidth"] <= 640
            say("likely_genuine")
            await shows(bert.page, label=False)
            await plays(bert.page)
            (stats,) = await node.worker_stats()
    assert "protect_refused" not in stats["drops"]
    assert mistakes(log) == []
