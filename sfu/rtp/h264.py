"""H.264 payloads (RFC 6184 sections 5.3 to 5.8): where a key frame starts, and the byte stream that they make up."""

_IDR = 5
_SPS = 7
_STAP_A = 24
_FU_A = 28
_DECODABLE_FROM = (_IDR, _SPS)
_SINGLE = range(1, 24)
_START_CODE = b"\x00\x00\x00\x01"


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


def annex_b(payload: bytes) -> bytes:
    """What a packet adds to a byte stream with start codes (ITU-T H.264 annex B); a later fragment adds to the unit before it.

    Raises ValueError when the payload is empty, of the interleaved mode or of no defined type, or a unit in it is cut short.
    """
    if not payload:
        raise ValueError("H.264 payload: empty")
    kind = payload[0] & 0x1F
    if kind in _SINGLE:
        return _START_CODE + payload
    if kind == _STAP_A:
        return b"".join(_START_CODE + unit for unit in _aggregated(payload))
    if kind != _FU_A:
        raise ValueError(f"H.264 packet type: {kind} is not of the non-interleaved mode")
    if len(payload) < 3:
        raise ValueError("H.264 FU header: nothing follows it")
    if not payload[1] & 0x80:
        return payload[2:]
    return _START_CODE + bytes([payload[0] & 0xE0 | payload[1] & 0x1F]) + payload[2:]


def parameter_set(payload: bytes) -> bytes | None:
    """The sequence parameter set in a packet, alone or in a STAP-A; None if it holds none.

    Raises ValueError when the payload is empty or a unit in it is cut short.
    """
    if not payload:
        raise ValueError("H.264 payload: empty")
    kind = payload[0] & 0x1F
    units = _aggregated(payload) if kind == _STAP_A else [payload]
    return next((unit for unit in units if unit[0] & 0x1F == _SPS), None)


def _aggregated_types(payload: bytes) -> list[int]:
    return [unit[0] & 0x1F for unit in _aggregated(payload)]


def _aggregated(payload: bytes) -> list[bytes]:
    """The units in a STAP-A: after one byte, each a 16-bit size and that many bytes (section 5.7.1)."""
    units = []
    at = 1
    while at < len(payload):
        size = int.from_bytes(payload[at : at + 2], "big")
        at += 2
        if size == 0 or at + size > len(payload):
            raise ValueError("H.264 STAP-A unit size: zero or exceeds the payload")
        units.append(payload[at : at + size])
        at += size
    if not units:
        raise ValueError("H.264 STAP-A: holds no unit")
    return units
