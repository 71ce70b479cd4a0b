"""Looking at faces with the published weights: pictures of a camera in, findings out, through the real engine and its socket."""

from collections.abc import AsyncIterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from media_processors.base import HostServices
from media_processors.findings import Expression, Faces
from media_processors.settings import ProcessingSettings
from media_processors.video.authenticity import ENOUGH_MS, FaceAuthenticityObserver
from media_processors.video.expression import ExpressionObserver
from media_processors.video.faces import FacesObserver
from media_processors.video.looking import HEADROOM
from models.client import InferenceClient
from models.engine import SOCKET_NAME, Engine
from models.faces import FACE_PX
from models.settings import ModelSettings
from models.store import Store
from tests.integration.caption_rig import SHARED_MEDIA
from tests.integration.watched_faces import HEIGHT, WIDTH, Camera, Image, on_wall
from tests.unit.models.faces import ASTRONAUT_BOX, astronaut, overlap, turned
from tests.unit.models.test_models_cli import MIRROR, models, needs_mirror
from tests.until import until

pytest.importorskip("torch", reason="the extra `vision` is not installed (make models)")
pytestmark = [pytest.mark.weights, needs_mirror]


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[HostServices]:
    root = tmp_path / "models"
    assert models(root, "pull", "--mirror", str(MIRROR)) == 0
    engine = Engine(tmp_path / SOCKET_NAME, ModelSettings(models_dir=root))
    await engine.start()
    client = InferenceClient(tmp_path / SOCKET_NAME)
    client.start()
    await until(lambda: "" if client.connected else "the engine")
    for name in ("yunet", "mini-xception", "meso-inception-4"):
        await client.load(name)
    yield HostServices(client, Store(root), ProcessingSettings())
    await client.close()
    await engine.close()


def portrait() -> Image:
    """The astronaut from nearer."""
    return astronaut()[20:340, 70:390]


def shared(name: str) -> Image:
    return np.asarray(cv2.cvtColor(cv2.imread(str(SHARED_MEDIA / name)), cv2.COLOR_BGR2RGB), np.uint8)


async def test_a_moving_face_keeps_its_name_and_is_where_it_is(services: HostServices) -> None:
    camera = Camera(services, [FacesObserver()])
    for shift in range(0, 140, 20):
        await camera.show(on_wall(astronaut(), x=shift))
    assert len(camera.faces()) == 7
    assert {face.face_id for found in camera.faces() for face in found.faces} == {"face-1"}
    [face] = camera.faces()[-1].faces
    share = HEIGHT / 512
    x, y, width, height = (side * share for side in ASTRONAUT_BOX)
    seen = (face.x * WIDTH, face.y * HEIGHT, face.width * WIDTH, face.height * HEIGHT)
    assert overlap(seen, (x + 120, y, width, height)) > 0.5
    assert camera.faces()[-1].facing_share == 1.0
    assert camera.streams[0].wanted_width_px == pytest.approx(HEADROOM * FACE_PX / face.width, abs=2)


async def test_a_head_that_is_turned_is_turned_to_the_other_side_in_the_mirror(services: HostServices) -> None:
    camera = Camera(services, [FacesObserver()])
    await camera.show(on_wall(shared("face_real.jpg")), on_wall(shared("face_real.jpg")[:, ::-1]))
    straight, mirrored = (found.faces[0] for found in camera.faces())
    assert straight.yaw_degrees < -10
    assert mirrored.yaw_degrees == pytest.approx(-straight.yaw_degrees, abs=8)
    assert mirrored.pitch_degrees == pytest.approx(straight.pitch_degrees, abs=8)


async def test_a_head_tilts_with_the_picture(services: HostServices) -> None:
    # The detector's landmarks follow a tilt only in part: see what the catalog says of yunet-pose.
    camera = Camera(services, [FacesObserver()])
    for degrees in (15, 0, -15):
        picture, _ = turned(astronaut(), degrees, ASTRONAUT_BOX)
        await camera.show(on_wall(np.ascontiguousarray(picture[20:340, 70:390])))
    left, straight, right = (found.faces[0].roll_degrees for found in camera.faces())
    assert left < straight < right
    assert right - left > 8


