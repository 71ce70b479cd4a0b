"""Every route: its scope, its body, its answer. The application is attached from this table, and `openapi.json` written from it."""

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

from models.service.messages import (
    BatchAnswer,
    BatchRequest,
    Deleted,
    DeployRequest,
    Health,
    HealthDetails,
    InferenceAnswer,
    InferenceRequest,
    ModelList,
    ModelStatus,
    ScaleRequest,
    UpdateRequest,
)
from models.service.settings import Scope

Method = Literal["get", "post", "put", "delete"]


@dataclass(frozen=True, slots=True)
class Route:
    """One route. `name` is the handler's."""

    method: Method
    path: str
    name: str
    summary: str
    scope: Scope | None
    """None: open to all."""
    answer: type[BaseModel] | None
    """None: the answer is no JSON of ours."""
    body: type[BaseModel] | None = None
    multipart: bool = False
    """Whether the body may come as a form: `file` (or `text`), `parameters` (JSON), `timeout`, `priority`."""
    status: int = 200


_MODEL = "/api/v1/models/{model_id}"
_HEALTH = "/api/v1/health"

ROUTES: tuple[Route, ...] = (
    Route("get", "/api/v1/models", "models", "Every model, and what becomes of it here", "models:read", ModelList),
    Route(
        "post",
        "/api/v1/models/deploy",
        "deploy",
        "Load a model and keep it loaded",
        "models:manage",
        ModelStatus,
        DeployRequest,
        status=201,
    ),
    Route("get", f"{_MODEL}/status", "status", "One model", "models:read", ModelStatus),
    Route(
        "post",
        f"{_MODEL}/inference",
        "inference",
        "Ask a model",
        "models:infer",
        InferenceAnswer,
        InferenceRequest,
        multipart=True,
    ),
    Route(
        "post",
        f"{_MODEL}/batch_inference",
        "batch_inference",
        "Ask a model much; each question succeeds or fails for itself",
        "models:infer",
        BatchAnswer,
        BatchRequest,
    ),
    Route(
        "post",
        f"{_MODEL}/scale",
        "scale",
        "Stop a model (0), or start it (1)",
        "models:manage",
        ModelStatus,
        ScaleRequest,
    ),
    Route("put", _MODEL, "update", "Exchange a model while calls run", "models:manage", ModelStatus, UpdateRequest),
    Route("delete", _MODEL, "delete", "Answer no more for a model", "models:manage", Deleted),
    Route(
        "post",
        "/inference/{task_type}",
        "task",
        "Ask the model of a task",
        "models:infer",
        InferenceAnswer,
        InferenceRequest,
        multipart=True,
    ),
    Route("get", f"{_HEALTH}/", "health", "Whether models can be asked", None, Health),
    Route("get", f"{_HEALTH}/live", "live", "Whether the service runs", None, Health),
    Route("get", f"{_HEALTH}/ready", "ready", "Whether models can be asked", None, Health),
    Route("get", f"{_HEALTH}/startup", "startup", "Whether it has been ready once", None, Health),
    Route("get", f"{_HEALTH}/detailed", "detailed", "Why", None, HealthDetails),
    Route("get", "/metrics", "metrics", "For Prometheus", "models:read", None),
    Route("get", "/api/openapi.json", "openapi", "This document", None, None),
)
