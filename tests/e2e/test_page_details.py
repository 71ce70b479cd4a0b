"""The drawer with what was found about a person, in a real Chromium, with findings that a server sends.

With `SCREENSHOTS=DIR` what is seen is photographed as well.
"""

import re

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from tests.e2e.details_scene import TOLD_TIME, Timeline, everything, face, showed, voice
from tests.e2e.details_scene import seen as face_seen
from tests.e2e.mock_meeting import MockMeeting
from tests.e2e.page_scenes import crowd, join, no_sideways_scroll
from tests.e2e.pages import DESKTOP, SMALL_PHONE, Visit, needs_chromium, needs_dist, photographing, visit
from tests.until import until

pytestmark = [pytest.mark.chromium, needs_chromium, needs_dist, pytest.mark.asyncio(loop_scope="module")]
MINE = "Details about Mira Lindqvist (you)"
LOOKS = [(DESKTOP, False), (SMALL_PHONE, True)] + ([(DESKTOP, True), (SMALL_PHONE, False)] if photographing() else [])


async def joined(visitor: Visit, meeting: MockMeeting) -> Page:
    """In the room, with microphone and camera published."""
    page = await join(visitor, meeting)
    await until(lambda: "" if meeting.sent("publish") else "a publish offer")
    return page


async def opened(page: Page) -> Locator:
    """One's own drawer, from one's own picture."""
    await page.get_by_role("figure", name="Mira Lindqvist (you)").get_by_role("button", name="Details about").click()
    drawer = page.get_by_role("dialog", name=MINE)
    await expect(drawer).to_be_visible()
    return drawer


def section(drawer: Locator, name: str) -> Locator:
    return drawer.locator("section").filter(has=drawer.page.get_by_role("heading", name=name, exact=True))


@pytest.mark.parametrize(("size", "dark"), LOOKS)
async def test_what_was_found_about_oneself_over_minutes(
    browser: Browser, meeting: MockMeeting, size: tuple[int, int], dark: bool
) -> None:
    crowd(meeting)
    everything(meeting)
    async with visit(browser, size=size, dark=dark, script=TOLD_TIME) as visitor:
        page = await joined(visitor, meeting)
        timeline = Timeline(meeting)
        await timeline.talk_in_turn()
        await timeline.minutes()
        drawer = await opened(page)
        await expect(section(drawer, "Share of the talking")).to_contain_text(
            "53 % of what was spoken since you came (1 min 36 s)"
        )
        speech = section(drawer, "Speech measures")
        await expect(
            speech.get_by_role("img", name=re.compile(r"^Pitch: between 118 Hz and 154 Hz, last"))
        ).to_be_visible()
        await expect(speech.locator(".chart-lines").first.locator("path")).to_have_count(2)  # a silence in between
        await expect(speech).to_contain_text("5 min ago")
        shown = section(drawer, "Facial expression")
        await expect(
            shown.get_by_role("img", name=re.compile(r"^Facial expression: Neutral 6\d %, Happy 1\d %"))
        ).to_be_visible()
        await expect(shown).to_contain_text("66 % accuracy on FER2013")
        await expect(section(drawer, "Emotion in words").locator(".chart-bands g")).not_to_have_count(0)
        await expect(section(drawer, "Emotion in the voice")).to_contain_text("its weights have not been pulled")
        await expect(section(drawer, "Emotion in the voice")).to_contain_text(
            "candor models pull wav2vec2-base-superb-er"
        )
        await expect(section(drawer, "Eye direction")).to_contain_text("at the screen 88 % of the last 30 s")
        await no_sideways_scroll(page)
        await visitor.photograph(f"details-{size[0]}-{'dark' if dark else 'light'}")
        await shown.scroll_into_view_if_needed()
        await visitor.photograph(f"details-bands-{size[0]}-{'dark' if dark else 'light'}")
        await section(drawer, "Face authenticity").scroll_into_view_if_needed()
        await visitor.photograph(f"details-evidence-{size[0]}-{'dark' if dark else 'light'}")


async def test_authenticity_shows_how_much_it_rests_on_and_its_numbers(browser: Browser, meeting: MockMeeting) -> None:
    everything(meeting)
    async with visit(browser) as visitor:
        page = await joined(visitor, meeting)
        early = voice(verdict="insufficient_evidence", reason="duration", likelihood=None, evidence_ms=4000)
        await meeting.emit("finding", finding=early)
        drawer = await opened(page)
        found = section(drawer, "Voice authenticity")
        await expect(found).to_contain_text("4 of 10 s that an answer needs")
        await expect(found).to_contain_text("Not enough to say")
        await expect(found.get_by_role("progressbar")).to_have_js_property("value", 0.4)
        await expect(found).not_to_contain_text("likely synthetic")
        await meeting.emit("finding", finding=voice())
        await expect(found).to_contain_text("10 s that an answer needs, and more")
        await expect(found).to_contain_text("Seems genuine")
        await expect(found).to_contain_text("7 % likely synthetic")
        await expect(found).to_contain_text("Judged by model@1a2b3c4d · 6 windows · raw score 4.81, higher for genuine")
        await expect(found).to_contain_text("It can be wrong about anybody")
        await expect(found).to_contain_text("0.83 % EER on ASVspoof 2019 LA")
        await expect(section(drawer, "Face authenticity")).to_contain_text("Nothing found yet.")
        await meeting.emit("finding", finding=face())
        await expect(section(drawer, "Face authenticity")).to_contain_text("3 of 5 s that an answer needs")


