"""The `signaling` section of the settings, and what must be true before it may listen to more than this computer."""

import ipaddress
import secrets
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from signaling.policy import PolicySettings
from signaling.protocol.messages import IceServer, RoomId
from signaling.turn import TurnSettings

SECRET_MIN_BYTES = 32  # RFC 7518 section 3.2: an HS256 key has at least the size of the hash
LOOPBACK_HOST = "127.0.0.1"
ANY_HOST = "0.0.0.0"  # only used in LAN mode, which closes the rooms  # nosec B104


class SignalingSettings(BaseModel):
    """Where signaling listens, who may come in, and how much one client may ask."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = LOOPBACK_HOST
    port: int = Field(default=8080, ge=0, le=65535, description="0: any free port")
    lan: bool = Field(default=False, description="listen on all addresses; rooms are closed, an invite link lets in")
    tls_cert: Path | None = None
    tls_key: Path | None = None
    public_url: str | None = Field(default=None, description="how clients reach this server, e.g. https://meet.example")
    allowed_origins: list[str] = Field(
        default_factory=list, description="besides the page's own; e.g. https://x.example"
    )

    open_rooms: bool = Field(default=True, description="anybody may enter any room without a token (development)")
    demo_room: RoomId | None = None
    secret: SecretStr | None = Field(default=None, description="signs tokens (HS256); at least 32 bytes")
    invite_ttl_s: int = Field(default=24 * 3600, ge=60)
    room_capacity: int = Field(default=50, ge=1, le=1000)
    resume_window_s: float = Field(default=30.0, ge=0)
    policy: PolicySettings = PolicySettings()

    max_message_bytes: int = Field(default=1 << 20, ge=1024)
    messages_per_s: float = Field(default=30.0, gt=0, description="per connection, sustained")
    message_burst: int = Field(default=120, ge=1, description="per connection, at once")
    ice_servers: list[IceServer] = Field(default_factory=list, description="as they are, for everybody")
    turn: TurnSettings = Field(default=TurnSettings(), description="a relay of our own, with credentials that expire")

    @field_validator("secret")
    @classmethod
    def _secret_is_long_enough(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and len(secret.get_secret_value().encode()) < SECRET_MIN_BYTES:
            raise ValueError(f"needs at least {SECRET_MIN_BYTES} bytes; `openssl rand -hex 32` makes one")
        return secret

    @field_validator("public_url")
    @classmethod
    def _public_url_is_an_origin(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path not in ("", "/"):
            raise ValueError("must be http(s)://host[:port] without a path")
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def loopback(self) -> bool:
        """Whether only this computer can reach us."""
        return is_loopback(self.host)

    @property
    def scheme(self) -> str:
        """`https` if we hold a certificate ourselves."""
        return "https" if self.tls_cert else "http"


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this computer."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def prepared(settings: SignalingSettings) -> SignalingSettings:
    """The settings to serve with; the composition root calls this once, so that a restarted process keeps the secret.

    LAN mode closes the rooms, listens on all addresses and makes a random secret where none is set. Raises ValueError,
    with the remedy, if an address other than loopback would be bound while no secret is set or rooms are open to all.
    """
    changes: dict[str, object] = {}
    if settings.lan:
        changes["open_rooms"] = False
        if settings.loopback:
            changes["host"] = ANY_HOST
        if settings.secret is None:
            changes["secret"] = SecretStr(secrets.token_hex(SECRET_MIN_BYTES))
    settings = settings.model_copy(update=changes)
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise ValueError("tls_cert and tls_key must be set together")
    if not settings.open_rooms and settings.secret is None:
        raise ValueError("closed rooms need a secret: set CANDOR_SIGNALING__SECRET to 32 random bytes or more")
    if not settings.loopback and settings.secret is None:
        raise ValueError("refusing to listen beyond this computer without a secret: use --lan, or set a secret")
    if not settings.loopback and settings.open_rooms:
        raise ValueError(
            "refusing to listen beyond this computer while rooms are open: use --lan, or open_rooms = false"
        )
    return settings
