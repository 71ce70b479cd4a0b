"""The lobby and the meeting, reached with a server that does what the test says, seen by a real Chromium.

With `SCREENSHOTS=DIR` what is seen is photographed as well.
"""

import re

import pytest
from playwright.async_api import Browser, Page, expect

from media_processors.findings import ProcessorInfo, ProcessorStatus, TextEmotion
from tests.e2e.mock_meeting import MockMeeting, participant
from tests.e2e.page_scenes import (
    DENIED,
    NAMED_CAMERA,
    caption,
    crowd,
    devices_answered,
    join,
    no_sideways_scroll,
    pictures,
    processors,
    talk,
)
from tests.e2e.pages import DESKTOP, PHONE, SMALL_PHONE, needs_chromium, needs_dist, photographing, visit
from tests.until import until

pytestmark = [pytest.mark.chromium, needs_chromium, needs_dist, pytest.mark.asyncio(loop_scope="module")]

MARKUP = "<img src=x onerror=\"document.title='broken in'\">"
SHARES_A_CANVAS = """
navigator.mediaDevices.getDisplayMedia = async () => {
  const canvas = document.createElement('canvas');
  canvas.width = 1280;
  canvas.height = 720;
  const pen = canvas.getContext('2d');
  pen.fillStyle = '#fbfaf7';
  pen.fillRect(0, 0, 1280, 720);
  pen.fillStyle = '#12333a';
  pen.font = '600 56px sans-serif';
  pen.fillText('Agenda', 90, 150);
  pen.font = '40px sans-serif';
  ['Numbers from last week', 'The demo', 'Who does what'].forEach((text, index) => {
    pen.fillText(`${index + 1}.  ${text}`, 90, 270 + 90 * index);
  });
  return canvas.captureStream(5);
};
"""


# The other themes differ in colours only, and what fits a small phone fits a phone: photographed, but no tests on their own.
LOBBY_LOOKS = [(DESKTOP, False), (SMALL_PHONE, True)] + ([(DESKTOP, True), (PHONE, False)] if photographing() else [])
LOOKS = [(DESKTOP, False), (PHONE, True)] + ([(DESKTOP, True), (PHONE, False)] if photographing() else [])


async def _silence(page: Page) -> str:
    level = await page.locator(".level-bar").evaluate("(bar) => new DOMMatrix(getComputedStyle(bar).transform).a")
    return "" if level > 0.2 else "a sound on the level meter (the fake microphone beeps every second)"


async def test_the_lobby_shows_the_camera_and_names_the_demo_room(browser: Browser, meeting: MockMeeting) -> None:
    meeting.config["demo_room"] = "demo"
    for size, dark in LOBBY_LOOKS:
        async with visit(browser, size=size, dark=dark, script=NAMED_CAMERA) as seen:
            await seen.page.goto(meeting.url)
            await expect(seen.page.get_by_label("Room")).to_have_value("demo")
            await expect(seen.page.get_by_text("Two bots are talking")).to_be_visible()
            await expect(seen.page.locator(".preview video")).to_have_js_property("videoWidth", 640)
            await expect(seen.page.get_by_role("combobox", name="Microphone")).to_be_visible()
            await until(lambda: _silence(seen.page))
            await no_sideways_scroll(seen.page)
            await seen.photograph(f"lobby-{size[0]}-{'dark' if dark else 'light'}")


