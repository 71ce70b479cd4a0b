"""The `cluster` section of the settings: many machines that share one Redis. Without `redis_url` there is one machine."""

import secrets
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, field_validator

from signaling.settings import SignalingSettings

SCHEMES = ("redis", "rediss", "unix")
NODE_ID = r"^[A-Za-z0-9_.-]{1,64}$"


class ClusterSettings(BaseModel):
    """Where the machines of a cluster find each other, and how long one of them may be silent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    redis_url: SecretStr | None = Field(
        default=None, description="redis://, rediss:// (TLS) or unix://, with the password; unset: one machine"
    )
    node_id: Annotated[str, StringConstraints(pattern=NODE_ID)] | None = Field(
        default=None, description="name of this machine among the others; random at every start if unset"
    )
    lease_s: float = Field(
        default=3.0, ge=1.0, le=60.0, description="a machine that is silent so long has lost its rooms"
    )
    prefix: str = Field(default="candor:", min_length=1, max_length=64, description="of every key in Redis")
    incarnation: str = Field(default="", max_length=64, description="of one start of this machine; made at the start")

    @field_validator("redis_url")
    @classmethod
    def _redis_url_can_be_read(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and urlsplit(url.get_secret_value()).scheme not in SCHEMES:
            raise ValueError("must begin with redis://, rediss:// or unix://")
        return url

    @property
    def lease_ms(self) -> int:
        """`lease_s` as Redis counts."""
        return round(self.lease_s * 1000)

    @property
    def beat_s(self) -> float:
        """How often a machine says that it lives: three of four may be lost."""
        return self.lease_s / 4


def prepared_cluster(settings: ClusterSettings, signaling: SignalingSettings) -> ClusterSettings:
    """The settings to serve with; called once per start of a machine, so that all its processes have the same names.

    Raises ValueError, with the remedy, if other machines could not send clients here.
    """
    if settings.redis_url is None:
        return settings
    if signaling.public_url is None:
        raise ValueError("cluster.redis_url needs signaling.public_url: other machines send clients there")
    if signaling.lan:
        raise ValueError("cluster.redis_url and signaling.lan do not go together: every machine needs the same secret")
    names = {"node_id": settings.node_id or secrets.token_hex(6), "incarnation": secrets.token_hex(8)}
    return settings.model_copy(update=names)
