"""Small pictures made larger by a network (Swin2SR x2), for publishers who send 320 pixels or less, where a machine is fast enough.

Whether it is, is tried whenever an engine has come: three pictures of 320x180. On a CPU the answer is no, and the figure says why.
"""

import asyncio
import concurrent.futures
import statistics
import time
from typing import ClassVar, Literal

import numpy as np

from media_processors.asking import Choice
from media_processors.base import HostServices, Picture
from media_processors.errors import UnavailableError
from media_processors.findings import ProcessorInfo
from media_processors.frames import TrackRef
from models import questions
from models.errors import DeadlineError, InferenceError, OverloadedError

WIDEST_PX = 320
FACTOR = 2
TRIAL_SIZE = (180, 320)
TRIAL_PICTURES = 3
TILE_PX = 64
"""A first look, so that a machine that is a hundred times too slow is not kept busy for a minute to find out."""
HOPELESS = 10.0
BUDGET_MS = 100.0
"""Ten pictures a second."""
TRIAL_DEADLINE_MS = 30_000.0
DEADLINE_MS = 1_000.0
LARGE_ENOUGH = "large_enough"
TRYING = "starting"


class VideoEnhancement:
    """The transform `video_enhancement`."""

    kind: ClassVar[Literal["transform"]] = "transform"
    media: ClassVar[Literal["video"]] = "video"

    def __init__(self) -> None:
        self._choice = Choice("enhancement")
        self._services: HostServices | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._trial: asyncio.Task[None] | None = None
        self._refusal = TRYING
        """Why it is not offered; empty if a trial was passed."""

    def attach(self, services: HostServices) -> None:
        """Choose the model and try it. Call it from the host's loop."""
        self._services, self._loop = services, asyncio.get_running_loop()
        self._choice.attach(services.engine, services.store)
        if self._trial is not None:
            self._trial.cancel()
        self._refusal = TRYING
        if services.engine.connected and self._choice.here:
            self._trial = asyncio.create_task(self._try(services), name="try-enhancement")

    def info(self) -> ProcessorInfo:
        """Available once a trial has shown that it is fast enough."""
        reason, command = self._refusal, ""
        if self._services is None:
            reason = "it runs in the video host"
        elif not self._choice.here:
            reason, command = self._choice.missing.reason, self._choice.missing.command
        elif not self._services.engine.connected:
            reason = "the model engine is restarting; findings pause"
        return ProcessorInfo(
            name="video_enhancement",
            kind="transform",
            media="video",
            available=not reason,
            reason=reason,
            command=command,
            model=self._choice.version,
            default_on=False,
        )

    def open(self, track: TrackRef) -> "EnhancementStream":
        """State for one track: none but where it is from."""
        return EnhancementStream(self, track.room_id)

    # --- is it fast enough?

    async def _try(self, services: HostServices) -> None:
        try:
            await services.engine.load(self._choice.required().name)
            self._refusal = await self._measured()
        except InferenceError as error:
            self._refusal = error.message

    async def _measured(self) -> str:
        """Why this machine is not fast enough, with the figure; empty if it is."""
        await self._timed_ms(TILE_PX, TILE_PX)  # the first answer warms up
        tile_ms = await self._timed_ms(TILE_PX, TILE_PX)
        height, width = TRIAL_SIZE
        estimate_ms = tile_ms * height * width / TILE_PX**2
        if estimate_ms > HOPELESS * BUDGET_MS:
            return _too_slow(estimate_ms, f"by {tile_ms:.0f} for {TILE_PX}x{TILE_PX}")
        picture_ms = statistics.median([await self._timed_ms(width, height) for _ in range(TRIAL_PICTURES)])
        return _too_slow(picture_ms, "measured") if picture_ms > BUDGET_MS else ""

    async def _timed_ms(self, width: int, height: int) -> float:
        picture = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
        began_s = time.monotonic()
        await self._ask(picture, "", TRIAL_DEADLINE_MS)
        return (time.monotonic() - began_s) * 1000

    # --- pictures

    async def _ask(self, picture: Picture, room_id: str, deadline_ms: float) -> Picture:
        question = questions.Picture(picture)
        answer = await self._choice.ask(question, questions.Picture, room_id=room_id, deadline_ms=deadline_ms)
        return answer.rgb

    def enlarged(self, picture: Picture, room_id: str) -> Picture | None:
        """From a thread: the picture, twice as large; None if it was not ready in time. Raises UnavailableError."""
        height, width = picture.shape[:2]
        if width > WIDEST_PX or height * width * FACTOR**2 > questions.MAX_PIXELS:
            raise UnavailableError(LARGE_ENOUGH)
        if self._loop is None:
            raise UnavailableError("it runs in the video host")
        asked = asyncio.run_coroutine_threadsafe(self._ask(picture, room_id, DEADLINE_MS), self._loop)
        try:
            return asked.result(2 * DEADLINE_MS / 1000)
        except (DeadlineError, OverloadedError):
            return None
        except concurrent.futures.TimeoutError:
            asked.cancel()
            return None
        except InferenceError as error:
            raise UnavailableError(error.message) from error


class EnhancementStream:
    """One track."""

    def __init__(self, enhancement: VideoEnhancement, room_id: str) -> None:
        self._enhancement = enhancement
        self._room_id = room_id

    def process(self, picture: Picture, t_ms: int) -> Picture | None:
        """Twice as wide and high."""
        del t_ms
        return self._enhancement.enlarged(picture, self._room_id)


def _too_slow(picture_ms: float, how: str) -> str:
    height, width = TRIAL_SIZE
    return (
        f"too_slow: {picture_ms:.0f} ms for a picture of {width}x{height} ({how}); live needs {BUDGET_MS:.0f}, so a GPU"
    )
