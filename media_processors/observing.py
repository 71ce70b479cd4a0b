"""One tapped track in the watch host: its queue of packets, and the observers that are on for it."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

import structlog

from media_processors.audio.vad import SileroVad
from media_processors.base import Observer, ObserverStream
from media_processors.errors import place_of
from media_processors.findings import Finding, ProcessorInfo, ProcessorStatus
from media_processors.frames import TrackRef
from media_processors.listening import Ear, ListenCounters, TrackListener
from sfu.tap import OpenTrack, Sound, TapPacket

QUEUE_PACKETS = 250
"""5 s of sound. One more, and the oldest packet is dropped."""
PAUSED_AFTER_S = 0.7
"""A track that sends nothing for so long has paused; the longest silence between packets under DTX is 0.4 s."""
LINGER_S = 32.0
"""How long an observer may take to say what is left of a track that ended."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Available:
    """An observer as the host knows it now."""

    info: ProcessorInfo
    observer: Observer | None
    """None if it is broken."""
    pausing: str
    """Why its findings pause; empty if they do not."""


@dataclass(slots=True)
class WatchCounters:
    """Of one watch host."""

    dropped: int = 0
    """Packets dropped from full queues."""
    stale: int = 0
    """Packets and findings of an older consent epoch."""
    unwanted: int = 0
    """Packets of tracks that are not open, or for which nothing is on."""
    malformed: int = 0
    findings: int = 0
    broken: int = 0
    """Streams closed because they raised."""
    deaf: int = 0
    """Tracks no longer heard because our own handling of their packets raised."""
    lag_ms: float = 0.0
    """From a packet's arrival at the worker to its turn here; smoothed."""
    listening: ListenCounters = field(default_factory=ListenCounters)


class _Watch:
    """An observer on a track, under one consent epoch. After `mute` nothing of it is heard any more."""

    def __init__(self, observer: Observer, track: TrackRef, emit: Callable[[Finding], None]) -> None:
        self.muted = False
        self._emit = emit
        sound = Sound.PROCESSED if observer.sound == "processed" else Sound.RAW
        self.ear = Ear(sound, observer.sample_rate_hz)
        self.stream: ObserverStream = observer.open(track, self.say)

    def say(self, finding: Finding) -> None:
        """Pass a finding on."""
        if not self.muted:
            self._emit(finding)

    def mute(self) -> None:
        """Consent ended, or changed."""
        self.muted = True


