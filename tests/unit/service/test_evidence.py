"""What is said of voices and faces: nothing from too little, nothing of what the models are wrong about."""

import json
from pathlib import Path

import pytest

from models.catalog import load
from models.questions import FaceBox, Faces
from tests.unit.service.kit import Http, Runner, packed, png, voice

MEDIA = Path(__file__).parents[4] / "shared" / "media"


async def test_ten_seconds_of_a_voice_give_a_likelihood(http: Http, runners: dict[str, Runner]) -> None:
    answer = (await http("POST", "/inference/audio_deepfake", {"input_data": {"audio": packed(voice(25.0))}}))[1]
    evidence = answer["result"]["evidence"]
    calibration = load().get("aasist").calibration
    assert calibration is not None
    assert (evidence["status"], evidence["windows"], evidence["seconds"]) == (
        "likelihood",
        6,
        pytest.approx(24.2 * 5 / 9, abs=1),
    )
    assert evidence["score"] == 6.0
    assert evidence["likelihood_synthetic"] == pytest.approx(calibration.likelihood(6.0), abs=1e-3)
    assert evidence["known_errors"]
    assert len(runners["aasist"].asked) == 6


@pytest.mark.parametrize(("sound", "windows"), [(voice(9.0), 2), (voice(17.0), 4), (voice(8.1, padded_s=12.0), 2)])
async def test_less_is_insufficient_however_much_silence_is_around_it(
    http: Http, runners: dict[str, Runner], sound: bytes, windows: int
) -> None:
    answer = (await http("POST", "/inference/audio_deepfake", {"input_data": {"audio": packed(sound)}}))[1]
    evidence = answer["result"]["evidence"]
    assert (evidence["status"], evidence["likelihood_synthetic"]) == ("insufficient_evidence", None)
    assert (evidence["seconds"] < 10, evidence["windows"]) == (True, windows)
    assert len(runners["aasist"].asked) == windows


async def test_one_picture_never_is_enough(http: Http) -> None:
    answer = (await http("POST", "/inference/face_deepfake", {"input_data": {"image": packed(png(400, 300))}}))[1]
    evidence = answer["result"]["evidence"]
    assert (evidence["status"], evidence["likelihood_synthetic"]) == ("insufficient_evidence", None)
    assert answer["also"] == ["yunet@1"]
    assert answer["result"]["faces"] == [{"x": 100, "y": 75, "width": 200, "height": 150, "score": 0.9}]


@pytest.mark.parametrize("x", [None, 500.0])
async def test_no_face_or_one_beside_the_picture_is_said(
    http: Http, runners: dict[str, Runner], x: float | None
) -> None:
    boxes = () if x is None else (FaceBox(x, 0, 100, 100, 0.9, ()),)
    runners["yunet"].answer = lambda _: Faces(boxes)
    for task in ("face_deepfake", "emotion_detection"):
        status, problem = await http("POST", f"/inference/{task}", {"input_data": {"image": packed(png(400, 300))}})
        assert (status, problem["code"]) == (422, "no_face")


async def test_a_large_picture_is_shrunk_for_the_detector_alone(http: Http, runners: dict[str, Runner]) -> None:
    answer = (await http("POST", "/inference/face_deepfake", {"input_data": {"image": packed(png(1600, 1200))}}))[1]
    [face] = answer["result"]["faces"]
    assert (face["width"], face["height"]) == (pytest.approx(800, abs=3), pytest.approx(600, abs=3))
    assert "meso-inception-4@1" in json.dumps(answer)


@pytest.mark.parametrize(("name", "refusal"), [("jfk.wav", "narrowband"), ("noisy_speech_16k.wav", "noisy")])
async def test_real_voices_that_the_model_is_wrong_about_are_not_judged(http: Http, name: str, refusal: str) -> None:
    if not MEDIA.is_dir():
        pytest.skip("../shared/media is not beside the repository")
    body = {"input_data": {"audio": packed((MEDIA / name).read_bytes())}}
    status, problem = await http("POST", "/inference/audio_deepfake", body)
    assert (status, problem["code"]) == (422, "unfit_voice")
    assert refusal in problem["message"]