async def test_nobody_ten_people_and_somebody_who_leaves(services: HostServices) -> None:
    camera = Camera(services, [FacesObserver(), ExpressionObserver(), FaceAuthenticityObserver()])
    black = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    await camera.show(black, black, black)
    [empty] = camera.said  # said once, not with every picture
    assert isinstance(empty, Faces) and (empty.faces, empty.facing_share) == ([], None)
    head = astronaut()[20:220, 120:320]
    await camera.show(np.asarray(cv2.resize(np.tile(head, (2, 5, 1)), (1280, 512)), np.uint8))
    assert len(camera.faces()[-1].faces) >= 8
    await camera.show(on_wall(astronaut()), black, black)
    assert camera.faces()[-1].faces == []
    assert all(found.verdict == "insufficient_evidence" for found in camera.authenticity())


async def test_a_smile_is_called_happy(services: HostServices) -> None:
    camera = Camera(services, [ExpressionObserver()])
    await camera.show(*[on_wall(portrait())] * 6)
    told = [finding for finding in camera.said if isinstance(finding, Expression)]
    assert len(told) == 3  # once a second
    assert {finding.label for finding in told} == {"happy"}
    assert told[-1].probability > 0.9
    assert sum(told[-1].probabilities.values()) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("name", "verdict"),
    [("face_deepfake.jpg", "likely_synthetic"), ("face_real.jpg", "likely_genuine"), ("", "likely_genuine")],
)
async def test_a_swapped_face_and_two_real_ones(services: HostServices, name: str, verdict: str) -> None:
    camera = Camera(services, [FaceAuthenticityObserver()])
    await camera.show(*[on_wall(shared(name) if name else portrait())] * 20)
    first, last = camera.authenticity()[0], camera.authenticity()[-1]
    assert (first.verdict, first.reason) == ("insufficient_evidence", "duration")
    assert (last.verdict, last.reason) == (verdict, "")
    assert last.evidence_ms >= ENOUGH_MS
    assert last.likelihood is not None
    assert (last.likelihood > 0.9) == (verdict == "likely_synthetic")


async def test_a_picture_on_the_wall_and_a_missed_picture_do_not_hide_what_was_found(services: HostServices) -> None:
    camera = Camera(services, [FaceAuthenticityObserver()])
    scene = on_wall(shared("face_deepfake.jpg"), x=0)
    scene[:120, 460:580] = cv2.resize(astronaut()[20:220, 120:320], (120, 120), interpolation=cv2.INTER_AREA)
    black = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for _ in range(3):
        await camera.show(*[scene] * 5, black)
    newest = {found.face_id: found for found in camera.authenticity()}
    assert (newest["face-1"].verdict, newest["face-2"].reason) == ("likely_synthetic", "small")
    await camera.show(*[black] * 6)
    gone = camera.authenticity()[-2:]
    assert [(found.face_id, found.reason, found.score) for found in gone] == [
        ("face-1", "gone", None),
        ("face-2", "gone", None),
    ]


@pytest.mark.parametrize("reason", ["small", "blurred"])
async def test_a_face_that_may_not_be_judged_is_not(services: HostServices, reason: str) -> None:
    camera = Camera(services, [FaceAuthenticityObserver()])
    small = on_wall(shared("face_deepfake.jpg"), size=140)
    blurred = cv2.GaussianBlur(on_wall(shared("face_deepfake.jpg")), (0, 0), 8)
    await camera.show(*[small if reason == "small" else np.asarray(blurred, np.uint8)] * 14)
    last = camera.authenticity()[-1]
    assert (last.verdict, last.reason, last.score, last.likelihood) == ("insufficient_evidence", reason, None, None)


async def test_one_question_finds_the_faces_for_all_observers(services: HostServices) -> None:
    camera = Camera(services, [FacesObserver(), ExpressionObserver(), FaceAuthenticityObserver()])
    await camera.show(*[on_wall(portrait())] * 5)
    assert (await services.engine.stats())["yunet"]["answered"] == 5


async def test_without_its_weights_an_observer_says_which_command_helps(tmp_path: Path) -> None:
    client = InferenceClient(tmp_path / SOCKET_NAME)
    assert models(tmp_path / "models", "pull", "--mirror", str(MIRROR), "mini-xception") == 0
    services = HostServices(client, Store(tmp_path / "models"), ProcessingSettings())
    observer = ExpressionObserver()
    assert not observer.info().available
    observer.attach(services)
    info = observer.info()
    assert (info.available, info.command, info.default_on) == (False, "candor models pull yunet", False)
