"""Who may enter: signed tokens (JWT, RFC 7519, HS256), and session keys that bring a participant back.

A token that names an `identity` belongs to one person: whoever uses it again replaces themselves, and it can be banned
from a room. A token without one is an invite for anybody who has the link; each use is a new person.

An invite that signaling makes says through whom it came (`inv`): the traces of the inviter, of who invited them, and so
on. Who was removed from a room is found there, however many links their invitations were passed through.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import jwt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from signaling.errors import GrantError
from signaling.protocol.codes import ErrorCode
from signaling.protocol.messages import Name, RoomId

ALGORITHM = "HS256"
AUDIENCE = "candor"
LEEWAY_S = 10
SESSION_KEY_BYTES = 16
LINEAGE_MAX = 8


class Grant(BaseModel):
    """What a verified token allows. Times are seconds since the epoch, UTC."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    room: RoomId
    identity: str = Field(default="", max_length=128)
    name: Name | None = None
    host: bool = False
    inv: list[Annotated[str, Field(max_length=32)]] = Field(default_factory=list, max_length=LINEAGE_MAX)
    exp: int
    jti: str = Field(max_length=64)


def mint(
    secret: str,
    room: str,
    *,
    identity: str = "",
    name: str | None = None,
    host: bool = False,
    lineage: Iterable[str] = (),
    ttl_s: int = 3600,
) -> str:
    """A signed token for `room`, valid from now for `ttl_s` seconds. Raises ValueError if a claim is not valid."""
    grant = Grant(
        room=room,
        identity=identity,
        name=name,
        host=host,
        inv=list(lineage),
        exp=int(time.time()) + ttl_s,
        jti=secrets.token_hex(8),
    )
    return jwt.encode({**grant.model_dump(exclude_none=True), "aud": AUDIENCE}, secret, algorithm=ALGORITHM)


def verify(secret: str, token: str, room: str) -> Grant:
    """The grant in `token`. Raises `GrantError`: `token_expired`, or `bad_token` for everything else that is wrong."""
    try:
        claims = jwt.decode(
            token,
            secret,
            algorithms=[ALGORITHM],
            audience=AUDIENCE,
            leeway=LEEWAY_S,
            options={"require": ["exp", "room", "jti"]},
        )
        grant = Grant.model_validate(claims)
    except jwt.ExpiredSignatureError:
        raise GrantError(ErrorCode.TOKEN_EXPIRED, "the invitation has expired; ask for a new one") from None
    except (jwt.InvalidTokenError, ValidationError):
        raise GrantError(ErrorCode.BAD_TOKEN, "the invitation is not valid") from None
    if grant.room != room:
        raise GrantError(ErrorCode.BAD_TOKEN, "the invitation is for another room")
    return grant


def trace_of(identity: str, secret: str) -> str:
    """How somebody appears in the invites that come from them: a keyed hash, for an identity may be an address of mail."""
    key = hashlib.sha256(secret.encode()).digest()
    return hmac.new(key, identity.encode(), hashlib.sha256).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class SessionKey:
    """A fresh key `participant_id.secret`, with 128 random bits. The text goes to the client, only `digest` is kept."""

    text: str
    digest: str

    @classmethod
    def new(cls, participant_id: str) -> "SessionKey":
        """A key for one participant, good for one resume whose answer arrives."""
        text = f"{participant_id}.{secrets.token_urlsafe(SESSION_KEY_BYTES)}"
        return cls(text, digest_of(text))


def digest_of(key: str) -> str:
    """SHA-256 in hex; enough for a key that is random itself."""
    return hashlib.sha256(key.encode()).hexdigest()


def owner_of(key: str) -> str:
    """The participant id that a session key claims, not yet verified."""
    return key.partition(".")[0]


def key_matches(key: str, digest: str) -> bool:
    """Whether `key` is the one behind `digest`, in constant time. An empty digest (a used or void key) never matches."""
    return bool(digest) and hmac.compare_digest(digest_of(key), digest)
