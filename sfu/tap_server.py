"""The worker's side of the taps: hosts come and go, tracks are opened on them, packets go out, results come back.

One host of each role at a time; a second one of a role replaces the first (it is the restarted one). What one turn
of the event loop queues for a host leaves in one message at the turn's end. A full socket is a counted drop of packets, never a
wait; what opens, changes and closes tracks is kept, the latest for each, and tried again until it is sent.
"""

import asyncio
import socket
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from sfu.counters import TapTotals
from sfu.dataplane.base import DataPlane
from sfu.errors import DropReason
from sfu.frame_traces import LOST_S, FrameTraces
from sfu.path import DEADLINE_NS, AudioPacket, PathMode, TrackPath
from sfu.producer import Producer
from sfu.tap import (
    CloseTrack,
    Hello,
    OpenTrack,
    SelectLayer,
    Sound,
    TapFrame,
    TapPacket,
    TapResult,
    TapSocket,
    Trace,
    Traced,
    VideoResult,
    WantKeyframe,
    listen,
)
from sfu.tapped import VIDEO_ROLES, Host, Role, Tapped, sound_packet
from sfu.video_taps import VideoTaps

log = structlog.get_logger()

MESSAGES_PER_TURN = 64


class TapServer:
    """Listens for hosts on one Unix socket."""

    def __init__(
        self,
        path: Path,
        plane: DataPlane,
        on_path_state: Callable[[str, PathMode, str], None],
        traces: FrameTraces | None = None,
    ) -> None:
        """`traces`: who follows packets, if anybody does."""
        self.totals = TapTotals()
        self._traces = traces or FrameTraces(0)
        self._socket_path = path
        self._plane = plane
        self._on_path_state = on_path_state
        self._hosts: dict[Role, Host] = {}
        self._transforms: dict[Role, frozenset[str]] = {}
        """What hosts run, or ran before they were gone."""
        self._ticked_ns = time.monotonic_ns()
        self._unnamed: set[TapSocket] = set()
        self._tapped: dict[str, Tapped] = {}
        self._by_handle: dict[int, Tapped] = {}
        self._next_handle = 0
        self._flush_due = False
        self._videos = VideoTaps(plane, self._hosts, self._post, self._lost, self._path_changed)
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
        for link in (*(host.link for host in self._hosts.values()), *self._unnamed):
            loop.remove_reader(link.fileno())
            link.close()
        self._hosts.clear()
        self._unnamed.clear()

    # --- tracks

    def open(self, room_id: str, producer: Producer) -> None:
        """A producer that may be processed once `set_processing` says so."""
        self.close_track(producer.track_id)
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
        if tapped.path is not None:
            self.totals.add(tapped.path.counters)
        tapped.producer.path = None
        self._videos.stop(tapped)
        for host in list(self._hosts.values()):
            self._tell(host, tapped.handle, CloseTrack(tapped.handle))

    def set_processing(self, track_id: str, processors: dict[str, bool], epoch: int) -> None:
        """Replace which processors run on a track. Without any (not even switched off ones) it is never in the path."""
        tapped = self._tapped.get(track_id)
        if tapped is None:
            return
        if epoch != tapped.epoch:
            self._videos.new_epoch(tapped)
        tapped.processors = dict(processors)
        tapped.epoch = epoch
        if tapped.path is None and self._belongs_in_path(tapped):
            self._put_in_path(tapped)
        self._videos.follow(tapped)
        for host in list(self._hosts.values()):
            self._open_on(host, tapped)

    def _belongs_in_path(self, tapped: Tapped) -> bool:
        """A mono voice for which some transform exists, switched on or not: switching is the host's, without a seam."""
        host, producer = self._hosts.get("path"), tapped.producer
        if host is None or producer.codec != "opus" or producer.media.stereo:
            return False
        return host.runs_any(tapped.processors, switched_on=False)

    def processing(self, track_id: str) -> tuple[dict[str, bool], int, str | None]:
        """(processors, epoch, why it is bypassed) of a track, for snapshots."""
        tapped = self._tapped.get(track_id)
        return (tapped.processors, tapped.epoch, tapped.bypassed) if tapped is not None else ({}, 0, None)

    def _put_in_path(self, tapped: Tapped) -> None:
        producer = tapped.producer
        drops, traces = self._plane.counters.drops, self._traces

        def send(packet: AudioPacket, restart: bool) -> bool:
            tapped.heard_bytes += len(packet.payload)
            if traces.due() and path.mode is PathMode.PROCESSED:
                self._follow(tapped, packet)
            frame = sound_packet(tapped, packet, packet.payload, packet.level, Sound.RAW, restart)
            if not self._post("path", frame):
                return False
            asyncio.get_running_loop().call_later(DEADLINE_NS / 1e9, lambda: path.expire(time.monotonic_ns()))
            return True

        def release(packet: AudioPacket, payload: bytes, level: int, processed: bool) -> None:
            sound = Sound.PROCESSED if processed else Sound.RAW
            source = next(iter(producer.sources.values()))
            now_ns = time.monotonic_ns()
            self._plane.forward_audio(source, packet, payload, level, sound, now_ns)
            if packet is traces.packet:
                traces.sent(processed, now_ns)

        def drop(reason: DropReason) -> None:
            drops[reason] += 1

        def changed(mode: PathMode, reason: str) -> None:
            self._path_changed(producer.track_id, mode, reason)

        tapped.path = producer.path = path = TrackPath(send, release, drop, changed)
        if "path" in self._hosts:
            path.attach()

    def _follow(self, tapped: Tapped, packet: AudioPacket) -> None:
        """Have the path host tell of a packet, which is sent to it next."""
        if self._post("path", Trace(tapped.handle, packet.seq_ext & 0xFFFF)):
            self._traces.follow(tapped, packet)
            asyncio.get_running_loop().call_later(LOST_S, self._traces.lost, packet)

    def _path_changed(self, track_id: str, mode: PathMode, reason: str) -> None:
        tapped = self._tapped.get(track_id)
        if tapped is not None:
            tapped.bypassed = reason if mode is PathMode.BYPASS else None
        self._on_path_state(track_id, mode, reason)

    # --- packets out

    def heard(self, producer: Producer, packet: AudioPacket, payload: bytes, level: int, sound: Sound) -> None:
        """A packet for the watch host, if one of its observers is on for this track."""
        host = self._hosts.get("watch")
        if host is None:
            return
        tapped = self._tapped.get(producer.track_id)
        if tapped is not None and host.runs_any(tapped.processors, switched_on=True):
            self._post("watch", sound_packet(tapped, packet, payload, level, sound, restart=False))

    def _open_on(self, host: Host, tapped: Tapped) -> None:
        if host.is_for(tapped.producer.kind) and (host.role != "path" or tapped.path is not None):
            self._tell(host, tapped.handle, tapped.config())

    def _tell(self, host: Host, handle: int, frame: OpenTrack | CloseTrack) -> None:
        host.control[handle] = frame
        try:
            host.send_control()
        except OSError:
            self._lost(host)

    def tick_layers(self, now_ns: int) -> None:
        """Every 250 ms: choose the layers of videos that hosts get; add up how long tracks go around transforms."""
        self._videos.tick(self._tapped.values(), now_ns)
        elapsed_s, self._ticked_ns = (now_ns - self._ticked_ns) / 1e9, now_ns
        for tapped in self._tapped.values():
            if reason := self._bypass_reason(tapped):
                self.totals.bypass_s[tapped.producer.kind, reason] += elapsed_s

    def _bypass_reason(self, tapped: Tapped) -> str:
        """Why a track goes around a transform that is on; empty if it does not."""
        if tapped.producer.kind == "video":
            return self._videos.bypass_reason(tapped, self._transforms.get("video", frozenset()))
        transforms = self._transforms.get("path", frozenset())
        wanted = any(on and name in transforms for name, on in tapped.processors.items())
        return tapped.path.reason if wanted and tapped.path is not None else ""

    # --- what hosts are told besides

    def refresh(self) -> None:
        """Every second: tell hosts about losses and bitrates that changed, and what they could not take before."""
        path, video = self._hosts.get("path"), self._hosts.get("video")
        for tapped in self._tapped.values():
            if tapped.path is not None and tapped.refresh() and path is not None:
                self._open_on(path, tapped)
            if self._videos.refresh(tapped, time.monotonic_ns()) and video is not None:
                self._open_on(video, tapped)
        self._flush()

    def _post(self, role: Role, frame: TapPacket | Trace) -> bool:
        """Queue a packet, or what is said of the next one, for a host; whether it is on its way."""
        host = self._hosts.get(role)
        if host is None:
            return False
        if not self._flush_due:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)
        try:
            host.link.queue(frame)
        except OSError:
            self._lost(host)
            return False
        return True

    def _flush(self) -> None:
        self._flush_due = False
        for host in list(self._hosts.values()):
            try:
                host.link.flush()
                if host.control:
                    host.send_control()
            except OSError:
                self._lost(host)
            dropped = host.take_drops()
            if host.role not in VIDEO_ROLES:
                self._plane.counters.drops[DropReason.TAP_FULL] += dropped
            else:
                self._videos.flushed(host, dropped, self._tapped)

    # --- hosts

    def _accept(self) -> None:
        if self._listener is None:
            return
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        link = TapSocket(sock)
        self._unnamed.add(link)
        asyncio.get_running_loop().add_reader(link.fileno(), self._readable, link)

    def _readable(self, link: TapSocket) -> None:
        for _ in range(MESSAGES_PER_TURN):
            try:
                frames = link.receive()
            except ValueError:
                self._plane.counters.drops[DropReason.PATH_STRAY] += 1
                continue
            except OSError:
                frames = None
            if frames is None:
                self._end(link)
                return
            if not frames:
                return
            for frame in frames:
                self._frame(link, frame)

    def _frame(self, link: TapSocket, frame: TapFrame) -> None:
        if isinstance(frame, TapResult):
            tapped, host = self._by_handle.get(frame.handle), self._hosts.get("path")
            if tapped is None or tapped.path is None or host is None or host.link is not link:
                self._plane.counters.drops[DropReason.PATH_STRAY] += 1
                return
            tapped.path.result(frame.seq, frame.payload, frame.level, bool(frame.dry), time.monotonic_ns())
        elif isinstance(frame, SelectLayer | WantKeyframe | VideoResult):
            self._videos.heard(link, frame, self._by_handle.get(frame.handle))
        elif isinstance(frame, Traced):
            self._traces.heard(frame)
        elif isinstance(frame, Hello):
            self._named(link, frame)

    def _named(self, link: TapSocket, hello: Hello) -> None:
        self._unnamed.discard(link)
        previous = self._hosts.get(hello.role)
        if previous is not None and previous.link is not link:
            self._end(previous.link)
        host = self._hosts[hello.role] = Host(link, hello)
        self._transforms[hello.role] = host.processors
        if previous is not None and previous.link is link:  # it can run something else now
            host.control = previous.control
        log.info("host_attached", role=host.role)
        for tapped in self._tapped.values():
            if host.role == "path":
                if tapped.path is not None:
                    tapped.path.attach()
                elif self._belongs_in_path(tapped):
                    self._put_in_path(tapped)
            self._videos.follow(tapped)
            self._open_on(host, tapped)

    def _lost(self, host: Host) -> None:
        asyncio.get_running_loop().call_soon(self._end, host.link)

    def _end(self, link: TapSocket) -> None:
        if link.fileno() < 0:
            return
        asyncio.get_running_loop().remove_reader(link.fileno())
        link.close()
        self._unnamed.discard(link)
        for role in [role for role, host in self._hosts.items() if host.link is link]:
            del self._hosts[role]
            log.warning("host_lost", role=role)
            for tapped in self._tapped.values():
                self._videos.follow(tapped)
                if role == "path" and tapped.path is not None:
                    tapped.path.detach("host is gone")

    # --- statistics

    @property
    def attached(self) -> list[Role]:
        """The hosts of now."""
        return sorted(self._hosts)

    def path_totals(self) -> TapTotals:
        """Of all tracks, also of those that are gone."""
        totals = self.totals.copy()
        for tapped in self._tapped.values():
            if tapped.path is not None:
                totals.add(tapped.path.counters)
        return totals

    def statistics(self) -> dict[str, object]:
        """Per track: packets processed, bypassed, dropped, and tap-to-inject times in ms; what is derived of videos."""
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
        derived = self._videos.statistics(self._tapped.values())
        return {"hosts": sorted(self._hosts), "tracks": tracks, "derived": derived}
