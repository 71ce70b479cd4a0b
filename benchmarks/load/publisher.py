"""Sends a recording in real time, as a client's sender does: header extensions, sender reports."""

import asyncio
import struct
import time

from benchmarks.load import sdp
from benchmarks.load.link import Link
from benchmarks.load.media import AUDIO_CLOCK_HZ, VIDEO_CLOCK_HZ, Kind, Payload, Recording
from sfu.rtp import rtcp
from sfu.rtp.extensions import abs_send_time

STAMP = struct.Struct("!8sq")
STAMP_MAGIC = b"CANDLOAD"
REPORT_S = 1.0
STALL_NS = 500_000_000
_NTP_EPOCH_S = 2_208_988_800
_HEADER = struct.Struct("!BBHII")
_AUDIO_EXTENSION = struct.Struct("!HHBBB3sBHBBx")
_VIDEO_EXTENSION = struct.Struct("!HHB3sBHBBBBx")
_LEVEL = 30
"""Audio level of every packet, in -dBov (RFC 6464)."""


class _Stream:
    def __init__(self, kind: Kind) -> None:
        self.audio = kind == "audio"
        self.ssrc = sdp.AUDIO_SSRC if self.audio else sdp.VIDEO_SSRC
        self.payload_type = sdp.OPUS if self.audio else sdp.VP8
        self.clock_hz = AUDIO_CLOCK_HZ if self.audio else VIDEO_CLOCK_HZ
        self.seq = 1000
        self.packets = 0
        self.octets = 0


class Publisher:
    """Plays `recording` into `link`; with `stamped` the sending time stands in the last 16 bytes of each audio payload."""

    def __init__(self, link: Link, recording: Recording, *, stamped: bool = False) -> None:
        self.sent = 0
        self._link = link
        self._recording = recording
        self._stamped = stamped
        self._streams: dict[Kind, _Stream] = {"audio": _Stream("audio"), "video": _Stream("video")}
        self._transport_seq = 0
        self._started_ns = time.monotonic_ns()
        self._tasks: list[asyncio.Task[None]] = []

    def play(self) -> None:
        """Begin to send, from the recording's start (a key frame)."""
        self._tasks = [asyncio.create_task(self._play()), asyncio.create_task(self._report())]

    async def pause(self) -> None:
        """Stop sending; idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def _play(self) -> None:
        payloads = self._recording.payloads
        round_ns = self._recording.seconds * 1_000_000_000
        start_ns = time.monotonic_ns()
        while True:
            for payload in payloads:
                late_ns = time.monotonic_ns() - start_ns - payload.at_ns
                if late_ns > STALL_NS:
                    start_ns += late_ns  # we were stopped: go on from here instead of sending a burst
                elif late_ns < 0:
                    await asyncio.sleep(-late_ns / 1e9)
                self._send(payload, start_ns - self._started_ns)
            start_ns += round_ns

    def _send(self, payload: Payload, round_ns: int) -> None:
        assert self._link.srtp is not None
        stream = self._streams[payload.kind]
        timestamp = payload.timestamp + round_ns * stream.clock_hz // 1_000_000_000
        second = stream.payload_type | (0x80 if payload.marker else 0)
        header = _HEADER.pack(0x90, second, stream.seq & 0xFFFF, timestamp & 0xFFFFFFFF, stream.ssrc)
        data = payload.data
        if self._stamped and stream.audio:
            data = data[: -STAMP.size] + STAMP.pack(STAMP_MAGIC, time.time_ns())
        self._link.sock.send(self._link.srtp.protect(header + self._extensions(stream) + data))
        stream.seq += 1
        stream.packets += 1
        stream.octets += len(data)
        self.sent += 1

    def _extensions(self, stream: _Stream) -> bytes:
        """RFC 8285 one-byte elements: id << 4 | length - 1."""
        stamp = abs_send_time(time.time()).to_bytes(3, "big")
        self._transport_seq = number = (self._transport_seq + 1) & 0xFFFF
        send_time, transport_cc = sdp.ABS_SEND_TIME << 4 | 2, sdp.TRANSPORT_CC << 4 | 1
        mid, rid = sdp.MID << 4, sdp.RID << 4
        if stream.audio:
            level = sdp.AUDIO_LEVEL << 4
            return _AUDIO_EXTENSION.pack(
                0xBEDE, 3, level, _LEVEL, send_time, stamp, transport_cc, number, mid, ord("0")
            )
        return _VIDEO_EXTENSION.pack(0xBEDE, 3, send_time, stamp, transport_cc, number, mid, ord("1"), rid, ord("l"))

    async def _report(self) -> None:
        while True:
            now_ns = time.time_ns()
            elapsed_ns = time.monotonic_ns() - self._started_ns
            ntp = (_NTP_EPOCH_S << 32) + (now_ns << 32) // 1_000_000_000
            for stream in self._streams.values():
                timestamp = elapsed_ns * stream.clock_hz // 1_000_000_000 & 0xFFFFFFFF
                report = rtcp.build_sr(stream.ssrc, ntp, timestamp, stream.packets, stream.octets)
                self._link.send_rtcp(report + rtcp.build_sdes(stream.ssrc, "load"))
            await asyncio.sleep(REPORT_S)


class PublisherFeedback:
    """What comes back to the publisher: read and forgotten (see README: it neither repairs nor makes key frames on demand)."""

    def rtp_received(self, packet: bytes, arrival_ns: int) -> None:
        """Nobody sends media to a publisher."""

    def rtcp_received(self, packet: bytes) -> None:
        """Reports and requests of the server."""
