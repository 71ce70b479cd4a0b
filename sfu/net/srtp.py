"""SRTP in place (RFC 3711, RFC 7714): libsrtp through the cffi binding that pylibsrtp ships.

pylibsrtp's own `protect` copies a packet three times; the data plane instead builds every packet in one shared buffer and
protects it there. There is one session per direction per peer, ever, and `allow_repeat_tx` is off, so libsrtp itself refuses
to protect one (SSRC, sequence number) twice: a second time would reuse an AES-GCM nonce.

libsrtp keeps a state for every SSRC it has seen, in a list that it searches for each packet, so both directions bound it.
"""

import contextlib
from typing import Any

from pylibsrtp import Error, Policy, Session
from pylibsrtp._binding import ffi, lib

from sfu.errors import DropReason

BUFFER_BYTES = 4096
"""Far more than the largest datagram that is read: a forwarded packet may get a longer header than it came with."""
REPLAY_WINDOW_PACKETS = 1024
OVERHEAD_MAX_BYTES = 32
"""Largest growth of a packet by protection: a 16-byte tag and, for SRTCP, a 4-byte index."""
SSRCS_MAX = 512
"""SSRCs that a peer may send under, RTP and RTCP together: 32 m-lines with all their layers and RTX are fewer."""


class PacketBuffer:
    """Memory in which a packet is protected or unprotected in place.

    libsrtp does not know how long it is, so there is room for the overhead behind the longest packet that fits into `view`.
    """

    def __init__(self) -> None:
        self.cdata: Any = ffi.new("char[]", BUFFER_BYTES + OVERHEAD_MAX_BYTES)
        self.view = memoryview(ffi.buffer(self.cdata))[:BUFFER_BYTES]
        """Writable bytes, `BUFFER_BYTES` long."""
        self.length: Any = ffi.new("int *")
        """In: size of the clear packet. Out: size of the protected one, or the reverse."""


class InboundSrtp:
    """The receiving direction of one peer."""

    def __init__(self, profile: int, key_and_salt: bytes) -> None:
        policy = Policy(key=key_and_salt, ssrc_type=Policy.SSRC_ANY_INBOUND, srtp_profile=profile)
        policy.window_size = REPLAY_WINDOW_PACKETS
        self._session = Session(policy)
        self._handle = self._session._srtp[0]
        self._ssrcs: set[bytes] = set()

    def unprotect(self, buffer: PacketBuffer, size: int, rtcp: bool) -> bytes | DropReason:
        """The clear packet, or why there is none: forged, replayed or malformed, or one SSRC too many.

        Only a packet that authenticates makes its SSRC count; nobody else can use the number up.
        """
        ssrc = bytes(buffer.view[4:8] if rtcp else buffer.view[8:12])
        if ssrc not in self._ssrcs and len(self._ssrcs) >= SSRCS_MAX:
            return DropReason.SSRC_LIMIT
        buffer.length[0] = size
        function = lib.srtp_unprotect_rtcp if rtcp else lib.srtp_unprotect
        if function(self._handle, buffer.cdata, buffer.length):
            return DropReason.SRTP_REJECTED
        self._ssrcs.add(ssrc)
        return bytes(buffer.view[: buffer.length[0]])


class OutboundSrtp:
    """The sending direction of one peer."""

    def __init__(self, profile: int, key_and_salt: bytes) -> None:
        policy = Policy(key=key_and_salt, ssrc_type=Policy.SSRC_ANY_OUTBOUND, srtp_profile=profile)
        policy.allow_repeat_tx = False
        policy.window_size = REPLAY_WINDOW_PACKETS
        self._session = Session(policy)
        self.handle = self._session._srtp[0]
        """For the inner loop of the data plane: `PROTECT(handle, buffer.cdata, buffer.length)` returns 0 on success."""

    def protect_rtcp(self, buffer: PacketBuffer, packet: bytes) -> memoryview | None:
        """The protected packet (valid until the buffer is used again), or None if libsrtp refuses."""
        size = len(packet)
        buffer.view[:size] = packet
        buffer.length[0] = size
        if lib.srtp_protect_rtcp(self.handle, buffer.cdata, buffer.length):
            return None
        return buffer.view[: buffer.length[0]]

    def forget(self, ssrc: int) -> None:
        """Free what libsrtp keeps for an SSRC that will never be used again: not in RTP, nor as the sender of RTCP. Idempotent.

        With it goes the memory of what was protected, so a packet under this SSRC later could reuse a nonce.
        """
        with contextlib.suppress(Error):  # nothing was ever sent under it
            self._session.remove_stream(ssrc)


PROTECT = lib.srtp_protect
