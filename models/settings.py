"""What an operator can choose about models."""

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from models.service.settings import ServiceSettings


def _default_decoders() -> int:
    """As many as cores, from two to eight: half of them work at a time, the other half of the cores is for media."""
    return max(2, min(os.cpu_count() or 1, 8))


class ModelSettings(BaseModel):
    """Section `models` of the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models_dir: Path = Field(
        default=Path("~/.local/share/candor/models"), description="local store of pulled weights, with its models.lock"
    )
    max_store_gb: float = Field(
        default=20.0, gt=0, description="what pulled weights may take on the disk, in 10^9 bytes"
    )
    pocketsphinx_decoders: int = Field(
        default_factory=_default_decoders,
        ge=1,
        le=64,
        description="decoder processes, 91 MB each, started when needed: so many people can be in mid-sentence without "
        "being decoded anew; half of them work at a time",
    )
    preload: list[str] = Field(
        default=[], description="models that the engine loads at its start, not when first asked"
    )
    memory_budget_gb: float = Field(
        default=8.0,
        gt=0,
        description="of the engine, in 10^9 bytes; beyond it idle models are unloaded, longest unused first",
    )
    max_queued: int = Field(default=64, ge=1, description="requests waiting per model; beyond it the oldest is shed")

    service: ServiceSettings = Field(default=ServiceSettings(), description="of `candor models serve`")

    @property
    def store_dir(self) -> Path:
        """`models_dir` with `~` expanded."""
        return self.models_dir.expanduser()

    @property
    def store_budget_bytes(self) -> int:
        """`max_store_gb` in bytes."""
        return round(self.max_store_gb * 1e9)

    @property
    def memory_budget_bytes(self) -> int:
        """`memory_budget_gb` in bytes."""
        return round(self.memory_budget_gb * 1e9)
