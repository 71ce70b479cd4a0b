"""Hearing one audio track: packets of its raw and its processed sound in, frames for observers out.

What is lost is repaired from the next packet's in-band copy if it has one, else concealed for at most 60 ms, else left out:
frames carry their time, so an observer sees the gap. Pauses of the sender (DTX) are gaps as well.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from media_processors.audio.resample import Downsampler
from media_processors.audio.silence import Rest
from media_processors.audio.vad import RATE_HZ as VAD_RATE_HZ
from media_processors.audio.vad import SileroStream, SileroVad
from media_processors.base import Samples
from media_processors.clock import TrackClock
from media_processors.codec import RATE_HZ, OpusDecoder, packet_has_fec, packet_samples
from media_processors.errors import CodecError
from media_processors.frames import AudioFrame
from media_processors.streams import Timeline
from sfu.tap import Sound, TapPacket

CONCEAL_SAMPLES = RATE_HZ * 60 // 1000
PROCESSED_HOLD_SAMPLES = RATE_HZ // 5
"""After so long without processed sound, those who want it get the raw one: the transform is bypassed."""
KEPT_PROBABILITIES = 50
_PER_MS = RATE_HZ // 1000
_TOLERANCE_SAMPLES = RATE_HZ // 200


@dataclass(slots=True)
class ListenCounters:
    """What happened to packets; one object per host."""

    packets: int = 0
    old: int = 0
    """Out of order or repeated."""
    damaged: int = 0
    """Not Opus."""
    repaired: int = 0
    concealed: int = 0
    skipped: int = 0
    """Lost beyond what concealment may cover."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """Sound of one packet at 48 kHz."""

    samples: Samples
    start: int
    """On the track's clock, in samples."""
    concealed: bool


class _Decoder:
    """One of a track's two Opus streams."""

    def __init__(self, counters: ListenCounters) -> None:
        self._counters = counters
        self._timeline = Timeline()
        self._opus = OpusDecoder()

    def push(self, packet: TapPacket, clock: TrackClock) -> list[_Piece]:
        """The sound of a packet and of what was lost before it."""
        self._counters.packets += 1
        pieces: list[_Piece] = []
        try:
            samples = packet_samples(packet.payload)
            step = self._timeline.accept(packet.seq, packet.timestamp, samples)
            if step.old:
                self._counters.old += 1
                return []
            start = clock.at(packet.timestamp, packet.arrival_ns)
            if not step.pause_samples:
                pieces.extend(self._bridge(packet, step.lost, step.lost_samples, start))
            pieces.append(_Piece(self._opus.decode(packet.payload), start, concealed=False))
        except CodecError:
            self._counters.damaged += 1
        return pieces

    def _bridge(self, packet: TapPacket, lost: int, samples: int, start: int) -> Iterator[_Piece]:
        recoverable = lost > 0 and packet_has_fec(packet.payload)
        concealable = min(lost - recoverable, CONCEAL_SAMPLES // samples)
        for index in range(concealable):
            self._counters.concealed += 1
            yield _Piece(self._opus.conceal(samples), start - (lost - index) * samples, concealed=True)
        self._counters.skipped += lost - recoverable - concealable
        if recoverable:
            self._counters.repaired += 1
            yield _Piece(self._opus.decode_fec(packet.payload, samples), start - samples, concealed=True)


class Ear:
    """Where one observer hears a track: one rate, one choice of sound, never back in time."""

    def __init__(self, sound: Sound, rate_hz: int) -> None:
        self.sound = sound
        self.rate_hz = rate_hz
        self._next = 0

    def takes(self, piece: _Piece) -> bool:
        """Whether this piece comes next; then it counts as heard."""
        if piece.start + _TOLERANCE_SAMPLES < self._next:
            return False
        self._next = piece.start + len(piece.samples)
        return True


class TrackListener:
    """Both sounds of one track, decoded once, resampled once per rate, voice activity once, on the raw sound."""

    def __init__(self, vad: SileroVad, counters: ListenCounters) -> None:
        self._counters = counters
        self._clock = TrackClock(RATE_HZ)
        self._decoders: dict[Sound, _Decoder] = {}
        self._resamplers: dict[tuple[Sound, int], Downsampler] = {}
        self._vad: SileroStream = vad.open()
        self._rest = Rest()
        self._speech: deque[tuple[int, float]] = deque([(0, 0.0)], maxlen=KEPT_PROBABILITIES)
        self._processed_until: int | None = None

    def restart(self) -> None:
        """Forget every sound; only the clock goes on."""
        self._decoders.clear()
        self._resamplers.clear()
        self._vad.reset()
        self._speech = deque([(0, 0.0)], maxlen=KEPT_PROBABILITIES)
        self._processed_until = None

    def push(self, packet: TapPacket, ears: list[Ear]) -> Iterator[tuple[Ear, AudioFrame]]:
        """Frames for every ear that hears this packet."""
        sound = Sound(packet.sound)
        if sound not in self._decoders:
            self._decoders[sound] = _Decoder(self._counters)
        for piece in self._decoders[sound].push(packet, self._clock):
            yield from self._hear(piece, sound, packet.arrival_ns, ears)

    def _hear(self, piece: _Piece, sound: Sound, arrival_ns: int, ears: list[Ear]) -> Iterator[tuple[Ear, AudioFrame]]:
        at_rate: dict[int, Samples] = {}

        def resampled(rate_hz: int) -> Samples:
            if rate_hz not in at_rate:
                key = (sound, rate_hz)
                if key not in self._resamplers:
                    self._resamplers[key] = Downsampler(RATE_HZ, rate_hz)
                at_rate[rate_hz] = self._resamplers[key].push(piece.samples)
            return at_rate[rate_hz]

        if sound is Sound.RAW:
            self._speech.append((piece.start, self._voice(piece.samples, resampled)))
        else:
            self._processed_until = piece.start + len(piece.samples)
        speech = self._speech_at(piece.start)
        for ear in ears:
            if self._is_for(ear, piece, sound) and ear.takes(piece):
                samples = resampled(ear.rate_hz)
                start_ms = piece.start // _PER_MS
                yield ear, AudioFrame(samples, ear.rate_hz, start_ms, arrival_ns, speech, piece.concealed)

    def _voice(self, samples: Samples, resampled: Callable[[int], Samples]) -> float:
        """How likely somebody speaks in this piece of the raw sound."""
        if self._rest.push(samples):
            self._vad.reset()
            return 0.0
        return self._vad.push(resampled(VAD_RATE_HZ))

    def _is_for(self, ear: Ear, piece: _Piece, sound: Sound) -> bool:
        if ear.sound is sound:
            return True
        if sound is Sound.PROCESSED:
            return False
        return self._processed_until is None or piece.start - self._processed_until > PROCESSED_HOLD_SAMPLES

    def _speech_at(self, start: int) -> float:
        """Of the raw sound of that time."""
        for at, probability in reversed(self._speech):
            if at <= start:
                return probability
        return self._speech[0][1]
