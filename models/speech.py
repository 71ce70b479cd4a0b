"""What is asked of a speech model and what it answers."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE_HZ = 16_000


@dataclass(frozen=True, slots=True)
class Utterance:
    """A window of one speaker's sound, from the start of a segment to now.

    The window is the whole question: a runner may keep decoder state between the windows of a segment to save time, but
    must give the same kind of answer without it (after a restart, or when another speaker needed its decoder).
    """

    room_id: str
    track_id: str
    segment_id: str
    pcm: NDArray[np.int16]
    """Shape (n,), 16 kHz mono. Windows of one segment only ever grow."""
    final: bool
    """No longer window of this segment will follow."""
    language: str
    """ISO 639-1, or `auto`."""

    def to_wire(self) -> dict[str, Any]:
        """A msgpack-able map."""
        return {
            "kind": "utterance",
            "room_id": self.room_id,
            "track_id": self.track_id,
            "segment_id": self.segment_id,
            "pcm": self.pcm.astype("<i2").tobytes(),
            "final": self.final,
            "language": self.language,
        }

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> "Utterance":
        """Raises KeyError, TypeError or ValueError if malformed."""
        return cls(
            room_id=str(wire["room_id"]),
            track_id=str(wire["track_id"]),
            segment_id=str(wire["segment_id"]),
            pcm=np.frombuffer(wire["pcm"], dtype="<i2"),
            final=bool(wire["final"]),
            language=str(wire["language"]),
        )


@dataclass(frozen=True, slots=True)
class Word:
    """A word as it is to be shown, with the space before it where its script has one."""

    text: str
    start_ms: int | None = None
    """Since the start of the window; None where the model does not tell."""
    end_ms: int | None = None
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Transcript:
    """What a model heard in a window."""

    words: tuple[Word, ...]
    language: str
    no_speech_probability: float | None = None
    """Whisper's own doubt that anybody spoke; None where the model has none."""
    compression_ratio: float | None = None
    """Bytes of the text over bytes of its zlib form: beyond 2.4 it repeats itself. None for no text."""

    def to_wire(self) -> dict[str, Any]:
        """A msgpack-able map."""
        return {
            "kind": "transcript",
            "words": [[word.text, word.start_ms, word.end_ms, word.confidence] for word in self.words],
            "language": self.language,
            "no_speech_probability": self.no_speech_probability,
            "compression_ratio": self.compression_ratio,
        }

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> "Transcript":
        """Raises KeyError or TypeError if malformed."""
        return cls(
            words=tuple(Word(*word) for word in wire["words"]),
            language=wire["language"],
            no_speech_probability=wire["no_speech_probability"],
            compression_ratio=wire["compression_ratio"],
        )
