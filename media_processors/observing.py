"""One tapped track in the watch host: its queue of packets, and the observers that are on for it."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeGuard

import structlog

from media_processors.base import ChoosesWidth, MayRefuse, Observer, ObserverStream, ReadsFindings
from media_processors.errors import place_of
from media_processors.findings import Finding, ProcessorInfo, ProcessorStatus
from media_processors.frames import TrackRef
from media_processors.listening import ListenCounters
from media_processors.perceiving import Perception
from media_processors.video.depacketize import SightCounters
from media_processors.video.watching import Ask
from sfu.tap import OpenTrack, SelectLayer, TapPacket

LINGER_S = 32.0
"""How long an observer may take to say what is left of a track that ended."""
CHOOSE_S = 5.0
"""Between two looks at how wide observers want pictures: a switch costs the publisher a key frame."""
MAX_WIDTH_PX = 65_535
OVERLOADED = "overloaded"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Available:
    """An observer as the host knows it now."""

    info: ProcessorInfo
    observer: Observer | None
    """None if it is broken."""
    pausing: str
    """Why its findings pause; empty if they do not."""
    shed: bool = False
    """It has to wait for better times (`media_processors.ladder`)."""


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
    """From a packet of sound's arrival at the worker to its turn here; smoothed."""
    video_lag_ms: float = 0.0
    """The same for video."""
    sheds: int = 0
    """How often a rung of observers was shed because this machine could not keep up."""
    shed_rungs: int = 0
    """How many are shed now."""
    frames: dict[str, int] = field(default_factory=dict)
    """Sounds of one packet, and pictures, that observers were given; by processor."""
    seeing: SightCounters = field(default_factory=SightCounters)
    listening: ListenCounters = field(default_factory=ListenCounters)


