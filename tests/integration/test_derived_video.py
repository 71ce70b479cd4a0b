"""Labels in a camera's picture, from an alert to a viewer's pixels: a whole node, a bot that films, a bot that watches."""

import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
import pytest_asyncio
from av import VideoFrame

from bots import MeetingBot, PatternSource, read_counter
from candor.node import Node, node
from candor.settings import load
from tests.integration.verdicts import NAME, installed_verdicts
from tests.until import until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(200)]

SLOW_S = 40.0


@dataclass
class Scene:
    node: Node
    say: Callable[[str], object]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    with installed_verdicts(tmp_path_factory.mktemp("installed")) as say:
        policy = {"watermark": "on_alert"}
        settings = load(arguments={"log_level": "warning", "signaling": {"port": 0, "policy": policy}})
        async with node(settings) as started:
            yield Scene(started, say)


class Upturned(PatternSource):
    """Its numbers are at the bottom, because the label covers the top."""

    def picture(self, number: int) -> npt.NDArray[np.uint8]:
        return np.ascontiguousarray(super().picture(number)[::-1])


def number_of(frame: VideoFrame) -> int:
    """Of a picture of `Upturned`, modulo 65536."""
    turned = np.ascontiguousarray(frame.to_ndarray(format="gray")[::-1])
    return read_counter(VideoFrame.from_ndarray(turned, format="gray"))


def labelled(frame: VideoFrame) -> bool:
    """Whether the uppermost part of a pattern is darker than its ground, with bright letters on it."""
    luma = frame.to_ndarray(format="gray").astype(int)
    top = luma[: frame.height // 12]
    ground = np.median(luma[frame.height // 2])
    return bool(np.median(top) < ground - 12 and top.max() > 150)


class Filmed:
    """A bot that lets itself be judged, and another that watches it."""

    def __init__(self, scene: Scene, room: str) -> None:
        self.scene = scene
        self.bot = MeetingBot(scene.node.url, room, "Filmed", subscribe=False)
        self.viewer = MeetingBot(scene.node.url, room, "Viewer")
        self.numbers: list[int] = []

    async def __aenter__(self) -> "Filmed":
        self.scene.say("likely_genuine")
        await self.bot.start()
        await self.viewer.start()
        wanted = {NAME, "watermark"}
        await until(lambda: "" if wanted <= set(self.bot.room.processors) else "the processors", SLOW_S)
        await self.bot.set_processor(NAME, True)
        self.camera = await self.bot.publish_video(Upturned(320, 180), rate_hz=20)
        await until(lambda: "" if self.camera.track_id in self.viewer.tracks else "the subscription", SLOW_S)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.viewer.leave()
        await self.bot.leave()

    async def sees(self, label: bool) -> VideoFrame:
        """Wait until the viewer's picture is labelled, or is not, in five pictures in a row."""
        run: list[VideoFrame] = []

        async def missing() -> str:
            frame = await anext(self.viewer.tracks[self.camera.track_id])
            self.numbers.append(number_of(frame))
            run[:] = [*run, frame] if labelled(frame) is label else []
            return "" if len(run) >= 5 else f"pictures {'with' if label else 'without'} a label"

        await until(missing, SLOW_S)
        return run[-1]

    def state(self) -> str:
        status = self.viewer.room.processor_status.get((self.camera.track_id, "watermark"))
        return status.state if status is not None else ""


async def test_an_alert_becomes_a_bar_in_the_viewers_picture_and_goes_again(scene: Scene) -> None:
    async with Filmed(scene, "alert") as filmed:
        (info,) = [one for one in filmed.viewer.room.processors.values() if one.name == "watermark"]
        assert info.locked_by == "on_alert", "everybody is told before"
        plain = await filmed.sees(label=False)
        scene.say("likely_synthetic")
        marked = await filmed.sees(label=True)
        assert (marked.width, marked.height) == (plain.width, plain.height)
        await until(lambda: "" if filmed.state() == "on" else f"a status, not {filmed.state()!r}")
        scene.say("inconclusive")
        await filmed.sees(label=False)
        await until(lambda: "" if filmed.state() == "off" else f"a status, not {filmed.state()!r}")
        back = [before - after for before, after in zip(filmed.numbers, filmed.numbers[1:], strict=False)]
        assert max(back) <= 20, "never more than a second back in time, where a derived picture follows an original"
        assert sum(step > 0 for step in back) <= 1


async def test_the_video_host_is_killed_and_the_untouched_picture_goes_on(scene: Scene) -> None:
    async with Filmed(scene, "killed") as filmed:
        scene.say("likely_synthetic")
        await filmed.sees(label=True)
        pid = scene.node.supervisor.pid("video")
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await filmed.sees(label=False)
        await filmed.sees(label=True)
        assert scene.node.supervisor.pid("video") not in (None, pid)
        await until(lambda: "" if filmed.state() == "on" else f"a status, not {filmed.state()!r}")


async def test_nobody_who_did_not_agree_is_judged_or_labelled(scene: Scene) -> None:
    async with Filmed(scene, "revoked") as filmed:
        scene.say("likely_synthetic")
        await filmed.sees(label=True)
        await filmed.bot.set_processor(NAME, False)
        await filmed.sees(label=False)
