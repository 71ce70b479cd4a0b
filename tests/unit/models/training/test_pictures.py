"""Pictures and videos become faces; VP8 changes them, the more the fewer bits it has."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from models.faces import FACE_PX
from models.questions import MAX_PIXELS, FaceBox, Faces, Picture, Sound
from models.training import pictures
from models.training.media import MediaError
from models.training.pictures import MOST_WINDOWS, SIZE_PX, FacesMedium
from tests.unit.models.training.kit import picture


def boxes(*widths: float) -> Faces:
    return Faces(tuple(FaceBox(40, 40, width, width, 0.9, ()) for width in widths))


def medium(*widths: float) -> FacesMedium:
    return FacesMedium(lambda picture: boxes(*widths))


def video(path: Path, seconds: float, rate: int = 10) -> Path:
    """Each frame has its own grey."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx", rate=rate)
        stream.width = stream.height = 320
        for number in range(round(seconds * rate)):
            frame = av.VideoFrame.from_ndarray(np.full((320, 320, 3), number * 2, np.uint8), format="rgb24")
            frame.time_base, frame.pts = Fraction(1, rate), number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_the_largest_face_is_cut_out_if_it_is_wide_enough(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    [face] = medium(100, 150).windows(path)
    assert isinstance(face, Picture)
    assert face.rgb.shape == (SIZE_PX, SIZE_PX, 3)
    assert medium(FACE_PX - 1).windows(path) == []
    assert medium().windows(path) == []


def test_a_large_picture_is_made_small_enough_to_be_asked_about(tmp_path: Path) -> None:
    [image] = pictures.read(picture(tmp_path / "a.png", 1_500))
    assert image.shape[0] * image.shape[1] <= MAX_PIXELS


def test_a_video_gives_two_pictures_a_second_and_not_too_many(tmp_path: Path) -> None:
    images = pictures.read(video(tmp_path / "a.webm", 2.5))
    assert [round(float(image.mean()) / 10) for image in images] == [0, 1, 2, 3, 4]
    assert len(pictures.read(video(tmp_path / "long.webm", 8, rate=4))) == MOST_WINDOWS


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    for name in ("a.png", "a.mp4"):
        (tmp_path / name).write_text("nothing to see")
        with pytest.raises(MediaError, match=name):
            medium(150).windows(tmp_path / name)


def test_vp8_leaves_a_face_in_its_place_the_worse_the_fewer_bits_it_has(tmp_path: Path) -> None:
    [face] = medium(200).windows(picture(tmp_path / "a.png"))
    assert isinstance(face, Picture)
    noisy = face.rgb.astype(int) + np.random.default_rng(2).integers(-30, 31, face.rgb.shape)
    image = np.clip(noisy, 0, 255).astype(np.uint8)
    errors = []
    for kbps in (100, 2_000):
        coded = FacesMedium(lambda picture: boxes()).coded(Picture(image), kbps)
        assert isinstance(coded, Picture)
        assert coded.rgb.shape == image.shape
        errors.append(float(np.abs(coded.rgb.astype(int) - image).mean()))
    assert errors[0] > errors[1] > 0
    moved = np.roll(image, 8, axis=1)
    coded = pictures.vp8(image, 2_000).astype(int)
    assert np.abs(coded - image).mean() < np.abs(coded - moved).mean()


def test_a_sound_cannot_be_seen() -> None:
    with pytest.raises(ValueError, match="seen"):
        medium().coded(Sound(np.zeros(4, np.int16)), 600)
