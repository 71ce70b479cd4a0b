"""Transport-wide congestion control feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3)."""

import struct
from typing import NamedTuple

from sfu.rtp import rtcp
from sfu.rtp.header import seq_delta

MAX_STATUSES = 512  # in one feedback that we send: 1.2 kB when every delta is large
MAX_STATUSES_READ = 1000
"""Of one feedback that comes: run lengths claim 65535 packets in 28 bytes, and half a second of a fast downlink is fewer."""
_TICK_US = 250
_REFERENCE_US = 64_000
_MISSING, _SMALL, _LARGE = 0, 1, 2
_LONGEST_RUN = 8191
# Base sequence number, packet status count, then reference time (24 bits) and feedback count (8 bits).
_HEAD = struct.Struct("!HHI")
_INT16 = struct.Struct("!h")
_NEVER = -1 << 62


class TwccRecorder:
    """Arrival times of one transport's packets, by transport-wide sequence number, and the feedback about them.

    Memory is a ring of MAX_STATUSES arrivals whatever the numbers do; `unreported` counts the numbers that were pushed out before
    a feedback spoke of them. A packet that comes after its feedback makes the next one reach back to it.
    """

    def __init__(self) -> None:
        self.unreported = 0
        self._highest: int | None = None
        self._next = 0  # first number that no feedback has settled
        self._feedbacks = 0
        self._seqs = [_NEVER] * MAX_STATUSES
        self._arrivals_us = [0] * MAX_STATUSES

    def add(self, seq: int, arrival_us: int) -> None:
        """A packet with transport-wide number `seq` (16 bits) has come. Repeated and very late ones are ignored."""
        highest = self._highest
        if highest is None:
            highest = self._highest = self._next = seq
        extended = highest + seq_delta(seq, highest)
        slot = extended % MAX_STATUSES
        if extended <= highest - MAX_STATUSES or self._seqs[slot] == extended:
            return
        self._seqs[slot] = extended
        self._arrivals_us[slot] = arrival_us
        if extended > highest:
            self._highest = extended
        elif extended < self._next:
            self._next = extended

    def build(self, sender: int, media: int) -> bytes | None:
        """One feedback about what came since the last, None if nothing did.

        It ends early at an arrival more than 8 s from the one before it, which the format cannot say; the next call goes on there.
        """
        if self._highest is None or self._next > self._highest:
            return None
        start = max(self._next, self._highest - MAX_STATUSES + 1)
        self.unreported += start - self._next
        arrivals_us = [self._arrival_us(seq) for seq in range(start, self._highest + 1)]
        reference = next(arrival for arrival in arrivals_us if arrival is not None) // _REFERENCE_US
        statuses, deltas = _build_statuses(arrivals_us, reference * _REFERENCE_US)
        self._next = start + len(statuses)
        times = (reference & 0xFFFFFF) << 8 | (self._feedbacks & 0xFF)
        self._feedbacks += 1
        fci = _HEAD.pack(start & 0xFFFF, len(statuses), times) + _build_chunks(statuses) + deltas
        return rtcp.build_feedback(rtcp.RTPFB, rtcp.FMT_TWCC, sender, media, fci)

    def _arrival_us(self, seq: int) -> int | None:
        slot = seq % MAX_STATUSES
        return self._arrivals_us[slot] if self._seqs[slot] == seq else None


def _build_statuses(arrivals_us: list[int | None], last_us: int) -> tuple[list[int], bytes]:
    """(statuses, deltas), up to the first arrival that is too far from the one before it; the first follows `last_us`."""
    statuses = []
    deltas = []
    for arrival_us in arrivals_us:
        if arrival_us is None:
            statuses.append(_MISSING)
            continue
        ticks = (arrival_us - last_us) // _TICK_US
        if not -0x8000 <= ticks <= 0x7FFF:
            break
        last_us += ticks * _TICK_US
        small = 0 <= ticks <= 0xFF
        statuses.append(_SMALL if small else _LARGE)
        deltas.append(bytes([ticks]) if small else _INT16.pack(ticks))
    return statuses, b"".join(deltas)


