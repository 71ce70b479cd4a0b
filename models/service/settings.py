"""The `models.service` section of the settings, and what must be true before it may listen to more than this computer."""

import ipaddress
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

SECRET_MIN_BYTES = 32  # RFC 7518 section 3.2: an HS256 key has at least the size of the hash

Scope = Literal["models:read", "models:infer", "models:manage"]
SCOPES: tuple[Scope, ...] = ("models:read", "models:infer", "models:manage")


class ApiKey(BaseModel):
    """A key that may ask; itself it is nowhere, only its hash. `candor models key` makes one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$", description="of a program, never of a person: it is logged")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    scopes: list[Scope] = Field(min_length=1)
    requests_per_s: float | None = Field(
        default=None, gt=0, description="sustained, where it differs: a node asks about every window of its meetings"
    )


class ServiceSettings(BaseModel):
    """Where the service listens, who may ask, and how much."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=8090, ge=0, le=65535, description="0: any free port")
    api_keys: list[ApiKey] = []
    secret: SecretStr | None = Field(
        default=None, description="signs tokens (HS256); unless set, signaling's is taken, for another audience"
    )
    requests_per_s: float = Field(default=20.0, gt=0, description="per key, sustained; an item of a batch is a request")
    request_burst: int = Field(default=100, ge=1, description="per key, at once")
    max_body_bytes: int = Field(default=16 << 20, ge=1024)
    max_bodies_bytes: int = Field(
        default=64 << 20, ge=1024, description="of requests that are read or answered at a time; beyond it 503"
    )
    body_timeout_s: float = Field(default=30.0, gt=0, le=600, description="for the body of a request to come")
    in_flight: int = Field(default=8, ge=1, le=128, description="per model, questions that the engine has at a time")
    max_waiting: int = Field(
        default=64, ge=1, description="per model; beyond it the lowest priority is shed, of those the newest"
    )
    url: str = Field(default="http://127.0.0.1:8090", description="where `candor models infer` and others ask")
    key: SecretStr | None = Field(default=None, description="with which they ask: an API key or a token")

    @field_validator("secret")
    @classmethod
    def _secret_is_long_enough(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and len(secret.get_secret_value().encode()) < SECRET_MIN_BYTES:
            raise ValueError(f"needs at least {SECRET_MIN_BYTES} bytes; `openssl rand -hex 32` makes one")
        return secret

    @field_validator("api_keys")
    @classmethod
    def _ids_differ(cls, keys: list[ApiKey]) -> list[ApiKey]:
        if len({key.id for key in keys}) < len(keys):
            raise ValueError("two keys have one id")
        return keys

    @field_validator("url")
    @classmethod
    def _url_is_an_origin(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path not in ("", "/"):
            raise ValueError("must be http(s)://host[:port] without a path")
        return f"{parts.scheme}://{parts.netloc}"

    @model_validator(mode="after")
    def _largest_body_fits(self) -> "ServiceSettings":
        if self.max_bodies_bytes < self.max_body_bytes:
            raise ValueError("max_bodies_bytes is less than max_body_bytes")
        return self

    @property
    def loopback(self) -> bool:
        """Whether only this computer can reach it."""
        return is_loopback(self.host)

    @property
    def open(self) -> bool:
        """Whether who asks needs no key: nobody made one."""
        return not self.api_keys and self.secret is None


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this computer."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def checked(settings: ServiceSettings) -> ServiceSettings:
    """The settings, if they are safe. Raises ValueError with the remedy."""
    if not settings.loopback and settings.open:
        raise ValueError(
            "refusing to serve models beyond this computer without a key: `candor models key NAME` makes one"
        )
    return settings
