"""What can be said of models on Ray Serve: the arguments of `models.ray_app`. Apart from it, for who has no ray."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

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

    @model_validator(mode="after")
    def _least_is_not_most(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError("max_replicas: fewer than min_replicas")
        return self


class RaySettings(BaseModel):
    """The arguments of the application."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: list[ScaledModel] = Field(min_length=1)
    models_dir: Path = Field(description="the store, at the same path on every machine")
    max_queued: int = Field(default=64, ge=1, description="per replica; beyond it the oldest is shed")
    pocketsphinx_decoders: int = Field(default=2, ge=1)
    api_keys: list[ApiKey] = Field(default=[], description="who may ask; `candor models key` makes one")
    trusted_network: bool = Field(default=False, description="whoever reaches Serve's port may ask, without a key")
    requests_per_s: float = Field(default=1_000.0, gt=0, description="per key and ingress replica")
    ingress_replicas: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _somebody_may_ask(self) -> Self:
        if not self.api_keys and not self.trusted_network:
            raise ValueError("api_keys: needed unless trusted_network; `candor models key NAME --scope models:infer`")
        if len({model.name for model in self.models}) < len(self.models):
            raise ValueError("models: one is named twice")
        return self
