"""What may be said of voices and faces (DESIGN rule 7): what a model of them is shown, and what its scores amount to."""

import statistics
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.calibration import genuine_score
from models.catalog import ModelEntry
from models.faces import FACE_PX, MARGIN, cut_out
from models.questions import FaceBox, Scores, Sound
from models.service import answers, media
from models.service.errors import ServiceError
from models.service.messages import Evidence
from models.speech import SAMPLE_RATE_HZ
from models.voice_quality import FRAME, recording_refusal, speech_frames

VOICE_NEEDS_S = 10.0
FACE_NEEDS_S = 5.0
"""Less is insufficient evidence, in a meeting and here; so a single picture always is."""
WINDOW_S = 4.0
"""Of a model of voices that takes any length."""
SPOKEN_SHARE = 0.5
"""A window in which less is speech is not worth a question, as in a meeting: no silence makes a voice longer."""


@dataclass(frozen=True, slots=True)
class Voice:
    """A recording as a model of voices is shown it."""

    windows: list[NDArray[np.int16]]
    """Whole ones, each of the length that the model takes, with the pauses that speech has."""
    speech_s: float
    """In them."""


def voice(entry: ModelEntry, sound: Sound) -> Voice:
    """The windows worth asking about. The gate before them is that of a meeting. Raises ServiceError (422). Blocks."""
    rate_hz = entry.sample_rate_hz or SAMPLE_RATE_HZ
    length = entry.window_samples or round(WINDOW_S * rate_hz)
    if sound.pcm.size < length:
        raise ServiceError(422, "too_short", f"a voice is judged from {length / rate_hz:.2f} s on")
    samples = sound.pcm.astype(np.float32) / np.float32(32_768)
    if unfit := recording_refusal(samples):
        raise ServiceError(422, "unfit_voice", f"the voice is {unfit}: about such voices the models are wrong")
    speech = speech_frames(samples)
    windows, frames = [], 0
    for at in range(0, sound.pcm.size - length + 1, length):
        spoken = speech[at // FRAME : (at + length) // FRAME]
        if spoken.mean() >= SPOKEN_SHARE:
            windows.append(sound.pcm[at : at + length])
            frames += int(spoken.sum())
    if not windows:
        raise ServiceError(422, "too_short", "there is too little speech in the recording")
    return Voice(windows, frames * FRAME / rate_hz)


def face(entry: ModelEntry, image: media.Rgb, box: FaceBox, scale: float) -> media.Rgb:
    """A face that was found in the picture shrunk by `scale`, out of the picture as it was sent.

    Raises ServiceError (422) if it is too small to be judged. Blocks.
    """
    own = FaceBox(box.x / scale, box.y / scale, box.width / scale, box.height / scale, box.score, ())
    judged = entry.task == "face_authenticity"
    if judged and own.width < FACE_PX:
        raise ServiceError(422, "face_too_small", f"the face is {own.width:.0f} pixels wide, less than {FACE_PX}")
    try:
        return cut_out(image, own, margin=MARGIN if judged else 0.0, square=judged)
    except ValueError as error:
        raise ServiceError(422, "no_face", str(error)) from error


def mean(scores: list[Scores]) -> list[Any]:
    """Of all windows, as it is sent."""
    values = np.mean([one.values for one in scores], axis=0)
    return answers.scores_of(Scores(scores[0].labels, tuple(map(float, values))))


def weighed(entry: ModelEntry, scores: list[Scores], seconds: float, needed_s: float) -> Evidence:
    """What the scores of so many seconds of speech, or of a face, amount to."""
    score = statistics.fmean(genuine_score(one) for one in scores)
    enough = seconds >= needed_s
    likelihood = entry.calibration.likelihood(score) if entry.calibration and enough else None
    status = "insufficient_evidence" if entry.calibration else "not_calibrated"
    return Evidence.model_validate(
        {
            "status": status if likelihood is None else "likelihood",
            "likelihood_synthetic": None if likelihood is None else round(likelihood, 3),
            "score": round(score, 2),
            "windows": len(scores),
            "seconds": round(seconds, 2),
            "needed_seconds": needed_s,
            "known_errors": entry.known,
        }
    )
