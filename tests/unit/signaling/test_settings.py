"""What must be true before signaling listens beyond this computer."""

import pytest
from pydantic import SecretStr, ValidationError

from signaling.settings import SignalingSettings, is_loopback, prepared

SECRET = SecretStr("s" * 32)


def test_the_defaults_serve_this_computer_only() -> None:
    settings = prepared(SignalingSettings())
    assert settings.loopback and settings.open_rooms


@pytest.mark.parametrize(
    "settings",
    [
        SignalingSettings(host="0.0.0.0"),
        SignalingSettings(host="192.0.2.7", secret=SECRET),
        SignalingSettings(host="::", open_rooms=False),
        SignalingSettings(host="meet.example", secret=SECRET, open_rooms=True),
        SignalingSettings(open_rooms=False),
    ],
)
def test_unsafe_settings_are_refused_with_a_remedy(settings: SignalingSettings) -> None:
    with pytest.raises(ValueError, match=r"secret|--lan"):
        prepared(settings)


def test_closed_rooms_with_a_secret_may_listen_anywhere() -> None:
    settings = SignalingSettings(host="0.0.0.0", secret=SECRET, open_rooms=False)
    assert prepared(settings) == settings


def test_lan_closes_the_rooms_and_makes_a_secret_of_its_own() -> None:
    one, two = prepared(SignalingSettings(lan=True)), prepared(SignalingSettings(lan=True))
    assert one.host == "0.0.0.0" and not one.open_rooms
    assert one.secret is not None and two.secret is not None
    assert one.secret.get_secret_value() != two.secret.get_secret_value()
    assert prepared(one) == one
    assert prepared(SignalingSettings(lan=True, host="192.0.2.7", secret=SECRET)).host == "192.0.2.7"


def test_field_rules() -> None:
    for bad in ({"secret": "short"}, {"public_url": "meet.example"}, {"public_url": "https://x/y"}, {"prot": 1}):
        with pytest.raises(ValidationError):
            SignalingSettings.model_validate(bad)
    assert SignalingSettings(public_url="https://meet.example/").public_url == "https://meet.example"


def test_a_certificate_needs_its_key() -> None:
    with pytest.raises(ValueError, match="tls_key"):
        prepared(SignalingSettings.model_validate({"tls_cert": "cert.pem"}))


def test_the_secret_is_not_shown() -> None:
    assert "ssss" not in repr(SignalingSettings(secret=SECRET))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "a.localhost"])
def test_this_computer(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "localhost.evil.example", "127.0.0.1.evil.example", ""])
def test_not_only_this_computer(host: str) -> None:
    assert not is_loopback(host)
