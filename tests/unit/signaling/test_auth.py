"""Tokens and session keys."""

import time

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from signaling import auth
from signaling.errors import GrantError
from signaling.protocol.codes import ErrorCode

SECRET = "s" * 32


def code_of(token: str, room: str = "weekly", secret: str = SECRET) -> ErrorCode:
    with pytest.raises(GrantError) as refused:
        auth.verify(secret, token, room)
    return refused.value.code


def signed(algorithm: str = "HS256", key: str = SECRET, **claims: object) -> str:
    basis = {"room": "weekly", "aud": auth.AUDIENCE, "exp": int(time.time()) + 60, "jti": "1"}
    return jwt.encode({**basis, **claims}, key, algorithm=algorithm)


def test_a_token_carries_what_it_grants() -> None:
    token = auth.mint(SECRET, "weekly", identity="ada@example", name="Ada", host=True, ttl_s=60)
    grant = auth.verify(SECRET, token, "weekly")
    assert (grant.room, grant.identity, grant.name, grant.host) == ("weekly", "ada@example", "Ada", True)
    assert abs(grant.exp - time.time() - 60) < 5
    assert grant.jti != auth.verify(SECRET, auth.mint(SECRET, "weekly"), "weekly").jti


def test_expired_and_bad_tokens_are_told_apart() -> None:
    assert code_of(auth.mint(SECRET, "weekly", ttl_s=-60)) is ErrorCode.TOKEN_EXPIRED
    assert code_of(auth.mint(SECRET, "weekly"), room="other") is ErrorCode.BAD_TOKEN
    assert code_of(auth.mint("f" * 32, "weekly")) is ErrorCode.BAD_TOKEN
    assert code_of(auth.mint("f" * 32, "weekly", ttl_s=-60)) is ErrorCode.BAD_TOKEN


def test_a_clock_that_is_a_little_off_is_forgiven() -> None:
    assert auth.verify(SECRET, auth.mint(SECRET, "weekly", ttl_s=-2), "weekly").room == "weekly"


@pytest.mark.parametrize(
    "claims", [{"aud": "other"}, {"room": 7}, {"room": "a b"}, {"host": "yes"}, {"name": ""}, {"identity": "x" * 200}]
)
def test_claims_are_checked(claims: dict[str, object]) -> None:
    assert auth.verify(SECRET, signed(), "weekly").host is False
    assert code_of(signed(**claims)) is ErrorCode.BAD_TOKEN


def test_unsigned_and_otherwise_signed_tokens_are_refused() -> None:
    assert code_of(signed(algorithm="none", key="")) is ErrorCode.BAD_TOKEN
    assert code_of(signed(algorithm="HS512", key="s" * 64), secret="s" * 64) is ErrorCode.BAD_TOKEN


def test_required_claims() -> None:
    claims = {"room": "weekly", "aud": auth.AUDIENCE, "exp": int(time.time()) + 60, "jti": "1"}
    for missing in claims:
        rest = {name: value for name, value in claims.items() if name != missing}
        assert code_of(jwt.encode(rest, SECRET, algorithm="HS256")) is ErrorCode.BAD_TOKEN


@given(st.text(max_size=300))
def test_any_text_as_token_is_refused_with_a_code(text: str) -> None:
    assert code_of(text) is ErrorCode.BAD_TOKEN


def test_session_keys() -> None:
    one, two = auth.SessionKey.new("p_1"), auth.SessionKey.new("p_1")
    assert one.text != two.text
    assert len(one.text.partition(".")[2]) >= 22  # 128 bits in base64url
    assert auth.owner_of(one.text) == "p_1"
    assert auth.key_matches(one.text, one.digest)
    assert not auth.key_matches(two.text, one.digest)
    assert one.text not in one.digest


@given(st.text(max_size=100))
def test_nothing_matches_a_void_key(text: str) -> None:
    assert not auth.key_matches(text, "")
