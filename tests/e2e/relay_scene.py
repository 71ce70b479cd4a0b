"""A meeting of which one browser reaches nothing but our coturn. Runs in a network of its own: `test_relay.py` starts it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from bots import MeetingBot, PatternSource
from candor.node import Node
from tests.e2e.meeting_kit import (
    COUNT_CONNECTIONS,
    Ear,
    enter,
    logged_node,
    mistakes,
    plays,
    received,
    speech,
    write_camera,
)
from tests.e2e.pages import chromium, visit
from tests.integration.turn_kit import DOOR, PORT, SECRET, WORKER, coturn
from tests.until import until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(150)]

TTL_S = 60
URLS = {"udp": f"turn:{DOOR}:{PORT}?transport=udp", "tcp": f"turn:{DOOR}:{PORT}?transport=tcp"}
ONLY_RELAYED = """
window.RTCPeerConnection = class extends window.RTCPeerConnection {
  constructor(configuration) {
    super({ ...configuration, iceTransportPolicy: 'relay' });
  }
};
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    camera = tmp_path_factory.mktemp("camera") / "camera.y4m"
    write_camera(camera)
    async with chromium(camera) as running:
        yield running


async def paths(page: Page) -> list[dict[str, Any]]:
    """The local ends of the paths that are in use, one for each connection."""
    pairs = await page.evaluate("figures('candidate-pair')")
    locals_ = {one["id"]: one for one in await page.evaluate("figures('local-candidate')")}
    used = [one["localCandidateId"] for one in pairs if one["nominated"] and one["bytesReceived"] > 0]
    return [locals_[one] for one in used if one in locals_]  # asked one after the other: one may have gone in between


async def takes(page: Page, protocol: str, timeout_s: float = 30.0) -> None:
    """Wait until both connections go through the relay, and by this protocol."""
    found: list[dict[str, Any]] = []

    async def missing() -> str:
        found[:] = await paths(page)
        ours = [one for one in found if one["candidateType"] == "relay" and one["relayProtocol"] == protocol]
        return "" if len(ours) >= 2 else f"two relayed paths, have {found}"

    await until(missing, timeout_s)
    assert {one["candidateType"] for one in found} == {"relay"}


async def hears(page: Page, timeout_s: float = 30.0) -> None:
    """Wait until sound is decoded."""
    before = (await received(page, "audio")).get("totalSamplesReceived", 0)

    async def missing() -> str:
        samples = (await received(page, "audio")).get("totalSamplesReceived", 0) - before
        return "" if samples > 48_000 else f"a second of sound, have {samples} samples"

    await until(missing, timeout_s)


def published(ear: Ear, kind: str) -> str:
    """The track of this kind by somebody who is no bot; empty if there is none yet."""
    people = {one.participant_id for one in ear.bot.room.participants.values() if not one.bot}
    tracks = (one for one in ear.bot.room.tracks.values() if one.participant_id in people and one.kind == kind)
    return next((one.track_id for one in tracks), "")


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
async def test_a_browser_sees_hears_and_is_heard_through_the_relay(
    browser: Browser, protocol: str, tmp_path: Path
) -> None:
    """Nobody can reach 192.0.2.1 (RFC 5737), which is announced. Only the relay knows the worker's other address."""
    log = tmp_path / "node.log"
    turn = {"urls": [URLS[protocol]], "secret": SECRET, "ttl_s": TTL_S}
    media = {"workers": 1, "host": WORKER, "announced_host": "192.0.2.1", "relay_host": WORKER}
    async with AsyncExitStack() as relay, logged_node(log, signaling={"port": 0, "turn": turn}, sfu=media) as node:
        await relay.enter_async_context(coturn(tmp_path))
        await _meeting(node, browser, protocol, relay, tmp_path)
    assert mistakes(log) == []
    assert SECRET not in log.read_text()


async def _meeting(node: Node, browser: Browser, protocol: str, relay: AsyncExitStack, folder: Path) -> None:
    async with (
        MeetingBot(node.url, "relayed", "Bot", subscribe=False) as bot,
        Ear(node.url, "relayed") as ear,
        visit(browser, script=ONLY_RELAYED + COUNT_CONNECTIONS) as ada,
    ):
        await bot.publish_audio(await speech())
        await bot.publish_video(PatternSource(), rate_hz=15)
        await enter(ada.page, f"{node.url}/r/relayed", "Ada")
        await plays(ada.page)
        await hears(ada.page)
        await takes(ada.page, protocol)
        for kind in ("audio", "video"):
            await until(lambda kind=kind: "" if published(ear, kind) else f"Ada's {kind}")  # type: ignore[misc]  # mypy cannot infer it
            await ear.hears(published(ear, kind))
        before = {one["id"] for one in await paths(ada.page)}
        await (
            relay.aclose()
        )  # all allocations are gone: the page has to restart ICE, with credentials that are valid now
        await relay.enter_async_context(coturn(folder))
        await until(lambda: _moved(ada.page, before), 60)
        await plays(ada.page)
        await hears(ada.page)
        await takes(ada.page, protocol)


async def _moved(page: Page, before: set[str]) -> str:
    now = {one["id"] for one in await paths(page)}
    return "" if now and not now & before else "new paths"
