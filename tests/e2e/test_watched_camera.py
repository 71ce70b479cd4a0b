"""The camera of a real, simulcasting Chromium as an observer of video sees it: one layer, and another one when it asks."""

from itertools import pairwise
from pathlib import Path

import pytest

from bots import MeetingBot
from candor.node import Node
from media_processors.findings import Caption
from sfu.channel import connect
from signaling.protocol import messages as wire
from tests.e2e.meeting_kit import CAMERA_SIZE, enter, logged_node, mistakes, write_camera
from tests.e2e.pages import chromium, needs_chromium, needs_dist, visit
from tests.integration.sight import NAME, installed_sight
from tests.until import until

pytestmark = [pytest.mark.chromium, needs_chromium, needs_dist, pytest.mark.timeout(240)]

WIDTH, HEIGHT = CAMERA_SIZE
LOWER = [f"{WIDTH // 4}x{HEIGHT // 4}", f"{WIDTH // 2}x{HEIGHT // 2}"]
FULL = f"{WIDTH}x{HEIGHT}"


async def test_an_observer_begins_low_and_gets_the_layer_that_it_asks_for(tmp_path: Path) -> None:
    """Chromium takes up to 20 s until it sends all three layers."""
    camera, log = tmp_path / "camera.y4m", tmp_path / "node.log"
    write_camera(camera)
    seen: list[Caption] = []

    def note(event: wire.FindingEvent) -> None:
        if isinstance(event.finding, Caption) and event.finding.model == "sight@1":
            seen.append(event.finding)

    with installed_sight(tmp_path / "installed", wants_px=WIDTH // 2 + 1):
        async with logged_node(log) as node, chromium(camera) as browser, visit(browser) as ada:
            async with MeetingBot(node.url, "layers", "Listener", subscribe=False) as listener:
                listener.on(wire.FindingEvent, note)
                await enter(ada.page, f"{node.url}/r/layers", "Ada")
                await ada.page.get_by_role("button", name="Processing").click()
                await ada.page.get_by_role("switch", name=NAME).click()  # nobody is looked at who did not say so
                await until(lambda: "" if seen else "a picture", 40)
                await until(
                    lambda: "" if [one.text for one in seen].count(FULL) >= 3 else f"{FULL}, saw {set(_texts(seen))}",
                    60,
                )
            stats = await node.worker_stats()
            seeing = await seen_by_the_host(node)
    texts = _texts(seen)
    assert texts[0] in LOWER
    assert set(texts) <= {*LOWER, FULL}
    # Two a second by our clock; by the camera's the network shows.
    assert all(before.start_ms + 250 <= after.start_ms for before, after in pairwise(seen))
    assert "tap_video_full" not in stats[0]["drops"]
    assert seeing["pictures"] >= len(seen)
    assert {name: seeing[name] for name in ("lost", "malformed", "undecodable", "keyframes_asked")} == {
        "lost": 0,
        "malformed": 0,
        "undecodable": 0,
        "keyframes_asked": 0,
    }
    assert mistakes(log) == []


async def seen_by_the_host(node: Node) -> dict[str, int]:
    """What the watch host counts of video."""
    channel = await connect(node.run_dir / "watch.sock")
    channel.start()
    try:
        stats: dict[str, dict[str, int]] = await channel.request("stats")
        return stats["seeing"]
    finally:
        await channel.close()


def _texts(seen: list[Caption]) -> list[str]:
    return [one.text for one in seen]
