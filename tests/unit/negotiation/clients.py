"""Chromium's and aiortc's side of a negotiation, without a network. Run as a module it records their SDP as fixtures:

python -m tests.unit.negotiation.clients
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aioice.ice
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack
from playwright.async_api import Browser, async_playwright

from sfu.negotiation.answer import answer, parse_offer
from sfu.negotiation.offer import SectionPool, Wanted, parse_answer
from sfu.negotiation.sections import LocalTransport

FIXTURES = Path(__file__).parents[2] / "data" / "sdp"
CHROMIUM = Path("/usr/bin/chromium")
LOCAL = LocalTransport("abcd", "abcdefghijklmnopqrstuv", ":".join(["AB"] * 32), ())

PAGE = """
const QHF = [{rid: 'q', scaleResolutionDownBy: 4}, {rid: 'h', scaleResolutionDownBy: 2}, {rid: 'f'}];
function tracks() {
  const canvas = document.createElement('canvas');
  canvas.getContext('2d');
  const audio = new AudioContext().createMediaStreamDestination().stream.getAudioTracks()[0];
  return new MediaStream([audio, canvas.captureStream(5).getVideoTracks()[0]]);
}
async function offered(pc) {
  const offer = await pc.createOffer();
  await pc.setLocalDescription(offer);
  return offer.sdp;
}
async function publish(codec, sendEncodings, data) {
  const stream = tracks(), pc = window.pub = new RTCPeerConnection();
  if (data) pc.createDataChannel('x');
  pc.addTransceiver(stream.getAudioTracks()[0], {direction: 'sendonly', streams: [stream]});
  const video = pc.addTransceiver(stream.getVideoTracks()[0], {direction: 'sendonly', streams: [stream], sendEncodings});
  if (codec) video.setCodecPreferences(RTCRtpSender.getCapabilities('video').codecs.filter(
    c => c.mimeType.endsWith(codec) || c.mimeType.endsWith('rtx')));
  return offered(pc);
}
async function share() {
  const stream = tracks();
  pub.addTransceiver(stream.getVideoTracks()[0], {direction: 'sendonly', streams: [stream]});
  return offered(pub);
}
async function answered(sdp) {
  await pub.setRemoteDescription({type: 'answer', sdp});
  return pub.getTransceivers().map(t => [t.currentDirection, t.sender.getParameters().encodings.map(e => e.rid || '')]);
}
async function subscribe(sdp) {
  window.sub = window.sub || new RTCPeerConnection();
  await sub.setRemoteDescription({type: 'offer', sdp});
  const answer = await sub.createAnswer();
  await sub.setLocalDescription(answer);
  return answer.sdp;
}
function receiving() {
  return sub.getTransceivers().map(t => [t.currentDirection, t.receiver.track.muted ? 'muted' : 'live']);
}
"""


def answer_to(sdp: str, wanted: set[str], version: int = 1) -> str:
    """Our answer that wants these mids."""
    offer = parse_offer(sdp)
    return answer(offer, LOCAL, session_id=7, version=version, wanted_mids=wanted, processed_mids=set())[0]


def ssrcs() -> Callable[[], int]:
    """Numbers instead of random SSRCs."""
    numbers = itertools.count(1000)
    return lambda: next(numbers)


ALICE = [Wanted("alice-mic", "alice", "audio"), Wanted("alice-cam", "alice", "video")]
BOB = [Wanted("bob-mic", "bob", "audio"), Wanted("bob-cam", "bob", "video")]
STEPS = (("idle", []), ("alice", ALICE), ("both", ALICE + BOB), ("bob", BOB), ("reused", [*BOB, ALICE[1]]))


async def play(pool: SectionPool, client: Callable[[str], Awaitable[str]]) -> dict[str, tuple[str, str]]:
    """Take a client through every step; {step: (our offer, its answer)}."""
    recorded = {}
    for version, (name, wanted) in enumerate(STEPS, 1):
        assert pool.reconcile(wanted)
        offer = pool.offer(LOCAL, session_id=7, version=version)
        recorded[name] = (offer, await client(offer))
        pool.answered(parse_answer(recorded[name][1], max_media=len(pool.sections)))
    return recorded


Call = Callable[..., Awaitable[Any]]


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser; without a network it needs no devices and no server."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=str(CHROMIUM),
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-quic",
            ],
        )
        yield browser
        await browser.close()


async def caller(browser: Browser) -> Call:
    """A function that evaluates `name(...arguments)` in a fresh page with the functions above."""
    page = await browser.new_page()
    await page.add_script_tag(content=PAGE)

    async def call(name: str, *arguments: Any) -> Any:
        return await page.evaluate(f"a => {name}(...a)", list(arguments))

    return call


def without_addresses(use_ipv4: bool, use_ipv6: bool) -> list[str]:
    """In the place of `aioice.ice.get_host_addresses`: no candidates, no sockets, aiortc never connects."""
    return []


def aiortc_connection() -> RTCPeerConnection:
    return RTCPeerConnection(RTCConfiguration(iceServers=[]))


async def aiortc_offer(connection: RTCPeerConnection) -> str:
    connection.addTrack(AudioStreamTrack())
    connection.addTrack(VideoStreamTrack())
    return (await connection.createOffer()).sdp


async def aiortc_answer(connection: RTCPeerConnection, offer: str) -> str:
    await connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
    await connection.setLocalDescription(await connection.createAnswer())
    return connection.localDescription.sdp


async def _record() -> None:
    def save(name: str, sdp: str) -> None:
        lines = [line for line in sdp.splitlines() if not line.startswith("a=candidate")]
        (FIXTURES / f"{name}.sdp").write_text("\r\n".join(lines) + "\r\n", newline="")

    async with chromium() as browser:
        call = await caller(browser)
        save("chromium-h264-data", await call("publish", "H264", [], True))
        simulcast = await call("publish", "VP8", [{"rid": rid} for rid in "qhf"], False)
        save("chromium-simulcast", simulcast)
        await call("answered", answer_to(simulcast, {"0", "1"}))
        save("chromium-reoffer", await call("share"))
        pool = SectionPool(stable_ssrcs=False, random_ssrc=ssrcs())
        for name, (_, sdp) in (await play(pool, lambda offer: call("subscribe", offer))).items():
            save(f"chromium-answer-{name}", sdp)
    publish, subscribe = aiortc_connection(), aiortc_connection()
    save("aiortc-publish", await aiortc_offer(publish))
    pool = SectionPool(stable_ssrcs=True, random_ssrc=ssrcs())
    for name, (_, sdp) in (await play(pool, lambda offer: aiortc_answer(subscribe, offer))).items():
        save(f"aiortc-answer-{name}", sdp)
    await publish.close()
    await subscribe.close()


if __name__ == "__main__":
    aioice.ice.get_host_addresses = without_addresses
    asyncio.run(_record())
