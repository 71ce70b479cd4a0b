"""What an operator can choose about models."""

import os
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from models.service.settings import ServiceSettings, is_loopback


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
    keep_versions: int = Field(
        default=1,
        ge=0,
        le=10,
        description="of a model that is pulled anew: so many versions before it stay, to go back to",
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

    backend: Literal["local", "http"] = Field(
        default="local",
        description="whom meetings ask: an engine that the node runs itself, or a model service or Ray Serve at `backend_url`",
    )
    backend_url: str | None = Field(default=None, description="e.g. https://models.example.org")
    backend_key: SecretStr | None = Field(
        default=None, description="an API key or token with the scope models:infer; see `candor models key`"
    )
    backend_trusted_network: bool = Field(
        default=False, description="let sound, pictures and the key go to `backend_url` over plain http"
    )

    service: ServiceSettings = Field(default=ServiceSettings(), description="of `candor models serve`")

    @field_validator("backend_url")
    @classmethod
    def _url_is_plain(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or "@" in url:
            raise ValueError("must be http(s)://host[:port][/path]")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _backend_is_safe(self) -> Self:
        if self.backend == "local":
            return self
        if self.backend_url is None:
            raise ValueError("backend_url: needed unless backend is local")
        parts = urlsplit(self.backend_url)
        if parts.scheme == "http" and not is_loopback(parts.hostname or "") and not self.backend_trusted_network:
            raise ValueError("backend_url: https, or backend_trusted_network if nobody else is on the way")
        return self

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
