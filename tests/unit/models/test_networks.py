"""Our networks with the published weights against outputs of each network's own public code (`golden.json` of the mirror)."""

import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.unit.models.test_models_cli import MIRROR, needs_mirror

torch = pytest.importorskip("torch", reason="the extra `vision` is not installed (make models)")
pytest.importorskip("h5py", reason="the extra `vision` is not installed (make models)")

from models.runners.networks import aasist, meso_inception, mini_xception  # noqa: E402  # only with torch

pytestmark = [pytest.mark.weights, needs_mirror]
MEDIA = MIRROR.parent / "media"
TOLERANCE = 1e-3
WINDOW = aasist.WINDOW_SAMPLES


def golden() -> dict[str, Any]:
    return dict(json.loads((MIRROR / "golden.json").read_text()))


def weights(name: str) -> Path:
    return next(path for path in MIRROR.rglob(name))


def recorded(name: str) -> npt.NDArray[np.float32]:
    with wave.open(str(MEDIA / name)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32_768


def sounds() -> dict[str, npt.NDArray[np.float64]]:
    return {
        "zeros": np.zeros(WINDOW),
        "sine 440 Hz amplitude 0.1": 0.1 * np.sin(2 * np.pi * 440 * np.arange(WINDOW) / aasist.SAMPLE_RATE_HZ),
        "numpy RandomState(0).randn(64600)*0.05": np.random.RandomState(0).randn(WINDOW) * 0.05,
        "jfk.wav samples 0..64600": recorded("jfk.wav")[:WINDOW],
        "jfk.wav samples 64600..129200": recorded("jfk.wav")[WINDOW : 2 * WINDOW],
        "noisy_speech_16k.wav first 64600": recorded("noisy_speech_16k.wav")[:WINDOW],
    }


def run(network: Any, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    with torch.inference_mode():
        return np.asarray(network(torch.from_numpy(batch.astype(np.float32))))


def parameters(network: Any) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def with_statistics(network: Any) -> int:
    return parameters(network) + sum(
        buffer.numel() for name, buffer in network.named_buffers() if name.endswith(("mean", "var"))
    )


@pytest.mark.parametrize("name", ["AASIST", "AASIST-L"])
def test_aasist_answers_as_its_authors_network_does(name: str) -> None:
    expected = golden()["voice"][name]
    network = aasist.load_published(weights(f"{name}.pth"))
    assert parameters(network) == expected["parameters"]
    assert len(network.state_dict()) == expected["tensors"]
    heard = sounds()
    answers = run(network, np.stack(list(heard.values())))
    for text, answer in zip(heard, answers, strict=True):
        assert answer == pytest.approx(expected["logits_spoof_bonafide"][text], abs=TOLERANCE), text


def test_mini_xception_answers_as_its_authors_network_does() -> None:
    expected = golden()["face"]["mini_XCEPTION.102-0.66"]
    network = mini_xception.load_published(weights("*mini_XCEPTION*.hdf5"))
    assert with_statistics(network) == expected["parameters"]
    assert " ".join(mini_xception.LABELS) == expected["classes"]
    noise = np.random.RandomState(0).uniform(-1, 1, (1, 64, 64, 1)).transpose(0, 3, 1, 2)
    zeros, random = run(network, np.concatenate([np.zeros_like(noise), noise]))
    assert zeros == pytest.approx(expected["probabilities"]["zeros"], abs=TOLERANCE)
    assert random == pytest.approx(expected["probabilities"]["RandomState(0).uniform(-1,1)"], abs=TOLERANCE)


def test_meso_inception_answers_as_its_authors_network_does() -> None:
    image = pytest.importorskip("PIL.Image", reason="the extra `vision` is not installed (make models)")
    expected = golden()["face"]["MesoInception_DF.h5"]
    network = meso_inception.load_published(weights("MesoInception_DF.h5"))
    assert parameters(network) == 28_615
    assert with_statistics(network) == expected["parameters_with_batchnorm_statistics"]
    noise = np.random.RandomState(0).uniform(0, 1, (1, 256, 256, 3)).transpose(0, 3, 1, 2)
    answers = run(network, np.concatenate([np.zeros_like(noise), noise]))
    wanted = expected["sigmoid_real"]
    assert answers == pytest.approx([wanted["zeros"], wanted["RandomState(0).uniform(0,1)"]], abs=TOLERANCE)
    for name in ("face_deepfake.jpg", "face_real.jpg"):
        with image.open(MEDIA / name) as file:
            picture = np.asarray(file.convert("RGB").resize((256, 256)))
        [answer] = run(network, picture[None].transpose(0, 3, 1, 2) / 255)
        assert answer == pytest.approx(wanted[f"media/{name}"], abs=TOLERANCE), name


LOADERS = [
    (aasist.load_published, "AASIST.pth"),
    (mini_xception.load_published, "*mini_XCEPTION*.hdf5"),
    (meso_inception.load_published, "MesoInception_DF.h5"),
]


@pytest.mark.parametrize(("load", "name"), LOADERS)
def test_weights_of_another_network_are_refused(load: Any, name: str) -> None:
    for _, other in LOADERS:
        if other != name:
            with pytest.raises(ValueError, match=r"is not a|no place|not weights"):
                load(weights(other))


@pytest.mark.parametrize(("load", "name"), LOADERS)
@pytest.mark.parametrize("damage", ["empty", "half", "text"])
def test_a_damaged_file_is_refused(load: Any, name: str, damage: str, tmp_path: Path) -> None:
    whole = weights(name).read_bytes()
    path = tmp_path / "weights"
    path.write_bytes({"empty": b"", "half": whole[: len(whole) // 2], "text": b"not weights at all"}[damage])
    with pytest.raises(ValueError, match="weights"):
        load(path)


def test_a_weight_that_is_not_a_number_is_refused(tmp_path: Path) -> None:
    tensors = torch.load(weights("AASIST.pth"), weights_only=True, map_location="cpu")
    tensors["out_layer.bias"][0] = float("nan")
    torch.save(tensors, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="not a number"):
        aasist.load_published(tmp_path / "weights.pth")


def test_a_missing_and_a_strange_tensor_are_named(tmp_path: Path) -> None:
    tensors = torch.load(weights("AASIST.pth"), weights_only=True, map_location="cpu")
    tensors["another"] = tensors.pop("out_layer.bias")
    torch.save(tensors, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"missing \['head.bias'\], left over \['another'\]"):
        aasist.load_published(tmp_path / "weights.pth")


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"a": Path}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="not a file of tensors"):
        aasist.load_published(tmp_path / "weights.pth")
