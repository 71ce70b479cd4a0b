"""RTCP packets (RFC 3550 section 6, feedback RFC 4585 section 6.1, FIR RFC 5104 section 4.3.1).

A body is what follows the four-byte header, without padding. Feedback has two SSRCs in front of its control information (FCI);
`split_feedback` takes them apart, and `nack`, `remb` and `twcc` read the FCI.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

SR, RR, SDES, BYE, RTPFB, PSFB = 200, 201, 202, 203, 205, 206
FMT_NACK, FMT_TWCC = 1, 15  # of RTPFB
FMT_PLI, FMT_FIR, FMT_REMB = 1, 4, 15  # of PSFB

MAX_BLOCKS = 31  # the count of report blocks has five bits
_HEADER = struct.Struct("!BBH")
_SENDER_INFO = struct.Struct("!IQIII")
_BLOCK = struct.Struct("!IIIIII")
_PAIR = struct.Struct("!II")
_FIR_ENTRY = struct.Struct("!IB3x")
_UINT32 = 0xFFFF_FFFF


class Part(NamedTuple):
    """One packet of a compound packet; `count` holds the five bits that are a count, or the feedback message type."""

    packet_type: int
    # mypy minds that the field hides tuple.count, which nobody calls; RFC 3550 names the field so.
    count: int  # type: ignore[assignment]
    body: bytes


class SenderReport(NamedTuple):
    """Sender info (RFC 3550 section 6.4.1): `ntp` is 32.32 fixed point seconds since 1900, `timestamp` the same instant in RTP."""

    ssrc: int
    ntp: int
    timestamp: int
    packets: int
    octets: int


class ReportBlock(NamedTuple):
    """Reception of one SSRC (RFC 3550 section 6.4.1).

    `fraction_lost` in 1/256 since the report before; `lost` is signed, 24 bits; `highest` the extended sequence number; `jitter`
    in timestamp units; `last_sr` the middle 32 bits of that report's NTP time; `delay_since_sr` in 1/65536 s.
    """

    ssrc: int
    fraction_lost: int
    lost: int
    highest: int
    jitter: int
    last_sr: int
    delay_since_sr: int


class Feedback(NamedTuple):
    """A feedback packet: who sends it, about which SSRC (0 where the FCI names them), and the control information."""

    sender: int
    media: int
    fci: bytes


def split(packet: bytes) -> list[Part]:
    """The parts of a compound packet, or of a reduced-size one (RFC 5506), in their order.

    Raises ValueError when it is empty, a version is not 2, a length exceeds the packet, or padding is anywhere but at the end
    (RFC 3550 appendix A.2) or longer than its part.
    """
    size = len(packet)
    if size == 0:
        raise ValueError("RTCP packet: empty")
    parts = []
    at = 0
    while at < size:
        if size - at < 4:
            raise ValueError("RTCP header: shorter than 4 bytes")
        first, packet_type, words = _HEADER.unpack_from(packet, at)
        if first >> 6 != 2:
            raise ValueError("RTCP version: not 2")
        end = at + 4 + 4 * words
        if end > size:
            raise ValueError("RTCP length: exceeds the packet")
        padding = 0
        if first & 0x20:
            padding = packet[end - 1] if end == size else 0
            if padding == 0 or padding > 4 * words:
                raise ValueError("RTCP padding: zero, longer than its part, or not in the last one")
        parts.append(Part(packet_type, first & 0x1F, packet[at + 4 : end - padding]))
        at = end
    return parts


def split_feedback(part: Part) -> Feedback:
    """The SSRCs and the FCI of an RTPFB or PSFB part. Raises ValueError for another type or a body without both SSRCs."""
    if part.packet_type not in (RTPFB, PSFB):
        raise ValueError("RTCP packet type: not feedback")
    if len(part.body) < 8:
        raise ValueError("RTCP feedback SSRCs: cut short")
    sender, media = _PAIR.unpack_from(part.body)
    return Feedback(sender, media, part.body[8:])


def parse_sender_info(part: Part) -> SenderReport:
    """The sender info of an SR. Raises ValueError for another type or a body that is too short."""
    if part.packet_type != SR:
        raise ValueError("RTCP packet type: not a sender report")
    if len(part.body) < _SENDER_INFO.size:
        raise ValueError("RTCP sender info: cut short")
    return SenderReport._make(_SENDER_INFO.unpack_from(part.body))


def parse_reports(part: Part) -> list[ReportBlock]:
    """The report blocks of an SR or RR. Raises ValueError for another type or a body shorter than its count says."""
    if part.packet_type not in (SR, RR):
        raise ValueError("RTCP packet type: not a report")
    at = _SENDER_INFO.size if part.packet_type == SR else 4
    if len(part.body) < at + part.count * _BLOCK.size:
        raise ValueError("RTCP report blocks: cut short")
    return [_parse_block(part.body, at + index * _BLOCK.size) for index in range(part.count)]


def _parse_block(body: bytes, at: int) -> ReportBlock:
    ssrc, loss, highest, jitter, last_sr, delay_since_sr = _BLOCK.unpack_from(body, at)
    lost = loss & 0xFFFFFF
    if lost & 0x800000:
        lost -= 0x1000000
    return ReportBlock(ssrc, loss >> 24, lost, highest, jitter, last_sr, delay_since_sr)


def parse_fir(part: Part) -> list[tuple[int, int]]:
    """(SSRC, command sequence number) of each entry of a FIR. Raises ValueError for another type or a cut entry."""
    if part.packet_type != PSFB or part.count != FMT_FIR:
        raise ValueError("RTCP packet type: not a full intra request")
    fci = split_feedback(part).fci
    if not fci or len(fci) % _FIR_ENTRY.size:
        raise ValueError("RTCP FIR entries: none, or cut short")
    return [(ssrc, seq_nr) for ssrc, seq_nr in _FIR_ENTRY.iter_unpack(fci)]


def build(packet_type: int, count: int, body: bytes) -> bytes:
    """One part: header, body, and padding to 32 bits if the body needs it (then it must be the last part)."""
    padding = -len(body) % 4
    first = 0x80 | count
    if padding:
        first |= 0x20
        body += bytes(padding - 1) + bytes([padding])
    return _HEADER.pack(first, packet_type, len(body) // 4) + body


def build_feedback(packet_type: int, fmt: int, sender: int, media: int, fci: bytes) -> bytes:
    """An RTPFB or PSFB part (RFC 4585 section 6.1)."""
    return build(packet_type, fmt, _PAIR.pack(sender, media) + fci)


def build_sr(
    ssrc: int, ntp: int, timestamp: int, packets: int, octets: int, blocks: Sequence[ReportBlock] = ()
) -> bytes:
    """A sender report; the counters wrap at 32 bits. Raises ValueError for more than MAX_BLOCKS blocks."""
    info = _SENDER_INFO.pack(ssrc, ntp, timestamp, packets & _UINT32, octets & _UINT32)
    return build(SR, len(blocks), info + _build_blocks(blocks))


def build_rr(sender: int, blocks: Sequence[ReportBlock]) -> bytes:
    """A receiver report. Raises ValueError for more than MAX_BLOCKS blocks."""
    return build(RR, len(blocks), sender.to_bytes(4, "big") + _build_blocks(blocks))


def _build_blocks(blocks: Sequence[ReportBlock]) -> bytes:
    if len(blocks) > MAX_BLOCKS:
        raise ValueError("RTCP report blocks: more than 31")
    packed = []
    for block in blocks:
        loss = block.fraction_lost << 24 | (block.lost & 0xFFFFFF)
        packed.append(
            _BLOCK.pack(block.ssrc, loss, block.highest, block.jitter, block.last_sr, block.delay_since_sr),
        )
    return b"".join(packed)


def build_sdes(ssrc: int, cname: str) -> bytes:
    """A source description with a CNAME alone (RFC 3550 section 6.5). Raises ValueError above 255 bytes of UTF-8."""
    text = cname.encode()
    if len(text) > 255:
        raise ValueError("RTCP CNAME: longer than 255 bytes")
    chunk = ssrc.to_bytes(4, "big") + bytes([1, len(text)]) + text + b"\0"
    return build(SDES, 1, chunk + bytes(-len(chunk) % 4))


def build_pli(sender: int, media: int) -> bytes:
    """A picture loss indication: a key frame of `media`, please (RFC 4585 section 6.3.1)."""
    return build_feedback(PSFB, FMT_PLI, sender, media, b"")
