"""Bad networks: losses and a narrow link, made by a relay in front of the media worker (`benchmarks/relay.py`).

Behaviour only; the figures are for `python -m benchmarks.network`. They need more than two busy cores can promise: where Chromium's
encoder, the relay and the node fight for them, its own bandwidth estimate falls and the layers with it. So they run on request.
"""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from benchmarks.relay import Conditions, Relay, free_port
from bots import MeetingBot, PatternSource
from candor.node import Node
from tests.e2e.meeting_kit import (
    CAMERA_SIZE,
    COUNT_CONNECTIONS,
    enter,
    logged_node,
    plays,
    received,
    speech,
    write_camera,
)
from tests.e2e.pages import chromium, needs_chromium, needs_dist, visit
from tests.until import until

pytestmark = [
    pytest.mark.chromium,
    needs_chromium,
    needs_dist,
    pytest.mark.skipif(
        "NETWORK_TESTS" not in os.environ,
        reason="needs an idle machine: NETWORK_TESTS=1 pytest tests/e2e/test_network.py",
    ),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(300),
]

WIDE_BPS, NARROW_BPS = 3_000_000, 400_000
LARGE = (2560, 1200)
NOISE = 8.0
"""So that the highest layer needs more than the narrow link has."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    camera = tmp_path_factory.mktemp("camera") / "camera.y4m"
    write_camera(camera, noise=NOISE)
    async with chromium(camera) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def relay() -> AsyncIterator[Relay]:
    relay = Relay(("127.0.0.1", free_port()))
    relay.start()
    yield relay
    relay.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(relay: Relay, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    """A worker that is only reached through the relay."""
    log: Path = tmp_path_factory.mktemp("log") / "node.log"
    sfu = {"workers": 1, "port": relay.worker[1], "announced_host": "127.0.0.1", "announced_port": relay.port}
    async with logged_node(log, sfu=sfu) as running:
        yield running


async def test_pictures_and_sound_survive_losses(node: Node, relay: Relay, browser: Browser) -> None:
    link = relay.joining = Conditions()
    async with (
        MeetingBot(node.url, "loss", "Bot", subscribe=False) as bot,
        visit(browser, script=COUNT_CONNECTIONS) as ada,
    ):
        await bot.publish_audio(await speech())
        await bot.publish_video(PatternSource(), rate_hz=15)
        await enter(ada.page, f"{node.url}/r/loss", "Ada")
        await ada.page.keyboard.press("v")  # her own camera only costs
        await plays(ada.page)
        repaired = (await node.worker_stats())[0]["retransmitted"]
        heard = await received(ada.page, "audio")
        for loss in (0.02, 0.05):  # each way; 10 % is for the benchmark: a busy machine adds losses of its own
            link.loss_up = link.loss_down = loss
            await plays(ada.page, 60, timeout_s=90)
        link.loss_up = link.loss_down = 0.0
        await plays(ada.page, 15)
        assert link.lost > 0
        assert (await node.worker_stats())[0]["retransmitted"] > repaired
        sound = await received(ada.page, "audio")
        samples = sound["totalSamplesReceived"] - heard["totalSamplesReceived"]
        assert samples > 0
        assert sound["concealedSamples"] - heard["concealedSamples"] < samples / 2


async def width_of(page: Page) -> int:
    return int((await received(page, "video")).get("frameWidth", 0))


async def becomes(page: Page, wanted: bool, what: str, timeout_s: float) -> None:
    """Wait until the page gets the highest layer, or one that is not."""

    async def missing() -> str:
        width = await width_of(page)
        return "" if width and (width == CAMERA_SIZE[0]) is wanted else f"{what}, is {width} wide"

    await until(missing, timeout_s)


async def test_a_narrow_link_gets_a_lower_layer_and_nobody_else_does(
    node: Node, relay: Relay, browser: Browser
) -> None:
    relay.joining, narrow = Conditions(), Conditions(rate_down_bps=WIDE_BPS)
    async with visit(browser, script=COUNT_CONNECTIONS) as ada, visit(browser, script=COUNT_CONNECTIONS) as cleo:
        await enter(ada.page, f"{node.url}/r/narrow", "Ada")
        await enter(cleo.page, f"{node.url}/r/narrow", "Cleo")
        await cleo.page.keyboard.press("v")
        relay.joining = narrow
        async with visit(browser, script=COUNT_CONNECTIONS, size=LARGE) as bea:
            await enter(bea.page, f"{node.url}/r/narrow", "Bea")
            await bea.page.keyboard.press("v")
            await becomes(bea.page, True, "the highest layer", 100)
            wide = await width_of(cleo.page)
            narrow.rate_down_bps = NARROW_BPS
            await becomes(bea.page, False, "a lower layer", 30)
            await plays(bea.page)
            await plays(cleo.page)
            assert await width_of(cleo.page) == wide
            narrow.rate_down_bps = WIDE_BPS
            await becomes(bea.page, True, "the highest layer again", 100)
            await plays(bea.page)
