"""The worker's side of the taps: hosts come and go, tracks are opened on them, packets go out, results come back.

One path host and one watch host at a time; a second one of a role replaces the first (it is the restarted one). What one turn
of the event loop queues for a host leaves in one message at the turn's end. A full socket is a counted drop, never a wait.
"""

import asyncio
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import structlog

from sfu.dataplane.base import DataPlane
from sfu.errors import DropReason
from sfu.path import DEADLINE_NS, AudioPacket, PathMode, TrackPath
from sfu.producer import Producer
from sfu.tap import CloseTrack, Hello, OpenTrack, Sound, TapFrame, TapPacket, TapResult, TapSocket, listen

log = structlog.get_logger()

Role = Literal["path", "watch"]
MESSAGES_PER_TURN = 64
BITRATES_BPS = (32_000, 48_000, 64_000)
"""For one voice: below 32 kb/s denoised speech would lose to the codec, above 64 kb/s nothing is gained."""


class Tapped:
    """A track that hosts may hear."""

    __slots__ = (
        "bitrate_bps",
        "epoch",
        "handle",
        "heard_bytes",
        "loss_percent",
        "path",
        "processors",
        "producer",
        "room_id",
    )

    def __init__(self, handle: int, room_id: str, producer: Producer) -> None:
        self.handle = handle
        self.room_id = room_id
        self.producer = producer
        self.processors: dict[str, bool] = {}
        self.epoch = 0
        self.path: TrackPath | None = None
        self.loss_percent = 0
        """That of the worst subscriber, so that the path host's encoder adds enough redundancy for everybody."""
        self.bitrate_bps = BITRATES_BPS[0]
        """What the path host encodes at: the class that the publisher's own bitrate needs."""
        self.heard_bytes = 0
        """Payload since the last `refresh`."""

    def refresh(self) -> bool:
        """Once a second: look at losses and bitrate again; whether one changed. The bitrate only rises, since a pause is no
        sign of a worse encoder."""
        loss_percent = self.worst_loss_percent()
        used_bps, self.heard_bytes = self.heard_bytes * 8, 0
        bitrate_bps = next((step for step in BITRATES_BPS if step >= used_bps * 0.9), BITRATES_BPS[-1])
        bitrate_bps = max(bitrate_bps, self.bitrate_bps)
        changed = (loss_percent, bitrate_bps) != (self.loss_percent, self.bitrate_bps)
        self.loss_percent, self.bitrate_bps = loss_percent, bitrate_bps
        return changed

    def worst_loss_percent(self) -> int:
        """Of the subscribers now, at most 30: beyond that redundancy costs more quality than it saves."""
        worst = max((consumer.remote_loss for consumer in self.producer.consumers), default=0.0)
        return min(30, round(worst * 100))

    def config(self) -> OpenTrack:
        """What a host is told."""
        producer = self.producer
        return OpenTrack(
            handle=self.handle,
            track_id=producer.track_id,
            room_id=self.room_id,
            participant_id=producer.participant_id,
            kind=producer.kind,
            source=producer.source,
            codec="opus",
            clock_hz=producer.media.clock_hz,
            processors=self.processors,
            epoch=self.epoch,
            bitrate_bps=self.bitrate_bps,
            loss_percent=self.loss_percent,
        )


