"""Generic NACK (RFC 4585 section 6.2.1), and when a receiver sends it."""

import struct

from sfu.rtp import rtcp

MAX_MISSING = 256
MAX_ATTEMPTS = 6
_REORDER_TOLERANCE_NS = 10_000_000
_SPACING_NS = 100_000_000  # we send publishers no sender reports, so their round trip is not known
_ENTRY = struct.Struct("!HH")


def parse(fci: bytes) -> list[int]:
    """The lost sequence numbers (16 bits) that the control information of a NACK names, in its order.

    Raises ValueError when there is no entry or the last is cut short.
    """
    if not fci or len(fci) % _ENTRY.size:
        raise ValueError("RTCP NACK entries: none, or cut short")
    lost = []
    for first, mask in _ENTRY.iter_unpack(fci):
        lost.append(first)
        for bit in range(16):
            if mask >> bit & 1:
                lost.append((first + 1 + bit) & 0xFFFF)
    return lost


def build(sender: int, media: int, lost: list[int]) -> bytes:
    """A NACK for `lost`, sequence numbers of any width in rising order; 17 neighbours share one entry.

    Raises ValueError when `lost` is empty.
    """
    if not lost:
        raise ValueError("RTCP NACK entries: none")
    entries = []
    first = lost[0]
    mask = 0
    for seq in lost[1:]:
        distance = (seq - first) & 0xFFFF
        if 1 <= distance <= 16:
            mask |= 1 << (distance - 1)
        elif distance:
            entries.append(_ENTRY.pack(first & 0xFFFF, mask))
            first = seq
            mask = 0
    entries.append(_ENTRY.pack(first & 0xFFFF, mask))
    return rtcp.build_feedback(rtcp.RTPFB, rtcp.FMT_NACK, sender, media, b"".join(entries))


class _Loss:
    __slots__ = ("attempts", "due_ns")

    def __init__(self, due_ns: int) -> None:
        self.attempts = 0
        self.due_ns = due_ns


class NackTracker:
    """Which packets of one SSRC to ask for, and when.

    A gap is first asked for after 10 ms, since most gaps are only reordering; then every 100 ms, up to
    MAX_ATTEMPTS times. At most MAX_MISSING losses are remembered: a new one pushes out the oldest. `abandoned` counts those pushed
    out and those that never came.
    """

    def __init__(self) -> None:
        self.abandoned = 0
        self._highest: int | None = None
        self._missing: dict[int, _Loss] = {}  # in rising order, which is the order of insertion

    def note(self, seq_ext: int, now_ns: int) -> None:
        """A packet has come; `seq_ext` is its unwrapped sequence number."""
        if self._highest is None:
            self._highest = seq_ext
            return
        if seq_ext <= self._highest:
            self._missing.pop(seq_ext, None)
            return
        if seq_ext > self._highest + 1:
            self._note_gap(self._highest + 1, seq_ext, now_ns + _REORDER_TOLERANCE_NS)
        self._highest = seq_ext

    def _note_gap(self, start: int, stop: int, due_ns: int) -> None:
        """The numbers from `start` to before `stop` are missing."""
        kept = max(start, stop - MAX_MISSING)
        self.abandoned += kept - start
        for _ in range(len(self._missing) + stop - kept - MAX_MISSING):
            del self._missing[next(iter(self._missing))]
            self.abandoned += 1
        for seq in range(kept, stop):
            self._missing[seq] = _Loss(due_ns)

    def due(self, now_ns: int) -> list[int]:
        """The sequence numbers (16 bits, in rising order of their unwrapped ones) to ask for now; asking is up to the caller."""
        if not self._missing:
            return []
        asked, given_up = [], []
        for seq, loss in self._missing.items():
            if loss.due_ns > now_ns:
                continue
            if loss.attempts == MAX_ATTEMPTS:
                given_up.append(seq)
                continue
            loss.attempts += 1
            loss.due_ns = now_ns + _SPACING_NS
            asked.append(seq & 0xFFFF)
        for seq in given_up:
            del self._missing[seq]
        self.abandoned += len(given_up)
        return asked
