"""The data plane in Python, at datagram level.

A packet is decrypted, routed to its source, and for each consumer rewritten into one shared buffer, protected there and sent.
Nothing awaits, nothing is logged, nothing is parsed twice, and every exit that is not a send counts a `DropReason`.
Measured by `python -m benchmarks.forward`.
"""

import contextlib
import socket
import struct
import time
from collections.abc import Sequence
from typing import NamedTuple

from sfu.consumer import Consumer, OutgoingStream
from sfu.counters import SAMPLE_MASK, PlaneCounters
from sfu.dataplane.base import PlaneEvents
from sfu.dataplane.feedback import Feedback
from sfu.dataplane.routing import Inbound
from sfu.downlink import Downlink
from sfu.errors import DropReason
from sfu.fanout import ROW, Fanout, VideoPacket
from sfu.negotiation.offer import PAYLOAD_TYPES
from sfu.net.peer import Peer
from sfu.net.srtp import PROTECT, PacketBuffer
from sfu.path import AudioPacket
from sfu.producer import AUDIO_PACKET_MIN_MS, Producer, Source
from sfu.rtp import av1, h264, h264_sps, header, opus, vp8, vp9
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


class _Head(NamedTuple):
    """What the headers of one packet have in common for all consumers."""

    form: struct.Struct
    first: int
    extensions: int
    tail: int
    """The last field, without a transport-wide number."""
    number_at: int
    """How far to the left the transport-cc element belongs in it."""


SIZE_EVERY_NS = 100_000_000
"""Reading a size from H.264 costs as much as forwarding some packets, and anybody can send nothing but parameter sets."""
_KEYFRAME_TESTS = {"h264": h264.is_keyframe, "vp9": vp9.is_keyframe, "av1": av1.is_keyframe}


