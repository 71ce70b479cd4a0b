"""Eye direction with MediaPipe itself, in its own environment: real and painted eyes, through the real engine and its socket.

What a person sees in scikit-image's astronaut: she looks into the camera, her head a little tilted.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from media_processors.base import HostServices
from media_processors.findings import EyeDirection
from media_processors.settings import ProcessingSettings
from media_processors.video.eyes import EyeDirectionObserver
from models.client import InferenceClient
from models.drawn_face import drawn_face
from models.engine import SOCKET_NAME, Engine
from models.questions import Landmarks, Picture
from models.settings import ModelSettings
from models.store import Store
from tests.integration.landmarks_here import ENTRY, needs_landmarks, store_with_eyes
from tests.integration.painted_eyes import with_eyes_hidden, with_irises_moved
from tests.integration.watched_faces import HEIGHT, WIDTH, Camera, Image, on_wall
from tests.unit.models.faces import astronaut
from tests.unit.models.test_models_cli import needs_mirror
from tests.until import until

pytestmark = [pytest.mark.weights, needs_mirror, needs_landmarks]


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[HostServices]:
    """A store with YuNet from the mirror, and with the environment that this machine has."""
    root = store_with_eyes(tmp_path / "models")
    engine = Engine(tmp_path / SOCKET_NAME, ModelSettings(models_dir=root))
    await engine.start()
    client = InferenceClient(tmp_path / SOCKET_NAME)
    client.start()
    await until(lambda: "" if client.connected else "the engine")
    for name in ("yunet", ENTRY.name):
        await client.load(name)
    yield HostServices(client, Store(root), ProcessingSettings())
    await client.close()
    await engine.close()


async def seen(services: HostServices, *images: Image) -> list[EyeDirection]:
    """What is said of pictures that follow each other."""
    camera = Camera(services, [EyeDirectionObserver()])
    await camera.show(*images)
    found = [finding for finding in camera.said if isinstance(finding, EyeDirection)]
    for stream in camera.streams:
        await stream.aclose()
    assert len(found) == len(images)
    return found


def near() -> Image:
    """Her face, 140 px wide."""
    return on_wall(astronaut()[20:250, 100:330])


async def test_the_astronaut_looks_into_the_camera_at_any_size_and_mirrored(services: HostServices) -> None:
    middling = on_wall(astronaut()[0:320, 60:380])
    for found in await seen(services, near(), middling, near()[:, ::-1].copy(), middling[:, ::-1].copy()):
        assert found.eyes == "open"
        assert found.looks_yaw_degrees == pytest.approx(0, abs=8)
        assert found.looks_pitch_degrees == pytest.approx(0, abs=8)
        assert found.at_screen


async def test_eyes_that_were_painted_aside_are_told_on_the_right_side_and_mirrored(services: HostServices) -> None:
    """Irises of the photograph, moved: of a turn of 11 and 17 degrees about half to three quarters are told."""
    portrait = cv2.resize(astronaut()[20:230, 120:320], None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    landmarks = await marks(services, np.asarray(portrait, np.uint8))
    moves = [-3.0, -2.0, 0.0, 2.0, 3.0]
    painted = [with_irises_moved(np.asarray(portrait, np.uint8), landmarks, right_mm) for right_mm in moves]
    yaws = [found.yaw_degrees for found in await seen(services, *painted)]
    assert None not in yaws
    told = np.array(yaws, np.float64)
    assert (np.diff(told) > 0).all(), told
    turned = np.degrees(np.arcsin(np.array(moves) / 10.5))
    share = (told - told[2])[[0, 1, 3, 4]] / turned[[0, 1, 3, 4]]
    assert (share > 0.4).all() and (share < 1.2).all(), share
    mirrored = [found.yaw_degrees for found in await seen(services, *(image[:, ::-1].copy() for image in painted))]
    assert None not in mirrored
    assert -np.array(mirrored, np.float64) == pytest.approx(told, abs=8)
    assert (np.diff(np.array(mirrored, np.float64)) < 0).all(), mirrored


async def test_drawn_eyes_look_where_they_were_drawn(services: HostServices) -> None:
    left, ahead, right = [
        found.yaw_degrees
        for found in [await told(services, drawn_face(shift)) for shift in (-5.0, 0.0, 5.0)]
        if found is not None
    ]
    assert left is not None and ahead is not None and right is not None
    assert left < ahead - 5 < ahead + 5 < right


async def told(services: HostServices, picture: Image) -> EyeDirection | None:
    [found] = await seen(services, on_wall(picture))
    return found


async def test_closed_eyes_are_closed(services: HostServices) -> None:
    """Lids in the colour of the skin around them, painted over the eyes."""
    portrait = np.asarray(cv2.resize(astronaut()[20:230, 120:320], None, fx=3, fy=3), np.uint8)
    points = (await marks(services, portrait))[:, :2]
    closed = portrait.copy()
    for corner, other, below in ((33, 133, 145), (263, 362, 374)):
        middle = (points[corner] + points[other]) / 2
        skin = portrait[int(points[below][1]) + 22, int(points[below][0])]
        half = (int(np.linalg.norm(points[corner] - points[other]) * 0.62), 17)
        cv2.ellipse(closed, tuple(map(int, middle)), half, 0, 0, 360, skin.tolist(), -1, cv2.LINE_AA)
        cv2.ellipse(closed, tuple(map(int, middle)), (half[0], 12), 0, 10, 170, (60, 40, 35), 4, cv2.LINE_AA)
    [found] = await seen(services, cv2.GaussianBlur(closed, (0, 0), 1.5))
    assert (found.eyes, found.yaw_degrees, found.at_screen) == ("closed", None, False)


@pytest.mark.parametrize("how", ["strip", "skin", "glasses"])
async def test_hidden_eyes_have_no_direction(services: HostServices, how: Literal["strip", "skin", "glasses"]) -> None:
    """MediaPipe finds them all the same, and open."""
    portrait = np.asarray(cv2.resize(astronaut()[20:230, 120:320], None, fx=3, fy=3), np.uint8)
    hidden = with_eyes_hidden(portrait, await marks(services, portrait), how)
    for found in await seen(services, hidden, on_wall(hidden), hidden[:, ::-1].copy()):
        assert found.eyes in ("unseen", "closed")
        assert (found.yaw_degrees, found.looks_yaw_degrees) == (None, None)
        assert found.at_screen is not True


async def test_a_sharp_neighbour_is_not_told_as_the_blurred_face_before_them(services: HostServices) -> None:
    """The largest face is out of focus: MediaPipe finds the smaller one beside it, which lies inside the same cut-out."""
    face = astronaut()[50:190, 160:290]
    large = cv2.GaussianBlur(cv2.resize(face, None, fx=2.0, fy=2.0, interpolation=cv2.INTER_CUBIC), (0, 0), 5.0)
    wall = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
    wall[40 : 40 + large.shape[0], 150 : 150 + large.shape[1]] = large
    small = cv2.resize(face, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    beside = 150 + large.shape[1] - 25
    wall[90 : 90 + small.shape[0], beside : beside + small.shape[1]] = small
    camera = Camera(services, [EyeDirectionObserver()])
    await camera.show(wall, wall[:, ::-1].copy())
    for stream in camera.streams:
        await stream.aclose()
    assert camera.said == []


async def marks(services: HostServices, image: Image) -> NDArray[np.float64]:
    """Landmarks of a portrait, in its pixels."""
    answered = await services.engine.ask(ENTRY.name, Picture(image), Landmarks, room_id="room", deadline_ms=10_000)
    return np.array(answered.answer.points)