def _build_chunks(statuses: list[int]) -> bytes:
    """The status chunks, each of the kind that reaches furthest (sections 3.1.3 and 3.1.4).

    A run says its length; a vector holds exactly 14 or 7 statuses, and only the last one may have some left over.
    """
    chunks = bytearray()
    at = 0
    while at < len(statuses):
        run = _run_length(statuses, at)
        one_bit = statuses[at : at + 14]
        two_bit = statuses[at : at + 7]
        if run >= len(two_bit) and (run >= len(one_bit) or _LARGE in one_bit):
            chunk = statuses[at] << 13 | run
            at += run
        elif len(one_bit) > 7 and _LARGE not in one_bit:
            chunk = 0x8000
            for index, status in enumerate(one_bit):
                chunk |= status << (13 - index)
            at += len(one_bit)
        else:
            chunk = 0xC000
            for index, status in enumerate(two_bit):
                chunk |= status << (12 - 2 * index)
            at += len(two_bit)
        chunks += chunk.to_bytes(2, "big")
    return bytes(chunks)


def _run_length(statuses: list[int], at: int) -> int:
    """How many statuses from `at` on are equal."""
    end = min(len(statuses), at + _LONGEST_RUN)
    stop = at + 1
    while stop < end and statuses[stop] == statuses[at]:
        stop += 1
    return stop - at


class TwccFeedback(NamedTuple):
    """`packets` holds (transport-wide sequence number, arrival in us or None if missing) for each number that it speaks of.

    `unread` numbers that follow these were one too many.
    Arrivals are in the receiver's clock modulo 2**24 * 64 ms (12 days), in steps of 250 us; `feedback_count` wraps at 256.
    """

    feedback_count: int
    reference_us: int
    packets: list[tuple[int, int | None]]
    unread: int


def parse_feedback(fci: bytes, max_statuses: int = MAX_STATUSES_READ) -> TwccFeedback:
    """Read the control information of a transport-wide feedback, which is what follows its two SSRCs.

    Its first `max_statuses` are read. Raises ValueError when it speaks of no packet, uses the reserved symbol in them, or is cut
    short.
    """
    if len(fci) < _HEAD.size:
        raise ValueError("TWCC feedback: shorter than its fixed part")
    base, count, times = _HEAD.unpack_from(fci)
    if count == 0:
        raise ValueError("TWCC packet status count: zero")
    statuses, at = _parse_chunks(fci, count, min(count, max_statuses))
    reference_us = arrival_us = (times >> 8) * _REFERENCE_US
    packets: list[tuple[int, int | None]] = []
    for index, status in enumerate(statuses):
        seq = (base + index) & 0xFFFF
        if status == _MISSING:
            packets.append((seq, None))
            continue
        delta = fci[at : at + status]  # a status is also the size of its delta
        if len(delta) < status:
            raise ValueError("TWCC receive deltas: cut short")
        at += status
        arrival_us += int.from_bytes(delta, "big", signed=status == _LARGE) * _TICK_US
        packets.append((seq, arrival_us))
    return TwccFeedback(times & 0xFF, reference_us, packets, count - len(packets))


def _parse_chunks(fci: bytes, count: int, wanted: int) -> tuple[list[int], int]:
    """(the first `wanted` of `count` statuses, where the deltas begin). The work is bounded by `wanted` and the size."""
    statuses: list[int] = []
    covered = 0
    at = _HEAD.size
    while covered < count:
        if at + 2 > len(fci):
            raise ValueError("TWCC packet chunks: cut short")
        chunk = fci[at] << 8 | fci[at + 1]
        at += 2
        if chunk < 0x8000:
            run = chunk & 0x1FFF
            if run == 0:
                raise ValueError("TWCC run length: zero")
            covered += run
            statuses += [chunk >> 13] * min(run, wanted - len(statuses))
        elif chunk < 0xC000:
            covered += 14
            if len(statuses) < wanted:
                statuses += [chunk >> shift & 1 for shift in range(13, -1, -1)]
        else:
            covered += 7
            if len(statuses) < wanted:
                statuses += [chunk >> shift & 3 for shift in range(12, -1, -2)]
    del statuses[wanted:]
    if 3 in statuses:
        raise ValueError("TWCC packet status symbol: reserved")
    return statuses, at
