"""Which source a packet belongs to: by SSRC once known, before that by mid and rid, then latched (RFC 8843 section 9.2).

Only the sending peer's producers are looked at, since header extension ids are each publisher's own. Bound: a peer has at most
`SSRCS_MAX` SSRCs; packets of further ones are unroutable.
"""

from sfu.producer import Producer, Source
from sfu.rtp.header import RtpHeader
from sfu.rtp.twcc import TwccRecorder

SSRCS_MAX = 256


class Inbound:
    """What one peer publishes."""

    __slots__ = ("by_rtx_ssrc", "by_ssrc", "producers", "twcc", "twcc_extension")

    def __init__(self) -> None:
        self.producers: list[Producer] = []
        self.by_ssrc: dict[int, Source] = {}
        self.by_rtx_ssrc: dict[int, Source] = {}
        self.twcc = TwccRecorder()
        self.twcc_extension = 0
        """Local id of the transport-cc extension, the same on all of a peer's m-lines (RFC 8285 in a BUNDLE); 0 if none."""

    def add(self, producer: Producer) -> None:
        """Expect a track. SSRCs that the offer announced are known at once."""
        self.producers.append(producer)
        self.twcc_extension = self.twcc_extension or producer.transport_cc_extension

    def remove(self, producer: Producer) -> None:
        """Forget a track and its SSRCs; idempotent."""
        self.producers = [p for p in self.producers if p is not producer]
        self.by_ssrc = {ssrc: s for ssrc, s in self.by_ssrc.items() if s.producer is not producer}
        self.by_rtx_ssrc = {ssrc: s for ssrc, s in self.by_rtx_ssrc.items() if s.producer is not producer}

    def route(self, header: RtpHeader) -> Source | None:
        """The source of a packet with an SSRC not heard before, latched; None if it belongs to nothing."""
        if len(self.by_ssrc) + len(self.by_rtx_ssrc) >= SSRCS_MAX:
            return None
        for producer in self.producers:
            if not _matches(producer, header):
                continue
            if header.payload_type == producer.media.rtx_payload_type:
                return self._latch_repair(producer, header)
            if header.payload_type == producer.media.payload_type:
                return self._latch(producer, header)
        return None

    def _latch(self, producer: Producer, header: RtpHeader) -> Source | None:
        rid = _text(header, producer, "rid") or producer.rids[0]
        if rid not in producer.rids:
            return None
        source = Source(producer, header.ssrc, rid)
        if (replaced := producer.sources.get(rid)) is not None:  # the client restarted its encoder under another SSRC
            self.by_ssrc.pop(replaced.ssrc, None)
            if producer.kind == "audio":  # video has to be given another target
                replaced.release()
            if producer.path is not None:
                producer.path.renumber()
        producer.sources[rid] = source
        self.by_ssrc[header.ssrc] = source
        return source

    def _latch_repair(self, producer: Producer, header: RtpHeader) -> Source | None:
        repaired = producer.media.rtx_ssrcs.get(header.ssrc)
        if repaired is not None:
            source = self.by_ssrc.get(repaired)
        else:
            source = producer.sources.get(_text(header, producer, "repaired-rid") or producer.rids[0])
        if source is not None:
            self.by_rtx_ssrc[header.ssrc] = source
        return source


def _matches(producer: Producer, header: RtpHeader) -> bool:
    media = producer.media
    if header.ssrc in media.ssrcs or header.ssrc in media.rtx_ssrcs:
        return True
    return _text(header, producer, "mid") == media.mid


def _text(header: RtpHeader, producer: Producer, extension: str) -> str:
    value = header.extensions.get(producer.media.extension_ids.get(extension, 0), b"")
    return value.decode("ascii", errors="replace")
