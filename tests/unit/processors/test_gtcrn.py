"""GTCRN, with its published weights: what it does to sound, and what is said when it is not here or not itself."""

import io
import json
from pathlib import Path

import numpy as np
import pytest

from media_processors.audio.denoise import Denoise
from media_processors.audio.gtcrn import DELAY_SAMPLES, FRAME_SAMPLES, Gtcrn
from media_processors.audio.resample import Downsampler, Upsampler
from media_processors.audio.vad import SileroVad
from media_processors.codec import OpusDecoder
from media_processors.errors import UnavailableError
from media_processors.frames import TrackRef
from media_processors.settings import ProcessingSettings
from media_processors.streams import PathCounters, PathStream
from models import catalog
from models.origins import Mirror
from models.progress import Progress
from models.pull import pull
from models.store import LOCK_NAME, Store, sha256_of
from tests.unit.processors.sounds import level_db, noise, opened, packet, publish, speech

MIRROR = Path(__file__).resolve().parents[4] / "shared" / "mirror"
needs_mirror = pytest.mark.skipif(not MIRROR.is_dir(), reason="needs the mirror of weights beside the repository")
GTCRN = ProcessingSettings(denoise_model="gtcrn")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return pulled(tmp_path_factory.mktemp("models"))


def pulled(folder: Path) -> Store:
    """A store with GTCRN in it."""
    store = Store(folder)
    locked = pull(catalog.load().get("gtcrn"), store, Mirror(MIRROR), Progress(io.StringIO()), 10_000_000)
    assert locked.files
    return store


def lag(sound: np.ndarray, heard: np.ndarray) -> int:
    size = 2 * len(sound)
    correlation = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(sound, size)))
    return int(np.argmax(correlation))


def test_down_and_up_again_only_lags() -> None:
    sound = np.convolve(noise(48_000, rms=0.1), np.hanning(20) / 10, "same").astype(np.float32)  # little above 6 kHz
    down, up = Downsampler(48_000, 16_000), Upsampler(3)
    heard = np.concatenate([up.push(down.push(piece)) for piece in np.split(sound, 100)])
    assert lag(sound, heard) == 95
    assert level_db(heard[95:] - sound[:-95]) < level_db(sound) - 35


@needs_mirror
def test_it_lags_by_the_delay_that_it_states(store: Store, track: TrackRef) -> None:
    sound = speech()[: 200 * FRAME_SAMPLES]
    assert lag(sound, Gtcrn(store).open(track).process(sound)) == pytest.approx(DELAY_SAMPLES, abs=1)


@needs_mirror
def test_it_removes_noise_and_keeps_speech(store: Store, track: TrackRef) -> None:
    gtcrn = Gtcrn(store)
    hiss = noise(100 * FRAME_SAMPLES, rms=0.02)
    assert level_db(gtcrn.open(track).process(hiss)[40_000:]) < level_db(hiss) - 15
    sound = speech()[: 250 * FRAME_SAMPLES]
    assert level_db(gtcrn.open(track).process(sound)) == pytest.approx(level_db(sound), abs=3)


@needs_mirror
def test_reset_forgets_and_pieces_do_not_matter(store: Store, track: TrackRef) -> None:
    gtcrn = Gtcrn(store)
    used, fresh = gtcrn.open(track), gtcrn.open(track)
    used.process(speech()[: 50 * FRAME_SAMPLES])
    used.reset()
    sound = speech()[48_000 : 48_000 + 20 * FRAME_SAMPLES]
    whole = fresh.process(sound)
    assert np.array_equal(np.concatenate([used.process(piece) for piece in np.split(sound, 10)]), whole)
    with pytest.raises(ValueError, match="multiple of 768"):
        fresh.process(sound[:480])


@needs_mirror
def test_the_path_takes_packets_of_20_ms_to_it(store: Store, vad: SileroVad) -> None:
    denoise = Denoise()
    denoise.choose_model(GTCRN, store)
    assert denoise.info().model.startswith("gtcrn@")
    clean = speech()[: 48_000 * 6]
    noisy = clean + noise(len(clean), rms=0.02)
    stream = PathStream(opened(processors={"denoise": True}), {"denoise": denoise}, vad.open(), PathCounters())
    decoder = OpusDecoder()
    results = [stream.push(packet(index, payload), late=False) for index, payload in enumerate(publish(noisy))]
    heard = np.concatenate([decoder.decode(result.payload) for result in results])
    assert stream.chain.stages[0].broken == ""
    quietest = min(level_db(piece) for piece in np.split(heard[48_000 : 48_000 * 6], 50))
    assert quietest < level_db(noise(4_800, rms=0.02)) - 12


def test_without_its_file_it_is_unavailable_and_rnnoise_does_not_stand_in(tmp_path: Path, track: TrackRef) -> None:
    denoise = Denoise()
    denoise.choose_model(GTCRN, Store(tmp_path))
    info = denoise.info()
    assert not info.available
    assert "candor models pull gtcrn" in info.command
    assert info.reason.endswith("(it is looked for when Candor starts)"), "the command alone would change nothing"
    with pytest.raises(UnavailableError):
        denoise.open(track)


@needs_mirror
def test_another_file_is_refused_with_both_hashes(tmp_path: Path) -> None:
    store = pulled(tmp_path)
    [file] = tmp_path.rglob("gtcrn_simple.onnx")
    file.chmod(0o600)
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    reason = Gtcrn(store).info().reason
    [expected] = json.loads((tmp_path / LOCK_NAME).read_text())["models"]["gtcrn"]["files"].values()
    assert expected in reason
    assert sha256_of(file) in reason
