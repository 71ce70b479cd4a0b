"""What bad networks do to pictures and sound: random losses, a link that becomes narrow for a while; and a change of layer.

    python -m benchmarks.network [--seconds 15]

The real server, a Chromium that publishes three layers, a Chromium on the bad link, a bot on a good one. The network is
`benchmarks.relay`. Needs Debian's chromium and the built page.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections import Counter
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
SMALL = (400, 640)
NOISE = 8.0
SWITCHES = 10
SHOWN = """
(highest) => {
  window.shown = new Promise((resolve) => {
    const video = [...document.querySelectorAll('video')].find((one) => one.videoWidth > 0);
    const began = performance.now();
    let last = began;
    let longest = 0;
    const note = (now, frame) => {
      longest = Math.max(longest, frame.presentationTime - last);
      last = frame.presentationTime;
      if (frame.width < highest) {
        video.requestVideoFrameCallback(note);
        return;
      }
      resolve({
        asked_to_shown_ms: frame.presentationTime - began,
        key_frame_to_shown_ms: frame.presentationTime - frame.receiveTime,
        longest_pause_ms: longest,
      });
    };
    video.requestVideoFrameCallback(note);
  });
}
"""
"""The first picture of the highest layer is a key frame: `receiveTime` is when its last packet came."""


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


async def switches(stage: Scene) -> list[dict[str, float]]:
    """A viewer's tile becomes large, again and again: from the key frame of the highest layer to its picture on the screen."""
    rows = []
    for _ in range(SWITCHES):
        await stage.viewer.set_viewport_size({"width": SMALL[0], "height": SMALL[1]})
        if await reaches(stage.viewer, lambda width: width < CAMERA_SIZE[0]) is None:
            print("the small tile did not get a lower layer", flush=True)
            continue
        before = await received(stage.viewer, "video")
        await stage.viewer.evaluate(SHOWN, CAMERA_SIZE[0])
        await stage.viewer.set_viewport_size({"width": LARGE[0], "height": LARGE[1]})
        shown = {name: round(value) for name, value in (await stage.viewer.evaluate("window.shown")).items()}
        after = await received(stage.viewer, "video")
        rows.append({**shown, **{name: after[name] - before[name] for name in ("pliCount", "freezeCount")}})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def other_viewer(stage: Scene, since_ns: int) -> dict[str, dict[str, int]]:
    """Packets that came to the other one since then, those that are missing, and how many of these were sent again; by kind."""
    rows: dict[str, Counter[str]] = {"audio": Counter(), "video": Counter()}
    for track, packets in stage.other.packets.items():
        rows[packets[0].kind].update(stage.other.gaps(track, since_ns)._asdict())
    return {kind: dict(row) for kind, row in rows.items()}


async def not_processed(stage: Scene) -> dict[str, dict[str, int]]:
    """What the worker has dropped so far, by reason: a busy computer's own losses."""
    return {"dropped_by_worker": (await stage.node.worker_stats())[0]["drops"]}


async def narrow(stage: Scene, seconds: float) -> dict[str, Any]:
    """3 Mb/s, 400 kb/s, 3 Mb/s: how long until the layer follows, and what it costs the viewer and the other one."""
    highest = CAMERA_SIZE[0]
    began_ns = time.monotonic_ns()
    await asyncio.sleep(seconds)
    others = {"wide": other_viewer(stage, began_ns) | await not_processed(stage)}
    began_ns = time.monotonic_ns()
    stage.link.rate_down_bps = NARROW_BPS
    down_s = await reaches(stage.viewer, lambda width: 0 < width < highest)
    at_400k = await observe(stage, seconds)
    others["narrow"] = other_viewer(stage, began_ns) | await not_processed(stage)
    began_ns = time.monotonic_ns()
    stage.link.rate_down_bps = WIDE_BPS
    up_s = await reaches(stage.viewer, lambda width: width == highest)
    others["wide again"] = other_viewer(stage, began_ns) | await not_processed(stage)
    row = {"down_s": down_s, "up_s": up_s, "at_400_kbps": at_400k, "other_viewer": others}
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
                async with scene(node, relay, browser, "layers") as stage:
                    by_switch = await switches(stage)
                async with scene(node, relay, browser, "loss") as stage:
                    by_loss = await losses(stage, seconds)
                async with scene(node, relay, browser, "narrow") as stage:
                    by_width = await narrow(stage, seconds)
                return {"seconds": seconds, "switches": by_switch, "losses": by_loss, "narrow": by_width}
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
