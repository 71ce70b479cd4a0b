"""Whole meetings: the real node, real Chromium, bots. What people do, and what they must see and hear then."""

import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from bots import MeetingBot, PatternSource
from candor.node import Node
from signaling import auth
from signaling.protocol import messages as wire
from signaling.protocol.codes import CloseReason
from tests.e2e.meeting_kit import (
    CAMERA_HZ,
    CAMERA_SIZE,
    COUNT_CONNECTIONS,
    Ear,
    Figures,
    enter,
    logged_node,
    mistakes,
    plays,
    received,
    speech,
    write_camera,
)
from tests.e2e.pages import DESKTOP, Visit, chromium, needs_chromium, needs_dist, visit
from tests.until import until

pytestmark = [
    pytest.mark.chromium,
    needs_chromium,
    needs_dist,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(240),
]

SECRET = "a secret of the tests, of more than 32 bytes"
SMALL = (400, 640)
MARKUP = "<img src=x onerror=\"document.title='broken in'\">"
WORDS = re.compile(r"\w{3}")
SLOW_MS = 90_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    camera = tmp_path_factory.mktemp("camera") / "camera.y4m"
    write_camera(camera)
    async with chromium(camera) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    """Open rooms, but with a secret: whoever brings a token has its identity."""
    log: Path = tmp_path_factory.mktemp("log") / "node.log"
    async with logged_node(log, signaling={"port": 0, "secret": SECRET}) as running:
        yield running
    assert mistakes(log) == []


def seen_by(browser: Browser, **options: Any) -> Any:
    return visit(browser, script=COUNT_CONNECTIONS, **options)


def link(node: Node, room: str, identity: str = "", host: bool = False) -> str:
    """An address to open; with a token if somebody is meant."""
    token = f"?token={auth.mint(SECRET, room, identity=identity, host=host)}" if identity else ""
    return f"{node.url}/r/{room}{token}"


async def hears(page: Page) -> None:
    """Wait until sound with energy in it has come. (The fake microphone beeps every second.)"""
    before = (await received(page, "audio")).get("totalAudioEnergy", 0)

    async def missing() -> str:
        energy = (await received(page, "audio")).get("totalAudioEnergy", 0)
        return "" if energy > before + 1e-4 else f"sound; its energy is {energy}"

    await until(missing, 40)


async def width_becomes(page: Page, fits: Callable[[int], bool], what: str) -> list[Figures]:
    """Every different reading of the received video until its width fits."""
    readings: list[Figures] = []

    async def missing() -> str:
        now = await received(page, "video")
        if "frameWidth" not in now:
            return f"{what}, no picture has come yet"
        if not readings or now["framesDecoded"] != readings[-1]["framesDecoded"]:
            readings.append(now)
        return "" if fits(now["frameWidth"]) else f"{what}, is {now['frameWidth']} wide"

    await until(missing, 40)
    return readings


@pytest_asyncio.fixture(scope="class", loop_scope="module")
async def two(node: Node, browser: Browser) -> AsyncIterator[tuple[Visit, Visit]]:
    """Ada with a large window, Bea with a small one. Ada's camera may need 20 s to arrive at three layers."""
    async with seen_by(browser) as ada, seen_by(browser, size=SMALL) as bea:
        await enter(ada.page, link(node, "two"), "Ada")
        await enter(bea.page, link(node, "two"), "Bea")
        yield ada, bea


