"""Training for real: media in folders, the published weights or a tiny random base, a head in the store that its runner loads."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from media_processors.audio.authenticity import VoiceAuthenticityObserver
from media_processors.base import HostServices
from media_processors.settings import ProcessingSettings
from models import catalog
from models.client import InferenceClient
from models.errors import UnavailableError
from models.journal import Journal
from models.questions import Scores, Sound
from models.settings import ModelSettings
from models.shelf import Shelf
from models.store import Located, LockedModel, Missing, Store, sha256_of
from models.trained import VOICE_WINDOW_SAMPLES
from models.training import train as module
from models.training.evaluate import evaluate
from models.training.judge import Judge
from models.training.media import MediaError
from models.training.train import Order, TrainingError, train
from models.training.voices import RATE_HZ, Voices, read
from tests.integration.caption_rig import SHARED_MEDIA
from tests.unit.models.faces import astronaut
from tests.unit.models.test_choosing import trained_model, with_both
from tests.unit.models.test_models_cli import MIRROR, models, needs_mirror
from tests.unit.models.training.kit import save, speech

torch = pytest.importorskip("torch", reason="the extras speech and vision are not installed (make models)")
pytest.importorskip("transformers", reason="the extras speech and vision are not installed (make models)")
from models.runners.networks import aasist  # noqa: E402  # only with torch
from tests import tiny_models  # noqa: E402  # only with torch

pytestmark = pytest.mark.weights
needs_media = pytest.mark.skipif(
    not SHARED_MEDIA.is_dir(), reason="needs recordings beside the repository (../shared/media)"
)
TEXT = "The committee will meet again on Thursday afternoon to talk about the new building."


def quiet(line: str) -> None:
    """Tell nobody."""


def order(base: str, genuine: Path, synthetic: Path, **changes: Any) -> Order:
    fields: dict[str, Any] = {"name": "mine", "epochs": 2, "minutes": 5.0, "seed": 1}
    return Order(base=base, genuine=genuine, synthetic=synthetic, **(fields | changes))


@pytest.fixture
def voices(tmp_path: Path) -> tuple[Path, Path]:
    """Two people and two generators that are told apart by their pitch, 5 s of each."""
    for name, hz in (("ann", 200), ("ben", 220)):
        save(tmp_path / "g" / name / "a.wav", speech(5, hz))
    for name, hz in (("u", 500), ("v", 520)):
        save(tmp_path / "s" / name / "a.wav", speech(5, hz))
    return tmp_path / "g", tmp_path / "s"


@pytest.fixture
def faces(tmp_path: Path) -> tuple[Path, Path]:
    """Two real faces, a swapped one and a blurred one."""
    real, swapped = (
        np.asarray(cv2.imread(str(SHARED_MEDIA / name))) for name in ("face_real.jpg", "face_deepfake.jpg")
    )
    eileen = cv2.resize(cv2.cvtColor(astronaut()[:300, 80:380], cv2.COLOR_RGB2BGR), (640, 640))
    pictures = {
        "g/ann": with_margin(real),
        "g/eileen": eileen,
        "s/swap": with_margin(swapped),
        "s/blur": cv2.GaussianBlur(eileen, (9, 9), 0),
    }
    for folder, image in pictures.items():
        (tmp_path / folder).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / folder / "a.png"), image)
    return tmp_path / "g", tmp_path / "s"


def with_margin(face: Any) -> Any:
    """A face fills the shared pictures; one before a camera does not."""
    return cv2.copyMakeBorder(cv2.resize(face, (400, 400)), 120, 120, 120, 120, cv2.BORDER_REPLICATE)


def with_base(root: Path, name: str) -> Store:
    """A store with a tiny base whose weights are random."""
    entry = catalog.load().get(name)
    folder = root / "hf" / entry.source.repository / tiny_models.COMMIT  # type: ignore[union-attr]  # both are on the hub
    folder.mkdir(parents=True)
    torch.manual_seed(1)
    if name == "wavlm-base-plus":
        tiny_models.bare_wavlm(folder, [], tiny_models.TINY["wavlm"])
    else:
        tiny_models.vit(folder, ["cat", "dog"], tiny_models.TINY["vit"])
    tiny_models.lock(root, entry, folder)
    return Store(root, allow_random=True)


def pulled(root: Path, *names: str) -> Store:
    assert models(root, "pull", "--mirror", str(MIRROR), *names) == 0
    return Store(root)


def scores(store: Store, name: str, question: Any) -> Scores:
    entry = store.find(name)
    assert entry is not None
    with Judge(entry, store, ModelSettings()) as judge:
        [answer] = judge.ask([question])
    assert isinstance(answer, Scores)
    return answer


def test_a_head_on_wavlm(voices: tuple[Path, Path], tmp_path: Path) -> None:
    store = with_base(tmp_path / "store", "wavlm-base-plus")
    trained = train(order("wavlm-base-plus", *voices, epochs=20), store, ModelSettings(), quiet)
    assert (trained.trained.speakers, trained.trained.generators) == (1, 1)
    assert (trained.held_out.speakers, trained.held_out.generators) == (1, 1)
    assert set(trained.base_files) == {"config.json", "preprocessor_config.json", "model.safetensors"}
    report = evaluate("mine", *voices, store, ModelSettings(), quiet)
    assert report.rows[0].auc == 1, "two pitches are easily told apart"
    assert report.fixture
    entry = store.find("mine")
    assert entry is not None
    assert isinstance(Store(store.root).locate(entry), Missing), "nobody but a test opens a base that is random"


def test_the_same_seed_gives_the_same_head_and_another_one_another(voices: tuple[Path, Path], tmp_path: Path) -> None:
    store = with_base(tmp_path / "store", "wavlm-base-plus")
    hashes = []
    for seed in (1, 1, 2):
        train(order("wavlm-base-plus", *voices, seed=seed), store, ModelSettings(), quiet)
        hashes.append(store.lock().models["mine"].commit)
    assert hashes[0] == hashes[1] != hashes[2]
    assert len(list(store.root.rglob("weights.pth"))) == 1, "an earlier head of the name is gone"


@needs_mirror
@needs_media
def test_a_head_on_vit(faces: tuple[Path, Path], tmp_path: Path) -> None:
    pulled(tmp_path / "store", "yunet")
    store = with_base(tmp_path / "store", "vit-base-patch16-224")
    train(order("vit-base-patch16-224", *faces), store, ModelSettings(), quiet)
    report = evaluate("mine", *faces, store, ModelSettings(), quiet)
    assert report.fixture
    assert report.used.genuine_windows == 2
    assert [row.condition for row in report.rows] == ["as it is", *(f"VP8 {kbps} kb/s" for kbps in (200, 600, 1200))]


@needs_mirror
@needs_media
def test_meso_inception_is_trained_on(faces: tuple[Path, Path], tmp_path: Path) -> None:
    store = pulled(tmp_path / "store", "yunet", "meso-inception-4")
    told: list[str] = []
    train(order("meso-inception-4", *faces, epochs=3), store, ModelSettings(), told.append)
    assert any(line.startswith("held out: 1 genuine windows") for line in told)
    assert evaluate("mine", *faces, store, ModelSettings(), quiet).fixture


@needs_mirror
@needs_media
def test_aasist_is_trained_on_and_real_voices_are_too_few(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    genuine, synthetic = real_voices(tmp_path)
    store = pulled(tmp_path / "store", "aasist-l")
    words = (
        "--base",
        "aasist-l",
        "--name",
        "mine",
        "--epochs",
        "2",
        "--genuine",
        str(genuine),
        "--synthetic",
        str(synthetic),
    )
    assert models(store.root, "train", "voice-authenticity", *words) == 0
    assert "as a fixture: it has not been evaluated" in capsys.readouterr().out
    entry = store.find("mine")
    assert entry is not None
    located = store.locate(entry)
    assert isinstance(located, Located)
    clip = Voices().windows(genuine / "digits" / "a.wav")[0]
    before, after = scores(store, "aasist-l", clip), scores(store, "mine", clip)
    assert before.labels == after.labels
    assert before.values != after.values
    store.verify(entry)
    store.prefer(entry)
    observer = VoiceAuthenticityObserver()
    observer.attach(HostServices(InferenceClient(tmp_path / "engine.sock"), store, ProcessingSettings()))
    info = observer.info()
    assert not info.available
    assert info.reason.startswith("fixture: mine: it has not been evaluated")
    assert "candor models evaluate mine" in info.command


@needs_mirror
async def test_an_evaluated_head_that_is_preferred_is_asked_with_its_own_calibration(tmp_path: Path) -> None:
    """The file is AASIST-L's own weights, as training would have written them: its answers are known."""
    store = pulled(tmp_path / "store", "aasist-l")
    network = aasist.load_published(next(store.root.rglob("AASIST-L.pth")))
    trained = trained_model(base_commit=store.lock().models["aasist-l"].commit)
    torch.save(network.learned(), tmp_path / "weights.pth")
    locked = LockedModel(kind="local", repository="mine", commit="d" * 40, files={})
    (store.root / locked.folder).mkdir(parents=True)
    shutil.move(tmp_path / "weights.pth", store.root / locked.folder / "weights.pth")
    files = {"weights.pth": sha256_of(store.root / locked.folder / "weights.pth")}
    store.put("mine", locked.model_copy(update={"files": files}), trained)
    store.prefer(trained.entry("mine"))
    observer = VoiceAuthenticityObserver()
    observer.attach(HostServices(InferenceClient(tmp_path / "engine.sock"), store, ProcessingSettings()))
    assert observer.info().model == "mine@dddddddd"
    assert observer.choice.calibration() == trained.calibration
    shelf = Shelf(catalog.load(), store, ModelSettings(models_dir=store.root), Journal(tmp_path / "journal"))
    window = Sound(speech(VOICE_WINDOW_SAMPLES / RATE_HZ))
    answers = [await (await shelf.get(name)).ask(window, "room", 60_000) for name in ("mine", "aasist-l")]
    await shelf.close()
    assert answers[0] == answers[1]