class WatchedTrack:
    """A track from `OpenTrack` to `CloseTrack`."""

    def __init__(
        self,
        opened: OpenTrack,
        vad: SileroVad,
        counters: WatchCounters,
        emit: Callable[[Finding], None],
        tell: Callable[[ProcessorStatus], None],
    ) -> None:
        self.opened = opened
        self.waiting: deque[TapPacket] = deque()
        self.statuses: dict[str, ProcessorStatus] = {}
        self._counters = counters
        self._emit = emit
        self._tell = tell
        self._listener = TrackListener(vad, counters.listening)
        self._watches: dict[str, _Watch] = {}
        self._broken: dict[str, str] = {}
        self._last_packet_s = time.monotonic()
        self._paused = True
        self._retiring: set[asyncio.Task[None]] = set()

    def configure(self, opened: OpenTrack, available: Iterable[Available]) -> None:
        """Switches and consent. Another epoch drops what waits and what is pending."""
        if opened.epoch != self.opened.epoch:
            self._counters.stale += len(self.waiting)
            self.waiting.clear()
            for name in list(self._watches):
                self._stop(name, pending=False)
            self._listener.restart()
            self._broken.clear()
        self.opened = opened
        self.refresh(available)

    def refresh(self, available: Iterable[Available]) -> None:
        """Open and close streams as wanted and possible; say what changed."""
        for known in available:
            name = known.info.name
            wanted = known.info.media == self.opened.kind and self.opened.processors.get(name, False)
            possible = known.info.available and known.observer is not None and self.opened.codec == "opus"
            if name in self._watches and not (wanted and possible):
                self._stop(name, pending=False)
            elif name not in self._watches and wanted and possible and known.observer is not None:
                self._start(name, known.observer)
            if known.info.media == self.opened.kind:
                self._state(name, wanted, known)

    def put(self, packet: TapPacket) -> None:
        """Queue a packet."""
        if packet.epoch != self.opened.epoch:
            self._counters.stale += 1
            return
        if not self._watches:
            self._counters.unwanted += 1
            return
        self._last_packet_s = time.monotonic()
        self._paused = False
        self.waiting.append(packet)
        if len(self.waiting) > QUEUE_PACKETS:
            self.waiting.popleft()
            self._counters.dropped += 1

    def work(self) -> None:
        """Process the oldest packet. A packet that breaks something of ours ends the hearing of this track, of no other."""
        try:
            self._hear(self.waiting.popleft())
        except Exception as error:
            self._deafen(error)

    def _hear(self, packet: TapPacket) -> None:
        lag_ms = (time.monotonic_ns() - packet.arrival_ns) / 1e6
        self._counters.lag_ms += 0.02 * (lag_ms - self._counters.lag_ms)
        by_ear = {watch.ear: (name, watch) for name, watch in self._watches.items()}
        for ear, frame in self._listener.push(packet, list(by_ear)):
            name, watch = by_ear[ear]
            if name in self._watches:
                self._run(name, watch, partial(watch.stream.push, frame))

    def _deafen(self, error: Exception) -> None:
        """Close every stream, until another consent epoch begins."""
        self._counters.deaf += 1
        log.error("track_deaf", track=self.opened.track_id, error=type(error).__name__, place=place_of(error))
        self.waiting.clear()
        for name in list(self._watches):
            self._stop(name, pending=False)
            self._unable(name, error)

    def tick(self, now_s: float) -> None:
        """Notice that the sender paused."""
        if self._paused or self.waiting or now_s - self._last_packet_s < PAUSED_AFTER_S:
            return
        self._paused = True
        for name, watch in list(self._watches.items()):
            self._run(name, watch, watch.stream.flush)

    async def close(self, pending: bool) -> None:
        """Close every stream; `pending`: let them say what is left. Returns when they have. Idempotent."""
        self.waiting.clear()
        for name in list(self._watches):
            self._stop(name, pending)
        await asyncio.gather(*self._retiring, return_exceptions=True)

    def _start(self, name: str, observer: Observer) -> None:
        if name in self._broken:
            return
        opened = self.opened
        track = TrackRef(
            opened.room_id, opened.participant_id, opened.track_id, opened.kind, opened.source, opened.epoch
        )
        try:
            self._watches[name] = _Watch(observer, track, self._emit)
        except Exception as error:  # anybody's code
            self._fail(name, error)

    def _stop(self, name: str, pending: bool) -> None:
        watch = self._watches.pop(name)
        if pending:
            self._run(name, watch, watch.stream.flush)
        else:
            watch.mute()
        task = asyncio.create_task(_retire(watch, LINGER_S if pending else 0.0), name=f"retire-{name}")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def _run(self, name: str, watch: _Watch, call: Callable[[], list[Finding]]) -> None:
        try:
            for finding in call():
                watch.say(finding)
        except Exception as error:  # anybody's code: it ends its own stream and nothing else
            self._fail(name, error)
            if name in self._watches:
                self._stop(name, pending=False)

    def _fail(self, name: str, error: Exception) -> None:
        self._counters.broken += 1
        log.error("observer_failed", processor=name, track=self.opened.track_id, error=type(error).__name__)
        self._unable(name, error)

    def _unable(self, name: str, error: Exception) -> None:
        self._broken[name] = f"it failed: {type(error).__name__}"
        self._set_status(name, "unavailable", self._broken[name])

    def _state(self, name: str, wanted: bool, known: Available) -> None:
        if not known.info.available:
            self._set_status(name, "unavailable", known.info.reason)
        elif self.opened.codec != "opus" and self.opened.kind == "audio":
            self._set_status(name, "unavailable", f"codec: {self.opened.codec}")
        elif name in self._broken:
            self._set_status(name, "unavailable", self._broken[name])
        elif not wanted:
            self._set_status(name, "off", "")
        elif known.pausing:
            self._set_status(name, "unavailable", known.pausing)
        else:
            self._set_status(name, "on", "")

    def _set_status(self, name: str, state: str, reason: str) -> None:
        fields = {"track_id": self.opened.track_id, "processor": name, "state": state, "reason": reason}
        status = ProcessorStatus.model_validate(fields)
        if self.statuses.get(name) != status:
            self.statuses[name] = status
            self._tell(status)


async def _retire(watch: _Watch, linger_s: float) -> None:
    try:
        async with asyncio.timeout(linger_s):
            await watch.stream.aclose()
    except TimeoutError:
        log.info("observer_cut_short")
    except Exception as error:  # anybody's code
        log.error("observer_close_failed", error=type(error).__name__)
    finally:
        watch.mute()
