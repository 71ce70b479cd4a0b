"""YuNet with its published weights, on a real face."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from models.errors import UnavailableError
from models.questions import FaceBox, Picture
from models.runners.yunet import MAX_FACES, YunetRunner
from tests.unit.models.faces import ASTRONAUT_BOX, Box, astronaut, overlap, turned
from tests.unit.models.test_models_cli import MIRROR, needs_mirror

pytestmark = needs_mirror


async def found(picture: np.ndarray, name: str = "yunet_n_320_320.onnx", pixels: int = 320) -> tuple[FaceBox, ...]:
    runner = YunetRunner(next(MIRROR.rglob(name)), pixels)
    await runner.start()
    [faces] = await runner.run([Picture(picture)])
    await runner.close()
    return faces.boxes


def box_of(face: FaceBox) -> Box:
    return face.x, face.y, face.width, face.height


@pytest.mark.parametrize(("name", "pixels"), [("yunet_n_320_320.onnx", 320), ("yunet_n_640_640.onnx", 640)])
@pytest.mark.parametrize("degrees", [0, 15, -15])
async def test_the_astronauts_face_is_found_upright_and_turned(name: str, pixels: int, degrees: float) -> None:
    picture, box = turned(astronaut(), degrees, ASTRONAUT_BOX)
    [face] = await found(picture, name, pixels)
    assert overlap(box_of(face), box) > 0.5
    assert face.score > 0.8


async def test_landmarks_lie_where_eyes_nose_and_mouth_are() -> None:
    [face] = await found(astronaut())
    right_eye, left_eye, nose, right_mouth, left_mouth = face.landmarks
    assert right_eye[0] < nose[0] < left_eye[0]
    assert max(right_eye[1], left_eye[1]) < nose[1] < min(right_mouth[1], left_mouth[1])
    [mirrored] = await found(astronaut()[:, ::-1])
    assert mirrored.landmarks[2][0] == pytest.approx(512 - nose[0], abs=8)


async def test_boxes_are_in_the_pictures_own_pixels() -> None:
    wide = np.zeros((360, 640, 3), np.uint8)
    wide[52:308, 320:576] = cv2.resize(astronaut(), (256, 256))
    [face] = await found(wide)
    x, y, width, height = ASTRONAUT_BOX
    assert overlap(box_of(face), (320 + x / 2, 52 + y / 2, width / 2, height / 2)) > 0.5


async def test_ten_faces_and_no_face() -> None:
    head = astronaut()[20:220, 120:320]
    crowd = np.tile(head, (2, 5, 1))
    assert len(await found(cv2.resize(crowd, (640, 256)), "yunet_n_640_640.onnx", 640)) == 10
    assert await found(np.zeros((360, 640, 3), np.uint8)) == ()
    noise = np.random.default_rng(0).integers(0, 256, (360, 640, 3), np.uint8)
    assert len(await found(noise)) <= MAX_FACES


@pytest.mark.parametrize("content", [b"", b"not a network", None])
async def test_a_file_that_is_no_yunet_is_unavailable(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "weights.onnx"
    path.write_bytes(next(MIRROR.rglob("gtcrn_simple.onnx")).read_bytes() if content is None else content)
    with pytest.raises(UnavailableError, match="not a YuNet"):
        await YunetRunner(path, 320).start()
