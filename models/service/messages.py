"""What goes over HTTP: bodies and answers. `openapi.json` beside this file is generated from them and from `routes`."""

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_validator,
)

from models.catalog import Task
from models.precision import Precision
from models.traffic import Limits, RolledBack, Unit, check_weights

LATEST = "latest"
MAX_BATCH = 64
DEFAULT_TIMEOUT_S = 30.0
MAX_TIMEOUT_S = 300.0

PRIORITIES = {"low": 2, "normal": 5, "high": 8}

State = Literal["unavailable", "available", "deploying", "deployed", "idle", "unloaded", "failed", "stopped"]
"""unavailable: cannot run here, `reason` and `command` say why. available: here, loaded when first asked. idle: deployed with
`min_replicas` 0, loaded when asked. unloaded: deployed, but its memory was needed by another; loaded when asked next. failed: the
engine could not load it when it came back. stopped: deleted, or scaled to none."""


def _priority(value: Any) -> Any:
    return PRIORITIES.get(value, value) if isinstance(value, str) else value


Priority = Annotated[int, BeforeValidator(_priority), Field(ge=0, le=9, description="9 first; also low, normal, high")]
Timeout = Annotated[float, Field(gt=0, le=MAX_TIMEOUT_S, description="seconds")]


class Message(BaseModel):
    """Unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Problem(Message):
    """Every answer that is no success."""

    code: str
    message: str
    retryable: bool
    command: str = Field(description="what would help; empty if nothing is known to")


# Bodies


class InputData(Message):
    """Just one of the three."""

    text: str | None = None
    audio: str | None = Field(default=None, description="base64 of WAV, Ogg, FLAC, MP3, WebM or AAC")
    image: str | None = Field(default=None, description="base64 of JPEG or PNG")

    @model_validator(mode="after")
    def _one(self) -> "InputData":
        if sum(value is not None for value in (self.text, self.audio, self.image)) != 1:
            raise ValueError("one of text, audio and image")
        return self


def _input(value: Any) -> Any:
    return {"text": value} if isinstance(value, str) else value


class Parameters(Message):
    """How to ask."""

    language: str | None = Field(
        default=None,
        pattern=r"^(auto|[a-z]{2,3})$",
        description="ISO 639-1; a text's must be told; `auto` for speech",
    )
    model: str | None = Field(
        default=None, max_length=100, description="of a task: the model to ask instead of the preferred one"
    )
    track: str | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="what stays with one version while two answer; without it each request is for itself",
    )


class InferenceRequest(Message):
    """A question to a model, or about a task."""

    input_data: Annotated[InputData, BeforeValidator(_input)] = Field(description="a string is a text")
    parameters: Parameters = Parameters()
    timeout: Timeout = DEFAULT_TIMEOUT_S
    priority: Priority = 5


class BatchRequest(Message):
    """Questions to one model. Each is answered, or fails, for itself."""

    requests: list[dict[str, JsonValue]] = Field(
        min_length=1, max_length=MAX_BATCH, description="each as `InferenceRequest`; one that is not fails alone"
    )
    timeout: Timeout = Field(default=DEFAULT_TIMEOUT_S, description="of the whole; a question's own may be shorter")


class ScalingConfig(Message):
    """How many of it there shall be. One engine holds each model once: see `Replicas` for what is really running."""

    min_replicas: int = Field(default=1, ge=0, le=1000, description="0: loaded when asked, not before")
    max_replicas: int = Field(default=1, ge=1, le=1000)
    target_cpu_utilization: int = Field(default=80, ge=1, le=100, description="per cent; of use only on a cluster")

    @model_validator(mode="after")
    def _in_order(self) -> "ScalingConfig":
        if self.max_replicas < self.min_replicas:
            raise ValueError("max_replicas is less than min_replicas")
        return self


ResourceName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._/-]{0,62}$")]
ResourceAmount = (
    Annotated[StrictStr, Field(max_length=64)]
    | Annotated[StrictFloat | StrictInt, Field(ge=0, le=1e15, allow_inf_nan=False)]
)


class DeployConfig(Message):
    """What to deploy."""

    model_id: str = Field(min_length=1, max_length=100, description="as `GET /api/v1/models` lists it")
    name: str = Field(min_length=1, max_length=200, description="for people")
    version: str = Field(
        default="latest", min_length=1, max_length=100, description="as status tells it, or `latest`: what is here"
    )
    model_type: str = Field(max_length=50, description="the model's task, or the task of `/inference/{task_type}`")
    framework: str = Field(max_length=50, description="torch, opencv, pocketsphinx or mediapipe")
    docker_image: str | None = Field(default=None, max_length=500, description="needs a cluster")
    resource_requirements: dict[ResourceName, ResourceAmount] = Field(
        default={}, max_length=20, description="of use only on a cluster: an engine shares its memory budget"
    )
    scaling_config: ScalingConfig = ScalingConfig()
    precision: Precision | None = Field(default=None, description="None: what was measured best here, else the default")


class DeployRequest(Message):
    """Load a model and keep it loaded."""

    config: DeployConfig


class ScaleRequest(Message):
    """0 stops it, 1 starts it."""

    replicas: int = Field(ge=0, le=1000)


class UpdateRequest(Message):
    """Exchange a model for what the store has now, while calls run; calls that run end with the old one."""

    version: str | None = Field(
        default=None, min_length=1, max_length=100, description="None: as it was deployed, a version or `latest`"
    )
    precision: Precision | None = Field(default=None, description="None: as it was deployed")
    scaling_config: ScalingConfig | None = None
    traffic_split: dict[str, float] | None = Field(
        default=None,
        description="the share of each of at most two versions, as VERSION or VERSION+PRECISION; they sum to 1. The newer is on "
        "trial, of one version in two precisions the lighter. One version with 1 ends a split",
    )
    shadow: str | None = Field(
        default=None, max_length=100, description="a version that is asked as well and shown nobody; empty: none"
    )
    sticky: Unit | None = Field(
        default=None, description="what stays with its version; None: as it was, at first `track`"
    )
    guard: Limits | None = Field(default=None, description="when the version on trial is asked no more")
    rollback: bool = Field(default=False, description="end a split; without one, go back to the version before")

    @model_validator(mode="after")
    def _one_thing(self) -> "UpdateRequest":
        told = {name for name in self.model_fields_set if getattr(self, name) not in (None, False)}
        if self.traffic_split is not None:
            check_weights(self.traffic_split)
        if self.rollback and told != {"rollback"}:
            raise ValueError("rollback goes with nothing else")
        if self.reroutes and told & {"version", "precision", "scaling_config"}:
            raise ValueError("a split or a shadow goes with no version, precision or scaling_config")
        if told & {"sticky", "guard"} and not self.reroutes:
            raise ValueError("sticky and guard are of a split")
        return self

    @property
    def reroutes(self) -> bool:
        """Whether it is about who answers, and not about what is deployed."""
        return self.rollback or self.traffic_split is not None or self.shadow is not None


# Answers


class Replicas(Message):
    """What was asked for, and what is."""

    wanted_min: int
    wanted_max: int
    running: int
    most: int = Field(description="that can run here")
    note: str


class Latency(Message):
    """Of the newest answers that this service gave, its own waiting included."""

    answers: int
    p50_ms: float | None
    p95_ms: float | None


class Counters(Message):
    """Of the engine since the model was loaded, whoever asked."""

    asked: int
    answered: int
    shed: int
    late: int
    failed: int
    queued: int


class TrainedHere(Message):
    """How a head that was trained here was evaluated."""

    day: date
    condition: str
    eer: float
    auc: float
    speakers: int
    generators: int


class ArmStatus(Message):
    """A version that is asked, since its route was made or the engine began."""

    version: str
    role: Literal["stable", "canary", "shadow"]
    weight: float
    loaded: bool
    answered: int
    failed: int
    agreed: int = Field(description="of a shadow, with the answer that was given")
    differed: int
    shed: int = Field(description="of a shadow: not asked, because there was other work")
    p50_ms: float | None = Field(description="of its newest 512 answers")
    p95_ms: float | None
    flag_rate: float | None = Field(description="of models with a calibration: share of answers that are flagged")


class Traffic(Message):
    """Who answers, where that is not simply the newest version."""

    sticky: Unit
    guard: Limits
    arms: list[ArmStatus] = Field(description="empty while the engine has none of them loaded")
    weights: dict[str, float]
    stable: str = Field(description="to which all goes back")
    shadow: str | None
    rolled_back: RolledBack | None


class ModelStatus(Message):
    """A model, and what becomes of it here."""

    model_id: str
    name: str
    task: Task
    framework: str
    input: Literal["text", "audio", "image"] | None = Field(description="None: nothing here asks it by itself")
    state: State
    reason: str
    command: str
    version: str | None = Field(
        description="of what the store has, or of what is loaded; `model_id@version` in answers"
    )
    versions: list[str] = Field(description="that are here, newest first")
    traffic: Traffic | None = Field(description="None: the newest version answers")
    replicas: Replicas
    device: str | None = Field(description="None: not loaded, or the model has no choice: CPU")
    precision: Precision | None
    memory_bytes: int = Field(
        description="by how much the engine grew with it; processes that a model has beside it are not in it"
    )
    counters: Counters | None
    latency: Latency
    licence: str
    commercial: bool
    languages: list[str]
    labels: list[str]
    known: str = Field(description="published quality and errors")
    calibrated: bool = Field(description="of authenticity: whether its scores can become a likelihood")
    evaluation: TrainedHere | None


class ModelList(Message):
    """Every model of the catalog, and those that were trained here."""

    models: list[ModelStatus]


class Deleted(Message):
    """It takes no more calls; those that ran when it was deleted end."""

    model_id: str
    state: State


class Score(Message):
    """Of one label, in the model's own scale."""

    label: str
    value: float


