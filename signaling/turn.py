"""Credentials for a TURN server of our own that expire (draft-uberti-behave-turn-rest-00), for those who are in a room.

coturn, with `use-auth-secret` and the same secret, checks them without asking us. It looks at their age only when a client
allocates a relayed address: one that exists may be refreshed long after (measured with coturn 4.6.1). So a call outlives its
credentials; whoever restarts ICE or connects anew needs fresh ones, and gets them before the last ones expire.
"""

import asyncio
import base64
import hashlib
import hmac
import re
import time
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from signaling.protocol.messages import IceServer, IceServersChanged
from signaling.rooms import Rooms

SECRET_MIN_BYTES = 32
RENEWALS_PER_TTL = 2
OPAQUE_HEX_DIGITS = 16
URI = re.compile(r"turns?:(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?(\?transport=(udp|tcp))?")
"""RFC 7065 section 3.1, with the two transports that browsers know."""


class TurnSettings(BaseModel):
    """The `signaling.turn` section of the settings: none unless `urls` and `secret` are set, always both."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    urls: list[str] = Field(
        default_factory=list, max_length=8, description="as clients reach it, e.g. turns:turn.example:443?transport=tcp"
    )
    secret: SecretStr | None = Field(default=None, description="coturn's `static-auth-secret`; at least 32 bytes")
    ttl_s: int = Field(default=300, ge=60, le=86400, description="how long one may connect with given credentials")

    @field_validator("urls")
    @classmethod
    def _urls_are_turn_uris(cls, urls: list[str]) -> list[str]:
        for url in urls:
            if URI.fullmatch(url) is None:
                raise ValueError(f"{url!r} is not turn(s):HOST[:PORT][?transport=udp|tcp]")
        return urls

    @field_validator("secret")
    @classmethod
    def _secret_is_long_enough(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and len(secret.get_secret_value().encode()) < SECRET_MIN_BYTES:
            raise ValueError(f"needs at least {SECRET_MIN_BYTES} bytes; `openssl rand -hex 32` makes one")
        return secret

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if bool(self.urls) is not (self.secret is not None):
            raise ValueError("urls and secret are set together or not at all")
        return self


def credentials(secret: str, participant_id: str, expires_at_s: int) -> tuple[str, str]:
    """User name and password that are good until `expires_at_s`, seconds since the epoch.

    The name is `expiry:opaque`; what follows the colon is one and the same for a participant, so that coturn's quota per user
    counts all that they have, and tells whoever reads coturn's log nothing about who it is.
    """
    opaque = hmac.new(secret.encode(), f"participant {participant_id}".encode(), hashlib.sha256)
    username = f"{expires_at_s}:{opaque.hexdigest()[:OPAQUE_HEX_DIGITS]}"
    # SHA-1 because the draft and coturn say so; HMAC does not need it to be free of collisions.
    password = hmac.new(secret.encode(), username.encode(), hashlib.sha1).digest()
    return username, base64.b64encode(password).decode()


class IceServers:
    """What participants are told about STUN and TURN servers, and again in time as long as they are in a room."""

    def __init__(self, static: list[IceServer], turn: TurnSettings, rooms: Rooms) -> None:
        self._static = static
        self._turn = turn
        self._rooms = rooms
        self._renewing: asyncio.Task[None] | None = None

    def public(self) -> list[list[str]]:
        """The URLs of each, without credentials."""
        turn = [self._turn.urls] if self._turn.urls else []
        return [*(server.urls for server in self._static), *turn]

    def of(self, participant_id: str) -> list[IceServer]:
        """For one participant, as of now."""
        secret = self._turn.secret
        if secret is None:
            return self._static
        expires_at_s = int(time.time()) + self._turn.ttl_s
        username, credential = credentials(secret.get_secret_value(), participant_id, expires_at_s)
        return [*self._static, IceServer(urls=self._turn.urls, username=username, credential=credential)]

    def start(self) -> None:
        """Begin to renew credentials, if there are any that expire."""
        if self._turn.secret is not None:
            self._renewing = asyncio.create_task(self._renew(), name="renew-turn-credentials")

    async def close(self) -> None:
        """Stop renewing. Idempotent."""
        task, self._renewing = self._renewing, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def renew(self) -> None:
        """Send fresh credentials to everybody who is there; who is away gets them with the answer to their resume."""
        for room in self._rooms:
            for participant in room.participants.values():
                if participant.present:
                    participant.send(IceServersChanged(ice_servers=self.of(participant.id)))

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._turn.ttl_s / RENEWALS_PER_TTL)
            self.renew()
