"""The media plane's section of the settings."""

from pydantic import BaseModel, ConfigDict, Field


class SfuSettings(BaseModel):
    """How workers are run and reached."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workers: int = Field(default=0, ge=0, le=64, description="media processes; 0: one per four cores, at least one")
    host: str = Field(default="127.0.0.1", description="address that the UDP ports are bound to")
    port: int = Field(
        default=0, ge=0, le=65535, description="UDP port of the first worker, the next ones follow; 0: any free"
    )
    announced_host: str = Field(default="", description="address that clients are told; empty: the bound one")
    announced_port: int = Field(
        default=0, ge=0, le=65535, description="port that clients are told, of the first worker; 0: the bound one"
    )
    relay_host: str = Field(
        default="",
        description="second address that clients are told, with the bound ports: the one by which our own TURN server reaches "
        "the workers where that differs, as in a network of containers; empty: none",
    )
