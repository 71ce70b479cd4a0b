"""What can be said of models on Ray Serve: the arguments of `models.ray_app`. Apart from it, for who has no ray."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from models.precision import Precision
from models.service.settings import ApiKey


class LiveConfig(BaseModel):
    """What can be changed of a model while it is asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    precision: Precision | None = None
    version: str | None = Field(
        default=None,
        description="of the store; telling another has replicas look for it, and if it is not there keep theirs",
    )


class ScaledModel(BaseModel):
    """A model, and how many replicas it has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    min_replicas: int = Field(default=1, ge=0)
    max_replicas: int = Field(default=1, ge=1)
    target_ongoing: float = Field(
        default=2.0, gt=0, description="questions per replica; with more there are more replicas"
    )
    num_cpus: float = Field(default=1.0, ge=0)
    num_gpus: float = Field(default=0.0, ge=0)
    live: LiveConfig = LiveConfig()


class RaySettings(BaseModel):
    """The arguments of the application."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: list[ScaledModel] = Field(min_length=1)
    models_dir: Path = Field(description="the store, at the same path on every machine")
    max_queued: int = Field(default=64, ge=1, description="per replica; beyond it the oldest is shed")
    pocketsphinx_decoders: int = Field(default=2, ge=1)
    api_keys: list[ApiKey] = Field(default=[], description="who may ask; none: whoever reaches Serve's port")
    requests_per_s: float = Field(default=1_000.0, gt=0, description="per key and ingress replica")
    ingress_replicas: int = Field(default=1, ge=1)
