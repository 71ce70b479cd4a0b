"""What a watched track needs of its medium: packets in, frames for observers out. Sound is here, pictures are in `video`."""

from collections import deque
from collections.abc import Iterator
from typing import Protocol

from media_processors.audio.vad import SileroVad
from media_processors.base import Observer
from media_processors.frames import AudioFrame, VideoFrame
from media_processors.listening import Ear, ListenCounters, TrackListener
from sfu.tap import Sound, TapPacket

QUEUE_PACKETS = 250
"""5 s of sound. One more, and the oldest packet is dropped."""


class Perception(Protocol):
    """The senses of one track. All of its observers share what is decoded."""

    codecs: frozenset[str]
    """What can be decoded."""
    paused_after_s: float
    """A track that sends nothing for so long has paused."""

    def attach(self, name: str, observer: Observer) -> None:
        """From now on, frames for this observer as well."""

    def detach(self, name: str) -> None:
        """No more for it; idempotent."""

    def restart(self) -> None:
        """Forget everything that was perceived; only the clock goes on."""

    def bound(self, waiting: deque[TapPacket]) -> int:
        """Drop what is too much to wait for its turn; how many packets were."""

    def push(self, packet: TapPacket) -> Iterator[tuple[str, AudioFrame | VideoFrame]]:
        """(observer, frame) for all that this packet completes."""


class Hearing:
    """Sound: each observer hears at its own ear."""

    codecs = frozenset({"opus"})
    paused_after_s = 0.7
    """The longest silence between packets under DTX is 0.4 s."""

    def __init__(self, vad: SileroVad, counters: ListenCounters) -> None:
        self._listener = TrackListener(vad, counters)
        self._ears: dict[str, Ear] = {}

    def attach(self, name: str, observer: Observer) -> None:
        """See `Perception`."""
        sound = Sound.PROCESSED if observer.sound == "processed" else Sound.RAW
        self._ears[name] = Ear(sound, observer.sample_rate_hz)

    def detach(self, name: str) -> None:
        """See `Perception`."""
        self._ears.pop(name, None)

    def restart(self) -> None:
        """See `Perception`."""
        self._listener.restart()

    def bound(self, waiting: deque[TapPacket]) -> int:
        """See `Perception`. The oldest goes."""
        if len(waiting) <= QUEUE_PACKETS:
            return 0
        waiting.popleft()
        return 1

    def push(self, packet: TapPacket) -> Iterator[tuple[str, AudioFrame]]:
        """See `Perception`."""
        by_ear = {ear: name for name, ear in self._ears.items()}
        for ear, frame in self._listener.push(packet, list(by_ear)):
            yield by_ear[ear], frame
