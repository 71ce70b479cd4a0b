"""What an Opus packet says about itself in its first bytes (RFC 6716 section 3); RFC 7587 puts exactly one in an RTP packet."""

# Samples per frame at 48 kHz, by configuration (RFC 6716 table 2): SILK, hybrid, CELT.
_SILK = (480, 960, 1920, 2880)
_HYBRID = (480, 960)
_CELT = (120, 240, 480, 960)
_FRAME_SAMPLES = _SILK * 3 + _HYBRID * 2 + _CELT * 4
_FIRST_CELT = 16
_FULLBAND_CELT = 28
_SILENT_FRAME = b"\xff\xfe"
_LONGEST = 5760  # 120 ms at 48 kHz, requirement R5
_SILK_FRAME = 960  # 20 ms at 48 kHz


def duration_samples(payload: bytes, rate: int = 48000) -> int:
    """How long the packet sounds, per channel, in samples at `rate` (8000, 12000, 16000, 24000 or 48000).

    2.5 to 120 ms. Raises ValueError when the payload is empty, or its frame count is missing, 0 or above 120 ms.
    """
    return _frame_samples(payload) * _frame_count(payload) * rate // 48000


def is_stereo(payload: bytes) -> bool:
    """The stereo bit of the first byte. Raises ValueError when the payload is empty."""
    return _first_byte(payload) & 0x04 != 0


def is_dtx(payload: bytes) -> bool:
    """Whether the encoder had nothing to send: at most 2 bytes, as libopus marks it. Raises ValueError when it is empty."""
    _first_byte(payload)
    return len(payload) <= 2


def has_fec(payload: bytes) -> bool:
    """Whether the packet carries LBRR, a low-bitrate copy of the frame before it (RFC 6716 section 4.2.4).

    The first bits of a SILK frame are, per channel, one activity flag per 20 ms and then the LBRR flag. Raises ValueError when
    the payload is empty, or its count or lengths are malformed.
    """
    if _first_byte(payload) >> 3 >= _FIRST_CELT:
        return False
    at, size = _first_frame(payload)
    if size == 0:
        return False
    if at + size > len(payload):
        raise ValueError("Opus frame length: exceeds the packet")
    activity_flags = max(1, _frame_samples(payload) // _SILK_FRAME)
    flags = payload[at]
    mid = flags >> (7 - activity_flags) & 1
    side = flags >> (6 - 2 * activity_flags) & 1 if is_stereo(payload) else 0
    return bool(mid | side)


def silence(samples: int) -> bytes:
    """A packet of digital silence of 2.5 to 120 ms, a multiple of 120 `samples` at 48 kHz.

    It is CELT only (RFC 6716 section 4.3, "silence"), so a decoder that hears SILK or hybrid packets before and after it starts
    both layers anew (section 4.5.2): nothing of the sound before it reaches into the sound after it.
    """
    index = max(index for index, size in enumerate(_CELT) if samples % size == 0)
    count = samples // _CELT[index]
    return bytes((_FULLBAND_CELT + index << 3 | 3, count)) + _SILENT_FRAME * count


def _first_byte(payload: bytes) -> int:
    if not payload:
        raise ValueError("Opus payload: empty")
    return payload[0]


def _frame_samples(payload: bytes) -> int:
    return _FRAME_SAMPLES[_first_byte(payload) >> 3]


def _frame_count(payload: bytes) -> int:
    """By the code in the low two bits: 1, 2, 2 frames, or as many as the second byte says (RFC 6716 section 3.2)."""
    code = _first_byte(payload) & 3
    if code < 3:
        return 2 if code else 1
    if len(payload) < 2:
        raise ValueError("Opus frame count: missing")
    count = payload[1] & 0x3F
    if count == 0 or count * _frame_samples(payload) > _LONGEST:
        raise ValueError("Opus frame count: zero or longer than 120 ms")
    return count


def _first_frame(payload: bytes) -> tuple[int, int]:
    """Where the first frame begins, and its size in bytes (RFC 6716 sections 3.2.2 to 3.2.5)."""
    code = payload[0] & 3
    if code < 2:
        return 1, (len(payload) - 1) // (code + 1)
    if code == 2:
        return _frame_size(payload, 1)
    count = _frame_count(payload)
    at = 2
    end = len(payload)
    if payload[1] & 0x40:
        at, padding = _padding(payload, at)
        end -= padding
    if payload[1] & 0x80 and count > 1:
        at, first = _frame_size(payload, at)
        for _ in range(count - 2):
            at, _ = _frame_size(payload, at)
        return at, first
    if at > end:
        raise ValueError("Opus padding: exceeds the packet")
    return at, (end - at) // count


def _frame_size(payload: bytes, at: int) -> tuple[int, int]:
    """What follows the size of a frame, and that size: one byte, or two from 252 on (RFC 6716 section 3.2.1)."""
    size = payload[at : at + 2]
    if size and size[0] < 252:
        return at + 1, size[0]
    if len(size) < 2:
        raise ValueError("Opus frame size: cut short")
    return at + 2, size[0] + 4 * size[1]


def _padding(payload: bytes, at: int) -> tuple[int, int]:
    """What follows the padding's size, and that size: each 255 stands for 254 bytes and continues (RFC 6716 section 3.2.5)."""
    size = 0
    while at < len(payload):
        step = payload[at]
        at += 1
        if step < 255:
            return at, size + step
        size += 254
    raise ValueError("Opus padding size: cut short")
