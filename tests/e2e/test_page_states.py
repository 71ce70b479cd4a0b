"""Every state of the meeting page, reached with a server that does what the test says, seen by a real Chromium.

With `CANDOR_SCREENSHOTS=DIR` the states are photographed as well.
"""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from media_processors.findings import ProcessorInfo, ProcessorStatus
from signaling.protocol import messages
from signaling.protocol.codes import CloseReason, ErrorCode
from tests.e2e.mock_meeting import MockMeeting, participant
from tests.e2e.pages import (
    DESKTOP,
    PHONE,
    SMALL_PHONE,
    Visit,
    chromium,
    needs_chromium,
    needs_dist,
    photographing,
    visit,
)
from tests.e2e.pictures import write_y4m
from tests.until import until

pytestmark = [pytest.mark.chromium, needs_chromium, needs_dist, pytest.mark.asyncio(loop_scope="module")]

MARKUP = "<img src=x onerror=\"document.title='broken in'\">"

# What a browser without this device, or without permission, does: the same errors that it throws by itself.
NO_DEVICES_OF_KIND = """
const enumerate = navigator.mediaDevices.enumerateDevices.bind(navigator.mediaDevices);
navigator.mediaDevices.enumerateDevices = async () => (await enumerate()).filter((info) => info.kind !== '%s');
"""
DENIED = """
navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('denied', 'NotAllowedError'); };
navigator.permissions.query = async () => ({ state: 'denied' });
"""
INSECURE = "Object.defineProperty(Navigator.prototype, 'mediaDevices', { get: () => undefined });"
UNPLUGGABLE = """
const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
const enumerate = navigator.mediaDevices.enumerateDevices.bind(navigator.mediaDevices);
window.plugged = true;
window.microphones = [];
navigator.mediaDevices.enumerateDevices = async () =>
  (await enumerate()).filter((info) => window.plugged || info.kind !== 'audioinput');
navigator.mediaDevices.getUserMedia = async (constraints) => {
  const stream = await ask(constraints);
  window.microphones.push(...stream.getAudioTracks());
  return stream;
};
window.unplug = () => {
  window.plugged = false;
  for (const track of window.microphones) { track.stop(); track.dispatchEvent(new Event('ended')); }
};
"""
SOUND_BLOCKED = """
const play = HTMLMediaElement.prototype.play;
HTMLMediaElement.prototype.play = function () {
  if (this instanceof HTMLAudioElement && !window.soundAllowed) {
    return Promise.reject(new DOMException('play() failed', 'NotAllowedError'));
  }
  return play.call(this);
};
"""


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
NAMED_CAMERA = """
const enumerate = navigator.mediaDevices.enumerateDevices.bind(navigator.mediaDevices);
navigator.mediaDevices.enumerateDevices = async () => (await enumerate()).map((info) =>
  ({ kind: info.kind, deviceId: info.deviceId, label: info.kind === 'videoinput' ? 'Camera on the desk' : info.label }));
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    film: Path = tmp_path_factory.mktemp("film") / "camera.y4m"
    write_y4m(film, person=3)
    async with chromium(film) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def meeting() -> AsyncIterator[MockMeeting]:
    async with MockMeeting().serve() as running:
        yield running


async def join(seen: Visit, meeting: MockMeeting, room: str = "weekly") -> Page:
    """Open the room's page, give a name, join, and wait until the meeting is shown."""
    page = seen.page
    await page.goto(f"{meeting.url}/r/{room}")
    await page.get_by_label("Your name").fill("Mira Lindqvist")
    await page.get_by_role("button", name="Join", exact=True).click()
    await expect(page.get_by_role("navigation", name="Meeting controls")).to_be_visible()
    return page


def crowd(meeting: MockMeeting) -> None:
    """Three others, with real (drawn) pictures, who have chatted before."""
    meeting.media = True
    muted = participant("Tomás Vega", muted=True)
    meeting.others = [participant("Ada Byron", host=True), participant("Noor Haddad"), muted]
    said = [
        ("ada", "Ada Byron", "The notes are in the usual place."),
        ("noor", "Noor Haddad", "Thanks! I will add the figures."),
        ("noor", "Noor Haddad", "They look good."),
    ]
    meeting.chat = [
        messages.ChatLine(participant_id=pid, name=name, text=text, sent_at="2026-01-12T10:04:00+00:00")
        for pid, name, text in said
    ]


