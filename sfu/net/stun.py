"""The one thing the mux must read of a STUN message: for whom it is (RFC 8489 sections 5 and 14)."""

import struct

_HEADER = struct.Struct("!HHI12s")
_ATTRIBUTE = struct.Struct("!HH")
MAGIC_COOKIE = 0x2112A442
USERNAME = 0x0006


def username(message: bytes) -> str:
    """The USERNAME of a STUN message. Raises ValueError if it is malformed or has none."""
    if len(message) < _HEADER.size:
        raise ValueError("STUN header is cut short")
    _, length, cookie, _ = _HEADER.unpack_from(message)
    if cookie != MAGIC_COOKIE:
        raise ValueError("STUN magic cookie")
    if length % 4 or length != len(message) - _HEADER.size:
        raise ValueError("STUN message length")
    at = _HEADER.size
    while at + _ATTRIBUTE.size <= len(message):
        kind, size = _ATTRIBUTE.unpack_from(message, at)
        at += _ATTRIBUTE.size
        if at + size > len(message):
            raise ValueError("STUN attribute is cut short")
        if kind == USERNAME:
            return message[at : at + size].decode()
        at += size + -size % 4
    raise ValueError("STUN message has no USERNAME")