async def test_an_engine_refuses_a_fixture(tmp_path: Path) -> None:
    store = with_both(tmp_path, trained_model(evaluation=None))
    shelf = Shelf(catalog.load(), store, ModelSettings(models_dir=tmp_path), Journal(tmp_path / "journal"))
    with pytest.raises(UnavailableError, match="fixture: mine: it has not been evaluated"):
        await shelf.get("mine")
    await shelf.close()


def real_voices(folder: Path) -> tuple[Path, Path]:
    """What is here: two recordings of people, and two of Debian's synthesisers."""
    for name, file in (("digits", "speech_wideband_16k.wav"), ("jfk", "jfk.wav")):
        save(folder / "g" / name / "a.wav", read(SHARED_MEDIA / file)[: 6 * RATE_HZ])
    speakers: dict[str, Callable[[Path], list[str]]] = {
        "flite": lambda path: ["flite", "-voice", "slt", "-t", TEXT, "-o", str(path)],
        "espeak-ng": lambda path: ["espeak-ng", "-w", str(path), TEXT],
        "text2wave": lambda path: ["text2wave", "-o", str(path)],
    }
    here = [name for name in speakers if shutil.which(name)]
    if len(here) < 2:
        pytest.skip("needs two of Debian's flite, espeak-ng, festival")
    for name in here[:2]:
        path = folder / "s" / name / "a.wav"
        path.parent.mkdir(parents=True)
        subprocess.run(speakers[name](path), input=TEXT.encode(), check=True, capture_output=True)
    return folder / "g", folder / "s"