def processors(meeting: MockMeeting) -> None:
    """One of each state, on the microphones of the page and of the others."""
    meeting.processors = [
        ProcessorInfo(name="denoise", kind="transform", media="audio", available=True, model="rnnoise@0.2"),
        ProcessorInfo(name="captions", kind="observer", media="audio", available=True, model="pocketsphinx@5.1"),
        ProcessorInfo(name="prosody", kind="observer", media="audio", available=True),
        ProcessorInfo(
            name="emotion",
            kind="observer",
            media="audio",
            available=False,
            reason="The model has not been downloaded.",
            command="candor models pull emotion",
        ),
    ]
    meeting.processor_status = [
        ProcessorStatus(track_id="self-microphone", processor="denoise", state="on"),
        ProcessorStatus(track_id="ada-mic", processor="denoise", state="guard", reason="Speech was 12 dB too quiet."),
        ProcessorStatus(track_id="noor-mic", processor="denoise", state="bypass"),
        ProcessorStatus(track_id="self-microphone", processor="captions", state="on"),
        ProcessorStatus(track_id="self-microphone", processor="prosody", state="off"),
    ]


def caption(
    pid: str, text: str, *, segment: str, rev: int = 0, stable: int = 0, final: bool = False
) -> dict[str, object]:
    return {
        "kind": "caption",
        "room_id": "weekly",
        "participant_id": pid,
        "track_id": f"{pid}-mic",
        "epoch": 0,
        "start_ms": 0,
        "end_ms": 1000,
        "model": "pocketsphinx@5.1",
        "segment_id": segment,
        "rev": rev,
        "text": text,
        "stable_chars": stable,
        "final": final,
        "language": "en",
        "quality": "test",
        "latency_ms": 700,
    }


async def talk(meeting: MockMeeting) -> None:
    """A conversation: finished lines, one being spoken, a speaker, qualities, chat."""
    lines = [
        ("ada", "Shall we look at the numbers from last week first?"),
        ("noor", "Yes. Forwarding got cheaper, and nobody lost a sentence."),
        ("ada", "Good. Then the only open question is the demo."),
    ]
    for index, (pid, text) in enumerate(lines):
        await meeting.emit("finding", finding=caption(pid, text, segment=f"s{index}", final=True))
    growing = "I can show it live, it takes about forty seconds"
    await meeting.emit("finding", finding=caption("noor", growing, segment="s9", stable=23))
    await meeting.emit(
        "active_speakers", speakers=[{"participant_id": "noor", "track_id": "noor-mic", "level_dbov": -22}]
    )
    for pid, score in (("ada", 3), ("noor", 3), ("tomás", 1), ("self", 3)):
        await meeting.emit("connection_quality", participant_id=pid, score=score)


async def pictures(page: Page, count: int) -> None:
    """Wait until `count` tiles show a picture. (`wait_for_function` would need `unsafe-eval` in the page's CSP.)"""

    async def missing() -> str:
        playing = await page.evaluate(
            "[...document.querySelectorAll('.tile video')].filter((v) => v.videoWidth > 0).length"
        )
        return "" if playing == count else f"{count} pictures, there are {playing}"

    await until(missing)


async def _silence(page: Page) -> str:
    level = await page.locator(".level-bar").evaluate("(bar) => new DOMMatrix(getComputedStyle(bar).transform).a")
    return "" if level > 0.2 else "a sound on the level meter (the fake microphone beeps every second)"


async def no_sideways_scroll(page: Page) -> None:
    overhang = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overhang <= 0, f"the page is {overhang} px wider than the window"


async def test_the_lobby_shows_the_camera_and_names_the_demo_room(browser: Browser, meeting: MockMeeting) -> None:
    meeting.config["demo_room"] = "demo"
    for size, dark in ((DESKTOP, False), (DESKTOP, True), (PHONE, False), (SMALL_PHONE, True)):
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
        await page.get_by_label("Your name").focus()
        await page.keyboard.type("Mira")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("navigation", name="Meeting controls")).to_be_visible()
        request = meeting.sent("join")[0]
        assert (request.room_id, request.name, request.token) == ("weekly", "Mira", "abc.def")
        await until(lambda: "" if meeting.sent("publish") else "a publish offer")
        offer = meeting.sent("publish")[0]
        assert {track.source for track in offer.tracks} == {"microphone", "camera"}
        assert [line for line in offer.sdp.splitlines() if line.startswith("a=simulcast")] == ["a=simulcast:send q;h;f"]
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
        await seen.photograph("left")
        await page.get_by_role("button", name="Rejoin").press("Enter")
        await expect(page.get_by_role("navigation", name="Meeting controls")).to_be_visible()


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


# The other two themes differ in colours only: photographed, but no test on its own.
LOOKS = [(DESKTOP, False), (PHONE, True)] + ([(DESKTOP, True), (PHONE, False)] if photographing() else [])


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
        await meeting.emit("room_changed", locked=True)
        await expect(page.get_by_text("Locked", exact=True)).to_be_visible()
        await page.get_by_role("button", name="End meeting for all").click()
        await page.get_by_role("dialog").get_by_role("button", name="End meeting for all").click()
        await until(lambda: "" if len(meeting.sent("moderate")) == 4 else "four moderate requests")
        done = [(request.action, request.track_id, request.participant_id) for request in meeting.sent("moderate")]
        assert done == [("mute", "ada-mic", None), ("remove", None, "noor"), ("lock", None, None), ("end", None, None)]


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
        assert await page.title() == "Candor"


