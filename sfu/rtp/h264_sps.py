"""How large H.264 pictures are, from the sequence parameter set (ITU-T H.264 section 7.3.2.1.1) of a key frame's packet."""

from sfu.rtp import h264

SPS_BYTES = 64
"""A longer one is not read: encoders of calls make 10 to 40 bytes, and reading costs a microsecond per bit."""
_CHROMA_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
_SUB_WIDTH_HEIGHT = {1: (2, 2), 2: (2, 1), 3: (1, 1)}
_MAX_SIZE = 16_384


class _Bits:
    """Reads from the most significant bit on (section 7.2) and Exp-Golomb codes (section 9.1)."""

    def __init__(self, data: bytes) -> None:
        self._number = int.from_bytes(data, "big")
        self._left = len(data) * 8

    def take(self, count: int) -> int:
        """An unsigned number of `count` bits. Raises ValueError at the end."""
        if count > self._left:
            raise ValueError("H.264 SPS: cut short")
        self._left -= count
        return self._number >> self._left & ((1 << count) - 1)

    def unsigned(self) -> int:
        """ue(v). Raises ValueError at the end, or if it is longer than 32 bits."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 32:
                raise ValueError("H.264 SPS: a number is too long")
        return (1 << zeros) - 1 + self.take(zeros)


def picture_size(payload: bytes) -> tuple[int, int] | None:
    """(width, height) in pixels if the packet holds a sequence parameter set.

    Raises ValueError when the packet or the set is malformed, too long, or has scaling lists, which no encoder of calls uses.
    """
    sps = h264.parameter_set(payload)
    if sps is None:
        return None
    if len(sps) > SPS_BYTES:
        raise ValueError("H.264 SPS: longer than is read")
    bits = _Bits(sps[1:].replace(b"\x00\x00\x03", b"\x00\x00"))  # without emulation prevention (section 7.4.1)
    chroma = _chroma(bits)
    bits.unsigned()  # log2_max_frame_num_minus4
    _skip_order(bits)
    bits.unsigned()  # max_num_ref_frames
    bits.take(1)  # gaps_in_frame_num_value_allowed_flag
    width, height = 16 * (bits.unsigned() + 1), 16 * (bits.unsigned() + 1)
    frames_only = bits.take(1)
    height *= 2 - frames_only
    if not frames_only:
        bits.take(1)  # mb_adaptive_frame_field_flag
    bits.take(1)  # direct_8x8_inference_flag
    if bits.take(1):
        unit_x, unit_y = _SUB_WIDTH_HEIGHT.get(chroma, (1, 1))
        width -= unit_x * (bits.unsigned() + bits.unsigned())
        height -= unit_y * (2 - frames_only) * (bits.unsigned() + bits.unsigned())
    if not (0 < width <= _MAX_SIZE and 0 < height <= _MAX_SIZE):
        raise ValueError("H.264 SPS size: not between 1 and 16384")
    return width, height


def _chroma(bits: _Bits) -> int:
    """From profile_idc to the scaling matrix; chroma_format_idc."""
    profile = bits.take(8)
    bits.take(16)  # constraint flags, level_idc
    bits.unsigned()  # seq_parameter_set_id
    if profile not in _CHROMA_PROFILES:
        return 1
    chroma = bits.unsigned()
    if chroma == 3:
        bits.take(1)  # separate_colour_plane_flag
    bits.unsigned()  # bit_depth_luma_minus8
    bits.unsigned()  # bit_depth_chroma_minus8
    bits.take(1)  # qpprime_y_zero_transform_bypass_flag
    if bits.take(1):
        raise ValueError("H.264 SPS scaling lists: not read")
    return chroma


def _skip_order(bits: _Bits) -> None:
    """pic_order_cnt_type and what belongs to it."""
    kind = bits.unsigned()
    if kind == 0:
        bits.unsigned()  # log2_max_pic_order_cnt_lsb_minus4
    elif kind == 1:
        bits.take(1)  # delta_pic_order_always_zero_flag
        bits.unsigned()  # offset_for_non_ref_pic: signed, of the same length
        bits.unsigned()  # offset_for_top_to_bottom_field
        for _ in range(bits.unsigned()):
            bits.unsigned()
