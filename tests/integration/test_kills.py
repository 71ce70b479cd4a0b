"""kill -9 of each process of a node in the middle of a meeting: media goes on, and what died comes back by itself.

Continuity is judged by the packets' own numbers, not by the wall clock, so that a busy machine does not matter. How long things
took is recorded as a property of the test, not asserted.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from bots import BotState, MeetingBot, PatternSource
from bots.publication import AudioPublication
from candor.node import Node, node
from candor.run_dir import remove_abandoned
from candor.settings import load
from tests.e2e.meeting_kit import Ear, next_caption, speech
from tests.until import until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

COMES_BACK_S = 90.0
GAP_PACKETS = 2
"""60 ms from one packet of 20 ms to the next is two missing."""

Record = Callable[[str, object], None]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[Node]:
    async with node(load(arguments={"log_level": "error", "signaling": {"port": 0}})) as started:
        yield started


def kill(running: Node, label: str) -> int:
    """kill -9; the process id it had."""
    pid = running.supervisor.pid(label)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    return pid


@dataclass(frozen=True, slots=True)
class Talk:
    """Somebody who speaks without end, and somebody who listens."""

    speaker: MeetingBot
    microphone: AudioPublication
    """Processed: a packet that is late by more than its deadline is lost, as on any busy machine."""
    music: AudioPublication
    """Only forwarded: nothing may be missing."""
    ear: Ear

    async def goes_on(self, packets: int = 25) -> None:
        """Wait until so many more packets of both have come."""
        await self.ear.hears(self.microphone.track_id, packets)
        await self.ear.hears(self.music.track_id, 5)

    def check(self) -> None:
        """Nothing was interrupted."""
        assert self.ear.missing(self.music.track_id) == []
        assert max(self.ear.missing(self.microphone.track_id), default=0) <= GAP_PACKETS


@asynccontextmanager
async def talking(running: Node, room: str) -> AsyncIterator[Talk]:
    """A conversation in a room of its own."""
    async with MeetingBot(running.url, room, "Speaker", subscribe=False) as speaker:
        microphone = await speaker.publish_audio(await speech())
        music = await speaker.publish_audio(await speech(), "music")
        async with Ear(running.url, room) as ear:
            talk = Talk(speaker, microphone, music, ear)
            await talk.goes_on()
            yield talk


async def processed(talk: Talk, processor: str) -> float:
    """Wait until a processor works on the microphone; the seconds that took."""
    started = time.monotonic()

    def missing() -> str:
        status = talk.ear.bot.room.processor_status.get((talk.microphone.track_id, processor))
        return "" if status is not None and status.state in ("on", "guard") else f"{processor}, is {status}"

    await until(missing, COMES_BACK_S)
    return time.monotonic() - started


async def replaced(running: Node, label: str, pid: int) -> None:
    await until(lambda: "" if running.supervisor.pid(label) not in (None, pid) else f"another {label}", COMES_BACK_S)


@pytest.mark.parametrize("spare_dies", [False, True], ids=["with a spare", "its spare died as well"])
async def test_the_path_host_dies_in_mid_speech(running: Node, record_property: Record, spare_dies: bool) -> None:
    async with talking(running, f"path-{spare_dies}") as talk:
        await processed(talk, "denoise")
        await talk.goes_on()
        supervisor = running.supervisor
        await until(lambda: "" if supervisor.spare_pid("path") else "a spare", COMES_BACK_S)
        spare = supervisor.spare_pid("path")
        if spare_dies and spare:
            os.kill(spare, signal.SIGKILL)
        pid = kill(running, "path")
        await talk.goes_on()
        await replaced(running, "path", pid)
        assert (supervisor.pid("path") == spare) is not spare_dies
        record_property("processing_back_s", round(await processed(talk, "denoise"), 1))
        await talk.goes_on()
        talk.check()


async def test_a_spare_that_dies_waiting_is_replaced(running: Node) -> None:
    supervisor = running.supervisor
    await until(lambda: "" if supervisor.spare_pid("path") else "a spare", COMES_BACK_S)
    path, spare = supervisor.pid("path"), supervisor.spare_pid("path")
    assert spare
    os.kill(spare, signal.SIGKILL)
    await until(lambda: "" if supervisor.spare_pid("path") not in (None, spare) else "another spare", COMES_BACK_S)
    assert supervisor.pid("path") == path


async def test_captions_come_back_and_media_does_not_notice(running: Node, record_property: Record) -> None:
    async with talking(running, "captions") as talk:
        await next_caption(talk.ear.bot, talk.speaker.participant_id)
        for label in ("engine", "watch"):
            pid = kill(running, label)
            started = time.monotonic()
            await talk.goes_on()
            await replaced(running, label, pid)
            await processed(talk, "captions")
            await next_caption(talk.ear.bot, talk.speaker.participant_id)
            record_property(f"{label}_back_s", round(time.monotonic() - started, 1))
        talk.check()


async def test_signaling_dies_and_the_meeting_goes_on(running: Node, record_property: Record) -> None:
    async with talking(running, "signaling") as talk:
        speaker, listener, track_id = talk.speaker, talk.ear.bot, talk.microphone.track_id
        seats = (speaker.participant_id, listener.participant_id)
        pid = kill(running, "signaling")
        started = time.monotonic()
        await talk.goes_on()
        await replaced(running, "signaling", pid)
        await until(lambda: "" if speaker.state is BotState.JOINED else "the speaker's way back", COMES_BACK_S)
        await until(lambda: "" if listener.state is BotState.JOINED else "the listener's way back", COMES_BACK_S)
        record_property("rooms_back_s", round(time.monotonic() - started, 1))
        assert (speaker.participant_id, listener.participant_id) == seats
        assert set(listener.room.participants) == set(seats)
        assert track_id in listener.room.tracks
        await speaker.say("Still here.")
        await until(lambda: "" if [line.text for line in listener.room.chat] == ["Still here."] else "the line of chat")
        async with Ear(running.url, "signaling", "Late") as late:
            await late.hears(track_id)
        await talk.goes_on()
        talk.check()


async def test_a_worker_dies_and_everybody_is_back(running: Node, record_property: Record) -> None:
    async with Ear(running.url, "worker", "Ann") as ann, Ear(running.url, "worker", "Bob") as bob:
        microphone = await ann.bot.publish_audio(await speech())
        camera = await bob.bot.publish_video(PatternSource(), rate_hz=10)
        await ann.hears(camera.track_id)
        await bob.hears(microphone.track_id)
        pid = kill(running, "worker-0")
        started = time.monotonic()
        await replaced(running, "worker-0", pid)
        ann.packets.clear()
        bob.packets.clear()
        await until(lambda: "" if ann.heard(camera.track_id) > 5 else "Bob's picture at Ann's", COMES_BACK_S)
        await until(lambda: "" if bob.heard(microphone.track_id) > 5 else "Ann's voice at Bob's", COMES_BACK_S)
        record_property("clients_back_s", round(time.monotonic() - started, 1))
        await bob.hears(microphone.track_id)
        frame = await anext(ann.bot.tracks[camera.track_id])
        assert frame is not None


def descendants(pid: int) -> set[int]:
    """All children of a process, theirs included."""
    found = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found |= {child} | descendants(child)
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
async def test_the_end_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "candor.cli", "serve", "--port", "0"),
            stdout=asyncio.subprocess.PIPE,
            stderr=file,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
    assert process.stdout is not None
    while b"ready" not in await asyncio.wait_for(process.stdout.readline(), 60):
        pass
    children = descendants(process.pid)
    assert len(children) >= 5
    assert len(list(tmp_path.glob("candor-*"))) == 1
    for event in ("host_attached", "engine_connected"):  # now somebody would miss them
        await until(lambda event=event: "" if event in log.read_text() else event, COMES_BACK_S)
    process.send_signal(number)
    code = await asyncio.wait_for(process.wait(), 30)

    def missing() -> str:
        left = [pid for pid in children if Path(f"/proc/{pid}").exists()]
        return f"the end of {len(left)} children" if left else ""

    await until(missing, 30)
    if number == signal.SIGTERM:
        assert code == 0
        assert [line for line in log.read_text().splitlines() if '"warning"' in line or '"error"' in line] == []
    else:
        remove_abandoned()  # as the next node does
    assert list(tmp_path.glob("candor-*")) == []
