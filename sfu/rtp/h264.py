"""Where a key frame starts in H.264 (RFC 6184 sections 5.3 to 5.8)."""

_IDR = 5
_SPS = 7
_STAP_A = 24
_FU_A = 28
_DECODABLE_FROM = (_IDR, _SPS)


def is_keyframe(payload: bytes) -> bool:
    """Whether a receiver can start here: an SPS or the start of an IDR slice, alone, in a STAP-A or in a first FU-A.

    Raises ValueError when the payload is empty, or an aggregated or fragmented unit is cut short.
    """
    if not payload:
        raise ValueError("H.264 payload: empty")
    kind = payload[0] & 0x1F
    if kind == _FU_A:
        if len(payload) < 2:
            raise ValueError("H.264 FU header: missing")
        return payload[1] & 0x80 != 0 and payload[1] & 0x1F in _DECODABLE_FROM
    if kind == _STAP_A:
        return any(unit in _DECODABLE_FROM for unit in _aggregated_types(payload))
    return kind in _DECODABLE_FROM


def _aggregated_types(payload: bytes) -> list[int]:
    """The types of the units in a STAP-A: after one byte, each a 16-bit size and that many bytes (section 5.7.1)."""
    types = []
    at = 1
    while at < len(payload):
        size = int.from_bytes(payload[at : at + 2], "big")
        at += 2
        if size == 0 or at + size > len(payload):
            raise ValueError("H.264 STAP-A unit size: zero or exceeds the payload")
        types.append(payload[at] & 0x1F)
        at += size
    if not types:
        raise ValueError("H.264 STAP-A: holds no unit")
    return types
