"""Receives as a subscriber does: counts, reports, transport-wide feedback, and now and then a NACK."""

import time

from benchmarks.load import sdp
from benchmarks.load.link import Link
from benchmarks.load.publisher import STAMP, STAMP_MAGIC
from sfu.rtp import header, nack, remb, rtcp
from sfu.rtp.reception import Reception
from sfu.rtp.twcc import TwccRecorder

SSRC = 2
"""The sink's own, in its feedback."""
ESTIMATE_BPS = 1_500_000
NACK_BEHIND = 8
"""How far behind the newest packet the one is that a sink asks for again."""


class Sink:
    """One subscriber. Loss comes from the sequence numbers, which SRTP leaves readable."""

    def __init__(self) -> None:
        self.received = 0
        self.repaired = 0
        """Packets that came again because a NACK asked for them."""
        self.rejected = 0
        """Packets that did not authenticate; only counted with `decrypts`."""
        self.decrypts = False
        """Whether to authenticate every packet and note the latency of stamped ones."""
        self.transport_wide = False
        """Whether the server numbers packets transport-wide."""
        self.latencies_ns: list[int] = []
        self.link: Link | None = None
        self._remote: sdp.Remote | None = None
        self._streams: dict[int, Reception] = {}
        self._first: dict[int, int] = {}
        self._arrivals = TwccRecorder()

    def attach(self, link: Link, remote: sdp.Remote) -> None:
        """Receive over `link` what `remote` describes."""
        self.link = link
        self._remote = remote

    def reset(self) -> None:
        """Count from here on."""
        self.received = self.repaired = self.rejected = 0
        self.latencies_ns = []
        for ssrc, reception in self._streams.items():
            self._first[ssrc] = reception.highest + 1
            reception.received = 0

    @property
    def flowing(self) -> bool:
        """Whether both sound and pictures came since `reset`."""
        return sum(reception.received > 0 for reception in self._streams.values()) >= 2

    @property
    def lost(self) -> int:
        """Packets missing since `reset`."""
        return sum(
            max(0, reception.highest + 1 - self._first[ssrc] - reception.received)
            for ssrc, reception in self._streams.items()
        )

    # --- in

    def rtp_received(self, packet: bytes, arrival_ns: int) -> None:
        """See `Receiver`."""
        assert self._remote is not None
        head = header.parse(packet)
        if number := head.extensions.get(self._remote.transport_cc):
            self._arrivals.add(int.from_bytes(number, "big"), arrival_ns // 1000)
        if head.payload_type in self._remote.rtx_types:
            self.repaired += 1
            return
        reception = self._streams.get(head.ssrc)
        if reception is None:
            reception = Reception(head.ssrc, self._remote.clocks_hz[head.payload_type])
            self._streams[head.ssrc] = reception
            self._first[head.ssrc] = head.seq
        if not reception.is_new(head.seq):
            self.repaired += 1  # a server without RTX repeats the packet itself
            return
        reception.arrived(reception.extended, head.timestamp, arrival_ns)
        self.received += 1
        if self.decrypts:
            self._decrypt(packet, arrival_ns)

    def _decrypt(self, packet: bytes, arrival_ns: int) -> None:
        assert self.link is not None
        assert self.link.srtp is not None
        clear = self.link.srtp.unprotect(packet)
        if clear is None:
            self.rejected += 1
            return
        magic, sent_ns = STAMP.unpack(clear[-STAMP.size :])
        if magic == STAMP_MAGIC:
            self.latencies_ns.append(arrival_ns - sent_ns)

    def rtcp_received(self, packet: bytes) -> None:
        """See `Receiver`. A sender report is remembered for the round trip in our next receiver report."""
        for part in rtcp.split(packet):
            if part.packet_type == rtcp.SR:
                report = rtcp.parse_sender_info(part)
                if (reception := self._streams.get(report.ssrc)) is not None:
                    reception.note_sender_report(report.ntp, report.timestamp, time.time_ns())

    # --- out

    def send_transport_feedback(self) -> None:
        """Transport-wide feedback about what came since the last, if the server asked for it by the header extension."""
        assert self.link is not None
        if feedback := self._arrivals.build(SSRC, next(iter(self._streams), 0)):
            self.transport_wide = True
            self.link.send_rtcp(feedback)

    def send_estimate(self) -> None:
        """A REMB for the video, unless there is transport-wide feedback."""
        assert self.link is not None
        videos = [ssrc for ssrc, stream in self._streams.items() if stream.clock_hz == 90_000]
        if videos and not self.transport_wide:
            self.link.send_rtcp(remb.build(SSRC, ESTIMATE_BPS, videos))

    def send_reports(self) -> None:
        """A receiver report about every stream, and a NACK for one video packet as if it had been lost."""
        assert self.link is not None
        now_ns = time.time_ns()
        self.link.send_rtcp(rtcp.build_rr(SSRC, [stream.report(now_ns) for stream in self._streams.values()]))
        for ssrc, stream in self._streams.items():
            if stream.clock_hz == 90_000 and stream.received > NACK_BEHIND:
                self.link.send_rtcp(nack.build(SSRC, ssrc, [stream.highest - NACK_BEHIND & 0xFFFF]))