class Evidence(Message):
    """What may be said about authenticity, after DESIGN rule 7: never a verdict, and nothing from too little."""

    status: Literal["likelihood", "insufficient_evidence", "not_calibrated"]
    likelihood_synthetic: float | None = Field(description="calibrated; None unless `status` is `likelihood`")
    score: float = Field(description="mean of how much each window speaks for genuine media, in the model's own scale")
    windows: int
    seconds: float = Field(description="of speech in the windows that were judged; pauses do not count")
    needed_seconds: float
    known_errors: str


class WordSpoken(Message):
    """A word with the space before it, where its script has one."""

    text: str
    start_ms: int | None
    end_ms: int | None
    confidence: float | None


class FaceFound(Message):
    """A face, in pixels of the picture as it was sent."""

    x: float
    y: float
    width: float
    height: float
    score: float


class Result(Message):
    """What the model said. Which fields are there follows from its task."""

    text: str | None = None
    language: str | None = None
    words: list[WordSpoken] | None = None
    read_characters: int | None = Field(default=None, description="how much of the text a summary is of")
    scores: list[Score] | None = Field(default=None, description="highest first")
    faces: list[FaceFound] | None = None
    landmarks: list[tuple[float, float, float]] | None = None
    audio: str | None = Field(default=None, description="base64 of WAV, 16 bit mono")
    sample_rate_hz: int | None = None
    image: str | None = Field(default=None, description="base64 of PNG")
    evidence: Evidence | None = None


class InferenceAnswer(Message):
    """An answer, and who gave it."""

    model_id: str
    model: str = Field(description="name@version")
    also: list[str] = Field(
        default=[], description="name@version of models that prepared the question: who found the face"
    )
    task: Task
    result: Result
    duration_ms: float = Field(description="from the question to the answer, unpacking of its media included")


class BatchResult(Message):
    """One of the two."""

    index: int
    answer: InferenceAnswer | None = None
    error: Problem | None = None


class BatchAnswer(Message):
    """In the order of the requests."""

    model_id: str
    succeeded: int
    failed: int
    results: list[BatchResult]


HealthState = Literal["ok", "degraded", "starting", "down"]
"""degraded: models can be asked, but one that was deployed could not be loaded. down: the engine is gone; it is being restarted."""


class Health(Message):
    """200 with `ok` and `degraded`, else 503."""

    status: HealthState


class HealthDetails(Health):
    """What the status follows from."""

    engine: Literal["connected", "gone"]
    uptime_s: float
    engine_losses: int = Field(description="how often the engine was gone since the service began")
    models: dict[str, State] = Field(description="those that are deployed")