DEVICE_STATES = [
    ("denied", DENIED, "Camera and microphone are blocked"),
    ("no-camera", NO_DEVICES_OF_KIND % "videoinput", "No camera found"),
    ("no-microphone", NO_DEVICES_OF_KIND % "audioinput", "No microphone found"),
    ("insecure", INSECURE, "This page is not secure"),
]


@pytest.mark.parametrize(("state", "script", "title"), DEVICE_STATES, ids=[state for state, _, _ in DEVICE_STATES])
async def test_a_device_is_missing_and_one_can_still_join(
    browser: Browser, meeting: MockMeeting, state: str, script: str, title: str
) -> None:
    meeting.config["secure_hint"] = "https://192.0.2.10:8443/"
    async with visit(browser, script=script) as seen:
        await seen.page.goto(f"{meeting.url}/r/weekly")
        await expect(seen.page.get_by_text(title)).to_be_visible()
        if state == "insecure":
            link = seen.page.get_by_role("link", name="Open the secure address")
            await expect(link).to_have_attribute("href", "https://192.0.2.10:8443/")
        else:
            await expect(seen.page.get_by_role("button", name="Try again")).to_be_visible()
        await seen.photograph(f"state-{state}")
        page = await join(seen, meeting)
        await expect(page.get_by_role("figure", name="Mira Lindqvist (you)")).to_be_visible()


async def test_the_microphone_is_unplugged_in_the_meeting(browser: Browser, meeting: MockMeeting) -> None:
    crowd(meeting)
    async with visit(browser, script=UNPLUGGABLE) as seen:
        page = await join(seen, meeting)
        await pictures(page, 4)
        await page.evaluate("window.unplug()")
        await expect(page.get_by_text("Your microphone was unplugged. Plug it in again")).to_be_visible()
        await expect(page.get_by_role("button", name="Turn microphone on")).to_be_visible()
        await seen.photograph("state-unplugged")
        await page.evaluate("window.plugged = true")
        await page.get_by_role("button", name="Turn microphone on").click()
        await expect(page.get_by_role("button", name="Turn microphone off")).to_be_visible()


async def test_udp_is_blocked(browser: Browser, meeting: MockMeeting) -> None:
    meeting.others = [participant("Ada Byron")]
    async with visit(browser) as seen:
        await seen.page.clock.install()
        page = await join(seen, meeting)
        await until(lambda: "" if meeting.sent("publish") else "a publish offer")
        await page.wait_for_timeout(0)
        await page.clock.fast_forward(13_000)
        note = page.get_by_role("alert").filter(has_text="Sound and picture cannot get through")
        await expect(note).to_contain_text("seems to block UDP")
        await seen.photograph("state-udp-blocked")
        await note.get_by_role("button", name="Try again").click()
        await until(lambda: "" if meeting.sent("restart_subscribe") else "a restart of the subscribe transport")


async def test_the_browser_holds_the_sound_back(browser: Browser, meeting: MockMeeting) -> None:
    crowd(meeting)
    async with visit(browser, script=SOUND_BLOCKED) as seen:
        page = await join(seen, meeting)
        hear = page.get_by_role("button", name="Click to hear")
        await expect(hear).to_be_visible()
        await seen.photograph("state-autoplay-blocked")
        await page.evaluate("window.soundAllowed = true")
        await hear.click()
        await expect(hear).to_have_count(0)
        for audio in await page.locator("audio").all():
            await expect(audio).to_have_js_property("paused", False)


async def test_the_connection_is_lost_and_resumed(browser: Browser, meeting: MockMeeting) -> None:
    crowd(meeting)
    async with visit(browser) as seen:
        page = await join(seen, meeting)
        await pictures(page, 4)
        await until(lambda: "" if meeting.sent("publish") else "a publish offer")
        meeting.gate.clear()
        await meeting.drop_connections()
        await expect(page.get_by_text("Connection lost. Reconnecting…")).to_be_visible()
        await seen.photograph("state-reconnecting")
        meeting.gate.set()
        await expect(page.get_by_text("Connection lost. Reconnecting…")).to_have_count(0)
        first, second = meeting.sent("join")
        assert first.session_key is None
        assert second.session_key is not None
        assert not second.fresh_transports
        await until(lambda: "" if meeting.sent("restart_subscribe") else "a restart of the subscribe transport")
        await until(lambda: "" if len(meeting.sent("publish")) == 2 else "an ICE restart of the publish transport")
        before, after = (_ufrag(request.sdp) for request in meeting.sent("publish"))
        assert before != after


