"""Where a key frame starts in VP9 (RFC 9628 section 4.2)."""

_PICTURE_ID, _INTER_PREDICTED, _LAYERS, _BEGINS_FRAME = 0x80, 0x40, 0x20, 0x08


def is_keyframe(payload: bytes) -> bool:
    """Whether this is the first packet of a frame that is predicted from no earlier picture, in the lowest spatial layer.

    Raises ValueError when the payload descriptor is cut short or nothing follows it.
    """
    if not payload:
        raise ValueError("VP9 payload: empty")
    first = payload[0]
    at = 1
    if first & _PICTURE_ID:
        if len(payload) <= at:
            raise ValueError("VP9 picture id: missing")
        at += 2 if payload[at] & 0x80 else 1
    if len(payload) <= at:
        raise ValueError("VP9 payload descriptor: nothing follows it")
    spatial_id = payload[at] >> 1 & 7 if first & _LAYERS else 0
    return first & (_INTER_PREDICTED | _BEGINS_FRAME) == _BEGINS_FRAME and spatial_id == 0