class PythonPlane:
    """Implements `DataPlane`."""

    def __init__(self, sock: socket.socket, send_buffer: PacketBuffer, events: PlaneEvents) -> None:
        self.counters = PlaneCounters()
        self._events = events
        self._sendto = sock.sendto
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
        producer.counters = self.counters.of(producer.kind)
        self._inbound.setdefault(producer.peer, Inbound()).add(producer)

    def remove_producer(self, producer: Producer) -> None:
        """See `DataPlane`."""
        if (inbound := self._inbound.get(producer.peer)) is not None:
            inbound.remove(producer)
            if not inbound.producers:
                del self._inbound[producer.peer]
        for source in producer.sources.values():
            self._feedback.forget(source)
        consumers = producer.consumers
        producer.close()
        for consumer in consumers:
            self._forget(consumer)

    def add_consumer(self, consumer: OutgoingStream) -> None:
        """See `DataPlane`."""
        if isinstance(consumer, Consumer):
            self._consumers[consumer.peer, consumer.ssrc] = consumer
            self._downlinks[consumer.peer] = consumer.downlink
        consumer.producer.add_consumer(consumer)

    def remove_consumer(self, consumer: OutgoingStream) -> None:
        """See `DataPlane`."""
        consumer.producer.remove_consumer(consumer)
        self._forget(consumer)

    def _forget(self, consumer: OutgoingStream) -> None:
        if not isinstance(consumer, Consumer):
            return
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

    def set_target(self, consumer: OutgoingStream, target: Source | None, now_ns: int) -> None:
        """See `DataPlane`."""
        if target is consumer.target or consumer not in consumer.producer.consumers:
            return
        consumer.target = target
        producer = consumer.producer
        if target is None:
            producer.stop_waiting([consumer])
            consumer.leave()
            consumer.current = None
        elif consumer.feed is not None and consumer.current is target:
            producer.stop_waiting([consumer])
        else:
            producer.await_feed([consumer])
            self._feedback.want_keyframe(target, now_ns)

    def ask_keyframe(self, consumer: OutgoingStream, now_ns: int) -> None:
        """See `DataPlane`."""
        self._feedback.keyframe_asked(consumer, now_ns)

    def want_keyframe(self, source: Source, now_ns: int) -> None:
        """See `DataPlane`."""
        self._feedback.want_keyframe(source, now_ns)

    def forget_source(self, source: Source) -> None:
        """See `DataPlane`."""
        self._feedback.forget(source)

    # --- packets in

    def rtp_received(self, peer: Peer, packet: bytes, arrival_ns: int) -> None:
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
                inbound.twcc.add(int.from_bytes(number[:2], "big"), arrival_ns // 1000)
            self._accept(source, head, packet, arrival_ns, now_ns)
        except ValueError:
            drops[DropReason.MALFORMED_RTP] += 1

    def rtcp_received(self, peer: Peer, packet: bytes) -> None:
        """See `DataPlane`."""
        self._feedback.received(peer, packet, time.monotonic_ns())

    def _accept(self, source: Source, head: header.RtpHeader, packet: bytes, arrival_ns: int, now_ns: int) -> None:
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
        reception.arrived(reception.extended, head.timestamp, arrival_ns)
        source.last_arrival_ns = now_ns
        size_bytes, counters = len(packet), producer.counters
        source.rate.window_bytes += size_bytes
        counters.received += 1
        counters.received_bytes += size_bytes
        if producer.muted:
            drops[DropReason.MUTED] += 1
            return
        payload = packet[start : head.payload_end]
        if not _within_rate(source, payload, now_ns):
            drops[DropReason.RATE] += 1
        elif producer.kind == "video":
            if source.nacks is not None:
                source.nacks.note(reception.extended, now_ns)
            descriptor = vp8.parse(payload) if producer.codec == "vp8" else None
            keyframe = descriptor.keyframe if descriptor is not None else _KEYFRAME_TESTS[producer.codec](payload)
            video = VideoPacket(reception.extended, head.marker, head.timestamp, payload, descriptor)
            self._video(source, video, keyframe, now_ns)
        else:
            level_byte = head.extensions.get(producer.level_extension)
            level = level_byte[0] & 0x7F if level_byte else 127
            audio = AudioPacket(reception.extended, head.marker, head.timestamp, level, now_ns, payload)
            self._audio(source, audio, now_ns)
        if not counters.received & SAMPLE_MASK and producer.path is None:
            self._took(producer.kind, "raw", arrival_ns)

    def _took(self, kind: str, path: str, since_ns: int) -> None:
        self.counters.measured.latency_of[kind, path].observe((time.monotonic_ns() - since_ns) / 1e9)

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
        if producer.waiting:
            _begin(source, list(producer.waiting), packet.seq_ext, packet.timestamp, now_ns, None)
        head = _Head(
            _AUDIO,
            _FIRST_BYTE | packet.marker | PAYLOAD_TYPES["opus"][0],
            _AUDIO_EXTENSIONS | abs_send_time(time.time()),
            _AUDIO_LEVEL << 32 | level << 24,
            40,
        )
        self._fan_out(source, head, packet.seq_ext, packet.timestamp, payload, None, now_ns)
        self._events.audio_level(producer, level, now_ns)
        if sound is Sound.PROCESSED:
            if not packet.seq_ext & SAMPLE_MASK:
                self._took("audio", "processed", packet.arrival_ns)
            self._events.audio_heard(producer, packet, payload, level, sound)

    def forward_video(self, source: Source, packet: VideoPacket, now_ns: int) -> None:
        """See `DataPlane`."""
        self._video(source, packet, packet.vp8 is not None and packet.vp8.keyframe, now_ns)

    def _video(self, source: Source, packet: VideoPacket, keyframe: bool, now_ns: int) -> None:
        producer = source.producer
        ext, descriptor = packet.seq_ext, packet.vp8
        if keyframe:
            self._feedback.keyframe_arrived(source)
            _note_size(source, packet, now_ns)
        if producer.waiting and (waiting := [c for c in producer.waiting if c.target is source]):
            if keyframe:
                _begin(source, waiting, ext, packet.timestamp, now_ns, descriptor)
            else:
                self.counters.drops[DropReason.NO_KEYFRAME] += len(waiting)
                self._feedback.keyframe_missed(source, now_ns)
        fanout = source.fanout
        if fanout.consumers:
            fanout.keep(packet)
            payload_type = PAYLOAD_TYPES[producer.codec][0]
            self._fan_out(
                source, _video_head(packet, payload_type), ext, packet.timestamp, packet.payload, descriptor, now_ns
            )
        if fanout.watchers:
            self._watch(fanout, packet, now_ns)

    def _watch(self, fanout: Fanout, packet: VideoPacket, now_ns: int) -> None:
        """To the watch host, after everybody else."""
        if not fanout.consumers:  # else they have been counted
            fanout.sent(packet.seq_ext, packet.timestamp, len(packet.payload), now_ns, packet.vp8)
        for watcher in fanout.watchers:
            if not watcher.take(packet, now_ns):
                self.counters.drops[DropReason.BEFORE_SWITCH] += 1

    def _fan_out(
        self,
        source: Source,
        head: _Head,
        ext: int,
        timestamp: int,
        payload: bytes,
        descriptor: vp8.Vp8Descriptor | None,
        now_ns: int,
    ) -> None:
        """To everybody who is fed from `source`. The innermost loop: it keeps to local names and to what a row says."""
        fanout, drops = source.fanout, self.counters.drops
        rows, downlinks = fanout.rows, fanout.downlinks
        if ext < fanout.first_ext:
            rows, downlinks = fanout.who_takes(ext)
            drops[DropReason.BEFORE_SWITCH] += len(fanout.downlinks) - len(downlinks)
        form, first, extensions, tail, number_at = head
        start = form.size
        size = start + len(payload)
        view, cdata, length = self._view, self._cdata, self._length
        pack_into, sendto = form.pack_into, self._sendto
        body = view[start:size]
        sent = 0
        for (ssrc, timestamp_offset, seq_offset, picture_id_offset, tl0_offset), downlink in zip(
            ROW.iter_unpack(rows), downlinks, strict=True
        ):
            route = downlink.peer.route
            if route is None:
                drops[DropReason.NOT_READY] += 1
                continue
            element = _TRANSPORT_CC | downlink.next_number() if downlink.transport_wide else 0
            seq, stamp = (ext + seq_offset) & 0xFFFF, (timestamp + timestamp_offset) & 0xFFFFFFFF
            pack_into(view, 0, first, seq, stamp, ssrc, extensions, tail | element << number_at)
            body[:] = payload
            if descriptor is not None:
                picture_id, tl0 = descriptor.picture_id + picture_id_offset, descriptor.tl0 + tl0_offset
                vp8.rewrite(view, start, descriptor, picture_id, tl0)
            length[0] = size
            if PROTECT(route[0], cdata, length):
                drops[DropReason.PROTECT_REFUSED] += 1
                continue
            try:
                sendto(view[: length[0]], route[1])
            except OSError:
                drops[DropReason.SEND_FAILED] += 1
                continue
            sent += 1
            if element:
                downlink.observer.sent(element & 0xFFFF, now_ns, size)
        fanout.sent(ext, timestamp, size, now_ns, descriptor)
        counters = source.producer.counters
        counters.forwarded += sent
        counters.forwarded_bytes += sent * size

    def _retransmit(self, consumer: Consumer, seq: int, now_ns: int) -> None:
        """Answer a NACK on the RTX stream (RFC 4588): its own SSRC and numbering, the original number in front."""
        downlink, drops = consumer.downlink, self.counters.drops
        found, route = consumer.sent_as(seq), downlink.peer.route
        if found is None:
            drops[DropReason.RTX_GONE] += 1
            return
        feed, packet = found
        size = _VIDEO.size + 2 + len(packet.payload)
        if not downlink.take_retransmission(size):
            drops[DropReason.RTX_CAPPED] += 1
            return
        if route is None:
            drops[DropReason.NOT_READY] += 1
            return
        consumer.rtx_seq = (consumer.rtx_seq + 1) & 0xFFFF
        head = _video_head(packet, PAYLOAD_TYPES[consumer.producer.codec][1] or 0)
        element = _TRANSPORT_CC | downlink.next_number() if downlink.transport_wide else 0
        timestamp = (packet.timestamp + feed.timestamp_offset) & 0xFFFFFFFF
        numbers = (head.first, consumer.rtx_seq, timestamp, consumer.rtx_ssrc, head.extensions)
        view = self._view
        _VIDEO.pack_into(view, 0, *numbers, head.tail | element << head.number_at)
        view[_VIDEO.size : _VIDEO.size + 2] = seq.to_bytes(2, "big")
        view[_VIDEO.size + 2 : size] = packet.payload
        if packet.vp8 is not None:
            picture_id, tl0 = packet.vp8.picture_id + feed.picture_id_offset, packet.vp8.tl0 + feed.tl0_offset
            vp8.rewrite(view, _VIDEO.size + 2, packet.vp8, picture_id, tl0)
        self._length[0] = size
        if PROTECT(route[0], self._cdata, self._length):
            drops[DropReason.PROTECT_REFUSED] += 1
            return
        try:
            self._sendto(view[: self._length[0]], route[1])
        except OSError:
            drops[DropReason.SEND_FAILED] += 1
            return
        consumer.retransmitted += 1
        self.counters.retransmitted += 1
        if element:
            downlink.observer.sent(element & 0xFFFF, now_ns, size)

    # --- timers

    def tick(self, now_ns: int) -> None:
        """See `DataPlane`."""
        self._feedback.tick(now_ns)

    def send_transport_feedback(self) -> None:
        """See `DataPlane`."""
        self._feedback.send_transport_feedback()

    def send_reports(self, now_ns: int) -> None:
        """See `DataPlane`. Also refills every subscriber's budget for retransmissions."""
        sent_bytes = dict.fromkeys(self._downlinks, 0)
        for (peer, _), consumer in self._consumers.items():
            sent_bytes[peer] += consumer.octets
        for peer, downlink in self._downlinks.items():
            downlink.refill(sent_bytes[peer])
        self._feedback.send_reports(now_ns)


def _video_head(packet: VideoPacket, payload_type: int) -> _Head:
    extensions = _VIDEO_EXTENSIONS | abs_send_time(time.time())
    return _Head(_VIDEO, _FIRST_BYTE | packet.marker | payload_type, extensions, 0, 8)


def _begin(
    source: Source,
    consumers: Sequence[OutgoingStream],
    ext: int,
    timestamp: int,
    now_ns: int,
    descriptor: vp8.Vp8Descriptor | None,
) -> None:
    """Feed these from `source`, beginning with this packet."""
    for consumer in consumers:
        consumer.rebase(source, ext, timestamp, now_ns, descriptor)
    source.fanout.join(consumers)
    source.producer.stop_waiting(consumers)


def _note_size(source: Source, packet: VideoPacket, now_ns: int) -> None:
    """How large the pictures of a source are, from the first packet of a key frame. Of VP9 and AV1 it stays unknown."""
    if packet.vp8 is not None:
        source.width, source.height = packet.vp8.width, packet.vp8.height
    elif source.producer.codec == "h264" and now_ns - source.sized_ns > SIZE_EVERY_NS:
        source.sized_ns = now_ns
        with contextlib.suppress(ValueError):  # that the size is not known is no reason not to forward
            source.width, source.height = h264_sps.picture_size(packet.payload) or (source.width, source.height)


def _within_rate(source: Source, payload: bytes, now_ns: int) -> bool:
    """Whether the source keeps within what a track may send. Raises ValueError if the payload is not what it should be."""
    if source.producer.kind == "video":
        return source.rate_guard.take(len(payload), now_ns)
    sound_ms = opus.duration_samples(payload) / 48
    return source.rate_guard.take(max(sound_ms, AUDIO_PACKET_MIN_MS), now_ns)