def test_what_is_missing_is_said_with_the_command(
    voices: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "store")
    with pytest.raises(TrainingError, match="aasist-l: its weights have not been pulled: candor models pull aasist-l"):
        train(order("aasist-l", *voices), store, ModelSettings(), quiet)
    words = ("--genuine", str(voices[0]), "--synthetic", str(voices[1]))
    assert models(store.root, "train", "face-authenticity", *words) == 1
    assert "candor models pull meso-inception-4" in capsys.readouterr().err
    assert models(store.root, "train", "face-authenticity", "--base", "aasist", *words) == 1
    assert "no base for face-authenticity: meso-inception-4, vit-base-patch16-224" in capsys.readouterr().err
    assert models(store.root, "evaluate", "aasist", *words) == 1
    assert "candor models pull aasist" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        models(store.root, "train", "voice-authenticity", "--name", "../mine", *words)


def test_one_person_or_a_file_that_is_no_recording_is_refused(voices: tuple[Path, Path], tmp_path: Path) -> None:
    genuine, synthetic = voices
    store = with_base(tmp_path / "store", "wavlm-base-plus")
    (genuine / "ben" / "b.wav").write_text("no recording")
    with pytest.raises(MediaError, match=r"ben/b\.wav cannot be read"):
        train(order("wavlm-base-plus", genuine, synthetic), store, ModelSettings(), quiet)
    shutil.rmtree(genuine / "ben")
    with pytest.raises(MediaError, match="genuine media with enough in it is of 1 people"):
        train(order("wavlm-base-plus", genuine, synthetic), store, ModelSettings(), quiet)
    with pytest.raises(TrainingError, match="aasist is a model of the catalog"):
        train(order("wavlm-base-plus", genuine, synthetic, name="aasist"), store, ModelSettings(), quiet)
    assert store.lock().trained == {}


def test_training_ends_when_its_time_is_over(voices: tuple[Path, Path], tmp_path: Path) -> None:
    store = with_base(tmp_path / "store", "wavlm-base-plus")
    with pytest.raises(TrainingError, match="allow more with --minutes"):
        train(order("wavlm-base-plus", *voices, minutes=0.0), store, ModelSettings(), quiet)
    assert store.lock().trained == {}


def test_training_without_torch_names_the_command(
    voices: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TrainingError, match="torch is not installed: make models"):
        train(order("aasist", *voices), Store(tmp_path), ModelSettings(), quiet)