class TestTwoBrowsers:
    """They stay in the room from one test to the next."""

    async def test_they_see_and_hear_each_other_without_a_freeze(self, two: tuple[Visit, Visit]) -> None:
        for page in (seen.page for seen in two):
            await plays(page)
            await hears(page)

            async def missing(page: Page = page) -> str:
                before = (await received(page, "video"))["freezeCount"]
                froze = (await plays(page, 3 * CAMERA_HZ))["freezeCount"] - before
                return "" if froze == 0 else f"three seconds without a freeze, had {froze}"

            await until(missing, 60)

    async def test_three_layers_come_and_a_larger_tile_gets_a_larger_one(
        self, two: tuple[Visit, Visit], record_property: Callable[[str, object], None]
    ) -> None:
        ada, bea = two
        await bea.page.keyboard.press("v")  # her own camera only costs

        async def missing() -> str:
            sending = await ada.page.evaluate("figures('outbound-rtp')")
            sizes = {one["rid"]: one.get("frameWidth") for one in sending if one.get("rid") and one["packetsSent"] > 5}
            full = CAMERA_SIZE[0]
            return "" if sizes == {"q": full // 4, "h": full // 2, "f": full} else f"three layers, there are {sizes}"

        await until(missing, 60)
        await width_becomes(bea.page, lambda width: width < CAMERA_SIZE[0], "a lower layer for a small tile")
        await plays(bea.page)
        before = await received(bea.page, "video")
        await bea.page.set_viewport_size({"width": DESKTOP[0] * 2, "height": DESKTOP[1]})
        readings = await width_becomes(bea.page, lambda width: width == CAMERA_SIZE[0], "the highest layer")
        last_low = max((one for one in readings if one["frameWidth"] < CAMERA_SIZE[0]), key=_decoded)
        after = await plays(bea.page)
        assert readings[-1]["keyFramesDecoded"] > before["keyFramesDecoded"]
        assert _decoded(readings[-1]) - _decoded(last_low) <= CAMERA_HZ, (
            "more than a second from one layer to the other"
        )
        record_property("frames_between_layers", _decoded(readings[-1]) - _decoded(last_low))
        record_property("frames_not_shown", after["framesDropped"] - before["framesDropped"])  # by a slow machine, too
        for trouble in ("pliCount", "packetsLost"):  # a decoder that cannot go on asks for a key frame
            assert after[trouble] == before[trouble]
        await bea.page.set_viewport_size({"width": SMALL[0], "height": SMALL[1]})
        await width_becomes(bea.page, lambda width: width < CAMERA_SIZE[0], "a lower layer again")
        await plays(bea.page)


def _decoded(figures: Figures) -> int:
    return int(figures["framesDecoded"])


async def test_captions_and_markup_are_text_in_the_page(node: Node, browser: Browser) -> None:
    async with seen_by(browser) as ada, MeetingBot(node.url, "words", MARKUP, subscribe=False) as bot:
        page = ada.page
        await enter(page, link(node, "words"), "Ada")
        await page.get_by_role("button", name="Chat").click()
        await bot.say(MARKUP)
        await expect(page.locator(".message-text", has_text=MARKUP)).to_be_visible()
        await expect(page.get_by_role("figure", name=MARKUP)).to_be_visible()
        await bot.publish_audio(await speech())
        await expect(page.locator(".tile-caption .caption-stable").first).to_have_text(WORDS, timeout=SLOW_MS)
        await page.get_by_role("button", name="Captions").click()
        await expect(page.locator(".line-text").first).to_have_text(WORDS, timeout=SLOW_MS)
        await expect(page.locator(".chip-test").first).to_be_visible()
        assert await page.title() != "broken in"
        assert await page.locator("img[src=x]").count() == 0


async def test_an_m_line_that_is_used_again_shows_the_next_picture(node: Node, browser: Browser) -> None:
    async with seen_by(browser) as ada:
        await enter(ada.page, link(node, "again"), "Ada")
        lines = []
        for name in ("First", "Second", "Third"):
            async with MeetingBot(node.url, "again", name, subscribe=False) as bot:
                await bot.publish_video(PatternSource(), rate_hz=10)
                await shows(ada, name)
                lines.append(await ada.page.evaluate("connections.map((one) => one.getTransceivers().length)"))
            await expect(ada.page.get_by_role("figure", name=name)).to_have_count(0)
        assert lines[0] == lines[1] == lines[2], "a new m-line for each"


async def shows(seen: Visit, name: str) -> None:
    """Wait until somebody's tile shows moving pictures: decoded is not enough, they must reach the screen."""
    video = seen.page.get_by_role("figure", name=name).locator("video")
    read = "(video) => ({ width: video.videoWidth, shown: video.getVideoPlaybackQuality().totalVideoFrames })"

    async def missing() -> str:
        now = await video.evaluate(read)
        return "" if now["width"] > 0 and now["shown"] > 5 else f"{name}'s picture: {now}"

    await expect(video).to_be_visible()
    await until(missing, 40)


async def test_a_refresh_is_no_leave_and_leaving_is(node: Node, browser: Browser) -> None:
    left: list[wire.ParticipantLeft] = []
    async with Ear(node.url, "refresh") as ear, seen_by(browser) as ada:
        ear.bot.on(wire.ParticipantLeft, left.append)
        await enter(ada.page, link(node, "refresh"), "Ada")
        await camera_arrives(ear)
        before = set(ear.bot.room.participants)
        ear.packets.clear()
        await ada.page.reload()
        await expect(ada.page.get_by_role("navigation", name="Meeting controls")).to_be_visible()
        await camera_arrives(ear)
        assert set(ear.bot.room.participants) == before
        assert left == []
        await ada.page.get_by_role("button", name="Leave").click()
        await expect(ada.page.get_by_role("heading", name="You left the meeting")).to_be_visible()
        await until(lambda: "" if [event.reason for event in left] == [CloseReason.LEFT] else "one leave")
        ear.packets.clear()
        await ada.page.get_by_role("button", name="Rejoin").click()
        await camera_arrives(ear)


async def camera_arrives(ear: Ear) -> None:
    """Wait until packets of some camera come."""

    def missing() -> str:
        cameras = [track.track_id for track in ear.bot.room.tracks.values() if track.source == "camera"]
        return "" if any(ear.heard(track_id) > 10 for track_id in cameras) else "packets of a camera"

    await until(missing, 40)


async def test_a_second_tab_takes_over_and_a_host_removes(node: Node, browser: Browser) -> None:
    async with seen_by(browser) as first, seen_by(browser) as second, seen_by(browser) as host:
        await enter(first.page, link(node, "tabs", "ada"), "Ada")
        await enter(second.page, link(node, "tabs", "ada"), "Ada")
        await expect(first.page.get_by_role("heading", name="in another tab")).to_be_visible()
        await first.page.get_by_role("button", name="Use this tab").click()
        await expect(first.page.get_by_role("navigation", name="Meeting controls")).to_be_visible()
        await expect(second.page.get_by_role("heading", name="in another tab")).to_be_visible()
        await enter(host.page, link(node, "tabs", "boss", host=True), "Boss")
        await host.page.get_by_role("button", name="People").click()
        await host.page.get_by_role("button", name="Remove Ada").click()
        await host.page.get_by_role("dialog").get_by_role("button", name="Remove", exact=True).click()
        await expect(first.page.get_by_role("heading", name="A host removed you")).to_be_visible()
        await expect(host.page.get_by_role("figure", name="Ada")).to_have_count(0)
        await enter_refused(first.page, link(node, "tabs", "ada"))


async def enter_refused(page: Page, url: str) -> None:
    """Who was removed cannot come back with the same invite."""
    await page.goto(url)
    await page.get_by_label("Your name").fill("Ada")
    await page.get_by_role("button", name="Join", exact=True).click()
    await expect(page.get_by_role("alert")).to_contain_text("not allowed")
