"""Receiver estimated maximum bitrate (draft-alvestrand-rmcat-remb-03 section 2.2)."""

import struct

from sfu.rtp import rtcp

_NAME = b"REMB"
_WORD = struct.Struct("!I")
_MANTISSA_BITS = 18
_LIMIT_BPS = 1 << 63  # the format reaches 2**81; beyond 63 bits it is an attack, and would not fit a channel message


def parse(fci: bytes) -> tuple[int, list[int]]:
    """(bitrate in bit/s, the SSRCs that share it) from the control information of a REMB.

    Raises ValueError when the identifier is missing, the SSRCs do not match their count or the bitrate exceeds 63 bits.
    """
    if len(fci) < 8 or fci[:4] != _NAME:
        raise ValueError("REMB identifier: missing, or cut short")
    count = fci[4]
    if len(fci) != 8 + 4 * count:
        raise ValueError("REMB SSRCs: not as many as counted")
    exponent = fci[5] >> 2
    mantissa = (fci[5] & 3) << 16 | fci[6] << 8 | fci[7]
    bitrate_bps = mantissa << exponent
    if bitrate_bps >= _LIMIT_BPS:
        raise ValueError("REMB bitrate: exceeds 63 bits")
    return bitrate_bps, [ssrc for (ssrc,) in _WORD.iter_unpack(fci[8:])]


def build(sender: int, bitrate_bps: int, ssrcs: list[int]) -> bytes:
    """A REMB; the bitrate keeps its 18 leading bits, the rest is cut off.

    Raises ValueError when the bitrate is negative or exceeds 63 bits, or there are more than 255 SSRCs.
    """
    if not 0 <= bitrate_bps < _LIMIT_BPS:
        raise ValueError("REMB bitrate: negative or exceeds 63 bits")
    if len(ssrcs) > 255:
        raise ValueError("REMB SSRCs: more than 255")
    exponent = max(0, bitrate_bps.bit_length() - _MANTISSA_BITS)
    rate = exponent << _MANTISSA_BITS | bitrate_bps >> exponent
    fci = _NAME + bytes([len(ssrcs)]) + rate.to_bytes(3, "big") + b"".join(_WORD.pack(ssrc) for ssrc in ssrcs)
    return rtcp.build_feedback(rtcp.PSFB, rtcp.FMT_REMB, sender, 0, fci)
