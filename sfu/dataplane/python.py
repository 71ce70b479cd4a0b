"""The data plane in Python, at datagram level.

A packet is decrypted, routed to its source, and for each consumer rewritten into one shared buffer, protected there and sent.
Nothing awaits, nothing is logged, nothing is parsed twice, and every exit that is not a send counts a `DropReason`.
Measured by `python -m benchmarks.forward`.
"""

import struct
import time

from sfu.consumer import RING_PACKETS, Consumer, VideoPacket
from sfu.dataplane.base import PlaneCounters, PlaneEvents
from sfu.dataplane.feedback import Feedback
from sfu.dataplane.routing import Inbound
from sfu.downlink import Downlink
from sfu.errors import DropReason
from sfu.negotiation.offer import PAYLOAD_TYPES
from sfu.net.peer import Peer
from sfu.net.srtp import PROTECT, PacketBuffer
from sfu.path import AudioPacket
from sfu.producer import AUDIO_PACKET_MIN_MS, Producer, Source
from sfu.rtp import av1, h264, header, opus, vp8, vp9
from sfu.rtp.extensions import abs_send_time
from sfu.tap import Sound

# RTP header with RFC 8285 one-byte extensions, ids as `sfu.negotiation.offer` offers them. Neighbouring fields that are the same
# for all consumers of a packet are one number, since every field of a struct costs time in the packet loop:
# first two bytes, sequence number, timestamp, SSRC, (profile, words, abs-send-time: id 2, 3 bytes), then
# transport-cc (id 3, 2 bytes; or as much padding) and for audio audio-level (id 1, 1 byte), padded.
_AUDIO = struct.Struct("!HHIIQQ")
_VIDEO = struct.Struct("!HHIIQI")
_FIRST_BYTE = 0x90 << 8  # version 2, extension present
_AUDIO_EXTENSIONS = 0xBEDE_0003 << 32 | 0x22 << 24
_VIDEO_EXTENSIONS = 0xBEDE_0002 << 32 | 0x22 << 24
_TRANSPORT_CC = 0x31_0000
_AUDIO_LEVEL = 0x10

_KEYFRAME_TESTS = {"h264": h264.is_keyframe, "vp9": vp9.is_keyframe, "av1": av1.is_keyframe}


