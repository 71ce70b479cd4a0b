"""What a receiver knows about one SSRC (RFC 3550 section 6.4.1, appendices A.1, A.3 and A.8)."""

from typing import NamedTuple

from sfu.rtp.header import seq_delta, timestamp_delta
from sfu.rtp.rtcp import ReportBlock

WINDOW = 1024  # packets behind the highest that may still be new
MAX_DROPOUT = 3000  # a larger step is another numbering, if the next packet confirms it
_NEVER = -1 << 62
_UINT32 = 0xFFFF_FFFF


class ClockReading(NamedTuple):
    """A sender report's instant: NTP (32.32 fixed point), RTP timestamp, and our clock when it arrived."""

    ntp: int
    timestamp: int
    arrival_ns: int


class Reception:
    """The numbering, losses and jitter of one incoming SSRC.

    For each packet, first `is_new`; if it is, `extended` is its unwrapped number, which no other packet ever gets, and `arrived`
    counts it. `restarts` counts how often the sender began another numbering: what was derived from the old one (an offset to
    outgoing numbers, a list of losses) must be derived again.
    """

    def __init__(self, ssrc: int, clock_hz: int) -> None:
        self.ssrc = ssrc
        self.clock_hz = clock_hz
        self.extended = 0
        self.restarts = 0
        self.sender_clock: ClockReading | None = None
        self.last_fraction_lost = 0
        """Of the last report, in 1/256."""
        self._highest: int | None = None
        self._base = 0
        self._seen = [_NEVER] * WINDOW
        self._expected_after_jump: int | None = None
        self._forget_counts()

    def _forget_counts(self) -> None:
        self.received = 0
        self._last_arrived = _NEVER
        self._transit: int | None = None
        self._jitter_16ths = 0
        self._expected_prior = 0
        self._received_prior = 0

    @property
    def highest(self) -> int:
        """The highest unwrapped sequence number so far, 0 before the first packet."""
        return self._highest or 0

    @property
    def jitter(self) -> int:
        """Interarrival jitter in timestamp units."""
        return self._jitter_16ths >> 4

    def is_new(self, seq: int) -> bool:
        """Whether `seq` (16 bits) was not seen before; false too when it is too old to tell, or jumps too far to believe.

        Sending one sequence number twice would reuse an SRTP nonce, so this is the gate of everything that is forwarded. A jump
        by more than MAX_DROPOUT is believed when the packet after it follows on (appendix A.1); that packet is the first one new.
        """
        highest = self._highest
        if highest is None:
            self._highest = self._base = extended = seq
        else:
            ahead = seq_delta(seq, highest)
            if -WINDOW < ahead <= MAX_DROPOUT:
                extended = highest + ahead
                if self._seen[extended % WINDOW] == extended:
                    return False
                if ahead > 0:
                    self._highest = extended
            elif abs(ahead) <= MAX_DROPOUT or not self._jump_confirmed(seq):
                return False
            else:
                extended = self._restart(seq, highest)
        self._seen[extended % WINDOW] = extended
        self.extended = extended
        return True

    def _jump_confirmed(self, seq: int) -> bool:
        if seq == self._expected_after_jump:
            return True
        self._expected_after_jump = (seq + 1) & 0xFFFF
        return False

    def _restart(self, seq: int, highest: int) -> int:
        """Go on at `seq` with counts from zero; numbered above all that was, so that no unwrapped number comes twice."""
        extended = highest + ((seq - highest) & 0xFFFF)
        self._highest = self._base = extended
        self._expected_after_jump = None
        self.restarts += 1
        self._forget_counts()
        return extended

    def arrived(self, seq_ext: int, timestamp: int, arrival_ns: int) -> None:
        """Count a new packet. Only one that comes in order says something about jitter: the others are mostly repairs."""
        self.received += 1
        if seq_ext <= self._last_arrived:
            return
        self._last_arrived = seq_ext
        transit = arrival_ns * self.clock_hz // 1_000_000_000 - timestamp
        if self._transit is not None:
            moved = abs(timestamp_delta(transit, self._transit))
            self._jitter_16ths += moved - (self._jitter_16ths + 8 >> 4)
        self._transit = transit

    def note_sender_report(self, ntp: int, timestamp: int, arrival_ns: int) -> None:
        """A sender report of this SSRC has come."""
        self.sender_clock = ClockReading(ntp, timestamp, arrival_ns)

    def report(self, now_ns: int) -> ReportBlock:
        """The report block of now; its fraction lost covers the time since the last call (appendix A.3)."""
        expected = self.highest - self._base + 1 if self._highest is not None else 0
        lost = expected - self.received
        expected_interval = expected - self._expected_prior
        lost_interval = expected_interval - (self.received - self._received_prior)
        self._expected_prior = expected
        self._received_prior = self.received
        fraction_lost = 0
        if expected_interval > 0 and lost_interval > 0:
            fraction_lost = min(255, (lost_interval << 8) // expected_interval)
        self.last_fraction_lost = fraction_lost
        last_sr = delay_since_sr = 0
        if self.sender_clock is not None:
            last_sr = self.sender_clock.ntp >> 16 & _UINT32
            delay_since_sr = (now_ns - self.sender_clock.arrival_ns) * 65536 // 1_000_000_000 & _UINT32
        return ReportBlock(
            ssrc=self.ssrc,
            fraction_lost=fraction_lost,
            lost=min(0x7FFFFF, max(-0x800000, lost)),
            highest=self.highest & _UINT32,
            jitter=self.jitter,
            last_sr=last_sr,
            delay_since_sr=delay_since_sr,
        )
