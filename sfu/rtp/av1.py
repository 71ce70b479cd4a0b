"""Where a key frame starts in AV1 (RTP Payload Format for AV1, section 4.4), without the dependency descriptor."""

_CONTINUES, _NEW_SEQUENCE = 0x80, 0x08


def is_keyframe(payload: bytes) -> bool:
    """Whether this is the first packet of a coded video sequence, which begins with a key frame: bit N.

    Raises ValueError when nothing follows the aggregation header, or Z (continues an OBU) is set together with N.
    """
    if len(payload) < 2:
        raise ValueError("AV1 aggregation header: nothing follows it")
    starts = payload[0] & _NEW_SEQUENCE != 0
    if starts and payload[0] & _CONTINUES:
        raise ValueError("AV1 aggregation header: Z and N are both set")
    return starts
