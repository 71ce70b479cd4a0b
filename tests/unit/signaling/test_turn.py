"""TURN credentials that expire, and the settings that they come from."""

import base64
import hashlib
import hmac

import pytest
from pydantic import ValidationError

from signaling.turn import TurnSettings, credentials

SECRET = "t" * 32


def test_credentials_are_what_coturn_computes() -> None:
    username, password = credentials(SECRET, "p_1", 1_900_000_000)
    expiry, _, opaque = username.partition(":")
    assert expiry == "1900000000"
    assert "p_1" not in opaque
    assert base64.b64decode(password) == hmac.digest(SECRET.encode(), username.encode(), hashlib.sha1)


def test_a_participant_keeps_the_name_that_quotas_count_and_nobody_shares_it() -> None:
    [first, later, another] = [
        credentials(SECRET, who, when)[0].partition(":")[2] for who, when in (("p_1", 1), ("p_1", 2), ("p_2", 1))
    ]
    assert first == later != another


@pytest.mark.parametrize(
    "url",
    [
        "turn:relay.example",
        "turn:192.0.2.1:3478",
        "turn:[2001:db8::1]:3478?transport=tcp",
        "turns:relay.example:443?transport=tcp",
    ],
)
def test_turn_uris_are_taken(url: str) -> None:
    assert TurnSettings.model_validate({"urls": [url], "secret": SECRET}).urls == [url]


@pytest.mark.parametrize(
    "url", ["stun:relay.example", "turn:", "turn:a b", "turn:relay.example?transport=sctp", "turn://relay.example", "x"]
)
def test_what_is_no_turn_uri_is_refused_by_name(url: str) -> None:
    with pytest.raises(ValidationError, match="is not turn"):
        TurnSettings.model_validate({"urls": [url], "secret": SECRET})


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"urls": ["turn:relay.example"]}, "together"),
        ({"secret": SECRET}, "together"),
        ({"urls": ["turn:relay.example"], "secret": "short"}, "32 bytes"),
        ({"urls": ["turn:relay.example"], "secret": SECRET, "ttl_s": 5}, "greater than or equal to 60"),
    ],
)
def test_half_a_relay_or_a_weak_one_is_refused(fields: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        TurnSettings.model_validate(fields)
