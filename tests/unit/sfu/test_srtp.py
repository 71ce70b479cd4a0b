"""How many SSRCs a peer may use: libsrtp remembers each."""

import secrets
import struct

from pylibsrtp import Policy
from pylibsrtp._binding import lib

from sfu.errors import DropReason
from sfu.net.srtp import SSRCS_MAX, InboundSrtp, OutboundSrtp, PacketBuffer

PROFILE = Policy.SRTP_PROFILE_AEAD_AES_128_GCM


class Pair:
    """Both ends of one direction."""

    def __init__(self) -> None:
        key = secrets.token_bytes(28)
        self._outbound = OutboundSrtp(PROFILE, key)
        self._inbound = InboundSrtp(PROFILE, key)
        self._buffer = PacketBuffer()

    def rtp(self, ssrc: int, seq: int = 1, *, forged: bool = False) -> bytes | DropReason:
        """What a packet becomes at the other end."""
        packet = struct.pack("!BBHII", 0x80, 96, seq, 1, ssrc) + b"payload"
        self._buffer.view[: len(packet)] = packet
        self._buffer.length[0] = len(packet)
        assert lib.srtp_protect(self._outbound.handle, self._buffer.cdata, self._buffer.length) == 0
        size = self._buffer.length[0]
        if forged:
            self._buffer.view[size - 1] ^= 1
        return self._inbound.unprotect(self._buffer, size, rtcp=False)

    def rtcp(self, ssrc: int) -> bytes | DropReason:
        """What a receiver report becomes at the other end."""
        protected = self._outbound.protect_rtcp(self._buffer, struct.pack("!BBHI", 0x80, 201, 1, ssrc))
        assert protected is not None
        return self._inbound.unprotect(self._buffer, len(protected), rtcp=True)


def test_rtp_and_rtcp_share_the_number_of_ssrcs() -> None:
    pair = Pair()
    for ssrc in range(1, SSRCS_MAX, 2):
        assert isinstance(pair.rtp(ssrc), bytes)
        assert isinstance(pair.rtcp(ssrc + 1), bytes)
    assert pair.rtp(SSRCS_MAX + 1) is DropReason.SSRC_LIMIT
    assert pair.rtcp(SSRCS_MAX + 1) is DropReason.SSRC_LIMIT
    assert isinstance(pair.rtp(1, 2), bytes)  # the known ones go on
    assert isinstance(pair.rtcp(2), bytes)
    assert isinstance(pair.rtp(2, 2), bytes)  # one SSRC, in RTP and in RTCP


def test_forged_packets_use_no_ssrc_up() -> None:
    pair = Pair()
    for ssrc in range(1, 2 * SSRCS_MAX):
        assert pair.rtp(ssrc, forged=True) is DropReason.SRTP_REJECTED
    assert isinstance(pair.rtp(9999), bytes)
