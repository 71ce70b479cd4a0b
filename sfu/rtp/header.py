"""The RTP header (RFC 3550 section 5.1) with its extensions (RFC 8285), and arithmetic on numbers that wrap."""

import struct
from typing import NamedTuple

_FIXED = struct.Struct("!BBHII")
_unpack_fixed_and_extension = struct.Struct("!BBHIIHH").unpack_from
_EXTENSION = struct.Struct("!HH")
_ONE_BYTE = 0xBEDE
_TWO_BYTE = 0x1000  # the low four bits of this profile are free for applications


class RtpHeader(NamedTuple):
    """The fields of one packet; the payload is `packet[payload_start:payload_end]`, without its padding.

    `marker` is 0x80 or 0, ready to be or-ed with a payload type. `extensions` maps the local identifier (1..14, or 1..255 with
    two-byte headers) to the element's data; an identifier that occurs twice keeps its last data.
    """

    marker: int
    payload_type: int
    seq: int
    timestamp: int
    ssrc: int
    extensions: dict[int, bytes]
    payload_start: int
    payload_end: int


# A NamedTuple's own constructor is a Python function; this one saves a third of a microsecond per packet.
_new = tuple.__new__


def parse(packet: bytes) -> RtpHeader:
    """Read the header of an RTP packet (RFC 3550 section 5.1, RFC 8285 sections 4.2 and 4.3).

    Raises ValueError when the version is not 2, or the CSRC list, the extensions or the padding exceed the packet.
    """
    size = len(packet)
    if size < 16:
        return _parse_any(packet)
    first, second, seq, timestamp, ssrc, profile, words = _unpack_fixed_and_extension(packet)
    if first != 0x90 or profile != _ONE_BYTE:
        return _parse_any(packet)
    # No padding, no CSRC, extensions: what browsers send. The loop below is that of _one_byte_elements, inlined for speed.
    start = 16 + 4 * words
    if start > size:
        raise ValueError("RTP header extension: exceeds the packet")
    extensions = {}
    at = 16
    while at < start:
        head = packet[at]
        if 0x10 <= head < 0xF0:
            end = at + 2 + (head & 15)
            extensions[head >> 4] = packet[at + 1 : end]
            at = end
        elif head:
            break
        else:
            at += 1
    if at > start:
        raise ValueError("RTP header extension element: exceeds the extension")
    return _new(RtpHeader, (second & 0x80, second & 0x7F, seq, timestamp, ssrc, extensions, start, size))


def _parse_any(packet: bytes) -> RtpHeader:
    """`parse` without assumptions."""
    size = len(packet)
    if size < 12:
        raise ValueError("RTP fixed header: shorter than 12 bytes")
    first, second, seq, timestamp, ssrc = _FIXED.unpack_from(packet)
    if first >> 6 != 2:
        raise ValueError("RTP version: not 2")
    start = 12 + 4 * (first & 0x0F)
    if start > size:
        raise ValueError("RTP CSRC list: exceeds the packet")
    extensions: dict[int, bytes] = {}
    if first & 0x10:
        at = start + 4
        if at > size:
            raise ValueError("RTP header extension: exceeds the packet")
        profile, words = _EXTENSION.unpack_from(packet, start)
        start = at + 4 * words
        if start > size:
            raise ValueError("RTP header extension: exceeds the packet")
        if profile == _ONE_BYTE:
            extensions = _one_byte_elements(packet, at, start)
        elif profile & 0xFFF0 == _TWO_BYTE:
            extensions = _two_byte_elements(packet, at, start)
    end = size
    if first & 0x20:
        end -= packet[-1]
        if end < start or end == size:
            raise ValueError("RTP padding: zero or longer than the payload")
    return _new(RtpHeader, (second & 0x80, second & 0x7F, seq, timestamp, ssrc, extensions, start, end))


def _one_byte_elements(packet: bytes, at: int, end: int) -> dict[int, bytes]:
    """RFC 8285 section 4.2. Identifier 0 with a length, and identifier 15, end the list by definition."""
    elements = {}
    while at < end:
        head = packet[at]
        at += 1
        if head == 0:
            continue
        if head < 0x10 or head >= 0xF0:
            break
        stop = at + (head & 0x0F) + 1
        if stop > end:
            raise ValueError("RTP header extension element: exceeds the extension")
        elements[head >> 4] = packet[at:stop]
        at = stop
    return elements


def _two_byte_elements(packet: bytes, at: int, end: int) -> dict[int, bytes]:
    """RFC 8285 section 4.3. Identifier 0 is one byte of padding, without a length."""
    elements = {}
    while at < end:
        identifier = packet[at]
        at += 1
        if identifier == 0:
            continue
        if at == end:
            raise ValueError("RTP header extension element: has no length")
        stop = at + 1 + packet[at]
        if stop > end:
            raise ValueError("RTP header extension element: exceeds the extension")
        elements[identifier] = packet[at + 1 : stop]
        at = stop
    return elements


def seq_delta(a: int, b: int) -> int:
    """How far 16-bit sequence number `a` is ahead of `b`: -32768..32767 (RFC 1982's comparison, as a distance)."""
    return ((a - b + 0x8000) & 0xFFFF) - 0x8000


def timestamp_delta(a: int, b: int) -> int:
    """How far 32-bit timestamp `a` is ahead of `b`: -2**31..2**31 - 1."""
    return ((a - b + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000
