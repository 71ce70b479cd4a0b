"""Recordings become windows of speech; Opus changes them, and leaves them where they were."""

from pathlib import Path

import numpy as np
import pytest

from models.questions import Picture, Sound
from models.trained import VOICE_WINDOW_SAMPLES
from models.training import voices
from models.training.media import MediaError
from models.training.voices import FRAME, MOST_WINDOWS, RATE_HZ, Voices
from tests.unit.models.training.kit import save, silence, speech


def level_db(pcm: np.ndarray) -> float:
    return 10 * float(np.log10(np.square(pcm.astype(float)).mean() + 1e-9))


def test_long_pauses_go_and_short_ones_stay() -> None:
    spoken = speech(2)
    with_pauses = np.concatenate([silence(3), spoken, silence(0.4), spoken, silence(5)])
    left = voices.speech(with_pauses)
    assert len(left) / RATE_HZ == pytest.approx(2 + 0.4 + 2 + 2 * 0.3, abs=0.15)
    assert len(voices.speech(silence(0.01))) == 0


def test_a_file_is_cut_into_whole_windows_of_speech(tmp_path: Path) -> None:
    path = save(tmp_path / "a.wav", np.concatenate([silence(2), speech(9.0)]))
    windows = Voices().windows(path)
    assert [len(one.pcm) for one in windows if isinstance(one, Sound)] == [VOICE_WINDOW_SAMPLES] * 2
    assert Voices().windows(save(tmp_path / "short.wav", speech(3))) == []
    long = Voices().windows(save(tmp_path / "long.wav", np.tile(speech(6), 12)))
    assert len(long) == MOST_WINDOWS


def test_other_rates_are_brought_to_16_khz(tmp_path: Path) -> None:
    sound = speech(6)
    read = voices.read(save(tmp_path / "a.wav", np.repeat(sound, 3), 48_000))
    assert len(read) == pytest.approx(len(sound), abs=64)
    middle = slice(FRAME, -FRAME)
    matched = np.corrcoef(read[: len(sound) - 100][middle], sound[: len(read[: len(sound) - 100])][middle])[0, 1]
    assert matched > 0.95


def test_what_is_no_recording_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"RIFF" + bytes(20))
    (tmp_path / "text.mp3").write_text("not a recording")
    for name in ("broken.wav", "text.mp3", "absent.wav"):
        with pytest.raises(MediaError, match=name):
            Voices().windows(tmp_path / name)


@pytest.mark.parametrize("kbps", Voices.rows_kbps)
def test_opus_leaves_a_sound_in_its_place(kbps: int) -> None:
    sound = speech(VOICE_WINDOW_SAMPLES / RATE_HZ)
    coded = Voices().coded(Sound(sound), kbps)
    assert isinstance(coded, Sound)
    assert coded.pcm.shape == sound.shape
    assert level_db(coded.pcm) == pytest.approx(level_db(sound), abs=1.5)
    envelope, heard = (np.abs(pcm.astype(float)).reshape(-1, 100).mean(axis=1) for pcm in (sound, coded.pcm))
    lags = [np.corrcoef(np.roll(heard, lag), envelope)[0, 1] for lag in range(-10, 11)]
    assert int(np.argmax(lags)) - 10 in (-1, 0, 1), "to within 6 ms"
    assert max(lags) > 0.95
    assert not np.array_equal(coded.pcm, sound)


def test_opus_says_the_same_each_time() -> None:
    sound = speech(1)
    assert np.array_equal(voices.opus(sound, 24), voices.opus(sound, 24))


def test_a_picture_cannot_be_heard() -> None:
    with pytest.raises(ValueError, match="heard"):
        Voices().coded(Picture(np.zeros((4, 4, 3), np.uint8)), 32)
