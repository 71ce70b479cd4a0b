"""What all consumers of one subscriber share: the connection, its transport-wide numbering, its budget for retransmissions."""

from typing import Protocol

from sfu.net.peer import Peer

RTX_BURST_BYTES = 128 * 1024
RTX_FLOOR_BYTES = 8 * 1024
RTX_SHARE = 0.5


class DownlinkObserver(Protocol):
    """Whoever estimates the way to a subscriber and chooses its layers. Must be quick, must not raise."""

    def sent(self, seq: int, now_ns: int, size: int) -> None:
        """A packet with this transport-wide number and size in bytes went out; only called for packets that carry one."""

    def feedback(self, packets: list[tuple[int, int | None]], now_ns: int) -> None:
        """Transport-wide feedback: (number, arrival in us or None if it did not arrive)."""

    def remb(self, bitrate_bps: int, ssrcs: list[int], now_ns: int) -> None:
        """The subscriber's own estimate, for the streams with these SSRCs."""

    def loss(self, fraction: float, rtt_ms: float | None, now_ns: int) -> None:
        """A receiver report about one of the subscriber's consumers."""

    def tick(self, now_ns: int) -> None:
        """Choose layers now, since some of what is sent has ended."""


class Downlink:
    """The way to one subscriber.

    Retransmissions are capped at half of what is sent as media, with a burst of 128 KiB: a subscriber that asks for
    everything again cannot multiply the server's traffic.
    """

    __slots__ = ("_rtx_budget_bytes", "_sent_bytes", "observer", "peer", "transport_wide", "twcc_seq")

    def __init__(self, peer: Peer, observer: DownlinkObserver) -> None:
        self.peer = peer
        self.observer = observer
        self.transport_wide = False
        """Whether packets carry transport-wide numbers, and the subscriber so reports on every one. That is the best there is to
        choose layers by, and it costs a third of what forwarding costs; without it subscribers estimate by themselves (REMB)."""
        self.twcc_seq = 0
        self._sent_bytes = 0
        """Media sent until the last `refill`."""
        self._rtx_budget_bytes = float(RTX_BURST_BYTES)

    def next_number(self) -> int:
        """The transport-wide number of the next packet (16 bits)."""
        self.twcc_seq = number = (self.twcc_seq + 1) & 0xFFFF
        return number

    def take_retransmission(self, size_bytes: int) -> bool:
        """Whether a retransmission of this size is within the cap; if so it is paid for."""
        if self._rtx_budget_bytes < size_bytes:
            return False
        self._rtx_budget_bytes -= size_bytes
        return True

    def refill(self, sent_bytes: int) -> None:
        """Once a second: earn retransmissions for what was sent as media. `sent_bytes`: by all consumers of now, ever."""
        earned = max(RTX_FLOOR_BYTES, (sent_bytes - self._sent_bytes) * RTX_SHARE)
        self._rtx_budget_bytes = min(RTX_BURST_BYTES, self._rtx_budget_bytes + earned)
        self._sent_bytes = sent_bytes