async def test_what_is_switched_off_vanishes_at_once(browser: Browser, meeting: MockMeeting) -> None:
    everything(meeting)
    async with visit(browser) as visitor:
        page = await joined(visitor, meeting)
        for finding in (showed("happy"), voice(), face_seen()):
            await meeting.emit("finding", finding=finding)
        drawer = await opened(page)
        shown = section(drawer, "Facial expression")
        await expect(shown.get_by_role("img", name=re.compile("Happy 100 %"))).to_be_visible()
        await expect(section(drawer, "Faces")).to_contain_text("1 face")
        # The server says nothing more: what is gone was taken away here.
        await shown.get_by_role("switch", name="Facial expression").click()
        await expect(shown.get_by_role("img")).to_have_count(0)
        assert meeting.sent("set_processor")[-1].model_dump() == {"processor": "expression", "on": False}
        await expect(section(drawer, "Voice authenticity")).to_contain_text("Seems genuine")
        # Off by the server's word; what is on again begins with nothing.
        off = [status.model_copy(update={"state": "off"}) for status in meeting.processor_status]
        await meeting.emit("processors_changed", processors=meeting.processors, status=off)
        await expect(section(drawer, "Voice authenticity")).to_contain_text("Switched off for you.")
        await meeting.emit("processors_changed", processors=meeting.processors, status=meeting.processor_status)
        for name in ("Facial expression", "Voice authenticity", "Faces"):
            await expect(section(drawer, name)).to_contain_text("Nothing found yet.")


async def test_what_happens_is_said_inside_the_open_drawer(browser: Browser, meeting: MockMeeting) -> None:
    meeting.media = True
    everything(meeting)
    async with visit(browser) as visitor:
        page = await joined(visitor, meeting)
        await until(lambda: "" if meeting.sent("publish") else "a publish offer")
        drawer = await opened(page)
        await meeting.emit("track_muted", track_id="self-microphone", muted=True, by_host=True)
        said = drawer.get_by_role("status").get_by_text("A host turned your microphone off.")
        await expect(said).to_be_visible()
        await drawer.get_by_role("button", name="Dismiss").click()
        await expect(said).to_have_count(0)


async def test_the_drawer_by_keyboard(browser: Browser, meeting: MockMeeting) -> None:
    crowd(meeting)
    everything(meeting)
    async with visit(browser) as visitor:
        page = await joined(visitor, meeting)
        await page.get_by_role("button", name="People").click()
        opener = page.get_by_role("complementary").get_by_role("button", name="Details about Ada Byron")
        await opener.press("Enter")
        drawer = page.get_by_role("dialog", name="Details about Ada Byron")
        await expect(drawer.get_by_role("button", name="Close")).to_be_focused()
        for _ in range(12):
            await page.keyboard.press("Tab")
            behind = await page.evaluate("document.activeElement.closest('.meeting') !== null")
            assert not behind, "the focus left the drawer for the page behind it"
        await page.keyboard.press("Escape")
        await expect(drawer).to_have_count(0)
        await expect(opener).to_be_focused()


async def test_a_guest_reads_of_others_only_how_much_they_talk_and_a_host_their_authenticity(
    browser: Browser, meeting: MockMeeting
) -> None:
    crowd(meeting)
    everything(meeting, face_authenticity="off")
    async with visit(browser, script=TOLD_TIME) as visitor:
        page = await joined(visitor, meeting)
        await Timeline(meeting).talk_in_turn()
        await page.get_by_role("figure", name="Ada Byron").get_by_role("button", name="Details about").click()
        drawer = page.get_by_role("dialog", name="Details about Ada Byron")
        await expect(drawer).to_contain_text("30 % of what was spoken since you came (54 s)")
        await expect(drawer.get_by_role("heading", level=3)).to_have_text(["Share of the talking"])
        await meeting.emit("room_changed", locked=False, hosts=["self", "ada"])
        found = section(drawer, "Voice authenticity")
        await expect(found).to_contain_text("Nothing found yet.")
        await expect(section(drawer, "Face authenticity")).to_contain_text("They have not switched it on.")
        await expect(drawer.get_by_role("switch")).to_have_count(0)
        doubt = voice("ada", verdict="likely_synthetic", likelihood=0.93, score=-9.2)
        await meeting.emit("finding", finding=doubt)
        await expect(found).to_contain_text("May be synthetic")
        await visitor.photograph("details-host-1280-light")
        await page.keyboard.press("Escape")
        await page.get_by_role("button", name="Voice: look closer").click()
        await expect(drawer).to_contain_text("93 % likely synthetic")
        await meeting.emit("participant_left", participant_id="ada", reason="left")
        await expect(drawer.get_by_role("heading", level=3)).to_have_text(["Share of the talking"])
