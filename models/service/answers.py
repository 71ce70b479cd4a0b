"""Questions out of what was sent, and what is sent of answers."""

from typing import Any

from models.catalog import ModelEntry
from models.questions import (
    MAX_CHARACTERS,
    MAX_PIXELS,
    Answer,
    Faces,
    Landmarks,
    Picture,
    Question,
    Scores,
    Sound,
    Summary,
    Text,
)
from models.service import media
from models.service.errors import ServiceError
from models.service.messages import FaceFound, InputData, Parameters, Result, Score, WordSpoken
from models.service.tasks import SHAPES, modality, unavailable, wrong_modality
from models.speech import SAMPLE_RATE_HZ, Transcript, Utterance
from models.store import Missing

MAX_SPEECH_S = 30
"""Whisper hears no more at a time: the rest would be left out."""


def check_modality(entry: ModelEntry, data: InputData) -> None:
    """Raises ServiceError (422, or 503 if nothing runs the model)."""
    shape = SHAPES.get(entry.task)
    if shape is None:
        raise unavailable(Missing("nothing in the engine runs it", ""))
    if shape.takes != modality(data):
        raise wrong_modality(shape.takes, modality(data))


def text_of(data: InputData, parameters: Parameters) -> Text:
    """Raises ServiceError (413, 422)."""
    text = data.text or ""
    if not text.strip():
        raise ServiceError(422, "empty", "the text is empty")
    if len(text) > MAX_CHARACTERS:
        raise ServiceError(413, "too_long", f"the text is longer than {MAX_CHARACTERS} characters")
    if parameters.language in (None, "auto"):
        raise ServiceError(
            422, "language_needed", "parameters.language: the language of a text must be told (ISO 639-1)"
        )
    return Text(text, str(parameters.language))


def sound_of(entry: ModelEntry, data: InputData, until_s: float) -> Sound:
    """At the model's rate. Raises ServiceError (413, 415, 422), DeadlineError. Blocks."""
    return media.sound(media.unpacked(data.audio or ""), entry.sample_rate_hz or SAMPLE_RATE_HZ, until_s)


def picture_of(data: InputData, most_pixels: int = media.MAX_PICTURE_PIXELS) -> media.Rgb:
    """As it was sent. Raises ServiceError (413, 415, 422). Blocks."""
    return media.picture(media.unpacked(data.image or ""), most_pixels)


def question_of(entry: ModelEntry, data: InputData, parameters: Parameters, session: str, until_s: float) -> Question:
    """Of all tasks but those that judge faces and voices. `session`: names what is asked once, and never again.

    Raises ServiceError (413, 415, 422), DeadlineError if a sound is not unpacked by `until_s` (monotonic clock). Blocks.
    """
    match SHAPES[entry.task].takes:
        case "text":
            return text_of(data, parameters)
        case "image":
            return Picture(picture_of(data, MAX_PIXELS))
    _check_language(entry, parameters)
    sound = sound_of(entry, data, until_s)
    if entry.task != "speech_to_text":
        return sound
    if sound.pcm.size > MAX_SPEECH_S * SAMPLE_RATE_HZ:
        raise ServiceError(413, "too_long", f"speech is longer than {MAX_SPEECH_S} s: send it in parts")
    return Utterance(session, session, session, sound.pcm, True, parameters.language or "auto")


def _check_language(entry: ModelEntry, parameters: Parameters) -> None:
    """Who knows one language, or a few, is asked nothing that is said in another; of sound it need not be told, as in a meeting.

    Raises ServiceError (503).
    """
    if entry.languages and not entry.speaks(parameters.language or "auto"):
        raise unavailable(Missing(f"language: {entry.name} does not know {parameters.language!r}", ""))


def result_of(entry: ModelEntry, answer: Answer) -> Result:
    """As it is sent. Blocks: pictures are packed."""
    match answer:
        case Transcript():
            words = [_word(word.text, word.start_ms, word.end_ms, word.confidence) for word in answer.words]
            text = "".join(word.text for word in answer.words).strip()
            return Result(text=text, language=answer.language, words=words)
        case Summary():
            return Result(text=answer.text, read_characters=answer.read_characters)
        case Scores():
            return Result(scores=scores_of(answer))
        case Sound():
            rate_hz = entry.sample_rate_hz or SAMPLE_RATE_HZ
            return Result(audio=media.wav_text(answer.pcm, rate_hz), sample_rate_hz=rate_hz)
        case Picture():
            return Result(image=media.png_text(answer.rgb))
        case Landmarks():
            return Result(landmarks=list(answer.points))
        case Faces():
            return Result(faces=faces_of(answer, 1.0))


def scores_of(scores: Scores) -> list[Score]:
    """Highest first."""
    pairs = sorted(zip(scores.labels, scores.values, strict=True), key=lambda pair: -pair[1])
    return [Score(label=label, value=value) for label, value in pairs]


def faces_of(faces: Faces, scale: float) -> list[FaceFound]:
    """In pixels of a picture that was shrunk by `scale` before it was looked at."""
    return [
        FaceFound(x=box.x / scale, y=box.y / scale, width=box.width / scale, height=box.height / scale, score=box.score)
        for box in faces.boxes
    ]


def _word(text: str, start_ms: Any, end_ms: Any, confidence: Any) -> WordSpoken:
    return WordSpoken(text=text, start_ms=start_ms, end_ms=end_ms, confidence=confidence)
