"""The VP8 payload descriptor (RFC 7741 section 4.2) and the size of key frames (RFC 6386 section 9.1)."""

import struct
from typing import NamedTuple

_UINT16 = struct.Struct("!H")
_START_CODE = b"\x9d\x01\x2a"


class Vp8Descriptor(NamedTuple):
    """What forwarding needs of one packet. Positions `_at` count from the payload's first byte, 0 where the field is absent.

    `keyframe` is true only for the first packet of a key frame; only there are `width` and `height` (pixels) not 0.
    """

    keyframe: bool
    starts_frame: bool
    picture_id: int
    picture_id_at: int
    picture_id_long: bool
    tl0: int
    tl0_at: int
    temporal_id: int
    width: int
    height: int


# A NamedTuple's own constructor is a Python function; this one saves a third of a microsecond per packet.
_new = tuple.__new__


def parse(payload: bytes) -> Vp8Descriptor:
    """Read the descriptor and, of a key frame, its size.

    Raises ValueError when nothing follows the descriptor, or a key frame's header is cut short or has no start code.
    """
    picture_id = picture_id_at = tl0 = tl0_at = temporal_id = width = height = 0
    picture_id_long = False
    at = 1
    try:
        first = payload[0]
        if first & 0x80:
            flags = payload[1]
            at = 2
            if flags & 0x80:
                picture_id_at = 2
                picture_id = payload[2]
                at = 3
                if picture_id & 0x80:
                    picture_id_long = True
                    picture_id = (picture_id & 0x7F) << 8 | payload[3]
                    at = 4
            if flags & 0x40:
                tl0_at = at
                tl0 = payload[at]
                at += 1
            if flags & 0x30:
                if flags & 0x20:
                    temporal_id = payload[at] >> 6
                at += 1
        frame_tag = payload[at]
    except IndexError:
        raise ValueError("VP8 payload descriptor: nothing follows it") from None
    starts_frame = first & 0x17 == 0x10  # S is set and the partition index is 0
    keyframe = starts_frame and not frame_tag & 1
    if keyframe:
        width, height = _key_frame_size(payload, at)
    return _new(
        Vp8Descriptor,
        (
            keyframe,
            starts_frame,
            picture_id,
            picture_id_at,
            picture_id_long,
            tl0,
            tl0_at,
            temporal_id,
            width,
            height,
        ),
    )


def _key_frame_size(payload: bytes, at: int) -> tuple[int, int]:
    """(width, height) from the frame header at `at`; each has 14 bits, little endian, under two bits of upscaling."""
    if len(payload) < at + 10:
        raise ValueError("VP8 key frame header: shorter than 10 bytes")
    if payload[at + 3 : at + 6] != _START_CODE:
        raise ValueError("VP8 key frame start code: missing")
    width = payload[at + 6] | (payload[at + 7] & 0x3F) << 8
    height = payload[at + 8] | (payload[at + 9] & 0x3F) << 8
    return width, height


def rewrite(buffer: bytearray | memoryview, at: int, descriptor: Vp8Descriptor, picture_id: int, tl0: int) -> None:
    """Put `picture_id` and `tl0` into the payload that begins at `buffer[at]`, where its descriptor has them.

    The payload keeps its length: of the picture id the low 15 or 7 bits are written, of tl0 the low 8.
    """
    if descriptor.picture_id_at:
        if descriptor.picture_id_long:
            _UINT16.pack_into(buffer, at + descriptor.picture_id_at, 0x8000 | (picture_id & 0x7FFF))
        else:
            buffer[at + descriptor.picture_id_at] = picture_id & 0x7F
    if descriptor.tl0_at:
        buffer[at + descriptor.tl0_at] = tl0 & 0xFF


def frame_data(payload: bytes) -> bytes:
    """What follows the descriptor: this packet's piece of the frame. A frame is its packets' pieces in their order.

    Raises ValueError when nothing follows the descriptor.
    """
    at = 1
    try:
        if payload[0] & 0x80:
            flags = payload[1]
            at = 2
            if flags & 0x80:
                at += 2 if payload[2] & 0x80 else 1
            at += flags & 0x40 != 0
            at += flags & 0x30 != 0
        payload[at]
    except IndexError:
        raise ValueError("VP8 payload descriptor: nothing follows it") from None
    return payload[at:]
