"""Who may ask: API keys, of which the settings have only hashes, and signed tokens (JWT, RFC 7519, HS256).

Tokens are signed with the same secret as invitations to a room, for another audience: neither opens what the other does.
"""

import hashlib
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, field

import jwt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.service.errors import ServiceError
from models.service.settings import SCOPES, ApiKey, Scope, ServiceSettings

ALGORITHM = "HS256"
AUDIENCE = "candor-models"
LEEWAY_S = 10
KEY_BYTES = 32
MAX_CALLERS = 1024
"""Whose rate is remembered; beyond it the one that asked longest ago is forgotten, and begins with a full bucket."""


class Grant(BaseModel):
    """What a verified token allows. `exp`: seconds since the epoch, UTC."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    scopes: list[Scope] = Field(min_length=1)
    exp: int
    jti: str = Field(pattern=r"^[\w-]{1,64}$")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `id` is logged: of a key its id, of a token its jti."""

    id: str
    scopes: frozenset[Scope]
    requests_per_s: float | None = None
    """Where its key has a rate of its own."""

    def demand(self, scope: Scope) -> None:
        """Raises ServiceError (403) without the scope."""
        if scope not in self.scopes:
            raise ServiceError(403, "wrong_scope", f"this needs the scope {scope}")


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_s: float = field(default_factory=time.monotonic)


class Authority:
    """Tells callers from strangers, and how fast each may ask."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._keys = {key.sha256: key for key in settings.api_keys}
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def caller(self, authorization: str, api_key: str) -> Caller:
        """From the headers `Authorization: Bearer ...` and `X-API-Key`. Raises ServiceError (401)."""
        if self._settings.open:
            return Caller("anonymous", frozenset(SCOPES))
        scheme, _, text = authorization.partition(" ")
        presented = text.strip() if scheme.lower() == "bearer" else api_key
        if not presented:
            raise ServiceError(401, "no_key", "an API key or a token is needed: Authorization: Bearer ...")
        known = self._keys.get(digest_of(presented))  # a lookup by hash tells no timing of the key itself
        if known is not None:
            return Caller(f"key:{known.id}", frozenset(known.scopes), known.requests_per_s)
        grant = self._grant(presented)
        return Caller(f"token:{grant.jti}", frozenset(grant.scopes))

    def nobody(self) -> Caller:
        """Who asks what is open to all."""
        return Caller("nobody", frozenset())

    def _grant(self, token: str) -> Grant:
        secret = self._settings.secret
        if secret is None:
            raise ServiceError(401, "bad_key", "the API key is not known")
        try:
            claims = jwt.decode(
                token,
                secret.get_secret_value(),
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                leeway=LEEWAY_S,
                options={"require": ["exp", "jti"]},
            )
            return Grant.model_validate(claims)
        except jwt.ExpiredSignatureError:
            raise ServiceError(401, "token_expired", "the token has expired") from None
        except (jwt.InvalidTokenError, ValidationError):
            raise ServiceError(401, "bad_key", "the API key or token is not known") from None

    def charge(self, caller: Caller, requests: int = 1) -> None:
        """Count requests against the caller's rate. Raises ServiceError (429), and then counts nothing.

        More than the burst at once is taken while the bucket is full: a batch may be larger than it, and is paid for afterwards.
        """
        now_s = time.monotonic()
        per_s = caller.requests_per_s or self._settings.requests_per_s
        burst = self._settings.request_burst * per_s / self._settings.requests_per_s
        bucket = self._buckets.setdefault(caller.id, _Bucket(burst, now_s))
        self._buckets.move_to_end(caller.id)
        if len(self._buckets) > MAX_CALLERS:
            self._buckets.popitem(last=False)
        bucket.tokens = min(burst, bucket.tokens + (now_s - bucket.at_s) * per_s)
        bucket.at_s = now_s
        needed = min(float(requests), burst)
        if bucket.tokens < needed:
            raise ServiceError(
                429,
                "rate_limited",
                "more requests than this key may make",
                retryable=True,
                retry_s=(needed - bucket.tokens) / per_s,
            )
        bucket.tokens -= requests


def digest_of(key: str) -> str:
    """SHA-256 in hex; enough for a key that is random itself."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def new_key(name: str, scopes: list[Scope]) -> tuple[str, ApiKey]:
    """A fresh key, and what the settings keep of it. Raises pydantic.ValidationError for a name that is none."""
    key = f"cmk_{secrets.token_urlsafe(KEY_BYTES)}"
    return key, ApiKey(id=name, sha256=digest_of(key), scopes=scopes)


def mint(secret: str, scopes: list[Scope], ttl_s: int) -> str:
    """A token, valid from now. Raises ValueError if a claim is not valid."""
    grant = Grant(scopes=scopes, exp=int(time.time()) + ttl_s, jti=secrets.token_hex(8))
    return jwt.encode({**grant.model_dump(), "aud": AUDIENCE}, secret, algorithm=ALGORITHM)
