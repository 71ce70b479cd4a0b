"""Landmarks of a face by MediaPipe, in a process under its own environment (`candor models setup landmarks`)."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from models.environments import python
from models.errors import FailedError, UnavailableError
from models.questions import Landmarks, Picture
from models.runners import landmarks_worker
from models.runners.child import Child
from models.runners.landmarks_worker import MAX_SIDE_PX, SIZE
from models.store import CorruptModelError

SETUP = "candor models setup landmarks"
MAX_RESTARTS = 5
RESTARTS_S = 60.0
"""A process that had to be replaced so often within this time is left alone until then."""


class LandmarksRunner:
    """`Runner` for pictures of one face, with some room around it. One process for everybody: 10 ms of CPU for a picture."""

    takes = Picture
    max_batch = 1
    max_wait_ms = 0.0
    concurrency = 1
    isolated = True

    def __init__(self, command: Sequence[str], verify: Callable[[], None] = lambda: None) -> None:
        """`verify` raises CorruptModelError or OSError if the environment is not what was installed; asked before each restart."""
        self.child = Child(command)
        self.restarts = 0
        self._verify = verify
        self._restarted_s = deque[float](maxlen=MAX_RESTARTS)

    async def start(self) -> None:
        """Start the process and wait until it has loaded the network. Raises UnavailableError if it does not."""
        try:
            await self._start()
        except FailedError as error:
            raise UnavailableError("MediaPipe does not start; the log of the engine says why", SETUP) from error

    async def _start(self) -> None:
        await self.child.start()
        await self.child.exchange(b"")

    def check(self, question: Picture) -> None:
        """Raises ValueError if a side is longer than `MAX_SIDE_PX`."""
        height, width = question.rgb.shape[:2]
        if max(height, width) > MAX_SIDE_PX:
            raise ValueError(f"a picture of {width} x {height} pixels, {MAX_SIDE_PX} a side are allowed")

    async def run(self, batch: Sequence[Picture]) -> list[Landmarks]:
        """The landmarks of each picture. Raises FailedError if the process dies on it; the next one starts another.

        Raises UnavailableError if that does not start, or if too many had to.
        """
        return [await self._find(picture) for picture in batch]

    async def _find(self, picture: Picture) -> Landmarks:
        if not self.child.alive:
            await self._restart()
        height, width = picture.rgb.shape[:2]
        reply = await self.child.exchange(SIZE.pack(height, width) + picture.rgb.tobytes())
        try:
            points = np.frombuffer(reply, "<f4").reshape(-1, 3)
            return Landmarks(tuple((float(x), float(y), float(z)) for x, y, z in points))
        except ValueError as error:
            await self.child.close()
            raise FailedError("its process babbles") from error

    async def _restart(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if len(self._restarted_s) == MAX_RESTARTS and now_s - self._restarted_s[0] < RESTARTS_S:
            raise UnavailableError("MediaPipe dies again and again", SETUP, RESTARTS_S)
        self._restarted_s.append(now_s)
        self.restarts += 1
        try:
            await asyncio.to_thread(self._verify)
            await self._start()
        except (CorruptModelError, OSError, FailedError) as error:
            raise UnavailableError(f"MediaPipe does not start again: {error}", SETUP, RESTARTS_S) from error

    async def close(self) -> None:
        """End the process."""
        await self.child.close()


def command(environment: Path) -> tuple[str, ...]:
    """How the process is started in the environment at this path.

    Nothing of the surroundings gets in (-I), no code of the environment runs unless it is imported (-S), nothing is written (-B).
    """
    packages = map(str, environment.glob("lib/python3*/site-packages"))
    return (str(python(environment)), "-I", "-S", "-B", landmarks_worker.__file__, *packages)
