"""RTCP in and out: reports, NACK, key frame requests, transport-wide feedback (RFC 3550, 4585, 5104)."""

from collections.abc import Callable, Iterator

from sfu.consumer import Consumer, OutgoingStream
from sfu.counters import PlaneCounters
from sfu.dataplane.routing import Inbound
from sfu.dataplane.transport_feedback import TransportFeedback
from sfu.downlink import Downlink
from sfu.errors import DropReason
from sfu.keyframes import KeyframeRequests
from sfu.net.peer import Peer
from sfu.producer import Source
from sfu.rtp import nack, remb, rtcp

SENDER_SSRC = 1
"""Ours, in feedback that belongs to no media stream of ours."""
NACKS_PER_PACKET_MAX = 256
"""Lost packets that one compound packet may ask for; the rest is counted and ignored."""
KEYFRAME_SPACING_NS = 1_000_000_000
"""A consumer's own requests count once in this time: a key frame is for all viewers, and repeated until it has come anyway."""


class Feedback:
    """The RTCP half of the Python data plane; shares its tables."""

    def __init__(
        self,
        counters: PlaneCounters,
        inbound: dict[Peer, Inbound],
        consumers: dict[tuple[Peer, int], Consumer],
        downlinks: dict[Peer, Downlink],
        retransmit: Callable[[Consumer, int, int], None],
    ) -> None:
        self._counters = counters
        self._inbound = inbound
        self._consumers = consumers
        self._downlinks = downlinks
        self._retransmit = retransmit
        self._keyframes: KeyframeRequests[Source] = KeyframeRequests()
        self._transport = TransportFeedback(counters, downlinks)
        self._nacks_left = 0

    # --- in

    def received(self, peer: Peer, packet: bytes, now_ns: int) -> None:
        """A compound packet. Malformed parts are counted; nothing raises."""
        self._nacks_left = NACKS_PER_PACKET_MAX
        try:
            for part in rtcp.split(packet):
                self._part(peer, part, now_ns)
        except ValueError:
            self._counters.drops[DropReason.MALFORMED_RTCP] += 1

    def _part(self, peer: Peer, part: rtcp.Part, now_ns: int) -> None:
        kind, count = part.packet_type, part.count
        if kind == rtcp.SR:
            self._sender_report(peer, rtcp.parse_sender_info(part), now_ns)
        if kind in (rtcp.SR, rtcp.RR):
            for block in rtcp.parse_reports(part):
                self._receiver_report(peer, block, now_ns)
        elif kind == rtcp.RTPFB and count == rtcp.FMT_NACK:
            self._nack(peer, part, now_ns)
        elif kind == rtcp.RTPFB and count == rtcp.FMT_TWCC:
            self._transport.add(peer, rtcp.split_feedback(part).fci, now_ns)
        elif kind == rtcp.PSFB and count == rtcp.FMT_PLI:
            self._keyframe_wanted(peer, rtcp.split_feedback(part).media, now_ns)
        elif kind == rtcp.PSFB and count == rtcp.FMT_FIR:
            for ssrc, _ in rtcp.parse_fir(part):
                self._keyframe_wanted(peer, ssrc, now_ns)
        elif kind == rtcp.PSFB and count == rtcp.FMT_REMB:
            bitrate_bps, ssrcs = remb.parse(rtcp.split_feedback(part).fci)
            if (downlink := self._downlinks.get(peer)) is not None:
                downlink.observer.remb(bitrate_bps, ssrcs, now_ns)

    def _sender_report(self, peer: Peer, report: rtcp.SenderReport, now_ns: int) -> None:
        inbound = self._inbound.get(peer)
        source = inbound.by_ssrc.get(report.ssrc) if inbound is not None else None
        if source is not None:
            source.reception.note_sender_report(report.ntp, report.timestamp, now_ns)

    def _receiver_report(self, peer: Peer, block: rtcp.ReportBlock, now_ns: int) -> None:
        consumer = self._consumers.get((peer, block.ssrc))
        if consumer is None:
            return
        rtt_ms = None
        if block.last_sr and block.last_sr == consumer.report_ntp:
            rtt_ms = max(0.0, (now_ns - consumer.report_sent_ns) / 1e6 - block.delay_since_sr * 1000 / 65536)
        consumer.remote_loss = block.fraction_lost / 256
        measured = self._counters.measured
        measured.loss.labels("out", consumer.kind).observe(consumer.remote_loss)
        if rtt_ms is not None:
            measured.round_trip.observe(rtt_ms / 1000)
        consumer.downlink.observer.loss(consumer.remote_loss, rtt_ms, now_ns)

    def _nack(self, peer: Peer, part: rtcp.Part, now_ns: int) -> None:
        feedback = rtcp.split_feedback(part)
        consumer = self._consumers.get((peer, feedback.media))
        if consumer is None:
            return
        lost = nack.parse(feedback.fci)
        self._counters.nacks_received += len(lost)
        answered, self._nacks_left = lost[: self._nacks_left], max(0, self._nacks_left - len(lost))
        self._counters.drops[DropReason.NACK_CAPPED] += len(lost) - len(answered)
        for seq in answered:
            self._retransmit(consumer, seq, now_ns)

    def _keyframe_wanted(self, peer: Peer, ssrc: int, now_ns: int) -> None:
        consumer = self._consumers.get((peer, ssrc))
        if consumer is None:
            self._counters.keyframe_requests_received += 1
        else:
            self.keyframe_asked(consumer, now_ns)

    # --- key frames

    def keyframe_asked(self, consumer: OutgoingStream, now_ns: int) -> None:
        """A viewer asks for a key frame of what it is fed from."""
        self._counters.keyframe_requests_received += 1
        source = consumer.current or consumer.target
        if source is None:
            return
        if now_ns - consumer.keyframe_asked_ns < KEYFRAME_SPACING_NS:
            self._counters.drops[DropReason.KEYFRAME_CAPPED] += 1
            return
        consumer.keyframe_asked_ns = now_ns
        self._keyframes.want(source, now_ns)

    def want_keyframe(self, source: Source, now_ns: int) -> None:
        """Somebody needs a key frame of this source; requests are throttled and repeated until it has come."""
        self._keyframes.want(source, now_ns)
        self._ask_for_keyframes(now_ns)

    def keyframe_missed(self, source: Source, now_ns: int) -> None:
        """A packet was dropped for want of a key frame; the next tick asks."""
        self._keyframes.want(source, now_ns)

    def keyframe_arrived(self, source: Source) -> None:
        """The first packet of a key frame came."""
        self._keyframes.arrived(source)

    def forget(self, source: Source) -> None:
        """The source is gone: nobody waits for its key frames any more."""
        self._keyframes.forget(source)

    def _ask_for_keyframes(self, now_ns: int) -> None:
        for source in self._keyframes.due(now_ns):
            self._counters.keyframe_requests_sent += 1
            source.ask_for_keyframe(SENDER_SSRC)

    # --- out, on timers

    def _measure(self, inbound: Inbound, now_ns: int) -> None:
        """What the reports of now say of a publisher's sources; of one that is silent they say nothing new."""
        measured = self._counters.measured
        for source in inbound.by_ssrc.values():
            if source.live(now_ns):
                kind, reception = source.producer.kind, source.reception
                measured.jitter.labels(kind).observe(reception.jitter / reception.clock_hz)
                measured.loss.labels("in", kind).observe(reception.last_fraction_lost / 256)

    def _sources(self) -> Iterator[Source]:
        for inbound in self._inbound.values():
            yield from inbound.by_ssrc.values()

    def tick(self, now_ns: int) -> None:
        """Every 20 ms: read the transport-wide feedback, NACK upstream and repeat key frame requests."""
        self._transport.tick()
        self._ask_for_keyframes(now_ns)
        for source in self._sources():
            source.rate.tick(now_ns)
            if source.nacks is not None and (lost := source.nacks.due(now_ns)):
                self._counters.nacks_sent += len(lost)
                source.producer.peer.send_rtcp(nack.build(SENDER_SSRC, source.ssrc, lost))

    def send_transport_feedback(self) -> None:
        """Every 50 ms."""
        for peer, inbound in self._inbound.items():
            ssrc = next(iter(inbound.by_ssrc), 0)
            if packet := inbound.twcc.build(SENDER_SSRC, ssrc):
                peer.send_rtcp(packet)

    def send_reports(self, now_ns: int) -> None:
        """Every second: receiver reports upstream; sender reports downstream in the publisher's clock."""
        for peer, inbound in self._inbound.items():
            blocks = [source.reception.report(now_ns) for source in inbound.by_ssrc.values()]
            self._measure(inbound, now_ns)
            for at in range(0, len(blocks), rtcp.MAX_BLOCKS):
                peer.send_rtcp(rtcp.build_rr(SENDER_SSRC, blocks[at : at + rtcp.MAX_BLOCKS]))
        for (peer, ssrc), consumer in self._consumers.items():
            if (report := _sender_report(consumer, now_ns)) is not None:
                peer.send_rtcp(report + rtcp.build_sdes(ssrc, consumer.producer.participant_id))


def _sender_report(consumer: Consumer, now_ns: int) -> bytes | None:
    """SR of a consumer: the publisher's wall clock now, and the RTP time of the outgoing stream at that instant.

    The publisher's own report ties its RTP time to its wall clock, and all its tracks share that clock, so adding the time
    since the report came keeps sound and picture in sync. None until the publisher has sent one.
    """
    source, feed = consumer.current, consumer.feed
    clock = source.sender_clock if source is not None else None
    if source is None or feed is None or clock is None:
        return None
    since_ns = now_ns - clock.arrival_ns
    timestamp = clock.timestamp + since_ns * source.clock_hz // 1_000_000_000 + feed.timestamp_offset
    ntp = (clock.ntp + (since_ns << 32) // 1_000_000_000) & (2**64 - 1)
    consumer.report_ntp = ntp >> 16 & 0xFFFFFFFF
    consumer.report_sent_ns = now_ns
    return rtcp.build_sr(consumer.ssrc, ntp, timestamp & 0xFFFFFFFF, consumer.packets, consumer.octets)
