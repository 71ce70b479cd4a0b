"""Encoder and watermark: what goes in can be seen in what comes out."""

import numpy as np
import pytest
from pydantic import ValidationError

from media_processors.base import Picture, VideoTransform
from media_processors.frames import TrackRef
from media_processors.settings import ProcessingSettings
from media_processors.video.decode import VideoDecoder, to_rgb
from media_processors.video.encode import Vp8Encoder, useful_bps
from media_processors.video.watermark import BAR_MIN_PX, BAR_SHARE, Watermark
from tests.unit.processors_video.pictures import painted

TRACK = TrackRef("room", "ada", "track", "video", "camera", 0)


def test_a_picture_survives_the_encoder_and_key_frames_come_when_they_are_wanted() -> None:
    encoder, decoder = Vp8Encoder(320, 180, 400_000), VideoDecoder("vp8")
    kept = b""
    for number in range(20):
        data = encoder.encode(painted(number), number * 3_000, keyframe=number == 10)
        assert (data[0] & 1 == 0) is (number in (0, 10))
        decoded = decoder.decode(data, number * 3_000)
        assert decoded is not None
        assert np.abs(to_rgb(decoded).astype(int) - painted(number)).mean() < 8
        kept = data
    assert len(kept) < 4_000


def test_time_never_stands_still_for_the_encoder() -> None:
    encoder = Vp8Encoder(320, 180, 400_000)
    assert all(encoder.encode(painted(number), 0, keyframe=False) for number in range(3))


def test_small_pictures_need_few_bits() -> None:
    assert useful_bps(320, 180, 1_500_000) == 259_200
    assert useful_bps(640, 360, 600_000) == 600_000
    assert useful_bps(16, 16, 600_000) == 50_000


def marked(width: int, height: int, settings: ProcessingSettings) -> tuple[Picture, Picture]:
    """(picture, with its label)."""
    transform = Watermark()
    assert isinstance(transform, VideoTransform)
    transform.configure(settings)
    picture = np.full((height, width, 3), 128, np.uint8)
    changed = transform.open(TRACK).process(picture, 0)
    assert changed is not None
    return picture, changed


@pytest.mark.parametrize(("width", "height"), [(160, 90), (320, 180), (640, 360), (360, 640)])
def test_the_bar_is_at_the_top_with_letters_on_it_and_nowhere_else(width: int, height: int) -> None:
    picture, changed = marked(width, height, ProcessingSettings())
    bar_px = max(BAR_MIN_PX, round(height * BAR_SHARE))
    assert (changed[bar_px:] == picture[bar_px:]).all()
    bar = changed[:bar_px]
    assert bar.max() > 150, "letters"
    assert np.median(bar) < 60, "on dark ground"
    columns = np.flatnonzero(bar.max(axis=(0, 2)) > 100)
    beside = (width - min(width, height)) // 2
    assert columns[0] >= beside, "a page that crops to a square shows all of it"
    assert columns[-1] < width - beside
    assert (picture == 128).all(), "the original is not ours to change"


def test_the_sentence_is_a_setting() -> None:
    _, usual = marked(320, 180, ProcessingSettings())
    _, other = marked(320, 180, ProcessingSettings(watermark_text="Who is this?"))
    assert not (usual == other).all()
    with pytest.raises(ValidationError):
        ProcessingSettings(watermark_text="¿Quién?")


@pytest.mark.parametrize("text", [" ", " A", ""])
def test_a_label_says_something(text: str) -> None:
    with pytest.raises(ValidationError):
        ProcessingSettings(watermark_text=text)
