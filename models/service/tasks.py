"""What each task takes and answers, and which model is asked about it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import structlog

from models import catalog, choosing
from models.catalog import ModelEntry, Task
from models.choosing import Chosen
from models.questions import Answer, Faces, Landmarks, Picture, Scores, Sound, Summary
from models.service.errors import ServiceError, unknown_model
from models.service.messages import InputData, Parameters
from models.speech import Transcript
from models.store import LOCK_NAME, CorruptModelError, CorruptRoutesError, Located, Missing, Store
from models.traffic import FILE_NAME as ROUTES_NAME

UNREADABLE_FIX = f"mv {LOCK_NAME} {LOCK_NAME}.broken && candor models pull"
"""In the models directory: a lock that is no lock is in the way of `pull` as well."""

ROUTES_FIX = f"mv {ROUTES_NAME} {ROUTES_NAME}.broken"
"""Then every model answers in its newest version."""

log = structlog.get_logger()

Modality = Literal["text", "audio", "image"]


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a task."""

    takes: Modality
    answers: type[Answer]


SHAPES: dict[Task, Shape] = {
    "speech_to_text": Shape("audio", Transcript),
    "denoise": Shape("audio", Sound),
    "text_emotion": Shape("text", Scores),
    "voice_emotion": Shape("audio", Scores),
    "expression": Shape("image", Scores),
    "face_detection": Shape("image", Faces),
    "eye_direction": Shape("image", Landmarks),
    "voice_authenticity": Shape("audio", Scores),
    "face_authenticity": Shape("image", Scores),
    "summary": Shape("text", Summary),
    "enhancement": Shape("image", Picture),
}
"""Tasks that are not in it nobody asks the engine about."""

TaskType = Literal[
    "speech_recognition",
    "emotion_detection",
    "text_summarization",
    "audio_denoising",
    "video_enhancement",
    "audio_deepfake",
    "face_deepfake",
]
TASK_TYPES: dict[str, dict[Modality, Task]] = {
    "speech_recognition": {"audio": "speech_to_text"},
    "emotion_detection": {"text": "text_emotion", "audio": "voice_emotion", "image": "expression"},
    "text_summarization": {"text": "summary"},
    "audio_denoising": {"audio": "denoise"},
    "video_enhancement": {"image": "enhancement"},
    "audio_deepfake": {"audio": "voice_authenticity"},
    "face_deepfake": {"image": "face_authenticity"},
}
"""By the name in `/inference/{task_type}`: what may be sent, and what is asked about it. Of a video one picture at a time."""

FRAMEWORKS: dict[str, str] = {
    "pocketsphinx": "pocketsphinx",
    "yunet": "opencv",
    "landmarks": "mediapipe",
}
"""By runner; all others are torch."""
_ALIASES = {"pytorch": "torch", "transformers": "torch"}


def modality(data: InputData) -> Modality:
    """Which of the three was sent."""
    if data.text is not None:
        return "text"
    return "audio" if data.audio is not None else "image"


def is_framework(entry: ModelEntry, name: str) -> bool:
    """Whether the model runs on the framework of this name."""
    name = name.lower()
    return _ALIASES.get(name, name) == framework(entry)


def framework(entry: ModelEntry) -> str:
    """On what the model runs."""
    return FRAMEWORKS.get(entry.runner, "torch")


def is_type(entry: ModelEntry, name: str) -> bool:
    """Whether the name is the model's task, or that of the route by which it is asked."""
    return name == entry.task or entry.task in TASK_TYPES.get(name, {}).values()


@contextmanager
def reading() -> Iterator[None]:
    """The store. Raises ServiceError (503) if it cannot be read: nobody knows then what is here. Its path is told in the log."""
    try:
        yield
    except CorruptRoutesError as error:
        log.error("routes_unreadable", reason=str(error))
        raise ServiceError(503, "unavailable", "the file of routes cannot be read", command=ROUTES_FIX) from error
    except CorruptModelError as error:
        log.error("store_unreadable", reason=str(error))
        raise ServiceError(
            503, "unavailable", "the lock file of the store cannot be read", command=UNREADABLE_FIX
        ) from error


def find(store: Store, model_id: str) -> ModelEntry:
    """Raises ServiceError: 404, or 503 if the store cannot be read."""
    with reading():
        entry = store.find(model_id)
    if entry is None:
        raise unknown_model()
    return entry


def unavailable(missing: Missing) -> ServiceError:
    """503 with the command that would help."""
    return ServiceError(503, "unavailable", missing.reason, command=missing.command)


def missing(store: Store, entry: ModelEntry) -> Missing | None:
    """Why the engine cannot be asked; None if it can. Raises ServiceError (503) if the store cannot be read."""
    if entry.task not in SHAPES or entry.runner in ("", "host"):
        return Missing("nothing in the engine runs it", "")
    with reading():
        trained = store.lock().trained.get(entry.name)
    if trained is not None and trained.fixture:
        return Missing(f"fixture: {trained.fixture}", f"candor models evaluate {entry.name}")
    located = locate(store, entry)
    return located if isinstance(located, Missing) else None


def locate(store: Store, entry: ModelEntry, version: str | None = None) -> Located | Missing:
    """Where the weights are, of the newest version unless one is named. Raises ServiceError (503) if the store cannot be read."""
    with reading():
        return store.locate(entry, version)


def task_of(task_type: str, data: InputData) -> Task:
    """What is asked about this input. Raises ServiceError: 404, 422."""
    known = TASK_TYPES.get(task_type)
    if known is None:
        raise ServiceError(404, "unknown_task", f"the tasks are {', '.join(TASK_TYPES)}")
    task = known.get(modality(data))
    if task is None:
        raise wrong_modality(" or ".join(known), modality(data))
    return task


def wrong_modality(takes: str, given: str) -> ServiceError:
    """For an image where sound is wanted, and so on."""
    return ServiceError(422, "wrong_modality", f"it takes {takes}, not {given}")


def choose(store: Store, task: Task, parameters: Parameters) -> ModelEntry:
    """The model that is asked about a task. Raises ServiceError: 404, 422, 503."""
    if parameters.model is not None:
        entry = find(store, parameters.model)
        if entry.task != task:
            raise ServiceError(422, "wrong_task", f"{entry.name} is for {entry.task}, not {task}")
        return entry
    return preferred(store, task, parameters.language)


def preferred(store: Store, task: Task, language: str | None = None) -> ModelEntry:
    """The model that is asked about a task where nobody names one. Raises ServiceError (503)."""
    with reading():
        store.lock()  # one that cannot be read is no reason to pull a model
        found = _speech(store, language or "auto") if task == "speech_to_text" else choosing.choose(task, store)
    if isinstance(found, Missing):
        raise unavailable(found)
    return found.entry


def _speech(store: Store, language: str) -> Chosen | Missing:
    """Of those that know the language and are here the first of standard quality, else the first."""
    entries: list[Any] = [entry for entry in catalog.load().for_task("speech_to_text") if entry.runner]
    first: Missing | None = None
    for entry in sorted((e for e in entries if e.speaks(language)), key=lambda entry: entry.quality == "test"):
        found = choosing.check(entry, store)
        if isinstance(found, Chosen):
            return found
        first = first or found
    return first or Missing(f"no model of speech knows {language!r}", "candor models list")
