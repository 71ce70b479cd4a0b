"""Whether eyes can be seen: faces that were made of numbers, with eyes painted into the picture, or not."""

import numpy as np
import pytest
from numpy.typing import NDArray

from media_processors.video.irises import visible
from models.questions import MESH_POINTS, Landmarks
from tests.unit.processors_watch.mesh import made_face, paint_eyes

SIDE = 320
Image = NDArray[np.uint8]


def picture(face: Landmarks, *, grey: int = 150, white: int = 230, iris: int = 40) -> Image:
    image = np.full((SIDE, SIDE, 3), grey, np.uint8)
    paint_eyes(image, face, white, iris)
    return image


@pytest.mark.parametrize("px_per_mm", [0.4, 1.0, 2.0])
@pytest.mark.parametrize("eyes", [(0, 0), (25, 0), (-25, 10)])
@pytest.mark.parametrize("head", [(0, 0, 0), (30, 0, 0), (0, 0, 90)])
def test_an_iris_in_the_white_is_seen(
    head: tuple[float, float, float], eyes: tuple[float, float], px_per_mm: float
) -> None:
    face = made_face(head=head, eyes=eyes, px_per_mm=px_per_mm)
    assert visible(picture(face), face)
    assert visible(picture(face, white=60, iris=15), face)


@pytest.mark.parametrize(("white", "iris"), [(150, 150), (20, 20), (0, 0), (40, 230), (1, 0)])
def test_without_a_dark_iris_in_the_white_nothing_is(white: int, iris: int) -> None:
    face = made_face()
    assert not visible(picture(face, white=white, iris=iris), face)


def test_both_eyes_have_to_be_seen() -> None:
    face = made_face()
    image = picture(face)
    image[:, 160:] = 150
    assert not visible(image, face)


@pytest.mark.parametrize("landmark", [33, 133, 468, 263, 362, 473])
def test_an_eye_that_is_partly_outside_the_picture_is_not_seen(landmark: int) -> None:
    face = made_face()
    x, y, _ = face.points[landmark]
    image = picture(face)
    assert visible(image, face)
    assert not visible(np.ascontiguousarray(image[:, : int(x)]), face)
    assert not visible(np.ascontiguousarray(image[: int(y)]), face)


def test_a_face_without_size_has_no_eyes_to_be_seen() -> None:
    assert not visible(np.zeros((8, 8, 3), np.uint8), Landmarks(((5.0, 5.0, 5.0),) * MESH_POINTS))
