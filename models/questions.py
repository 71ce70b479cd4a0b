"""What models are asked and what they answer, apart from speech (`models.speech`). All of it crosses the engine's socket.

A question is whole: nothing of it is remembered, so any engine can answer it, also one that was started a moment ago. A sound or
a picture is also an answer: the one that was asked about, enhanced.
"""

import math
from collections.abc import Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.speech import Transcript, Utterance

MAX_PIXELS = 640 * 640
"""A larger picture does not fit into a message: who asks makes it smaller."""
MAX_SAMPLES = 60 * 16_000
"""A longer sound does not fit into a message: who asks cuts it."""
MAX_CHARACTERS = 20_000
"""Half an hour of speech. Who has more to ask about asks more than once."""
MESH_POINTS = 478
"""Of MediaPipe's face mesh: 468, and five of each iris."""


@dataclass(frozen=True, slots=True)
class Sound:
    """A window of sound, at the rate and of the length that the catalog says of the model."""

    pcm: NDArray[np.int16]
    """Shape (n,), mono."""

    def to_wire(self) -> dict[str, Any]:
        """A msgpack-able map. Raises ValueError if it has more than `MAX_SAMPLES`."""
        _check_length(self.pcm, MAX_SAMPLES, "samples")
        return {"kind": "sound", "pcm": self.pcm.astype("<i2").tobytes()}

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> "Sound":
        """Raises KeyError, TypeError or ValueError if malformed."""
        pcm = np.frombuffer(wire["pcm"], dtype="<i2")
        _check_length(pcm, MAX_SAMPLES, "samples")
        return cls(pcm)


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture, or a face cut out of one."""

    rgb: NDArray[np.uint8]
    """Shape (height, width, 3)."""

    def to_wire(self) -> dict[str, Any]:
        """A msgpack-able map. Raises ValueError if it has more than `MAX_PIXELS`."""
        height, width = _checked_size(*self.rgb.shape[:2])
        return {"kind": "picture", "height": height, "width": width, "rgb": np.ascontiguousarray(self.rgb).tobytes()}

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> "Picture":
        """Raises KeyError, TypeError or ValueError if malformed."""
        height, width = _checked_size(int(wire["height"]), int(wire["width"]))
        return cls(np.frombuffer(wire["rgb"], np.uint8).reshape(height, width, 3))


def _checked_size(height: int, width: int) -> tuple[int, int]:
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise ValueError(f"a picture of {width} x {height} pixels")
    return height, width


def _check_length(what: Sized, most: int, unit: str) -> None:
    if len(what) > most:
        raise ValueError(f"{len(what)} {unit}, more than {most}")


@dataclass(frozen=True, slots=True)
class Text:
    """Something that was said or written."""

    text: str
    language: str
    """ISO 639-1. Never `auto`: no model of ours hears out of a text what language it is in."""

    def to_wire(self) -> dict[str, Any]:
        """A msgpack-able map. Raises ValueError if it is longer than `MAX_CHARACTERS`, or its language is not told."""
        _check_text(self)
        return {"kind": "text", "text": self.text, "language": self.language}

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> "Text":
        """Raises KeyError, TypeError or ValueError if malformed."""
        text = cls(str(wire["text"]), str(wire["language"]))
        _check_text(text)
        return text


def _check_text(text: Text) -> None:
    _check_length(text.text, MAX_CHARACTERS, "characters")
    if text.language in ("", "auto"):
        raise ValueError("the language of a text must be told")


@dataclass(frozen=True, slots=True)
class Summary:
    """What a text says, in short."""

    text: str
    read_characters: int
    """How much of the question the model took in, from its beginning; the rest is for another question."""

    def to_wire(self) -> dict[str, Any]:
        """A msgpack-able map."""
        return {"kind": "summary", "text": self.text, "read_characters": self.read_characters}

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> "Summary":
        """Raises KeyError, TypeError or ValueError if malformed."""
        return cls(str(wire["text"]), int(wire["read_characters"]))


@dataclass(frozen=True, slots=True)
class Scores:
    """One number per label, in the model's own order and scale (the runner says which)."""

    labels: tuple[str, ...]
    values: tuple[float, ...]

    def __getitem__(self, label: str) -> float:
        return self.values[self.labels.index(label)]

    def to_wire(self) -> dict[str, Any]:
        """A msgpack-able map."""
        return {"kind": "scores", "labels": self.labels, "values": self.values}

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> "Scores":
        """Raises KeyError, TypeError or ValueError if malformed."""
        return cls(tuple(map(str, wire["labels"])), tuple(map(float, wire["values"])))


@dataclass(frozen=True, slots=True)
class FaceBox:
    """A face in a picture, in its pixels."""

    x: float
    y: float
    width: float
    height: float
    score: float
    """The detector's own, 0 to 1."""
    landmarks: tuple[tuple[float, float], ...]
    """The person's right eye, left eye, tip of the nose, right and left corner of the mouth."""


@dataclass(frozen=True, slots=True)
class Faces:
    """The faces of a picture, best first."""

    boxes: tuple[FaceBox, ...]

    def to_wire(self) -> dict[str, Any]:
        """A msgpack-able map."""
        rows = [[box.x, box.y, box.width, box.height, box.score, box.landmarks] for box in self.boxes]
        return {"kind": "faces", "boxes": rows}

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> "Faces":
        """Raises KeyError, TypeError or ValueError if malformed."""
        return cls(
            tuple(
                FaceBox(x, y, width, height, score, tuple((float(a), float(b)) for a, b in landmarks))
                for x, y, width, height, score, landmarks in wire["boxes"]
            )
        )


@dataclass(frozen=True, slots=True)
class Landmarks:
    """The points of MediaPipe's face mesh with irises, in pixels of the picture; none if it shows no face."""

    points: tuple[tuple[float, float, float], ...]
    """x to the right, y down, z away from the camera, about as large as x; its origin lies in the head."""

    def __post_init__(self) -> None:
        if len(self.points) not in (0, MESH_POINTS):
            raise ValueError(f"{len(self.points)} landmarks")
        if not all(math.isfinite(number) for point in self.points for number in point):
            raise ValueError("a landmark that is no number")

    def to_wire(self) -> dict[str, Any]:
        """A msgpack-able map."""
        return {"kind": "landmarks", "points": self.points}

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> "Landmarks":
        """Raises KeyError, TypeError or ValueError if malformed."""
        return cls(tuple((float(x), float(y), float(z)) for x, y, z in wire["points"]))


Question = Utterance | Sound | Picture | Text
Answer = Transcript | Scores | Faces | Landmarks | Summary | Sound | Picture

_QUESTIONS: dict[str, type[Utterance] | type[Sound] | type[Picture] | type[Text]] = {
    "utterance": Utterance,
    "sound": Sound,
    "picture": Picture,
    "text": Text,
}
_ANSWERS: dict[
    str,
    type[Transcript] | type[Scores] | type[Faces] | type[Landmarks] | type[Summary] | type[Sound] | type[Picture],
] = {
    "transcript": Transcript,
    "scores": Scores,
    "faces": Faces,
    "landmarks": Landmarks,
    "summary": Summary,
    "sound": Sound,
    "picture": Picture,
}


def question_from_wire(wire: dict[str, Any]) -> Question:
    """Raises KeyError, TypeError or ValueError if malformed."""
    return _QUESTIONS[wire["kind"]].from_wire(wire)


def answer_from_wire(wire: dict[str, Any]) -> Answer:
    """Raises KeyError, TypeError or ValueError if malformed."""
    return _ANSWERS[wire["kind"]].from_wire(wire)