class TapServer:
    """Listens for hosts on one Unix socket."""

    def __init__(self, path: Path, plane: DataPlane, on_path_state: Callable[[str, PathMode, str], None]) -> None:
        self._socket_path = path
        self._plane = plane
        self._on_path_state = on_path_state
        self._hosts: dict[Role, TapSocket] = {}
        self._unnamed: set[TapSocket] = set()
        self._tapped: dict[str, Tapped] = {}
        self._by_handle: dict[int, Tapped] = {}
        self._next_handle = 0
        self._flush_due = False
        self._listener: socket.socket | None = None

    def start(self) -> None:
        """Begin to accept hosts."""
        self._listener = listen(self._socket_path)
        asyncio.get_running_loop().add_reader(self._listener.fileno(), self._accept)

    def close(self) -> None:
        """Let every host go; idempotent."""
        loop = asyncio.get_running_loop()
        if self._listener is not None:
            loop.remove_reader(self._listener.fileno())
            self._listener.close()
            self._listener = None
        for host in (*self._hosts.values(), *self._unnamed):
            loop.remove_reader(host.fileno())
            host.close()
        self._hosts.clear()
        self._unnamed.clear()

    def attached(self, role: Role) -> bool:
        """Whether a host of this role is connected."""
        return role in self._hosts

    # --- tracks

    def open(self, room_id: str, producer: Producer) -> None:
        """A producer that may be processed once `set_processing` says so."""
        self._next_handle += 1
        tapped = Tapped(self._next_handle, room_id, producer)
        self._tapped[producer.track_id] = tapped
        self._by_handle[tapped.handle] = tapped

    def close_track(self, track_id: str) -> None:
        """The producer is gone; idempotent."""
        tapped = self._tapped.pop(track_id, None)
        if tapped is None:
            return
        del self._by_handle[tapped.handle]
        tapped.producer.path = None
        for role in list(self._hosts):
            self._post(role, CloseTrack(tapped.handle))

    def set_processing(self, track_id: str, processors: dict[str, bool], epoch: int) -> None:
        """Replace which processors run on a track. Without any (not even switched off ones) it is never in the path."""
        tapped = self._tapped.get(track_id)
        if tapped is None:
            return
        tapped.processors = dict(processors)
        tapped.epoch = epoch
        if processors and tapped.path is None and tapped.producer.codec == "opus" and not tapped.producer.media.stereo:
            self._put_in_path(tapped)
        for role in list(self._hosts):
            self._open_on(role, tapped)

    def processing(self, track_id: str) -> tuple[dict[str, bool], int]:
        """(processors, epoch) of a track, for snapshots."""
        tapped = self._tapped.get(track_id)
        return (tapped.processors, tapped.epoch) if tapped is not None else ({}, 0)

    def _put_in_path(self, tapped: Tapped) -> None:
        producer = tapped.producer
        drops = self._plane.counters.drops

        def send(packet: AudioPacket, restart: bool) -> bool:
            tapped.heard_bytes += len(packet.payload)
            if not self._post("path", _tap_packet(tapped, packet, packet.payload, packet.level, Sound.RAW, restart)):
                return False
            asyncio.get_running_loop().call_later(DEADLINE_NS / 1e9, lambda: path.expire(time.monotonic_ns()))
            return True

        def release(packet: AudioPacket, payload: bytes, level: int, processed: bool) -> None:
            sound = Sound.PROCESSED if processed else Sound.RAW
            source = next(iter(producer.sources.values()))
            self._plane.forward_audio(source, packet, payload, level, sound, time.monotonic_ns())

        def drop(reason: DropReason) -> None:
            drops[reason] += 1

        def changed(mode: PathMode, reason: str) -> None:
            self._on_path_state(producer.track_id, mode, reason)

        tapped.path = producer.path = path = TrackPath(send, release, drop, changed)
        if "path" in self._hosts:
            path.attach()

    # --- packets out

    def heard(self, producer: Producer, packet: AudioPacket, payload: bytes, level: int, sound: Sound) -> None:
        """A packet for the watch host, if any of its observers is on for this track."""
        if "watch" not in self._hosts:
            return
        tapped = self._tapped.get(producer.track_id)
        if tapped is not None and any(tapped.processors.values()):
            self._post("watch", _tap_packet(tapped, packet, payload, level, sound, restart=False))

    def _open_on(self, role: Role, tapped: Tapped) -> None:
        if role == "watch" or tapped.path is not None:
            self._post(role, tapped.config())

    def refresh(self) -> None:
        """Every second: tell the path host about losses and bitrates that changed."""
        for tapped in self._tapped.values():
            if tapped.path is not None and tapped.refresh():
                self._open_on("path", tapped)

    def _post(self, role: Role, frame: TapFrame) -> bool:
        host = self._hosts.get(role)
        if host is None:
            return False
        if not self._flush_due:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)
        try:
            taken = host.queue(frame)
        except OSError:
            self._lost(role, host)
            return False
        if not taken:
            self._plane.counters.drops[DropReason.TAP_FULL] += 1
        return taken

    def _flush(self) -> None:
        self._flush_due = False
        for role, host in list(self._hosts.items()):
            try:
                if not host.flush():
                    self._plane.counters.drops[DropReason.TAP_FULL] += 1
            except OSError:
                self._lost(role, host)

    # --- hosts

    def _accept(self) -> None:
        if self._listener is None:
            return
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        host = TapSocket(sock)
        self._unnamed.add(host)
        asyncio.get_running_loop().add_reader(host.fileno(), self._readable, host)

    def _readable(self, host: TapSocket) -> None:
        for _ in range(MESSAGES_PER_TURN):
            try:
                frames = host.receive()
            except ValueError:
                self._plane.counters.drops[DropReason.PATH_STRAY] += 1
                continue
            except OSError:
                frames = None
            if frames is None:
                self._end(host)
                return
            if not frames:
                return
            for frame in frames:
                self._frame(host, frame)

    def _frame(self, host: TapSocket, frame: TapFrame) -> None:
        if isinstance(frame, TapResult):
            tapped = self._by_handle.get(frame.handle)
            if tapped is None or tapped.path is None or self._hosts.get("path") is not host:
                self._plane.counters.drops[DropReason.PATH_STRAY] += 1
                return
            tapped.path.result(frame.seq, frame.payload, frame.level, bool(frame.dry), time.monotonic_ns())
        elif isinstance(frame, Hello):
            self._named(host, frame.role)

    def _named(self, host: TapSocket, role: Role) -> None:
        self._unnamed.discard(host)
        if (previous := self._hosts.get(role)) is not None and previous is not host:
            self._end(previous)
        self._hosts[role] = host
        log.info("host_attached", role=role)
        for tapped in self._tapped.values():
            self._open_on(role, tapped)
            if role == "path" and tapped.path is not None:
                tapped.path.attach()

    def _lost(self, role: Role, host: TapSocket) -> None:
        if self._hosts.get(role) is host:
            asyncio.get_running_loop().call_soon(self._end, host)

    def _end(self, host: TapSocket) -> None:
        if host.fileno() < 0:
            return
        asyncio.get_running_loop().remove_reader(host.fileno())
        host.close()
        self._unnamed.discard(host)
        for role in [role for role, attached in self._hosts.items() if attached is host]:
            del self._hosts[role]
            log.warning("host_lost", role=role)
            if role == "path":
                for tapped in self._tapped.values():
                    if tapped.path is not None:
                        tapped.path.detach("host is gone")

    # --- statistics

    def statistics(self) -> dict[str, object]:
        """Per track: packets processed, bypassed, dropped, and tap-to-inject times in ms."""
        tracks = {}
        for track_id, tapped in self._tapped.items():
            if tapped.path is None:
                continue
            counters = tapped.path.counters
            trips = sorted(tapped.path.round_trips_ns)
            tracks[track_id] = {
                "mode": tapped.path.mode.value,
                "processed": counters.processed,
                "dry": counters.dry,
                "bypassed": counters.bypassed,
                "dropped": counters.dropped,
                "hard_bypasses": counters.switches,
                "tap_to_inject_ms": {
                    "p50": trips[len(trips) // 2] / 1e6 if trips else None,
                    "p99": trips[len(trips) * 99 // 100] / 1e6 if trips else None,
                },
            }
        return {"hosts": sorted(self._hosts), "tracks": tracks}


def _tap_packet(
    tapped: Tapped, packet: AudioPacket, payload: bytes, level: int, sound: Sound, restart: bool
) -> TapPacket:
    return TapPacket(
        handle=tapped.handle,
        sound=sound,
        marker=packet.marker >> 7,
        seq=packet.seq_ext & 0xFFFF,
        timestamp=packet.timestamp,
        arrival_ns=packet.arrival_ns,
        epoch=tapped.epoch,
        level=level,
        restart=restart,
        payload=payload,
    )
