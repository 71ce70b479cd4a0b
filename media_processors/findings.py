"""What an observer says about a span of time of a track.

Findings cross wires (host -> signaling -> browser and bots), so they are frozen pydantic models; the browser's types are
generated from them. Times are milliseconds since the track was opened (`start_ms`, `end_ms`), on the publisher's clock.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


class FindingBase(BaseModel):
    """What every finding carries: about whom, when, by which model, under which consent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    room_id: str
    participant_id: str
    track_id: str
    epoch: int = Field(ge=0, description="consent epoch under which the media was heard; older than current: dropped")
    start_ms: int = Field(ge=0)
    end_ms: int = Field(ge=0)
    model: str = Field(description="name@version of the model, or of the algorithm where no model is involved")


class Caption(FindingBase):
    """A piece of transcript. `(segment_id, rev)` orders revisions; the first `stable_chars` of `text` are never taken back."""

    kind: Literal["caption"] = "caption"
    segment_id: str
    rev: int = Field(ge=0)
    text: str
    stable_chars: int = Field(ge=0)
    final: bool
    language: str = Field(description="BCP 47")
    quality: Literal["test", "standard"] = Field(description="`test`: shown with the label 'test quality'")
    latency_ms: int = Field(
        ge=0, description="from the end of the audio that this text covers to the moment of emission"
    )


class Prosody(FindingBase):
    """How somebody speaks: level, pitch and rate over one stretch of speech."""

    kind: Literal["prosody"] = "prosody"
    level_dbfs: float = Field(le=0)
    pitch_hz: float | None = Field(description="median fundamental frequency of the voiced parts; null if none")
    syllables_per_s: float | None = Field(
        description="estimated from energy peaks of voiced parts; null if too little speech"
    )
    speech_ms: int = Field(ge=0)


class Authenticity(FindingBase):
    """Evidence on whether media is synthetic, never a verdict: what a model found, on how much, and how often it errs."""

    verdict: Literal["insufficient_evidence", "likely_genuine", "inconclusive", "likely_synthetic"]
    reason: str = Field(
        description="why the evidence does not suffice (`duration`, or what makes the model inapplicable); empty if it does"
    )
    likelihood: float | None = Field(
        ge=0, le=1, description="of being synthetic, calibrated; null before there is enough"
    )
    score: float | None = Field(
        description="mean of the model's raw scores, higher for genuine media; null if there are none"
    )
    evidence_ms: int = Field(ge=0, description="speech or face that the score rests on")
    windows: int = Field(ge=0)
    known_errors: str = Field(description="what is published about the model's errors")


class VoiceAuthenticity(Authenticity):
    """Whether a voice is synthetic. Reasons beyond `duration`: `narrowband`, `noisy`."""

    kind: Literal["voice_authenticity"] = "voice_authenticity"


class SeenFace(BaseModel):
    """A face in a picture. Places and sizes are shares of the picture's width and height."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    face_id: str = Field(description="the same as long as the face stays in the picture")
    x: float
    y: float
    width: float
    height: float
    score: float = Field(ge=0, le=1, description="the detector's own")
    yaw_degrees: float = Field(description="turned to the right of the picture: positive")
    pitch_degrees: float = Field(description="down: positive")
    roll_degrees: float = Field(description="tilted clockwise as seen in the picture: positive")


class Faces(FindingBase):
    """The faces in a camera's picture, largest first, and where they look."""

    kind: Literal["faces"] = "faces"
    faces: list[SeenFace]
    facing_share: float | None = Field(
        ge=0,
        le=1,
        description="of the last 30 s, how long the largest face was turned to the screen; null if none was seen",
    )


class EyeDirection(FindingBase):
    """Where the eyes of the largest face look: degrees, to the right of the picture and down positive. For that person alone."""

    kind: Literal["eye_direction"] = "eye_direction"
    face_id: str
    eyes: Literal["open", "closed", "turned_away", "unseen"] = Field(
        description="`turned_away`: the head is, so that nothing is said about its eyes. `unseen`: nobody can tell where they look,"
        " as behind dark glasses"
    )
    yaw_degrees: float | None = Field(description="relative to the head; null unless the eyes are `open`")
    pitch_degrees: float | None
    looks_yaw_degrees: float | None = Field(description="head and eyes together, seen from the camera: 0 is into it")
    looks_pitch_degrees: float | None
    at_screen: bool | None = Field(
        description="whether that is towards a screen below the camera; closed eyes are not; null if nobody can tell"
    )
    screen_share: float | None = Field(
        ge=0,
        le=1,
        description="of the pictures of the last 30 s of which it could be told, how many were at the screen",
    )
    known_errors: str = Field(description="what is known about the errors of such directions")


class Expression(FindingBase):
    """What the largest face shows, not what somebody feels: a model's guess among seven words, averaged over two seconds."""

    kind: Literal["expression"] = "expression"
    face_id: str
    label: str
    probability: float = Field(ge=0, le=1)
    probabilities: dict[str, float]
    known_errors: str = Field(description="what is published about the model's errors")


class Emotion(FindingBase):
    """What a model makes of how, or what, somebody said: a guess among a few words, not what they feel. For that person alone."""

    label: str
    probability: float = Field(ge=0, le=1)
    probabilities: dict[str, float]
    known_errors: str = Field(description="what is published about the model's errors")


class TextEmotion(Emotion):
    """Of the words of one final caption."""

    kind: Literal["text_emotion"] = "text_emotion"
    segment_id: str = Field(description="of the caption")


class VoiceEmotion(Emotion):
    """Of the sound of a few seconds of speech."""

    kind: Literal["voice_emotion"] = "voice_emotion"
    speech_ms: int = Field(ge=0)


class FaceAuthenticity(Authenticity):
    """Whether a face is synthetic. Reasons beyond `duration`: `small`, `blurred`, `turned`; `gone` when it has left the picture."""

    kind: Literal["face_authenticity"] = "face_authenticity"
    face_id: str


AnyFinding = (
    Caption
    | Prosody
    | TextEmotion
    | VoiceEmotion
    | VoiceAuthenticity
    | Faces
    | EyeDirection
    | Expression
    | FaceAuthenticity
)
FindingKind = Literal[
    "caption",
    "prosody",
    "text_emotion",
    "voice_emotion",
    "voice_authenticity",
    "faces",
    "eye_direction",
    "expression",
    "face_authenticity",
]
Finding = Annotated[AnyFinding, Field(discriminator="kind")]
FINDING: TypeAdapter[AnyFinding] = TypeAdapter(Finding)


class ProcessorInfo(BaseModel):
    """A processor as the host knows it: can it run at all, and if not, what would make it run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="as in the entry point, e.g. `denoise`")
    kind: Literal["transform", "observer"]
    media: Literal["audio", "video"]
    available: bool
    reason: str = Field(default="", description="why it is unavailable; empty if available")
    command: str = Field(default="", description="the command that makes it available, if there is one")
    model: str = Field(default="", description="name@version in use")
    default_on: bool = True
    about: Literal["content", "biometric", "attention", "emotion"] = Field(
        default="content",
        description="what it finds out: something said or heard, something of a person's body, what they look at, or what "
        "they may feel",
    )
    locked: Literal["on", "off"] | None = Field(
        default=None, description="told to clients only: nobody in the room can switch it, so it is"
    )
    locked_by: str = Field(default="", description="`server`, `room`, or the rule, e.g. `eu_workplace`")


class ProcessorStatus(BaseModel):
    """What a processor does on one track right now."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    track_id: str
    processor: str
    state: Literal["on", "off", "guard", "bypass", "unavailable"]
    reason: str = ""
