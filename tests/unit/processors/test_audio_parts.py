"""Denoiser, voice activity, resampler: what is measured of each, and what happens without its file."""

import ctypes
import gc
from pathlib import Path

import numpy as np
import pytest

from media_processors.audio import vad
from media_processors.audio.resample import Downsampler
from media_processors.audio.rnnoise import DELAY_SAMPLES, Rnnoise, RnnoiseModel, RnnoiseStream, int8_model, load_library
from media_processors.audio.vad import SileroVad, SpeechGate
from media_processors.errors import UnavailableError
from media_processors.frames import TrackRef
from tests.unit.processors.sounds import PACKET, level_db, noise, pieces, speech, voice


def test_rnnoise_lags_by_the_delay_that_it_states(rnnoise: Rnnoise, track: TrackRef) -> None:
    sound = speech()[: 4 * 48_000]
    heard = rnnoise.open(track).process(sound)
    size = 2 * len(sound)
    correlation = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(sound, size)))
    assert int(np.argmax(correlation)) == pytest.approx(DELAY_SAMPLES, abs=1)


def test_rnnoise_removes_noise_and_keeps_speech(rnnoise: Rnnoise, track: TrackRef) -> None:
    hiss = noise(2 * 48_000, rms=0.02)
    stream = rnnoise.open(track)
    assert level_db(stream.process(hiss)[48_000:]) < level_db(hiss) - 20
    sound = speech()[: 4 * 48_000]
    assert level_db(rnnoise.open(track).process(sound)) == pytest.approx(level_db(sound), abs=2)


def test_rnnoise_clips_where_int16_would_wrap(rnnoise: Rnnoise, track: TrackRef) -> None:
    stream = rnnoise.open(track)
    loud = np.concatenate([stream.process(piece) for piece in pieces(4 * voice(140, 0.5))])
    assert np.abs(loud).max() <= 1.0
    assert np.abs(np.diff(loud)).max() < 1.5  # a wrap is a step of 2


def test_rnnoise_reset_forgets(rnnoise: Rnnoise, track: TrackRef) -> None:
    used, fresh = rnnoise.open(track), rnnoise.open(track)
    used.process(speech()[:48_000])
    used.reset()
    sound = speech()[48_000:96_000]
    assert np.array_equal(used.process(sound), fresh.process(sound))


def test_rnnoise_takes_whole_frames(rnnoise: Rnnoise, track: TrackRef) -> None:
    with pytest.raises(ValueError, match="multiple of 480"):
        rnnoise.open(track).process(np.zeros(481, np.float32))


def test_the_int8_weights_answer_as_the_float_weights_do(rnnoise: Rnnoise, track: TrackRef) -> None:
    """Contract with the pinned wheel: it exports its weights, and both sets mean the same network."""
    lib = load_library()
    assert 3_000_000 < len(int8_model(lib)) < 4_000_000
    sound = speech()[: 3 * 48_000] + noise(3 * 48_000, rms=0.01)
    int8 = rnnoise.open(track).process(sound)
    floats = RnnoiseStream(RnnoiseModel(lib)).process(sound)
    assert not np.array_equal(int8, floats)
    assert level_db(int8 - floats) < level_db(floats) - 30