async def test_a_whole_meeting_by_keyboard(browser: Browser, meeting: MockMeeting) -> None:
    meeting.media = True
    async with visit(browser) as seen:
        page = seen.page
        await page.goto(f"{meeting.url}/r/weekly?token=abc.def")
        assert page.url == f"{meeting.url}/r/weekly", "the token stays in the address bar"
        await devices_answered(page)
        await page.get_by_label("Your name").focus()
        await page.keyboard.type("Mira")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("navigation", name="Meeting controls")).to_be_visible()
        await expect(page).to_have_title("weekly – Candor")
        await expect(page.get_by_role("main")).to_be_focused()
        request = meeting.sent("join")[0]
        assert (request.room_id, request.name, request.token) == ("weekly", "Mira", "abc.def")
        await until(lambda: "" if meeting.sent("publish") else "a publish offer")
        offer = meeting.sent("publish")[0]
        assert {track.source for track in offer.tracks} == {"microphone", "camera"}
        assert [line for line in offer.sdp.splitlines() if line.startswith("a=simulcast")] == [
            "a=simulcast:send q;h;~f"
        ]
        for key, on, off in (
            ("m", "Turn microphone on", "Turn microphone off"),
            ("v", "Turn camera on", "Turn camera off"),
        ):
            await page.keyboard.press(key)
            await expect(page.get_by_role("button", name=on)).to_be_visible()
            await page.keyboard.press(key)
            await expect(page.get_by_role("button", name=off)).to_be_visible()
        await until(lambda: "" if len(meeting.sent("mute")) == 4 else "four mute requests")
        assert [request.muted for request in meeting.sent("mute")] == [True, False, True, False]
        await page.keyboard.press("c")
        await expect(page.get_by_role("complementary", name="Captions")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("button", name="Captions")).to_be_focused()
        await page.keyboard.press("?")
        await expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
        await seen.photograph("shortcuts")
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_have_count(0)
        await page.get_by_role("button", name="Leave").focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="You left the meeting")).to_be_visible()
        await expect(page).to_have_title("You left the meeting – Candor")
        await expect(page.get_by_role("main")).to_be_focused()
        await seen.photograph("left")
        await page.get_by_role("button", name="Rejoin").press("Enter")
        await expect(page.get_by_role("navigation", name="Meeting controls")).to_be_visible()


async def test_single_keys_can_be_switched_off_for_good(browser: Browser, meeting: MockMeeting) -> None:
    async with visit(browser) as seen:
        page = await join(seen, meeting)
        await page.keyboard.press("?")
        await page.get_by_role("dialog").get_by_role("switch", name="Single keys work").click()
        await page.keyboard.press("Escape")
        await page.reload()
        await expect(page.get_by_role("navigation", name="Meeting controls")).to_be_visible()
        await page.keyboard.press("c")
        await page.get_by_role("button", name="Chat").click()
        await expect(page.get_by_role("complementary", name="Chat")).to_be_visible()
        assert await page.get_by_role("button", name="Captions").get_attribute("aria-keyshortcuts") is None
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("complementary")).to_have_count(0)


async def test_tab_reaches_every_control_and_leaves_the_chat_again(browser: Browser, meeting: MockMeeting) -> None:
    async with visit(browser) as seen:
        page = await join(seen, meeting)
        await page.get_by_role("button", name="Chat").click()
        await expect(page.get_by_label("Write to everybody")).to_be_focused()
        reached = set()
        for _ in range(40):
            await page.keyboard.press("Tab")
            reached.add(await page.evaluate("document.activeElement.getAttribute('aria-label')"))
        assert {"Turn microphone off", "Turn camera off", "Captions", "People", "Processing", "Leave"} <= reached


@pytest.mark.parametrize(("size", "dark"), LOOKS)
async def test_a_meeting_with_pictures_captions_and_a_speaker(
    browser: Browser, meeting: MockMeeting, size: tuple[int, int], dark: bool
) -> None:
    crowd(meeting)
    processors(meeting)
    theme = f"{size[0]}-{'dark' if dark else 'light'}"
    async with visit(browser, size=size, dark=dark) as seen:
        page = await join(seen, meeting)
        await pictures(page, 4)
        await talk(meeting)
        noor = page.get_by_role("figure", name="Noor Haddad")
        await expect(noor.get_by_text("Speaking")).to_be_attached()
        await expect(noor.locator(".caption-stable")).to_have_text("I can show it live, it ")
        await expect(noor.locator(".caption-interim")).to_have_text("takes about forty seconds")
        await expect(noor.get_by_text("test quality")).to_be_visible()
        await expect(noor.get_by_role("img", name="Good connection")).to_be_visible()
        await expect(page.get_by_role("figure", name="Tomás Vega").get_by_label("Microphone off")).to_be_visible()
        await until(lambda: "" if any(request.tiles for request in meeting.sent("subscribe")) else "tile sizes")
        await seen.photograph(f"meeting-{theme}")
        await page.get_by_role("button", name="Captions").click()
        log = page.get_by_role("log", name="Captions")
        await expect(log).to_have_attribute("aria-live", "polite")
        await expect(log.get_by_role("listitem")).to_have_count(3)
        await expect(page.get_by_label("Being spoken now").get_by_text("Noor Haddad")).to_be_visible()
        await no_sideways_scroll(page)
        await seen.photograph(f"captions-{theme}")
        for panel in ("People", "Processing", "Chat"):
            await page.get_by_role("button", name=panel).click()
            await expect(page.get_by_role("complementary")).to_have_count(1)
            if panel == "Chat":
                await page.keyboard.type("Shall I start?")
                await page.keyboard.press("Enter")
                await expect(page.locator(".message-own")).to_have_text(re.compile("Shall I start"))
            await seen.photograph(f"{panel.lower()}-{theme}")


