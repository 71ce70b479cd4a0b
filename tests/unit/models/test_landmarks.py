"""Landmarks from a process of its own: the true protocol on both sides, without MediaPipe."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import FailedError, UnavailableError
from models.questions import MAX_PIXELS, MESH_POINTS, Landmarks, Picture, answer_from_wire
from models.runners import child
from models.runners.landmarks import MAX_RESTARTS, RESTARTS_S, LandmarksRunner
from models.runners.landmarks_worker import LENGTH, MAX_REQUEST_BYTES, MAX_SIDE_PX, NICENESS, SIZE
from models.store import CorruptModelError
from tests.until import until

WORKER = (sys.executable, "-m", "tests.unit.models.blind_worker")
NO_FACE, FACE, DIES, HANGS, TOO_FEW, NICE = range(6)


def picture(what: int, green: int = 0, height: int = 40, width: int = 30) -> Picture:
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[0, 0] = what, green, 0
    return Picture(rgb)


@pytest.fixture
async def runner() -> AsyncIterator[LandmarksRunner]:
    runner = LandmarksRunner(WORKER)
    await runner.start()
    yield runner
    await runner.close()
    await runner.close()
    assert not runner.child.alive


async def test_each_picture_gets_its_own_landmarks(runner: LandmarksRunner) -> None:
    first, nobody, second = await runner.run([picture(FACE, 7), picture(NO_FACE), picture(FACE, 9, 20, 50)])
    assert first.points == ((30.0, 40.0, 7.0),) * MESH_POINTS
    assert nobody.points == ()
    assert second.points == ((50.0, 20.0, 9.0),) * MESH_POINTS
    side = int(MAX_PIXELS**0.5)
    [largest] = await runner.run([picture(FACE, 1, side, side)])
    assert largest.points[0] == (side, side, 1.0)


async def test_it_yields_to_everything_else(runner: LandmarksRunner) -> None:
    [told] = await runner.run([picture(NICE)])
    assert told.points[0][2] >= NICENESS


@pytest.mark.parametrize("what", [DIES, TOO_FEW])
async def test_a_process_that_dies_or_babbles_fails_its_picture_and_is_replaced(
    runner: LandmarksRunner, what: int
) -> None:
    with pytest.raises(FailedError):
        await runner.run([picture(what)])
    assert (await runner.run([picture(FACE, 3)]))[0].points[0][2] == 3
    assert runner.restarts == 1


async def test_a_process_that_hangs_is_replaced(runner: LandmarksRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "STUCK_S", 0.1)
    monkeypatch.setattr(child, "cpu_ticks", lambda pid: 7)
    with pytest.raises(FailedError):
        await runner.run([picture(HANGS)])
    monkeypatch.undo()
    assert len((await runner.run([picture(FACE)]))[0].points) == MESH_POINTS


async def test_an_answer_that_nobody_waited_for_is_not_the_next_ones(runner: LandmarksRunner) -> None:
    asking = asyncio.create_task(runner.run([picture(FACE, 1)]))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert (await runner.run([picture(FACE, 2)]))[0].points[0][2] == 2


@pytest.mark.parametrize("command", [(sys.executable, "-c", "raise SystemExit(1)"), ("/nowhere/python",)])
async def test_a_process_that_does_not_start_names_the_command(command: tuple[str, ...]) -> None:
    with pytest.raises(UnavailableError) as caught:
        await LandmarksRunner(command).start()
    assert caught.value.command == "candor models setup landmarks"


async def test_a_process_that_does_not_start_again_names_the_command(runner: LandmarksRunner) -> None:
    """Somebody removed its environment while it ran."""
    runner.child._command = ("/nowhere/python",)
    with pytest.raises(FailedError):
        await runner.run([picture(DIES)])
    with pytest.raises(UnavailableError, match="does not start again") as caught:
        await runner.run([picture(FACE)])
    assert (caught.value.command, caught.value.retry_s) == ("candor models setup landmarks", RESTARTS_S)


async def test_before_it_is_started_again_its_environment_is_verified() -> None:
    changed = list[str]()

    def verify() -> None:
        if changed:
            raise CorruptModelError(f"{changed[0]} is not in the lock")

    runner = LandmarksRunner(WORKER, verify)
    await runner.start()
    for _ in range(2):
        with pytest.raises(FailedError):
            await runner.run([picture(DIES)])
    changed.append("sitecustomize.py")
    with pytest.raises(UnavailableError, match=r"sitecustomize\.py is not in the lock"):
        await runner.run([picture(FACE)])
    changed.clear()
    assert (await runner.run([picture(FACE)]))[0].points
    await runner.close()


async def test_one_that_dies_again_and_again_is_left_alone_for_a_while(runner: LandmarksRunner) -> None:
    for _ in range(MAX_RESTARTS + 1):
        with pytest.raises(FailedError):
            await runner.run([picture(DIES)])
    with pytest.raises(UnavailableError, match="again and again") as caught:
        await runner.run([picture(FACE)])
    assert (caught.value.command, caught.value.retry_s) == ("candor models setup landmarks", RESTARTS_S)
    runner._restarted_s[0] -= RESTARTS_S
    assert (await runner.run([picture(FACE)]))[0].points


async def test_a_long_strip_is_refused_on_both_sides_of_the_pipe(runner: LandmarksRunner) -> None:
    runner.check(picture(FACE, height=MAX_SIDE_PX, width=10))
    strip = picture(FACE, height=10, width=MAX_SIDE_PX + 1)
    with pytest.raises(ValueError, match="1025 x 10"):
        runner.check(strip)
    with pytest.raises(FailedError):
        await runner.run([strip])


async def test_it_ends_when_nobody_asks_any_more(runner: LandmarksRunner) -> None:
    process = runner.child._process
    assert process is not None and process.stdin is not None
    process.stdin.close()
    await until(lambda: "the end of the process" if process.returncode is None else "")
    assert process.returncode == 0


PARENT = """
import asyncio, sys
from models.runners.landmarks import LandmarksRunner
from tests.unit.models.test_landmarks import HANGS, WORKER, picture

