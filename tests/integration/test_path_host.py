"""The path host as a process of its own, over a real tap."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from media_processors.codec import OpusDecoder
from media_processors.path_host import SOCKET_NAME
from sfu import channel
from sfu.tap import CloseTrack, Hello, OpenTrack, TapPacket, TapResult, TapSocket, listen
from tests.unit.processors.installed import install_example
from tests.unit.processors.sounds import level_db, noise, opened, publish, speech, voice
from tests.until import until

HOST = """
import sys
from pathlib import Path
from media_processors.path_host import main
from media_processors.settings import ProcessingSettings
main(ProcessingSettings(late_ms=1000), Path(sys.argv[1]) / "models", Path(sys.argv[1]), 1)
"""


class Worker:
    """The other end of the tap."""

    def __init__(self, run_dir: Path) -> None:
        self.listener = listen(run_dir / "worker-0.tap")
        self.tap: TapSocket | None = None
        self.hello: Hello | None = None
        self.results: list[TapResult] = []

    async def accept(self) -> None:
        """Wait for a host and its hello."""
        self.tap = self.hello = None
        await until(self._no_hello)

    def _no_hello(self) -> str:
        if self.tap is None:
            try:
                self.tap = TapSocket(self.listener.accept()[0])
            except BlockingIOError:
                return "a host on the tap"
        for frame in self.tap.receive() or []:
            assert isinstance(frame, Hello)
            self.hello = frame
        return "" if self.hello else "its hello"

    def send(self, *frames: OpenTrack | CloseTrack | TapPacket) -> None:
        """In one message."""
        assert self.tap is not None
        for frame in frames:
            self.tap.queue(frame)
        assert self.tap.flush()

    def play(self, payloads: list[bytes], first: int = 0, handle: int = 1, age_ms: int = 0) -> None:
        """Packets in one message, as if they had just come."""
        arrival_ns = time.monotonic_ns() - age_ms * 1_000_000
        self.send(
            *(
                TapPacket(handle, 0, 0, first + index, (first + index) * 960, arrival_ns, 7, 30, 0, payload)
                for index, payload in enumerate(payloads)
            )
        )

    async def answered(self, count: int) -> list[TapResult]:
        """Wait for so many results."""
        await until(lambda: self._missing(count))
        found, self.results = self.results, []
        return found

    def _missing(self, count: int) -> str:
        assert self.tap is not None
        for frame in self.tap.receive() or []:
            assert isinstance(frame, TapResult)
            self.results.append(frame)
        return "" if len(self.results) >= count else f"results: {len(self.results)} of {count}"

    def close(self) -> None:
        self.listener.close()
        if self.tap is not None:
            self.tap.close()


def spawn(run_dir: Path, *paths: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", HOST, str(run_dir)], env=environment)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    install_example(tmp_path / "site")
    process = spawn(tmp_path, tmp_path / "site")
    yield process
    process.kill()
    process.wait()


@pytest.fixture
async def worker(tmp_path: Path, host: subprocess.Popen[bytes]) -> AsyncIterator[Worker]:
    end = Worker(tmp_path)
    await end.accept()
    yield end
    end.close()


async def ask(run_dir: Path, method: str) -> Any:
    link = await channel.connect(run_dir / SOCKET_NAME)
    link.start()
    try:
        return await link.request(method)
    finally:
        await link.close()


async def test_packets_come_back_denoised_one_for_one_in_order(worker: Worker, host: subprocess.Popen[bytes]) -> None:
    assert worker.hello is not None
    assert (worker.hello.role, worker.hello.pid) == ("path", host.pid)
    assert "denoise" in worker.hello.processors
    hiss = noise(96_000, rms=0.02)
    worker.send(opened(), opened(handle=2, track_id="t2", processors={"denoise": False}))
    payloads = publish(hiss)
    results: list[TapResult] = []
    for at in range(0, 100, 2):  # bursts of two packets on two tracks
        worker.play(payloads[at : at + 2], first=at)
        worker.play(payloads[at : at + 2], first=at, handle=2)
        results += await worker.answered(4)
    heard = {}
    for handle in (1, 2):
        own = [result for result in results if result.handle == handle]
        assert [result.seq for result in own] == list(range(100))
        assert {result.epoch for result in own} == {7}
        decoder = OpusDecoder()
        heard[handle] = np.concatenate([decoder.decode(result.payload) for result in own])[48_000:]
    assert level_db(heard[1]) < level_db(heard[2]) - 15
    assert all(result.dry for result in results if result.handle == 2)


async def test_status_and_processors_are_told(worker: Worker, host: subprocess.Popen[bytes], tmp_path: Path) -> None:
    told: list[tuple[str, str, str]] = []

    def note(event: str, params: dict[str, Any]) -> None:
        assert event == "processor_status"
        told.append((params["track_id"], params["processor"], params["state"]))

    await until(lambda: "" if (tmp_path / SOCKET_NAME).exists() else "path.sock")
    processors = (await ask(tmp_path, "processors"))["processors"]
    assert {each["name"]: each["available"] for each in processors} == {"denoise": True, "gain": True}
    link = await channel.connect(tmp_path / SOCKET_NAME)
    link.on_notify = note
    link.start()
    worker.send(opened())
    await until(lambda: "" if ("t", "denoise", "on") in told else "denoise on")
    worker.send(opened(processors={"denoise": False}))
    await until(lambda: "" if ("t", "denoise", "off") in told else "denoise off")
    with pytest.raises(channel.ChannelError):
        await link.request("sing")
    await link.close()
    # Whoever comes later is told what holds now.
    later: list[str] = []
    link = await channel.connect(tmp_path / SOCKET_NAME)
    link.on_notify = lambda event, params: later.append(params["state"])
    link.start()
    await until(lambda: "" if later == ["off"] else f"off, have {later}")
    await link.close()


async def test_a_third_partys_transform_runs_in_the_path(worker: Worker, host: subprocess.Popen[bytes]) -> None:
    payloads = publish(voice(140, 0.6), bitrate_bps=64_000)
    levels = {}
    for handle, on in ((1, True), (2, False)):
        worker.send(opened(handle=handle, track_id=f"t{handle}", processors={"gain": on}))
        worker.play(payloads, handle=handle)
        decoder = OpusDecoder()
        levels[on] = [level_db(decoder.decode(result.payload)) for result in await worker.answered(30)][-1]
    assert levels[True] == pytest.approx(levels[False] - 6, abs=2)


async def test_bad_input_is_counted_and_harms_nobody(
    worker: Worker, host: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    payloads = publish(voice(140, 0.4))
    worker.send(opened())
    assert worker.tap is not None
    worker.tap.sock.send(b"\xff\xff\x09garbage")
    worker.tap.sock.send(b"\0")
    worker.play(payloads[:1], handle=99)  # never opened
    worker.play(payloads[:2])
    worker.play([b"\xff\xff\xff", b""], first=2)
    worker.play(payloads[4:6], first=4, age_ms=5_000)  # waited too long
    worker.play(payloads[5:6], first=5)  # again
    worker.play(payloads[6:8], first=6)
    results = await worker.answered(9)
    assert [result.seq for result in results] == [0, 1, 2, 3, 4, 5, 5, 6, 7]
    assert [bool(result.payload) for result in results] == [True] * 4 + [False] * 3 + [True] * 2
    stats = await ask(tmp_path, "stats")
    expected = {"malformed": 2, "unknown": 1, "damaged": 2, "late": 2, "old": 1, "packets": 9}
    assert {name: stats[name] for name in expected} == expected
    lines = set((await ask(tmp_path, "metrics")).splitlines())
    assert {
        'candor_host_dropped_packets_total{medium="audio",reason="malformed"} 2.0',
        'candor_host_dropped_packets_total{medium="audio",reason="unwanted"} 1.0',
        'candor_transform_packets_total{outcome="late"} 2.0',
        'candor_processor_available{processor="denoise"} 1.0',
        'candor_processor_tracks{processor="denoise",state="on"} 1.0',
    } <= lines


async def test_a_worker_that_comes_back_is_found_again(
    worker: Worker, host: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    worker.send(opened())
    worker.play(publish(voice(140, 0.1)))
    await worker.answered(5)
    worker.close()
    again = Worker(tmp_path)
    await again.accept()
    assert again.hello is not None
    assert (again.hello.role, again.hello.pid) == ("path", host.pid)
    again.play(publish(voice(140, 0.1)))  # the old tracks are forgotten: unknown
    again.send(opened())
    again.play(publish(voice(140, 0.1)))
    assert len(await again.answered(5)) == 5
    stats = await ask(tmp_path, "stats")
    assert stats["unknown"] == 5
    again.close()


async def test_killed_in_mid_speech_another_takes_over(worker: Worker, tmp_path: Path) -> None:
    """kill -9: the worker sees the end of its tap at once, and a new host serves the same track after `OpenTrack`."""
    payloads = publish(speech()[: 2 * 48_000])
    worker.send(opened())
    worker.play(payloads[:10])
    await worker.answered(10)
    assert worker.hello is not None
    worker.play(payloads[10:20], first=10)
    os.kill(worker.hello.pid, signal.SIGKILL)
    old = worker.tap
    assert old is not None

    def still_open() -> str:
        try:
            while frames := old.receive():
                worker.results += [frame for frame in frames if isinstance(frame, TapResult)]
        except ConnectionResetError:
            return ""
        return "" if frames is None else "the end of the tap"

    await until(still_open)
    old.close()
    assert len(worker.results) <= 10
    worker.results.clear()
    successor = spawn(tmp_path)
    try:
        await worker.accept()
        worker.send(opened())
        worker.play(payloads[20:40], first=20)
        assert [result.seq for result in await worker.answered(20)] == list(range(20, 40))
    finally:
        successor.terminate()
        assert await asyncio.to_thread(successor.wait, 10) == 0
