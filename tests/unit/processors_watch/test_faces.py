"""The parts of looking at faces that need no model: names, poses, cuts, widths, validity."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media_processors.video.looking import HEADROOM, wanted_width
from media_processors.video.pose import MEAN_FACE_MM, head_pose
from media_processors.video.tracker import FORGET_MS, MAX_FACES, FaceTracker
from media_processors.video.validity import refusal, sharpness
from models.faces import FACE_PX, cut_out
from models.questions import FaceBox

WIDTH, HEIGHT = 640, 360
FRONTAL = tuple((320.0 + x, 180.0 + y) for x, y, _ in MEAN_FACE_MM)


def box(x: float, y: float, size: float = 100, landmarks: tuple[tuple[float, float], ...] = FRONTAL) -> FaceBox:
    return FaceBox(x, y, size, size, 0.9, landmarks)


def seen_from(yaw_degrees: float, pitch_degrees: float, roll_degrees: float) -> tuple[tuple[float, float], ...]:
    """Where a camera sees the mean face, turned so, 700 mm away."""
    yaw, pitch, roll = np.radians([yaw_degrees, pitch_degrees, roll_degrees])
    about_y = np.array([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    about_z = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    points = MEAN_FACE_MM @ (about_z @ about_y @ about_x).T + [0, 0, 700]
    return tuple((WIDTH * x / z + WIDTH / 2, WIDTH * y / z + HEIGHT / 2) for x, y, z in points)


@pytest.mark.parametrize(
    "turned", [(0, 0, 0), (20, 0, 0), (-20, 0, 0), (0, 15, 0), (0, -15, 0), (0, 0, 12), (25, 10, -8)]
)
def test_a_pose_is_what_the_face_was_turned_by(turned: tuple[float, float, float]) -> None:
    pose = head_pose(box(0, 0, landmarks=seen_from(*turned)), WIDTH, HEIGHT)
    assert pose is not None
    assert pose.yaw == pytest.approx(turned[0], abs=3)
    assert abs(pose.pitch - turned[1]) < 4 or abs(pose.pitch + turned[1]) < 4
    assert (pose.pitch > 0) == (turned[1] > 0) or abs(turned[1]) < 5
    assert pose.roll == pytest.approx(turned[2], abs=4)
    assert pose.facing


def test_a_head_turned_away_is_not_facing() -> None:
    pose = head_pose(box(0, 0, landmarks=seen_from(50, 0, 0)), WIDTH, HEIGHT)
    assert pose is not None and not pose.facing
    assert refusal(box(0, 0, landmarks=seen_from(50, 0, 0)), noise(), WIDTH, HEIGHT) == "turned"


@given(st.lists(st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)), min_size=0, max_size=6))
def test_any_landmarks_give_a_pose_or_none(landmarks: list[tuple[float, float]]) -> None:
    pose = head_pose(box(0, 0, landmarks=tuple(landmarks)), WIDTH, HEIGHT)
    assert pose is None or all(np.isfinite(pose))


def test_faces_keep_their_names_as_they_move_and_cross_pictures() -> None:
    tracker = FaceTracker()
    first = [face.face_id for face in tracker.update((box(0, 0), box(300, 0)), WIDTH, HEIGHT, 0)]
    assert len(set(first)) == 2
    assert [face.face_id for face in tracker.update((box(320, 10), box(15, 5)), WIDTH, HEIGHT, 500)] == first[::-1]
    assert [face.face_id for face in tracker.update((box(330, 10),), WIDTH, HEIGHT, 1_000)] == first[1:]
    assert [face.face_id for face in tracker.update((box(20, 5), box(340, 0)), WIDTH, HEIGHT, 1_500)] == first


def test_a_face_keeps_its_name_when_the_layer_changes() -> None:
    tracker = FaceTracker()
    [before] = [face.face_id for face in tracker.update((box(100, 50),), WIDTH, HEIGHT, 0)]
    [after] = tracker.update((box(200, 100, 200),), 2 * WIDTH, 2 * HEIGHT, 500)
    assert after.face_id == before
    assert after.box.width == 200


def test_a_face_that_left_is_another_one_when_it_comes_back() -> None:
    tracker = FaceTracker()
    [before] = [face.face_id for face in tracker.update((box(0, 0),), WIDTH, HEIGHT, 0)]
    assert tracker.update((), WIDTH, HEIGHT, 500) == []
    [after] = [face.face_id for face in tracker.update((box(0, 0),), WIDTH, HEIGHT, FORGET_MS + 501)]
    assert after != before


@given(
    st.lists(
        st.lists(st.tuples(st.floats(-100, 700), st.floats(-100, 400), st.floats(0, 300)), max_size=15), max_size=8
    )
)
def test_names_are_unique_in_every_picture(pictures: list[list[tuple[float, float, float]]]) -> None:
    tracker = FaceTracker()
    for index, places in enumerate(pictures):
        faces = tracker.update(tuple(box(*place) for place in places), WIDTH, HEIGHT, index * 500)
        assert len(faces) == min(len(places), MAX_FACES)
        assert len({face.face_id for face in faces}) == len(faces)


def test_the_layer_is_the_one_in_which_the_largest_face_is_wide_enough() -> None:
    assert wanted_width((), 320) == 0
    assert wanted_width((box(0, 0, HEADROOM * FACE_PX),), 320) == 320
    assert wanted_width((box(0, 0, HEADROOM * FACE_PX / 2), box(0, 0, 20)), 320) == 640
    assert wanted_width((box(0, 0, 0.001),), 320) == 65_535


def test_a_cut_stays_in_the_picture() -> None:
    image = np.arange(WIDTH * HEIGHT * 3, dtype=np.uint8).reshape(HEIGHT, WIDTH, 3)
    assert cut_out(image, box(10, 20)).shape == (100, 100, 3)
    assert cut_out(image, FaceBox(10, 20, 80, 100, 1, ()), margin=0.5, square=True).shape[:2] == (145, 125)
    for x, y in ((900, 20), (-500, 20), (10, -500)):
        with pytest.raises(ValueError, match="outside"):
            cut_out(image, box(x, y))


def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (120, 120, 3)).astype(np.uint8)


def test_a_small_or_blurred_face_is_not_judged() -> None:
    assert refusal(box(0, 0, FACE_PX - 1), noise(), WIDTH, HEIGHT) == "small"
    assert refusal(box(0, 0), np.full((120, 120, 3), 90, np.uint8), WIDTH, HEIGHT) == "blurred"
    assert refusal(box(0, 0), noise(), WIDTH, HEIGHT) == ""
    assert sharpness(noise()) > sharpness(np.full((50, 50, 3), 7, np.uint8)) == 0
