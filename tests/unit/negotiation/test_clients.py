"""Real clients, live but without a network: they accept what we write, round after round."""

from collections.abc import AsyncIterator

import aioice.ice
import pytest
import pytest_asyncio
from aiortc import RTCSessionDescription
from playwright.async_api import Browser

from sfu.negotiation.answer import parse_offer
from sfu.negotiation.offer import SectionPool
from tests.unit.negotiation.clients import (
    CHROMIUM,
    aiortc_answer,
    aiortc_connection,
    aiortc_offer,
    answer_to,
    caller,
    chromium,
    play,
    ssrcs,
    without_addresses,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")
needs_chromium = pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium (apt-get install chromium)")


@pytest.fixture(autouse=True)
def no_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", without_addresses)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running:
        yield running


async def test_aiortc_receives_through_a_pool_with_stable_ssrcs() -> None:
    pool = SectionPool(stable_ssrcs=True, random_ssrc=ssrcs())
    connection = aiortc_connection()
    tracks = []
    connection.on("track", tracks.append)
    recorded = await play(pool, lambda offer: aiortc_answer(connection, offer))
    assert len(pool.sections) == 4
    directions = [transceiver.currentDirection for transceiver in connection.getTransceivers()]
    assert directions == ["inactive", "recvonly", "recvonly", "recvonly"]
    assert [track.id for track in tracks] == ["alice-mic", "alice-cam", "bob-mic", "bob-cam"], "one per m-line, ever"
    first, reused = (recorded[step][0].split("\r\nm=")[2] for step in ("alice", "reused"))
    assert [x for x in first.split() if x.startswith("a=ssrc:")] == [
        x for x in reused.split() if x.startswith("a=ssrc:")
    ]
    await connection.close()


async def test_aiortc_publishes() -> None:
    connection = aiortc_connection()
    await aiortc_offer(connection)
    await connection.setLocalDescription(await connection.createOffer())
    sdp = connection.localDescription.sdp
    await connection.setRemoteDescription(RTCSessionDescription(answer_to(sdp, {"0", "1"}), "answer"))
    assert [transceiver.currentDirection for transceiver in connection.getTransceivers()] == ["sendonly", "sendonly"]
    assert connection.signalingState == "stable"
    await connection.close()


@needs_chromium
@pytest.mark.chromium
async def test_chromium_publishes_pauses_and_shares(browser: Browser) -> None:
    call = await caller(browser)
    offer = await call("publish", "VP8", [{"rid": rid} for rid in "qhf"], False)
    layers = ["q", "h", "f"]
    assert await call("answered", answer_to(offer, {"0", "1"})) == [["sendonly", [""]], ["sendonly", layers]]
    offer = await call("share")
    paused = await call("answered", answer_to(offer, {"0", "2"}, version=2))
    assert paused == [["sendonly", [""]], ["inactive", layers], ["sendonly", [""]]]
    offer = await call("share")
    assert parse_offer(offer).media[1].published.rids == tuple(layers)
    back = await call("answered", answer_to(offer, {"0", "1", "2"}, version=3))
    assert back[1] == ["sendonly", layers]


@needs_chromium
@pytest.mark.chromium
async def test_chromium_takes_no_data_channel_for_an_answer(browser: Browser) -> None:
    call = await caller(browser)
    offer = await call("publish", "H264", [], True)
    assert [entry[0] for entry in await call("answered", answer_to(offer, {"0", "1"}))] == ["sendonly", "sendonly"]


@needs_chromium
@pytest.mark.chromium
async def test_chromium_receives_through_a_pool(browser: Browser) -> None:
    call = await caller(browser)
    pool = SectionPool(stable_ssrcs=False, random_ssrc=ssrcs())
    await play(pool, lambda offer: call("subscribe", offer))
    assert [direction for direction, _ in await call("receiving")] == [
        "inactive",
        "recvonly",
        "recvonly",
        "recvonly",
    ]