class PythonPlane:
    """Implements `DataPlane`."""

    def __init__(self, send_buffer: PacketBuffer, events: PlaneEvents) -> None:
        self.counters = PlaneCounters()
        self._events = events
        self._view = send_buffer.view
        self._cdata = send_buffer.cdata
        self._length = send_buffer.length
        self._inbound: dict[Peer, Inbound] = {}
        self._consumers: dict[tuple[Peer, int], Consumer] = {}
        self._downlinks: dict[Peer, Downlink] = {}
        self._feedback = Feedback(self.counters, self._inbound, self._consumers, self._downlinks, self._retransmit)

    # --- membership

    def add_producer(self, producer: Producer) -> None:
        """See `DataPlane`."""
        self._inbound.setdefault(producer.peer, Inbound()).add(producer)

    def remove_producer(self, producer: Producer) -> None:
        """See `DataPlane`."""
        if (inbound := self._inbound.get(producer.peer)) is not None:
            inbound.remove(producer)
            if not inbound.producers:
                del self._inbound[producer.peer]
        for source in producer.sources.values():
            self._feedback.forget(source)
        for consumer in producer.consumers:
            self.remove_consumer(consumer)

    def add_consumer(self, consumer: Consumer) -> None:
        """See `DataPlane`."""
        self._consumers[consumer.peer, consumer.ssrc] = consumer
        self._downlinks[consumer.peer] = consumer.downlink
        consumer.producer.add_consumer(consumer)

    def remove_consumer(self, consumer: Consumer) -> None:
        """See `DataPlane`."""
        consumer.producer.remove_consumer(consumer)
        if self._consumers.get((consumer.peer, consumer.ssrc)) is consumer:
            del self._consumers[consumer.peer, consumer.ssrc]

    def remove_peer(self, peer: Peer) -> None:
        """See `DataPlane`."""
        if (inbound := self._inbound.get(peer)) is not None:
            for producer in list(inbound.producers):
                self.remove_producer(producer)
        for consumer in [c for (owner, _), c in self._consumers.items() if owner is peer]:
            self.remove_consumer(consumer)
        self._downlinks.pop(peer, None)

    def set_target(self, consumer: Consumer, target: Source | None, now_ns: int) -> None:
        """See `DataPlane`."""
        if target is consumer.target:
            return
        consumer.target = target
        if target is None:
            consumer.current = None
        elif consumer.current is not target:
            self._feedback.want_keyframe(target, now_ns)

    # --- packets in

    def rtp_received(self, peer: Peer, packet: bytes) -> None:
        """See `DataPlane`."""
        now_ns = time.monotonic_ns()
        drops = self.counters.drops
        inbound = self._inbound.get(peer)
        if inbound is None:
            drops[DropReason.UNROUTABLE] += 1
            return
        try:
            head = header.parse(packet)
            ssrc = head.ssrc
            source = inbound.by_ssrc.get(ssrc) or inbound.by_rtx_ssrc.get(ssrc) or inbound.route(head)
            if source is None:
                drops[DropReason.UNROUTABLE] += 1
                return
            if (number := head.extensions.get(inbound.twcc_extension)) is not None:
                inbound.twcc.add(int.from_bytes(number[:2], "big"), now_ns // 1000)
            self._accept(source, head, packet, now_ns)
        except ValueError:
            drops[DropReason.MALFORMED_RTP] += 1

    def rtcp_received(self, peer: Peer, packet: bytes) -> None:
        """See `DataPlane`."""
        self._feedback.received(peer, packet, time.monotonic_ns())

    def _accept(self, source: Source, head: header.RtpHeader, packet: bytes, now_ns: int) -> None:
        producer = source.producer
        drops = self.counters.drops
        seq, start = head.seq, head.payload_start
        if head.ssrc != source.ssrc:  # RTX: the original number in front of the original payload (RFC 4588 section 4)
            seq = int.from_bytes(packet[start : start + 2], "big")
            start += 2
        if start >= head.payload_end:
            drops[DropReason.PADDING] += 1  # a bandwidth probe
            return
        reception = source.reception
        if not reception.is_new(seq):
            drops[DropReason.DUPLICATE] += 1
            return
        source.follow_numbering()
        reception.arrived(reception.extended, head.timestamp, now_ns)
        source.last_arrival_ns = now_ns
        source.rate.add(len(packet))
        self.counters.received += 1
        if producer.muted:
            drops[DropReason.MUTED] += 1
            return
        payload = packet[start : head.payload_end]
        if not _within_rate(source, payload, now_ns):
            drops[DropReason.RATE] += 1
        elif producer.kind == "video":
            self._video(source, reception.extended, head, payload, now_ns)
        else:
            level_byte = head.extensions.get(producer.level_extension)
            level = level_byte[0] & 0x7F if level_byte else 127
            audio = AudioPacket(reception.extended, head.marker, head.timestamp, level, now_ns, payload)
            self._audio(source, audio, now_ns)

    def _audio(self, source: Source, packet: AudioPacket, now_ns: int) -> None:
        producer = source.producer
        if producer.path is None:
            self.forward_audio(source, packet, packet.payload, packet.level, Sound.RAW, now_ns)
        else:
            producer.path.submit(packet, now_ns)
        self._events.audio_heard(producer, packet, packet.payload, packet.level, Sound.RAW)

    # --- packets out

    def forward_audio(
        self, source: Source, packet: AudioPacket, payload: bytes, level: int, sound: Sound, now_ns: int
    ) -> None:
        """See `DataPlane`."""
        producer = source.producer
        ext, timestamp, numbering = packet.seq_ext, packet.timestamp, source.numbering
        first = _FIRST_BYTE | packet.marker | PAYLOAD_TYPES["opus"][0]
        extensions = _AUDIO_EXTENSIONS | abs_send_time(time.time())
        level_element = _AUDIO_LEVEL << 32 | level << 24
        size = _AUDIO.size + len(payload)
        view, pack_into = self._view, _AUDIO.pack_into
        body = view[_AUDIO.size : size]
        sent = 0
        for consumer in producer.consumers:
            if consumer.current is not source or consumer.numbering != numbering:
                consumer.rebase(source, ext, timestamp, now_ns, None)
            elif ext < consumer.first_ext:
                self.counters.drops[DropReason.BEFORE_SWITCH] += 1
                continue
            downlink = consumer.downlink
            seq = (ext + consumer.seq_offset) & 0xFFFF
            out_timestamp = (timestamp + consumer.timestamp_offset) & 0xFFFFFFFF
            element = _TRANSPORT_CC | downlink.next_number() if downlink.transport_wide else 0
            pack_into(view, 0, first, seq, out_timestamp, consumer.ssrc, extensions, level_element | element << 40)
            body[:] = payload
            if self._protect_and_send(downlink, size, now_ns):
                sent += 1
                consumer.sent(seq, out_timestamp, size, now_ns)
        self._count(sent, size)
        self._events.audio_level(producer, level, now_ns)
        if sound is Sound.PROCESSED:
            self._events.audio_heard(producer, packet, payload, level, sound)

    def _video(self, source: Source, ext: int, head: header.RtpHeader, payload: bytes, now_ns: int) -> None:
        producer = source.producer
        if source.nacks is not None:
            source.nacks.note(ext, now_ns)
        descriptor = vp8.parse(payload) if producer.codec == "vp8" else None
        keyframe = descriptor.keyframe if descriptor is not None else _KEYFRAME_TESTS[producer.codec](payload)
        if keyframe:
            self._feedback.keyframe_arrived(source)
            if descriptor is not None:
                source.width, source.height = descriptor.width, descriptor.height
        packet = VideoPacket(head.marker, head.timestamp, payload, descriptor)
        first = _FIRST_BYTE | head.marker | PAYLOAD_TYPES[producer.codec][0]
        extensions = _VIDEO_EXTENSIONS | abs_send_time(time.time())
        numbering = source.numbering
        sent = 0
        for consumer in producer.consumers:
            if consumer.current is not source or consumer.numbering != numbering:
                if source is not consumer.target:
                    continue
                if not keyframe:
                    self.counters.drops[DropReason.NO_KEYFRAME] += 1
                    self._feedback.keyframe_missed(source, now_ns)
                    continue
                consumer.rebase(source, ext, head.timestamp, now_ns, descriptor)
            elif ext < consumer.first_ext:
                # from before the switch: its number belongs to the old layer
                self.counters.drops[DropReason.BEFORE_SWITCH] += 1
                continue
            sent += self._send_video(consumer, ext, packet, first, extensions, now_ns)
        self._count(sent, _VIDEO.size + len(payload))

    def _send_video(
        self, consumer: Consumer, ext: int, packet: VideoPacket, first: int, extensions: int, now_ns: int
    ) -> bool:
        _, timestamp, payload, descriptor = packet
        seq = (ext + consumer.seq_offset) & 0xFFFF
        timestamp = (timestamp + consumer.timestamp_offset) & 0xFFFFFFFF
        downlink = consumer.downlink
        element = _TRANSPORT_CC | downlink.next_number() if downlink.transport_wide else 0
        view = self._view
        _VIDEO.pack_into(view, 0, first, seq, timestamp, consumer.ssrc, extensions, element << 8)
        size = _VIDEO.size + len(payload)
        view[_VIDEO.size : size] = payload
        picture_id = tl0 = 0
        if descriptor is not None:
            picture_id = (descriptor.picture_id + consumer.picture_id_offset) & 0x7FFF
            tl0 = (descriptor.tl0 + consumer.tl0_offset) & 0xFF
            vp8.rewrite(view, _VIDEO.size, descriptor, picture_id, tl0)
        if not self._protect_and_send(downlink, size, now_ns):
            return False
        consumer.ring[seq & (RING_PACKETS - 1)] = (seq, timestamp, picture_id, tl0, packet)
        if consumer.sent(seq, timestamp, size, now_ns):
            consumer.picture_id = picture_id
            consumer.tl0 = tl0
        return True

    def _count(self, sent: int, size: int) -> None:
        self.counters.forwarded += sent
        self.counters.forwarded_bytes += sent * size

    def _protect_and_send(self, downlink: Downlink, size: int, now_ns: int) -> bool:
        """Protect what lies in the buffer, in place, and send it."""
        peer = downlink.peer
        outbound, address = peer.outbound, peer.remote_address
        if outbound is None or address is None:
            self.counters.drops[DropReason.NOT_READY] += 1
            return False
        length = self._length
        length[0] = size
        if PROTECT(outbound.handle, self._cdata, length):
            self.counters.drops[DropReason.PROTECT_REFUSED] += 1
            return False
        try:
            peer.mux.sock.sendto(self._view[: length[0]], address)
        except OSError:
            self.counters.drops[DropReason.SEND_FAILED] += 1
            return False
        if downlink.transport_wide:
            downlink.observer.sent(downlink.twcc_seq, now_ns, size)
        return True

    def _retransmit(self, consumer: Consumer, seq: int, now_ns: int) -> None:
        """Answer a NACK on the RTX stream (RFC 4588): its own SSRC and numbering, the original number in front."""
        sent = consumer.ring[seq & (RING_PACKETS - 1)] if consumer.ring else None
        if sent is None or sent[0] != seq:
            self.counters.drops[DropReason.RTX_GONE] += 1
            return
        _, timestamp, picture_id, tl0, packet = sent
        downlink = consumer.downlink
        size = _VIDEO.size + 2 + len(packet.payload)
        if not downlink.take_retransmission(size):
            self.counters.drops[DropReason.RTX_CAPPED] += 1
            return
        consumer.rtx_seq = (consumer.rtx_seq + 1) & 0xFFFF
        element = _TRANSPORT_CC | downlink.next_number() if downlink.transport_wide else 0
        view = self._view
        first = _FIRST_BYTE | packet.marker | (PAYLOAD_TYPES[consumer.producer.codec][1] or 0)
        extensions = _VIDEO_EXTENSIONS | abs_send_time(time.time())
        _VIDEO.pack_into(view, 0, first, consumer.rtx_seq, timestamp, consumer.rtx_ssrc, extensions, element << 8)
        view[_VIDEO.size : _VIDEO.size + 2] = seq.to_bytes(2, "big")
        view[_VIDEO.size + 2 : size] = packet.payload
        if packet.vp8 is not None:
            vp8.rewrite(view, _VIDEO.size + 2, packet.vp8, picture_id, tl0)
        if self._protect_and_send(downlink, size, now_ns):
            consumer.retransmitted += 1
            self.counters.retransmitted += 1

    # --- timers

    def tick(self, now_ns: int) -> None:
        """See `DataPlane`."""
        self._feedback.tick(now_ns)

    def send_transport_feedback(self) -> None:
        """See `DataPlane`."""
        self._feedback.send_transport_feedback()

    def send_reports(self, now_ns: int) -> None:
        """See `DataPlane`. Also refills every subscriber's budget for retransmissions."""
        for downlink in self._downlinks.values():
            downlink.refill()
        self._feedback.send_reports(now_ns)


def _within_rate(source: Source, payload: bytes, now_ns: int) -> bool:
    """Whether the source keeps within what a track may send. Raises ValueError if the payload is not what it should be."""
    if source.producer.kind == "video":
        return source.rate_guard.take(len(payload), now_ns)
    sound_ms = opus.duration_samples(payload) / 48
    return source.rate_guard.take(max(sound_ms, AUDIO_PACKET_MIN_MS), now_ns)
