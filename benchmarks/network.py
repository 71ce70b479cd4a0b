"""What bad networks do to pictures and sound: random losses, and a link that becomes narrow for a while.

    python -m benchmarks.network [--seconds 15]

The real server, a Chromium that publishes three layers, a Chromium on the bad link, a bot on a good one. The network is
`benchmarks.relay`. Needs Debian's chromium and the built page.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page

from benchmarks.relay import Conditions, Relay, free_port
from candor.node import Node
from tests.e2e.meeting_kit import (
    CAMERA_SIZE,
    COUNT_CONNECTIONS,
    Ear,
    enter,
    logged_node,
    plays,
    received,
    write_camera,
)
from tests.e2e.pages import chromium, visit

REPORT = Path("build/bench/network.json")
LOSSES = (0.0, 0.01, 0.05, 0.10)
WIDE_BPS, NARROW_BPS = 3_000_000, 400_000
SETTLE_S = 60.0
LARGE = (2560, 1200)
NOISE = 8.0


@dataclass(frozen=True, slots=True)
class Scene:
    """A room with a publisher (Chromium), a viewer behind `link` (Chromium), and somebody else (a bot)."""

    node: Node
    link: Conditions
    viewer: Page
    other: Ear


@asynccontextmanager
async def scene(node: Node, relay: Relay, browser: Browser, room: str) -> AsyncIterator[Scene]:
    """Everybody is in, and the viewer gets the highest layer."""
    relay.joining = Conditions()
    link = Conditions(rate_down_bps=WIDE_BPS)
    async with visit(browser, script=COUNT_CONNECTIONS) as publisher, Ear(node.url, room) as other:
        await enter(publisher.page, f"{node.url}/r/{room}", "Publisher")
        relay.joining = link
        async with visit(browser, script=COUNT_CONNECTIONS, size=LARGE) as viewer:
            await enter(viewer.page, f"{node.url}/r/{room}", "Viewer")
            await viewer.page.keyboard.press("v")
            await plays(viewer.page)
            await reaches(viewer.page, lambda width: width == CAMERA_SIZE[0])
            yield Scene(node, link, viewer.page, other)


async def reaches(page: Page, fits: Callable[[int], bool]) -> float | None:
    """Seconds until the width of the received video fits; None if it does not within a minute."""
    began = time.monotonic()
    while time.monotonic() - began < SETTLE_S:
        if fits(int((await received(page, "video")).get("frameWidth", 0))):
            return round(time.monotonic() - began, 1)
        await asyncio.sleep(0.1)
    return None


async def figures(stage: Scene) -> dict[str, float]:
    """Counters of the viewer and of the worker, as they are now."""
    video, audio = await received(stage.viewer, "video"), await received(stage.viewer, "audio")
    worker = (await stage.node.worker_stats())[0]
    return {
        "frames": video["framesDecoded"],
        "freezes": video["freezeCount"],
        "frozen_s": video["totalFreezesDuration"],
        "nacks": video["nackCount"],
        "plis": video["pliCount"],
        "repaired": worker["retransmitted"],
        "samples": audio["totalSamplesReceived"],
        "concealed": audio["concealedSamples"],
        "lost_by_relay": stage.link.lost,
    }


async def observe(stage: Scene, seconds: float) -> dict[str, float]:
    """What the counters did in that time; concealment in percent of the sound."""
    before = await figures(stage)
    await asyncio.sleep(seconds)
    after = await figures(stage)
    row = {name: round(after[name] - before[name], 2) for name in after}
    concealed, samples = row.pop("concealed"), row.pop("samples")
    row["frames_per_s"] = round(row.pop("frames") / seconds, 1)
    return {**row, "concealed_percent": round(100 * concealed / max(1, samples), 2)}


async def losses(stage: Scene, seconds: float) -> list[dict[str, float]]:
    """A row per loss, in both directions of the viewer's link."""
    rows = []
    for loss in LOSSES:
        stage.link.loss_up = stage.link.loss_down = loss
        row = {"loss_percent": 100 * loss, **await observe(stage, seconds)}
        rows.append(row)
        print("  ".join(f"{name} {value:g}" for name, value in row.items()), flush=True)
    return rows


async def narrow(stage: Scene, seconds: float) -> dict[str, Any]:
    """3 Mb/s, 400 kb/s, 3 Mb/s: how long until the layer follows, and what it costs the viewer and the other one."""
    highest = CAMERA_SIZE[0]
    stage.link.rate_down_bps = NARROW_BPS
    down_s = await reaches(stage.viewer, lambda width: 0 < width < highest)
    at_400k = await observe(stage, seconds)
    stage.link.rate_down_bps = WIDE_BPS
    up_s = await reaches(stage.viewer, lambda width: width == highest)
    missing = {track: sum(stage.other.missing(track)) for track in stage.other.packets}
    row = {"down_s": down_s, "up_s": up_s, "at_400_kbps": at_400k, "missing_at_other": sum(missing.values())}
    print(json.dumps(row), flush=True)
    return row


async def measure(seconds: float) -> dict[str, Any]:
    """The whole benchmark; the report as it is written to JSON."""
    relay = Relay(("127.0.0.1", free_port()))
    relay.start()
    sfu = {"workers": 1, "port": relay.worker[1], "announced_host": "127.0.0.1", "announced_port": relay.port}
    with tempfile.TemporaryDirectory() as folder:
        camera = Path(folder) / "camera.y4m"
        write_camera(camera, NOISE)
        try:
            async with logged_node(Path(folder) / "log", sfu=sfu) as node, chromium(camera) as browser:
                async with scene(node, relay, browser, "loss") as stage:
                    by_loss = await losses(stage, seconds)
                async with scene(node, relay, browser, "narrow") as stage:
                    return {"seconds": seconds, "losses": by_loss, "narrow": await narrow(stage, seconds)}
        finally:
            relay.close()


def main() -> int:
    """Run, print, write the report. The exit code does not depend on the figures."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.network", description="pictures and sound on bad networks"
    )
    parser.add_argument("--seconds", type=float, default=15.0, help="of each measurement")
    report = asyncio.run(measure(parser.parse_args().seconds))
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(report, indent=1) + "\n")
    print(f"report: {REPORT}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