class _Watch:
    """An observer on a track, under one consent epoch. After `mute` nothing of it is heard any more."""

    def __init__(self, observer: Observer, track: TrackRef, emit: Callable[[Finding], None]) -> None:
        self.muted = False
        self._emit = emit
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
        perception: Perception,
        counters: WatchCounters,
        emit: Callable[[Finding], None],
        tell: Callable[[ProcessorStatus], None],
        ask: Ask,
    ) -> None:
        self.opened = opened
        self.waiting: deque[TapPacket] = deque()
        self.statuses: dict[str, ProcessorStatus] = {}
        self._counters = counters
        self._emit = emit
        self._tell = tell
        self._ask = ask
        self._perception = perception
        self._watches: dict[str, _Watch] = {}
        self._broken: dict[str, str] = {}
        self._last_packet_s = time.monotonic()
        self._chosen_s = self._last_packet_s
        self._paused = True
        self._retiring: set[asyncio.Task[None]] = set()

    def configure(self, opened: OpenTrack, available: Iterable[Available]) -> None:
        """Switches and consent. Another epoch drops what waits and what is pending."""
        if opened.epoch != self.opened.epoch:
            self._counters.stale += len(self.waiting)
            self.waiting.clear()
            for name in list(self._watches):
                self._stop(name, pending=False)
            self._perception.restart()
            self._broken.clear()
        self.opened = opened
        self.refresh(available)

    def refresh(self, available: Iterable[Available]) -> None:
        """Open and close streams as wanted and possible; say what changed."""
        for known in available:
            name = known.info.name
            wanted = known.info.media == self.opened.kind and self.opened.processors.get(name, False)
            possible = known.info.available and known.observer is not None and self._decodable and not known.shed
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
        self._counters.dropped += self._perception.bound(self.waiting)

    def work(self) -> None:
        """Process the oldest packet. A packet that breaks something of ours ends the watching of this track, of no other."""
        try:
            self._perceive(self.waiting.popleft())
        except Exception as error:
            self._deafen(error)

    def _perceive(self, packet: TapPacket) -> None:
        lag_ms = (time.monotonic_ns() - packet.arrival_ns) / 1e6
        if self.opened.kind == "audio":
            self._counters.lag_ms += 0.02 * (lag_ms - self._counters.lag_ms)
        else:
            self._counters.video_lag_ms += 0.02 * (lag_ms - self._counters.video_lag_ms)
        for name, frame in self._perception.push(packet):
            if (watch := self._watches.get(name)) is not None:
                self._counters.frames[name] = self._counters.frames.get(name, 0) + 1
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
        """Notice that the sender paused; ask for pictures of another size."""
        if self.opened.kind == "video" and self._watches and now_s - self._chosen_s >= CHOOSE_S:
            self._chosen_s = now_s
            self._choose_width()
        if self._paused or self.waiting or now_s - self._last_packet_s < self._perception.paused_after_s:
            return
        self._paused = True
        for name, watch in list(self._watches.items()):
            self._run(name, watch, watch.stream.flush)

    def _choose_width(self) -> None:
        """Again and again, since a message may be lost; the worker knows what it has."""
        wishes = []
        for name, watch in list(self._watches.items()):
            try:
                wishes.append(_wish(watch.stream))
            except Exception as error:  # anybody's code
                self._fail(name, error)
                self._stop(name, pending=False)
        self._ask(SelectLayer(self.opened.handle, max(wishes, default=0)))

    def lag_ms(self, now_ns: int) -> float:
        """How long the oldest packet has been waiting."""
        return (now_ns - self.waiting[0].arrival_ns) / 1e6 if self.waiting else 0.0

    async def close(self, pending: bool) -> None:
        """Close every stream; `pending`: let them say what is left. Returns when they have. Idempotent."""
        self.waiting.clear()
        readers = [name for name, watch in self._watches.items() if _reads(watch.stream)]
        for name in [name for name in self._watches if name not in readers]:
            self._stop(name, pending)
        await asyncio.gather(*self._retiring, return_exceptions=True)
        for name in readers:  # the others have said everything now
            if name in self._watches:
                self._stop(name, pending)
        await asyncio.gather(*self._retiring, return_exceptions=True)

    def _start(self, name: str, observer: Observer) -> None:
        if name in self._broken:
            return
        opened = self.opened
        track = TrackRef(
            opened.room_id, opened.participant_id, opened.track_id, opened.kind, opened.source, opened.epoch
        )
        if not self._watches:
            self._perception.restart()
        try:
            self._watches[name] = _Watch(observer, track, partial(self._said, name))
            self._perception.attach(name, observer)
        except Exception as error:  # anybody's code
            self._fail(name, error)

    def _stop(self, name: str, pending: bool) -> None:
        watch = self._watches.pop(name)
        self._perception.detach(name)
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

    def _said(self, name: str, finding: Finding) -> None:
        """Pass a finding on, also to the observers of this track that read what others find."""
        self._emit(finding)
        for other, watch in list(self._watches.items()):
            if other != name and _reads(reader := watch.stream):
                self._run(other, watch, partial(reader.read, finding))

    def _fail(self, name: str, error: Exception) -> None:
        self._counters.broken += 1
        log.error("observer_failed", processor=name, track=self.opened.track_id, error=type(error).__name__)
        self._unable(name, error)

    def _unable(self, name: str, error: Exception) -> None:
        self._broken[name] = f"it failed: {type(error).__name__}"
        self._set_status(name, "unavailable", self._broken[name])

    @property
    def _decodable(self) -> bool:
        return self.opened.codec in self._perception.codecs

    def _state(self, name: str, wanted: bool, known: Available) -> None:
        if not known.info.available:
            self._set_status(name, "unavailable", known.info.reason)
        elif not self._decodable:
            self._set_status(name, "unavailable", f"codec: {self.opened.codec}")
        elif name in self._broken:
            self._set_status(name, "unavailable", self._broken[name])
        elif not wanted:
            self._set_status(name, "off", "")
        elif known.shed:
            self._set_status(name, "unavailable", OVERLOADED)
        elif known.pausing:
            self._set_status(name, "unavailable", known.pausing)
        elif reason := self._silent_because(name):
            self._set_status(name, "unavailable", reason)
        else:
            self._set_status(name, "on", "")

    def _silent_because(self, name: str) -> str:
        watch = self._watches.get(name)
        asking: object = watch.stream if watch is not None else None
        return str(asking.silent_because) if isinstance(asking, MayRefuse) else ""

    def _set_status(self, name: str, state: str, reason: str) -> None:
        fields = {"track_id": self.opened.track_id, "processor": name, "state": state, "reason": reason}
        status = ProcessorStatus.model_validate(fields)
        if self.statuses.get(name) != status:
            self.statuses[name] = status
            self._tell(status)


def _reads(stream: object) -> TypeGuard[ReadsFindings]:
    return isinstance(stream, ReadsFindings)


def _wish(stream: ObserverStream) -> int:
    """How wide pictures this observer wants, 0 if it does not say. Raises whatever it raises."""
    asking: object = stream
    width: object = asking.wanted_width_px if isinstance(asking, ChoosesWidth) else 0
    return width if isinstance(width, int) and 0 <= width <= MAX_WIDTH_PX else 0


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