async def test_processors_show_their_state_reason_and_command(browser: Browser, meeting: MockMeeting) -> None:
    crowd(meeting)
    processors(meeting)
    async with visit(browser) as seen:
        page = await join(seen, meeting)
        await until(lambda: "" if meeting.sent("publish") else "a publish offer")
        await page.get_by_role("button", name="Processing").click()
        denoise = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name="Noise removal"))
        await expect(denoise.get_by_role("switch")).to_be_checked()
        await expect(denoise).to_contain_text("Guard")
        await expect(denoise).to_contain_text("Bypass")
        emotion = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name="emotion"))
        await expect(emotion.get_by_role("switch")).to_be_disabled()
        await expect(emotion.get_by_text("Unavailable", exact=True)).to_be_visible()
        await expect(emotion.get_by_text("The model has not been downloaded.")).to_be_visible()
        await expect(emotion.get_by_text("candor models pull emotion")).to_be_visible()
        await denoise.get_by_role("switch").click()
        await until(lambda: "" if meeting.sent("set_processor") else "a set_processor request")
        assert meeting.sent("set_processor")[0].model_dump() == {"processor": "denoise", "on": False}
        guard = ProcessorStatus(
            track_id="self-microphone", processor="denoise", state="guard", reason="12 dB too quiet."
        )
        await meeting.emit("processors_changed", processors=meeting.processors, status=[guard])
        await expect(denoise).to_contain_text("Your original sound is sent. 12 dB too quiet.")


async def test_no_can_be_said_before_the_first_word_and_while_a_processor_is_away(
    browser: Browser, meeting: MockMeeting
) -> None:
    processors(meeting)
    meeting.processors = [info.model_copy(update={"available": False}) for info in meeting.processors]
    meeting.processor_status = [
        ProcessorStatus(
            track_id="self-microphone", processor="captions", state="unavailable", reason="host is restarting"
        )
    ]
    async with visit(browser, script=DENIED) as seen:
        page = await join(seen, meeting)
        await page.get_by_role("button", name="Processing").click()
        captions = page.get_by_role("switch", name="Captions", exact=True)
        await expect(captions).to_be_checked()
        await captions.click()
        await expect(captions).not_to_be_checked()
        await expect(captions).to_be_disabled()
        assert meeting.sent("set_processor")[0].model_dump() == {"processor": "captions", "on": False}


async def test_pictures_that_are_on_the_screen_are_asked_for_whatever_became_of_the_window(
    browser: Browser, meeting: MockMeeting
) -> None:
    crowd(meeting)

    def unwanted() -> str:
        """Of a grid in which everything is on the screen."""
        latest = meeting.sent("subscribe")[-1].tiles
        hidden = [tile.track_id for tile in latest if tile.width == 0]
        return f"wishes for {hidden}" if hidden or not latest else ""

    async with visit(browser, size=(2560, 1200)) as seen:
        page = await join(seen, meeting)
        await pictures(page, 4)
        await until(lambda: "" if meeting.sent("subscribe") else "tile sizes")
        for width, height in [(500, 700), (2560, 1200)] * 6:
            before = len(meeting.sent("subscribe"))
            await page.set_viewport_size({"width": width, "height": height})
            await until(lambda before=before: "" if len(meeting.sent("subscribe")) > before else "new tile sizes")
            await until(unwanted)