async def main():
    runner = LandmarksRunner(WORKER)
    await runner.start()
    print(runner.child.pid, flush=True)
    await runner.run([picture(HANGS)])

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
async def test_it_does_not_outlive_an_engine_that_is_killed_while_it_hangs() -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert parent.stdout is not None and parent.stderr is not None
    stat = Path(f"/proc/{int(await parent.stdout.readline())}/stat")
    try:
        assert (await parent.stderr.readline()).strip() == b"hangs"
    finally:
        parent.kill()
        await parent.wait()
    await until(lambda: "the end of the process" if _runs(stat) else "")


def _runs(stat: Path) -> bool:
    """Not if it is gone, or only waits for somebody to read its exit status."""
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("size_bytes", [MAX_REQUEST_BYTES + 1, 2**32 - 1])
def test_a_request_that_is_too_large_is_not_read(size_bytes: int) -> None:
    done = subprocess.run(WORKER, input=LENGTH.pack(size_bytes) + b"x" * 100, capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stdout == b""
    assert b"ValueError" in done.stderr


def test_a_picture_that_is_not_as_large_as_it_says_is_refused() -> None:
    request = SIZE.pack(10, 10) + b"short"
    done = subprocess.run(WORKER, input=LENGTH.pack(len(request)) + request, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")


@given(st.lists(st.tuples(st.floats(), st.floats(), st.floats()), max_size=4), st.sampled_from([0, MESH_POINTS]))
def test_only_a_whole_face_of_numbers_is_an_answer(points: list[tuple[float, float, float]], rows: int) -> None:
    padded = [*points, *[(0.0, 0.0, 0.0)] * max(0, rows - len(points))]
    try:
        answer = answer_from_wire({"kind": "landmarks", "points": padded})
    except ValueError:
        assert len(padded) not in (0, MESH_POINTS) or not np.isfinite(padded).all()
        return
    assert isinstance(answer, Landmarks)
    assert answer_from_wire(answer.to_wire()) == answer
