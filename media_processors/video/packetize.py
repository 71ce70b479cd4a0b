"""VP8 frames become RTP payloads (RFC 7741): the other way round than `depacketize`."""

MAX_PAYLOAD_BYTES = 1_200
"""With RTP, extensions, SRTP, UDP and IP around it still below every path's limit."""
_DESCRIPTOR_BYTES = 6
_START = 0x10
_EXTENDED = 0x80
_PICTURE_ID_TL0_AND_TID = 0xE0
"""Section 4.2: where TL0PICIDX is there, the temporal id has to be as well."""


class Vp8Packetizer:
    """One stream. Every frame is of the base layer, so picture id and tl0 count together."""

    def __init__(self, picture_id: int = 0) -> None:
        self._picture_id = picture_id & 0x7FFF
        self._tl0 = 0

    def packets(self, frame: bytes) -> list[bytes]:
        """The payloads of a frame, of nearly the same size; the last one wants the marker. Raises ValueError if it is empty."""
        if not frame:
            raise ValueError("VP8 frame: empty")
        count = -(-len(frame) // (MAX_PAYLOAD_BYTES - _DESCRIPTOR_BYTES))
        size = -(-len(frame) // count)
        extension = bytes(
            [_PICTURE_ID_TL0_AND_TID, 0x80 | self._picture_id >> 8, self._picture_id & 0xFF, self._tl0, 0]
        )
        self._picture_id = (self._picture_id + 1) & 0x7FFF
        self._tl0 = (self._tl0 + 1) & 0xFF
        return [
            bytes([_EXTENDED | (0 if at else _START)]) + extension + frame[at : at + size]
            for at in range(0, len(frame), size)
        ]
