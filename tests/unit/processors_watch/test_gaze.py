"""Eye direction by geometry: a face made of eyeballs that look where they are told, seen by a camera far away."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media_processors.video import gaze as geometry
from media_processors.video.gaze import Gaze, gaze
from models.questions import MESH_POINTS, Landmarks
from tests.unit.processors_watch.mesh import made_face, mirrored


def seen(landmarks: Landmarks) -> Gaze:
    found = gaze(landmarks)
    assert found is not None
    return found


@pytest.mark.parametrize("head", [(0, 0, 0), (25, 0, 0), (-25, 10, 0), (0, -20, 0), (10, 15, 20)])
@pytest.mark.parametrize("eyes", [(0, 0), (20, 0), (-20, 0), (0, 15), (0, -15), (25, -10)])
def test_eyes_look_where_they_were_turned(head: tuple[float, float, float], eyes: tuple[float, float]) -> None:
    found = seen(made_face(head=head, eyes=eyes))
    assert found.eyes is not None and found.looks is not None
    assert found.eyes == pytest.approx(eyes, abs=0.2)
    if not head[2]:
        assert found.head == pytest.approx(head[:2], abs=0.2)
    if head == (0, 0, 0):
        assert found.looks == pytest.approx(eyes, abs=0.2)


@pytest.mark.parametrize(("head", "eyes"), [((0, 0, 0), (15, 5)), ((20, 10, 0), (-15, 5))])
def test_a_mirrored_face_looks_to_the_other_side(head: tuple[float, float, float], eyes: tuple[float, float]) -> None:
    one, other = seen(made_face(head=head, eyes=eyes)), seen(mirrored(made_face(head=head, eyes=eyes)))
    assert one.eyes is not None and other.eyes is not None and one.looks is not None and other.looks is not None
    assert other.eyes == pytest.approx((-one.eyes.yaw, one.eyes.pitch), abs=0.1)
    assert other.looks == pytest.approx((-one.looks.yaw, one.looks.pitch), abs=0.1)
    assert other.at_screen == one.at_screen


def test_eyes_may_take_back_what_the_head_turned_away() -> None:
    assert seen(made_face()).at_screen
    assert seen(made_face(head=(30, 0, 0))).at_screen is False
    assert seen(made_face(head=(30, 0, 0), eyes=(-25, 0))).at_screen
    assert seen(made_face(eyes=(30, 0))).at_screen is False
    assert seen(made_face(eyes=(0, 20))).at_screen  # the screen is below its camera
    assert seen(made_face(eyes=(0, -20))).at_screen is False


def test_closed_eyes_have_no_direction_and_are_not_at_the_screen() -> None:
    found = seen(made_face(openness=0.1))
    assert (found.open, found.eyes, found.looks, found.at_screen) == (False, None, None, False)
    assert found.openness == pytest.approx(0.1, abs=0.01)


def test_of_a_head_that_is_turned_away_nothing_is_said_about_its_eyes() -> None:
    found = seen(made_face(head=(geometry.TURNED_DEGREES + 10, 0, 0)))
    assert (found.turned_away, found.eyes, found.at_screen) == (True, None, False)


def test_eyes_that_do_not_agree_were_not_seen() -> None:
    found = seen(made_face(eyes=(20, 0), left_eye=(-20, 0)))
    assert (found.open, found.eyes, found.looks, found.at_screen) == (True, None, None, None)


def test_an_iris_outside_of_its_eye_is_as_far_as_an_eye_can_turn() -> None:
    face = np.array(made_face().points)
    face[[468, 473], 0] += 200
    found = seen(Landmarks(tuple(map(tuple, face.tolist()))))
    assert found.eyes is not None
    assert 70 < found.eyes.yaw <= 91


def test_no_face_and_a_face_without_size_are_nothing() -> None:
    assert gaze(Landmarks(())) is None
    assert gaze(Landmarks(((5.0, 5.0, 5.0),) * MESH_POINTS)) is None


@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-3, 1.0, 1e4]))
def test_any_landmarks_give_numbers_or_nothing(seed: int, scale: float) -> None:
    points = np.random.default_rng(seed).uniform(-scale, scale, (MESH_POINTS, 3))
    found = gaze(Landmarks(tuple((float(x), float(y), float(z)) for x, y, z in points)))
    if found is not None and found.eyes is not None and found.looks is not None:
        assert np.isfinite([*found.eyes, *found.looks, found.openness]).all()
