"""The observer of eyes, with a process that finds landmarks by the true protocol, and faces that were made of numbers."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from media_processors.base import HostServices
from media_processors.errors import UnavailableError
from media_processors.findings import EyeDirection, Finding
from media_processors.frames import TrackRef, VideoFrame
from media_processors.settings import ProcessingSettings
from media_processors.video.eyes import SCREEN_MS, SMALLEST_PX, EyeDirectionObserver, EyeStream
from models.client import A, Answered, InferenceClient
from models.questions import FaceBox, Faces, Landmarks, Picture, Question
from models.runners.landmarks import LandmarksRunner
from models.store import Store
from tests.unit.models.environment_kit import lock, with_landmarks
from tests.unit.models.test_choosing import install
from tests.unit.processors_watch.mesh import FACE_MM, made_face, paint_eyes
from tests.until import until

TRACK = TrackRef("room", "participant", "track", "video", "camera", 3)
WORKER = (sys.executable, "-m", "tests.unit.processors_watch.mesh_worker")
SIDE = 300


class Asked(InferenceClient):
    """Knows where the face is, and asks the process for its landmarks."""

    def __init__(self, runner: LandmarksRunner) -> None:
        super().__init__(Path("unused"))
        self.width_px = 140.0
        self.side = SIDE
        self.cuts: list[tuple[int, ...]] = []
        self._runner = runner

    async def ask(
        self, model: str, question: Question, wanted: type[A], *, room_id: str, track_id: str, deadline_ms: float
    ) -> Answered[A]:
        assert isinstance(question, Picture)
        corner = (self.side - self.width_px) / 2
        answer: Faces | Landmarks = Faces((FaceBox(corner, corner, self.width_px, self.width_px, 0.9, ()),))
        if model == "mediapipe-landmarks":
            self.cuts.append(question.rgb.shape)
            [answer] = await self._runner.run([question])
        assert isinstance(answer, wanted)
        return Answered(answer, f"{model}@1")


class Eyes:
    """An observer on one camera, and what it said."""

    def __init__(self, stream: EyeStream, client: Asked, said: list[Finding]) -> None:
        self.client = client
        self.said = said
        self._stream = stream
        self._now_ms = 0

    async def see(
        self, eyes: int = 0, openness: float = 0.3, head: int = 0, side: int = SIDE, *, hidden: bool = False
    ) -> EyeDirection | None:
        """What is said of one picture, half a second after the one before."""
        before = len(self.said)
        self.client.side = side
        colour = (100 + eyes, round(100 * openness), 100 + head)
        image = np.full((side, side, 3), colour, np.uint8)
        if not hidden:
            px_per_mm = self.client.width_px / FACE_MM
            face = made_face((head, 0, 0), (eyes, 0), None, openness, px_per_mm, (side / 2, side / 2))
            paint_eyes(image, face)
        self._stream.push(VideoFrame(image, self._now_ms, self._now_ms * 1_000_000))
        self._now_ms += 500
        await until(lambda: "a look" if self._stream._posted.is_set() or self._stream.looking else "")
        if len(self.said) == before:
            return None
        found = self.said[-1]
        assert isinstance(found, EyeDirection)
        return found


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """One that has all that the observer needs, by its locks."""
    store = with_landmarks(tmp_path)
    install(store, "yunet", {"yunet.onnx": "weights"})
    return store


@pytest.fixture
async def eyes(store: Store) -> AsyncIterator[Eyes]:
    runner = LandmarksRunner(WORKER)
    await runner.start()
    client, said = Asked(runner), list[Finding]()
    observer = EyeDirectionObserver()
    observer.attach(HostServices(client, store, ProcessingSettings()))
    info = observer.info()
    assert (info.available, info.default_on, info.about) == (True, False, "attention")
    assert info.model.endswith("mediapipe-landmarks@0.10.21")
    stream = observer.open(TRACK, said.append)
    assert isinstance(stream, EyeStream)
    yield Eyes(stream, client, said)
    await stream.aclose()
    await runner.close()


async def test_it_says_where_eyes_look_and_how_much_of_the_time_at_the_screen(eyes: Eyes) -> None:
    found = await eyes.see(eyes=10, head=-15)
    assert found is not None
    assert (found.epoch, found.face_id, found.eyes) == (3, "face-1", "open")
    assert found.model == "mediapipe-landmarks@1"
    assert found.yaw_degrees == pytest.approx(10, abs=0.2)
    assert found.looks_yaw_degrees == pytest.approx(-5, abs=0.3)
    assert (found.at_screen, found.screen_share) == (True, 1.0)
    assert "Never held against people" in found.known_errors
    aside = await eyes.see(eyes=30)
    assert aside is not None
    assert (aside.at_screen, aside.screen_share) == (False, 0.5)


async def test_closed_eyes_and_a_head_turned_away_have_no_direction(eyes: Eyes) -> None:
    closed, away = await eyes.see(openness=0.1), await eyes.see(head=60)
    assert closed is not None and away is not None
    assert (closed.eyes, closed.yaw_degrees, closed.at_screen) == ("closed", None, False)
    assert (away.eyes, away.looks_yaw_degrees, away.at_screen, away.screen_share) == ("turned_away", None, False, 0.0)


async def test_eyes_that_cannot_be_seen_have_no_direction_and_count_nowhere(eyes: Eyes) -> None:
    """Landmarks say that they are open and look ahead: so they do of dark glasses."""
    assert await eyes.see(eyes=30) is not None
    found = await eyes.see(hidden=True)
    assert found is not None
    assert (found.eyes, found.yaw_degrees, found.pitch_degrees) == ("unseen", None, None)
    assert (found.looks_yaw_degrees, found.looks_pitch_degrees) == (None, None)
    assert (found.at_screen, found.screen_share) == (None, 0.0)


async def test_landmarks_of_a_neighbour_are_not_told_of_the_largest_face(eyes: Eyes) -> None:
    assert await eyes.see(openness=1.3) is None
    assert len(eyes.client.cuts) == 1
    assert await eyes.see() is not None


async def test_nothing_is_said_of_a_small_face_or_of_none(eyes: Eyes) -> None:
    eyes.client.width_px = SMALLEST_PX - 1
    assert await eyes.see() is None
    assert eyes.client.cuts == []
    eyes.client.width_px = SMALLEST_PX + 1
    assert await eyes.see(openness=0) is None
    assert await eyes.see() is not None


async def test_the_share_is_that_of_the_last_half_minute(eyes: Eyes) -> None:
    for _ in range(4):
        await eyes.see(eyes=30)
    shares = [found.screen_share for _ in range(SCREEN_MS // 500 + 1) if (found := await eyes.see())]
    assert shares[0] == pytest.approx(1 / 5)
    assert shares[-4] is not None and shares[-4] < 1
    assert shares[-1] == 1.0


async def test_a_large_face_is_asked_about_smaller(eyes: Eyes) -> None:
    eyes.client.width_px = 500
    assert await eyes.see(side=820) is not None
    assert max(eyes.client.cuts[-1]) <= 384


async def test_without_the_environment_it_names_the_command(store: Store) -> None:
    lock(store.root, files={"gone": "0" * 64})
    observer = EyeDirectionObserver()
    observer.attach(HostServices(InferenceClient(Path("unused")), store, ProcessingSettings()))
    info = observer.info()
    assert (info.available, info.command) == (False, "candor models setup landmarks")
    with pytest.raises(UnavailableError):
        observer.open(TRACK, lambda finding: None)
