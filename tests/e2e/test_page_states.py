"""What can go wrong around a meeting (devices, connection, refusals, endings) and what the page makes of it.

The server does what the test says; a real Chromium sees it. With `SCREENSHOTS=DIR` the states are photographed.
"""

import pytest
from playwright.async_api import Browser, Page, expect

from signaling.protocol.codes import CloseReason, ErrorCode
from tests.e2e.mock_meeting import MockMeeting, participant
from tests.e2e.page_scenes import DENIED, NAMED_CAMERA, crowd, devices_answered, join, pictures
from tests.e2e.pages import needs_chromium, needs_dist, visit
from tests.until import until

pytestmark = [pytest.mark.chromium, needs_chromium, needs_dist, pytest.mark.asyncio(loop_scope="module")]

# What a browser without this device, or without permission, does: the same errors that it throws by itself.
NO_DEVICES_OF_KIND = """
const enumerate = navigator.mediaDevices.enumerateDevices.bind(navigator.mediaDevices);
navigator.mediaDevices.enumerateDevices = async () => (await enumerate()).filter((info) => info.kind !== '%s');
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
COUNTED = """
const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
window.granted = [];
navigator.mediaDevices.getUserMedia = async (constraints) => {
  const stream = await ask(constraints);
  window.granted.push(...stream.getTracks());
  return stream;
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


async def test_what_a_host_muted_while_one_was_away_stays_muted(browser: Browser, meeting: MockMeeting) -> None:
    async with visit(browser) as seen:
        page = await join(seen, meeting)
        await until(lambda: "" if meeting.sent("publish") else "a publish offer")
        me = participant("Self", muted=True)
        microphone = me.tracks[0].model_copy(update={"track_id": "self-microphone"})
        meeting.others = [me.model_copy(update={"tracks": [microphone]})]
        await meeting.drop_connections()
        await expect(page.get_by_text("Your microphone was off in the room when you came back")).to_be_visible()
        await expect(page.get_by_role("button", name="Turn microphone on")).to_be_visible()
        await until(lambda: "" if len(meeting.sent("publish")) == 2 else "an ICE restart of the publish transport")
        muted = {track.source: track.muted for track in meeting.sent("publish")[-1].tracks}
        assert muted == {"microphone": True, "camera": False}


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


async def test_a_page_refresh_waits_for_a_worker_that_restarts(browser: Browser, meeting: MockMeeting) -> None:
    async with visit(browser) as seen:
        await seen.page.clock.install()
        page = await join(seen, meeting)
        meeting.refuse["join"] = ErrorCode.MEDIA_UNAVAILABLE
        await page.reload()
        await until(lambda: "" if len(meeting.sent("join")) >= 3 else "a second attempt to come back")
        await expect(page.get_by_text("Coming back to the meeting…")).to_be_visible()
        meeting.refuse.clear()
        await page.clock.fast_forward(10_000)
        await expect(page.get_by_role("navigation", name="Meeting controls")).to_be_visible()
        first, *others = [request.session_key for request in meeting.sent("join")]
        assert first is None
        assert len(set(others)) == 1, "the key that was good is kept"
        meeting.refuse["join"] = ErrorCode.MEDIA_UNAVAILABLE
        await page.reload()
        await page.get_by_role("button", name="Cancel").click()
        await expect(page.get_by_role("button", name="Join", exact=True)).to_be_visible()


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


REFUSALS = (
    (ErrorCode.ROOM_FULL, "This room is full"),
    (ErrorCode.ROOM_LOCKED, "This room is locked"),
    (ErrorCode.BAD_TOKEN, "This invite is not valid"),
    (ErrorCode.TOKEN_EXPIRED, "This invite has expired"),
)


async def test_joining_is_refused_and_may_be_tried_again(browser: Browser, meeting: MockMeeting) -> None:
    async with visit(browser, script=NAMED_CAMERA) as seen:
        page = seen.page
        await page.goto(f"{meeting.url}/r/weekly")
        await page.get_by_label("Your name").fill("Mira")
        for code, title in REFUSALS:
            meeting.refuse["join"] = code
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
    async with visit(browser, script=COUNTED) as seen:
        page = await join(seen, meeting)
        assert await _running(page) == ["audio", "video"]
        await meeting.emit("closed", reason=reason)
        await expect(page.get_by_role("alert").get_by_role("heading", name=title)).to_be_visible()
        await expect(page.get_by_role("button", name="Back to start")).to_be_visible()
        assert await _running(page) == []
        await seen.photograph(f"state-{reason.value.replace('_', '-')}")
        if way_back is not None:
            await page.get_by_role("button", name=way_back).click()
            await expect(page.get_by_role("navigation", name="Meeting controls")).to_be_visible()
            assert meeting.sent("join")[-1].session_key is None
            assert await _running(page) == ["audio", "video"]


async def _running(page: Page) -> list[str]:
    """Which devices are live now, by kind."""
    live = "window.granted.filter((track) => track.readyState === 'live').map((track) => track.kind).sort()"
    kinds: list[str] = await page.evaluate(live)
    return kinds


async def test_the_server_is_not_there(browser: Browser, meeting: MockMeeting) -> None:
    async with visit(browser) as seen:
        await seen.page.goto(f"{meeting.url}/r/weekly")
        await devices_answered(seen.page)
        await seen.context.set_offline(True)
        await seen.page.get_by_label("Your name").fill("Mira")
        await seen.page.get_by_role("button", name="Join", exact=True).click()
        await expect(seen.page.get_by_role("alert")).to_contain_text("The server cannot be reached")
        seen.complaints = [text for text in seen.complaints if "ERR_INTERNET_DISCONNECTED" not in text]