@pytest.mark.parametrize("what", ["missing", "unreadable", "strange"])
def test_without_librnnoise_denoise_is_unavailable_and_says_why(
    what: str, tmp_path: Path, track: TrackRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    if what == "missing":
        monkeypatch.setattr("media_processors.audio.rnnoise._PACKAGE", "no_such_package_here")
    else:
        path = tmp_path / "librnnoise.so"
        path.write_bytes(b"not a library" if what == "unreadable" else _library_without_rnnoise())
        monkeypatch.setattr("media_processors.audio.rnnoise.find_library", lambda: path)
    transform = Rnnoise()
    info = transform.info()
    assert (info.name, info.available, info.model) == ("denoise", False, "")
    assert "librnnoise" in info.reason
    assert "pyrnnoise==0.4.5" in info.command
    with pytest.raises(UnavailableError):
        transform.open(track)


def _library_without_rnnoise() -> bytes:
    """A library that loads, but is another one: libopus."""
    from media_processors.codec import load_library

    return Path(load_library()._name).read_bytes()


def test_vad_hears_speech_and_not_noise(vad: SileroVad) -> None:
    down = Downsampler()
    stream = vad.open()
    spoken = [stream.push(down.push(piece)) for piece in pieces(speech())]
    assert np.mean(np.array(spoken) > 0.5) > 0.4
    stream.reset()
    noises = [stream.push(down.push(piece)) for piece in pieces(noise(96_000, rms=0.05))]
    assert max(noises[10:]) < 0.5


def test_vad_does_not_care_how_sound_is_cut(vad: SileroVad) -> None:
    sound = Downsampler().push(speech()[: 3 * 48_000])
    one, many = vad.open(), vad.open()
    at_once = one.push(sound)
    for piece in pieces(sound[: len(sound) // 160 * 160], 160):
        last = many.push(piece)
    assert last == pytest.approx(at_once, abs=1e-5)


def test_without_its_file_the_vad_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vad, "_MODULE", "no_such_package_here")
    with pytest.raises(UnavailableError) as caught:
        SileroVad()
    assert "silero-vad==6.2.3" in caught.value.command


def test_a_file_that_is_no_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\0" * 100)
    monkeypatch.setattr(vad, "find_model", lambda: tmp_path / "model.onnx")
    with pytest.raises(UnavailableError, match="cannot be loaded"):
        SileroVad()


def test_a_speech_gate_ignores_blips_and_bridges_gaps() -> None:
    gate = SpeechGate(min_speech_ms=64, min_silence_ms=160)
    assert not any(gate.update(0.9, 20) for _ in range(3))
    assert gate.update(0.9, 20)  # 80 ms
    assert all(gate.update(0.4, 20) for _ in range(50))  # between offset and onset: as before
    assert all(gate.update(0.1, 20) for _ in range(7))
    assert gate.update(0.6, 20)
    assert [gate.update(0.1, 20) for _ in range(8)][-1] is False
    gate.update(0.9, 20)
    gate.reset()
    assert not gate.speaking


@pytest.mark.parametrize("to_hz", [8_000, 16_000, 24_000])
def test_the_downsampler_keeps_what_fits_and_removes_what_would_alias(to_hz: int) -> None:
    at = np.arange(48_000) / 48_000

    def through(hz: float) -> float:
        return level_db(Downsampler(48_000, to_hz).push(np.sin(2 * np.pi * hz * at).astype(np.float32))[200:])

    assert through(0.3 * to_hz) == pytest.approx(-3.0, abs=0.1)
    assert through(0.6 * to_hz) < -55


@pytest.mark.parametrize("size", [120, 480, 960, 1_000])
def test_the_downsampler_does_not_care_how_sound_is_cut(size: int) -> None:
    sound = noise(48_000, rms=0.1)
    down = Downsampler()
    cut = np.concatenate([down.push(piece) for piece in pieces(sound, size)])
    whole = Downsampler().push(sound)
    assert len(cut) >= len(whole) - size // 3 - 1
    assert np.allclose(cut, whole[: len(cut)], atol=1e-6)


def test_the_downsampler_at_its_own_rate_and_at_strange_rates() -> None:
    sound = noise(PACKET, rms=0.1)
    assert Downsampler(48_000, 48_000).push(sound) is sound
    for rate_hz in (44_100, 0, 96_000):
        with pytest.raises(ValueError, match="does not divide"):
            Downsampler(48_000, rate_hz)


def test_freed_streams_are_freed(rnnoise: Rnnoise, track: TrackRef) -> None:
    """The finalizer runs with the stream, once, also after resets."""
    destroyed: list[int] = []

    class Counting:
        def __init__(self, lib: ctypes.CDLL) -> None:
            self.rnnoise_create = lib.rnnoise_create
            self.rnnoise_process_frame = lib.rnnoise_process_frame
            self._destroy = lib.rnnoise_destroy

        def rnnoise_destroy(self, state: int) -> None:
            destroyed.append(state)
            self._destroy(state)

    counting = Counting(load_library())
    stream = RnnoiseStream(RnnoiseModel(counting))  # type: ignore[arg-type]  # counts calls
    stream.reset()
    del stream
    assert len(destroyed) == 2


def test_a_stream_keeps_its_weights_when_nobody_else_does(track: TrackRef) -> None:
    alone = Rnnoise().open(track)
    gc.collect()
    sound = noise(48_000, rms=0.05)
    assert np.array_equal(alone.process(sound), Rnnoise().open(track).process(sound))