def _ufrag(sdp: str) -> str:
    return next(line for line in sdp.splitlines() if line.startswith("a=ice-ufrag:"))


async def test_a_page_refresh_comes_back_as_the_same_participant(browser: Browser, meeting: MockMeeting) -> None:
    async with visit(browser) as seen:
        page = await join(seen, meeting)
        await page.keyboard.press("v")
        await expect(page.get_by_role("button", name="Turn camera on")).to_be_visible()
        await page.reload()
        await expect(page.get_by_role("navigation", name="Meeting controls")).to_be_visible()
        await expect(page.get_by_role("button", name="Turn camera on")).to_be_visible()
        last = meeting.sent("join")[-1]
        assert last.session_key is not None
        assert last.fresh_transports


async def test_the_media_worker_was_replaced(browser: Browser, meeting: MockMeeting) -> None:
    async with visit(browser) as seen:
        await join(seen, meeting)
        await until(lambda: "" if meeting.sent("publish") else "a publish offer")
        await meeting.emit("transport_replace")
        await until(lambda: "" if len(meeting.sent("publish")) == 2 else "a second publish offer")
        before, after = (_fingerprint(request.sdp) for request in meeting.sent("publish"))
        assert before != after, "a new transport has a new certificate"


def _fingerprint(sdp: str) -> str:
    return next(line for line in sdp.splitlines() if line.startswith("a=fingerprint:"))


REFUSALS = [
    (ErrorCode.ROOM_FULL, "This room is full"),
    (ErrorCode.ROOM_LOCKED, "This room is locked"),
    (ErrorCode.BAD_TOKEN, "This invite is not valid"),
    (ErrorCode.TOKEN_EXPIRED, "This invite has expired"),
]


@pytest.mark.parametrize(("code", "title"), REFUSALS, ids=[code.value for code, _ in REFUSALS])
async def test_joining_is_refused_and_may_be_tried_again(
    browser: Browser, meeting: MockMeeting, code: ErrorCode, title: str
) -> None:
    meeting.refuse["join"] = code
    async with visit(browser, script=NAMED_CAMERA) as seen:
        page = seen.page
        await page.goto(f"{meeting.url}/r/weekly")
        await page.get_by_label("Your name").fill("Mira")
        await page.get_by_role("button", name="Join", exact=True).click()
        await expect(page.get_by_role("alert")).to_contain_text(title)
        await seen.photograph(f"state-{code.value.replace('_', '-')}")
        meeting.refuse.clear()
        await page.get_by_role("button", name="Join", exact=True).click()
        await expect(page.get_by_role("navigation", name="Meeting controls")).to_be_visible()


CLOSINGS = [
    (CloseReason.DUPLICATE_IDENTITY, "You are in this meeting in another tab", "Use this tab"),
    (CloseReason.REMOVED, "A host removed you", None),
    (CloseReason.ROOM_ENDED, "The meeting has ended", None),
    (CloseReason.TOKEN_EXPIRED, "Your invite has expired", None),
]


@pytest.mark.parametrize(("reason", "title", "way_back"), CLOSINGS, ids=[reason.value for reason, _, _ in CLOSINGS])
async def test_the_server_closes_the_meeting(
    browser: Browser, meeting: MockMeeting, reason: CloseReason, title: str, way_back: str | None
) -> None:
    async with visit(browser) as seen:
        page = await join(seen, meeting)
        await meeting.emit("closed", reason=reason)
        await expect(page.get_by_role("alert").get_by_role("heading", name=title)).to_be_visible()
        await expect(page.get_by_role("button", name="Back to start")).to_be_visible()
        await seen.photograph(f"state-{reason.value.replace('_', '-')}")
        if way_back is not None:
            await page.get_by_role("button", name=way_back).click()
            await expect(page.get_by_role("navigation", name="Meeting controls")).to_be_visible()
            assert meeting.sent("join")[-1].session_key is None


async def test_the_server_is_not_there(browser: Browser, meeting: MockMeeting) -> None:
    async with visit(browser) as seen:
        await seen.page.route("**/socket.io/**", lambda route: route.abort())
        await seen.page.route_web_socket("**/socket.io/**", lambda socket: socket.close())
        await seen.page.goto(f"{meeting.url}/r/weekly")
        await seen.page.get_by_label("Your name").fill("Mira")
        await seen.page.get_by_role("button", name="Join", exact=True).click()
        await expect(seen.page.get_by_role("alert")).to_contain_text("The server cannot be reached")
        seen.complaints = [text for text in seen.complaints if "ERR_FAILED" not in text]


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
