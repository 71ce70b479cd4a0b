"""Everything private of aiortc, aioice and pylibsrtp that we lean on. An upgrade that moves one of these fails here, by name."""

import importlib.metadata
import inspect
import struct

import aioice.ice
import pytest
from aiortc import RTCCertificate, RTCDtlsTransport
from aiortc.rtcdtlstransport import SRTP_AEAD_AES_128_GCM, SRTP_AES128_CM_SHA1_80
from pylibsrtp import Policy, Session
from pylibsrtp._binding import ffi, lib

from sfu.errors import DropReason
from sfu.net.peer import Certificate
from sfu.net.srtp import InboundSrtp, OutboundSrtp, PacketBuffer

PINNED = {"aiortc": "1.16.0", "aioice": "0.13.0", "pylibsrtp": "1.0.0"}


@pytest.mark.parametrize("package", PINNED)
def test_the_versions_are_those_that_were_read(package: str) -> None:
    assert importlib.metadata.version(package) == PINNED[package]


def test_aioice_connection_has_the_hooks() -> None:
    connection = aioice.ice.Connection
    assert list(inspect.signature(connection.get_component_candidates).parameters) == [
        "self",
        "component",
        "addresses",
        "timeout",
    ]
    assert list(inspect.signature(connection.check_incoming).parameters) == ["self", "message", "addr", "protocol"]
    assert list(inspect.signature(connection.check_complete).parameters) == ["self", "pair"]
    assert list(inspect.signature(connection.data_received).parameters) == ["self", "data", "component"]


async def test_aioice_connection_has_the_fields() -> None:
    connection = aioice.ice.Connection(ice_controlling=True, local_username="abcd", use_ipv6=False)
    assert connection._protocols == []
    assert connection._nominated == {}
    await connection.close()


def test_aioice_checks_integrity_before_check_incoming() -> None:
    """The address is bound in `check_incoming`, so integrity must be checked before it is called."""
    source = inspect.getsource(aioice.ice.Connection.request_received)
    assert source.index("check_message_integrity") < source.index("_early_checks.append")
    after = inspect.getsource(aioice.ice.Connection)
    assert after.count("self.check_incoming(") == 2  # from request_received, and for the early checks that it kept


def test_dtls_transport_has_the_seams() -> None:
    for name in ("_set_role", "_setup_srtp", "_recv_next"):
        assert callable(getattr(RTCDtlsTransport, name))
    source = inspect.getsource(RTCDtlsTransport)
    for name in ("self._srtp_profiles", "self._role", "self._ssl", "self.transport._recv", "self.transport._send"):
        assert name in source
    assert "self._setup_srtp()" in inspect.getsource(RTCDtlsTransport.start)


def test_srtp_profiles_have_the_fields() -> None:
    for profile in (SRTP_AEAD_AES_128_GCM, SRTP_AES128_CM_SHA1_80):
        assert profile.key_length == 16
        material = bytes(2 * (profile.key_length + profile.salt_length))
        assert len(profile.get_key_and_salt(material, 1)) == profile.key_length + profile.salt_length


def test_the_certificate_offers_rsa_suites_too() -> None:
    assert "_create_ssl_context" in vars(RTCCertificate)
    context = Certificate.generateCertificate()._create_ssl_context([SRTP_AEAD_AES_128_GCM])
    from OpenSSL import SSL

    suites = SSL.Connection(context).get_cipher_list()
    assert "ECDHE-ECDSA-AES128-GCM-SHA256" in suites
    assert "ECDHE-RSA-AES128-GCM-SHA256" in suites


def test_libsrtp_works_in_place_and_refuses_to_repeat() -> None:
    assert isinstance(Session()._srtp, ffi.CData)
    assert callable(lib.srtp_protect)
    key, buffer = bytes(range(28)), PacketBuffer()
    outbound = OutboundSrtp(Policy.SRTP_PROFILE_AEAD_AES_128_GCM, key)
    inbound = InboundSrtp(Policy.SRTP_PROFILE_AEAD_AES_128_GCM, key)
    packet = bytes.fromhex("806f000100000000000000ff") + b"payload"

    def protect() -> int:
        buffer.view[: len(packet)] = packet
        buffer.length[0] = len(packet)
        return int(lib.srtp_protect(outbound.handle, buffer.cdata, buffer.length))

    assert protect() == 0
    size = buffer.length[0]
    protected = bytes(buffer.view[:size])
    assert inbound.unprotect(buffer, size, rtcp=False) == packet
    buffer.view[:size] = protected
    assert inbound.unprotect(buffer, size, rtcp=False) is DropReason.SRTP_REJECTED  # replayed
    assert protect() != 0  # one (SSRC, sequence number) is protected once


def test_libsrtp_forgets_a_stream() -> None:
    """`OutboundSrtp.forget` leans on it: the SSRC is given in host order, and what was protected under it is no longer known."""
    buffer = PacketBuffer()
    outbound = OutboundSrtp(Policy.SRTP_PROFILE_AEAD_AES_128_GCM, bytes(range(28)))

    def protect(ssrc: int) -> int:
        packet = struct.pack("!BBHII", 0x80, 96, 1, 1, ssrc)
        buffer.view[: len(packet)] = packet
        buffer.length[0] = len(packet)
        return int(lib.srtp_protect(outbound.handle, buffer.cdata, buffer.length))

    assert [protect(0x01020304), protect(5)] == [0, 0]
    outbound.forget(0x01020304)
    outbound.forget(0x01020304)  # idempotent
    assert protect(0x01020304) == 0
    assert protect(5) != 0  # the others are still known