async def test_a_guess_at_emotion_is_shown_with_its_errors_while_it_is_on(
    browser: Browser, meeting: MockMeeting
) -> None:
    processors(meeting)
    meeting.processors = [
        ProcessorInfo(name="text_emotion", kind="observer", media="audio", available=True, about="emotion")
    ]
    status = ProcessorStatus(track_id="self-microphone", processor="text_emotion", state="on")
    meeting.processor_status = [status]
    found = TextEmotion(
        room_id="studio",
        participant_id="self",
        track_id="self-microphone",
        epoch=0,
        start_ms=0,
        end_ms=900,
        model="m@1",
        segment_id="s1",
        label="joy",
        probability=0.83,
        probabilities={"joy": 0.83},
        known_errors="66 % on its own test set",
    )
    async with visit(browser) as seen:
        page = await join(seen, meeting)
        await until(lambda: "" if meeting.sent("publish") else "a publish offer")
        await page.get_by_role("button", name="Processing").click()
        await meeting.emit("finding", finding=found)
        emotion = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name="Emotion in words"))
        await expect(emotion).to_contain_text("Joy, 83 %")
        await expect(emotion).to_contain_text("66 % on its own test set")
        off = status.model_copy(update={"state": "unavailable", "reason": "language"})
        await meeting.emit("processors_changed", processors=meeting.processors, status=[off])
        await expect(emotion).to_contain_text("It does not know the language that is spoken.")
        await expect(emotion).not_to_contain_text("Joy")


async def test_what_is_locked_says_by_whom_and_cannot_be_switched(browser: Browser, meeting: MockMeeting) -> None:
    processors(meeting)
    locks = {"captions": ("on", "server"), "emotion": ("off", "eu_workplace")}
    meeting.processors = [
        info.model_copy(update=dict(zip(("locked", "locked_by"), locks.get(info.name, (None, "")), strict=True)))
        for info in meeting.processors
    ]
    async with visit(browser, script=DENIED) as seen:
        page = await join(seen, meeting)
        await page.get_by_role("button", name="Processing").click()
        captions = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name="Captions"))
        await expect(captions.get_by_role("switch")).to_be_checked()
        await expect(captions.get_by_role("switch")).to_be_disabled()
        await expect(captions).to_contain_text("Decided by this server.")
        emotion = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name="emotion"))
        await expect(emotion.get_by_role("switch")).not_to_be_checked()
        await expect(emotion).to_contain_text("Emotions are not inferred at work")
        await expect(page.get_by_role("switch", name="Noise removal")).to_be_enabled()
        await seen.photograph("processors-locked")


async def test_a_host_mutes_removes_locks_and_ends(browser: Browser, meeting: MockMeeting) -> None:
    crowd(meeting)
    meeting.host = True
    async with visit(browser) as seen:
        page = await join(seen, meeting)
        await page.get_by_role("button", name="People").click()
        await page.get_by_role("button", name="Mute Ada Byron").click()
        await page.get_by_role("button", name="Remove Noor Haddad").click()
        dialog = page.get_by_role("dialog", name="Remove Noor Haddad from the meeting?")
        await seen.photograph("host-remove")
        await dialog.get_by_role("button", name="Remove", exact=True).click()
        await page.get_by_role("switch", name="Lock the room").click()
        await meeting.emit("room_changed", locked=True, hosts=["ada", "self"])
        await expect(page.get_by_text("Locked", exact=True)).to_be_visible()
        await expect(page.get_by_role("listitem").filter(has_text="Mira").get_by_text("Host")).to_be_visible()
        await page.get_by_role("button", name="End meeting for all").click()
        await page.get_by_role("dialog").get_by_role("button", name="End meeting for all").click()
        await until(lambda: "" if len(meeting.sent("moderate")) == 4 else "four moderate requests")
        done = [(request.action, request.track_id, request.participant_id) for request in meeting.sent("moderate")]
        assert done == [("mute", "ada-mic", None), ("remove", None, "noor"), ("lock", None, None), ("end", None, None)]
        await meeting.emit("room_changed", locked=True, hosts=["noor"])
        await expect(page.get_by_role("listitem").filter(has_text="Noor").get_by_text("Host")).to_be_visible()
        await expect(page.get_by_text("Host", exact=True)).to_have_count(1)
        await expect(page.get_by_role("button", name="Remove Ada Byron")).to_have_count(0)


async def test_muted_by_a_host(browser: Browser, meeting: MockMeeting) -> None:
    meeting.media = True
    async with visit(browser) as seen:
        page = await join(seen, meeting)
        await expect(page.get_by_role("figure", name="Mira").get_by_label("Microphone off")).to_have_count(0)
        await until(lambda: "" if meeting.sent("publish") else "a publish offer")
        await expect(page.get_by_role("figure").locator(".tile-muted")).to_have_count(0)
        await meeting.emit("track_muted", track_id="self-microphone", muted=True, by_host=True)
        await expect(page.get_by_text("A host turned your microphone off.")).to_be_visible()
        await expect(page.get_by_role("button", name="Turn microphone on")).to_be_visible()
        await page.get_by_role("button", name="Dismiss").click()
        await expect(page.get_by_text("A host turned your microphone off.")).to_have_count(0)


