"""Landmarks of a face by MediaPipe, in a process under its own environment (`candor models setup landmarks`)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.errors import FailedError, UnavailableError
from models.questions import Landmarks, Picture
from models.runners import landmarks_worker
from models.runners.child import Child
from models.runners.landmarks_worker import SIZE

SETUP = "candor models setup landmarks"


class LandmarksRunner:
    """`Runner` for pictures of one face, with some room around it. One process for everybody: 10 ms of CPU for a picture."""

    takes = Picture
    max_batch = 1
    max_wait_ms = 0.0
    concurrency = 1
    isolated = True

    def __init__(self, command: Sequence[str]) -> None:
        self.child = Child(command)
        self.restarts = 0

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
        """Any picture will do: its bounds are those of a question."""

    async def run(self, batch: Sequence[Picture]) -> list[Landmarks]:
        """The landmarks of each picture. Raises FailedError if the process dies on it; the next one starts another."""
        return [await self._find(picture) for picture in batch]

    async def _find(self, picture: Picture) -> Landmarks:
        if not self.child.alive:
            self.restarts += 1
            await self._start()
        height, width = picture.rgb.shape[:2]
        reply = await self.child.exchange(SIZE.pack(height, width) + picture.rgb.tobytes())
        try:
            points = np.frombuffer(reply, "<f4").reshape(-1, 3)
            return Landmarks(tuple((float(x), float(y), float(z)) for x, y, z in points))
        except ValueError as error:
            await self.child.close()
            raise FailedError("its process babbles") from error

    async def close(self) -> None:
        """End the process."""
        await self.child.close()


def command(python: Path) -> tuple[str, ...]:
    """How the process is started: nothing of the surroundings gets in (-I), nothing is written into the environment (-B)."""
    return (str(python), "-I", "-B", str(Path(landmarks_worker.__file__)))
