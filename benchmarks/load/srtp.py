"""SRTP as a client has it, through pylibsrtp's public sessions."""

from dataclasses import dataclass

import pylibsrtp
from pylibsrtp import Policy, Session

REPLAY_WINDOW_PACKETS = 1024


@dataclass(frozen=True, slots=True)
class SrtpProfile:
    """A protection profile (RFC 5764 section 4.1.2, RFC 7714 section 14.2); lengths in bytes."""

    name: str
    openssl: bytes
    libsrtp: int
    key_length: int
    salt_length: int


GCM = SrtpProfile("AES-128-GCM", b"SRTP_AEAD_AES_128_GCM", Policy.SRTP_PROFILE_AEAD_AES_128_GCM, 16, 12)
CM = SrtpProfile("AES-128-CM", b"SRTP_AES128_CM_SHA1_80", Policy.SRTP_PROFILE_AES128_CM_SHA1_80, 16, 14)


class Srtp:
    """Both directions of one connection."""

    def __init__(self, profile: SrtpProfile, ours: bytes, theirs: bytes) -> None:
        self._out = Session(_policy(profile, ours, Policy.SSRC_ANY_OUTBOUND))
        self._in = Session(_policy(profile, theirs, Policy.SSRC_ANY_INBOUND))

    @classmethod
    def of_client(cls, profile: SrtpProfile, material: bytes) -> "Srtp":
        """From the keying material of a DTLS client (RFC 5764 section 4.2): two keys, then two salts, ours first."""
        key, salt = profile.key_length, profile.salt_length
        keys, salts = material[: 2 * key], material[2 * key :]
        return cls(profile, keys[:key] + salts[:salt], keys[key:] + salts[salt:])

    def protect(self, packet: bytes) -> bytes:
        """An RTP packet, ready to send."""
        return bytes(self._out.protect(packet))

    def protect_rtcp(self, packet: bytes) -> bytes:
        """An RTCP packet, ready to send."""
        return bytes(self._out.protect_rtcp(packet))

    def unprotect(self, packet: bytes) -> bytes | None:
        """The clear RTP packet, None if it is not genuine."""
        try:
            return bytes(self._in.unprotect(packet))
        except pylibsrtp.Error:
            return None

    def unprotect_rtcp(self, packet: bytes) -> bytes | None:
        """The clear RTCP packet, None if it is not genuine."""
        try:
            return bytes(self._in.unprotect_rtcp(packet))
        except pylibsrtp.Error:
            return None


def _policy(profile: SrtpProfile, key_and_salt: bytes, ssrc_type: int) -> Policy:
    policy = Policy(key=key_and_salt, ssrc_type=ssrc_type, srtp_profile=profile.libsrtp)
    policy.window_size = REPLAY_WINDOW_PACKETS
    return policy