async def test_a_host_stops_the_screen_and_not_the_microphone(browser: Browser, meeting: MockMeeting) -> None:
    async with visit(browser, script=SHARES_A_CANVAS) as seen:
        page = await join(seen, meeting)
        await page.get_by_role("button", name="Share screen").click()
        await until(lambda: "" if len(meeting.sent("publish")) == 2 else "an offer with the screen")
        await expect(page.get_by_role("figure", name="Your screen")).to_be_visible()
        await meeting.emit("track_muted", track_id="self-screen", muted=True, by_host=True)
        await expect(page.get_by_text("A host stopped your screen sharing.")).to_be_visible()
        await expect(page.get_by_role("figure", name="Your screen")).to_have_count(0)
        await expect(page.get_by_role("button", name="Turn microphone off")).to_be_visible()


async def test_a_screen_is_shared_without_simulcast_and_taken_back(browser: Browser, meeting: MockMeeting) -> None:
    crowd(meeting)
    async with visit(browser, script=SHARES_A_CANVAS) as seen:
        page = await join(seen, meeting)
        await pictures(page, 4)
        await page.get_by_role("button", name="Share screen").click()
        await expect(page.get_by_role("figure", name="Your screen")).to_be_visible()
        await pictures(page, 5)
        await seen.photograph("presentation")
        offer = meeting.sent("publish")[-1]
        assert [track.source for track in offer.tracks] == ["microphone", "camera", "screen"]
        section = offer.sdp.split("m=video")[2]
        assert "a=simulcast" not in section
        await page.get_by_role("button", name="Stop sharing").click()
        await expect(page.get_by_role("figure", name="Your screen")).to_have_count(0)
        await until(lambda: "" if len(meeting.sent("publish")) == 3 else "an offer without the screen")
        assert [track.source for track in meeting.sent("publish")[-1].tracks] == ["microphone", "camera"]


async def test_markup_stays_text(browser: Browser, meeting: MockMeeting) -> None:
    meeting.others = [participant("Ada").model_copy(update={"name": MARKUP})]
    async with visit(browser) as seen:
        page = await join(seen, meeting)
        await page.get_by_role("button", name="Chat").click()
        line = {"participant_id": "ada", "name": MARKUP, "text": MARKUP, "sent_at": "2026-01-01T10:00:00+00:00"}
        await meeting.emit("chat_message", line=line)
        await expect(page.locator(".message-text")).to_have_text(MARKUP)
        await page.get_by_role("button", name="Captions").click()
        await meeting.emit("finding", finding=caption("ada", MARKUP, segment="s", final=True))
        await expect(page.locator(".line-text .caption-stable")).to_have_text(MARKUP)
        assert await page.locator("#app img").count() == 0
        assert await page.title() == "weekly – Candor"


@pytest.mark.parametrize("size", [DESKTOP, SMALL_PHONE], ids=["desktop", "small-phone"])
async def test_chinese(browser: Browser, meeting: MockMeeting, size: tuple[int, int]) -> None:
    crowd(meeting)
    processors(meeting)
    async with visit(browser, size=size, locale="zh-CN") as seen:
        page = seen.page
        await page.goto(f"{meeting.url}/r/weekly")
        assert await page.evaluate("document.documentElement.lang") == "zh-CN"
        await page.get_by_label("您的名字").fill("林米拉")
        await seen.photograph(f"lobby-zh-{size[0]}")
        await page.get_by_role("button", name="加入", exact=True).click()
        await expect(page.get_by_role("figure", name="林米拉（您）")).to_be_visible()
        await page.get_by_role("button", name="处理").click()
        await expect(page.get_by_role("heading", name="降噪")).to_be_visible()
        await no_sideways_scroll(page)
        await seen.photograph(f"processing-zh-{size[0]}")
        await page.get_by_label("语言").select_option("en")
        await expect(page.get_by_role("heading", name="Noise removal")).to_be_visible()
