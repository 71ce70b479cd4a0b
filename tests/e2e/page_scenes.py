"""What the page tests have in common: who is in the room, what they say, and what to wait for."""

from playwright.async_api import Page, expect

from media_processors.findings import ProcessorInfo, ProcessorStatus
from signaling.protocol import messages
from tests.e2e.mock_meeting import MockMeeting, participant
from tests.e2e.pages import Visit
from tests.until import until

# What a browser without permission does: the same errors that it throws by itself.
DENIED = """
navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('denied', 'NotAllowedError'); };
navigator.permissions.query = async () => ({ state: 'denied' });
"""
# A camera with a name for people to read, instead of the numbers of the fake one.
NAMED_CAMERA = """
const enumerate = navigator.mediaDevices.enumerateDevices.bind(navigator.mediaDevices);
navigator.mediaDevices.enumerateDevices = async () => (await enumerate()).map((info) =>
  ({ kind: info.kind, deviceId: info.deviceId, label: info.kind === 'videoinput' ? 'Camera on the desk' : info.label }));
"""


async def devices_answered(page: Page) -> None:
    """Wait until the lobby shows the camera, or what is wrong: whoever joins earlier publishes in two steps."""
    await expect(page.locator(".preview video, .note").first).to_be_visible()


async def join(seen: Visit, meeting: MockMeeting, room: str = "weekly") -> Page:
    """Open the room's page, give a name, join, and wait until the meeting is shown and listens."""
    page = seen.page
    await page.goto(f"{meeting.url}/r/{room}")
    await devices_answered(page)
    await page.get_by_label("Your name").fill("Mira Lindqvist")
    await page.get_by_role("button", name="Join", exact=True).click()
    await expect(page.get_by_role("navigation", name="Meeting controls")).to_be_visible()
    await expect(page.get_by_role("main")).to_be_focused()  # keys are listened to from then on
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
            default_on=False,
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


async def no_sideways_scroll(page: Page) -> None:
    overhang = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overhang <= 0, f"the page is {overhang} px wider than the window"
