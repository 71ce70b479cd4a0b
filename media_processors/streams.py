"""One audio track in the path: one Opus packet in, one out, same duration and timestamp.

What was lost on the way in is repaired here once for everybody. The repaired packet itself is thrown away (nobody asks for
its sequence number, and the worker drops it should it still arrive), but the encoder must have encoded it: then the next
packet carries the repaired sound as its in-band FEC, and fits a listener's decoder that has just used it.
"""

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from media_processors.audio.resample import Downsampler
from media_processors.audio.silence import Rest
from media_processors.audio.vad import SileroStream, SpeechGate
from media_processors.base import Samples, Transform
from media_processors.chain import Chain
from media_processors.codec import (
    MAX_PACKET_MS,
    PACKET_SAMPLES,
    RATE_HZ,
    OpusDecoder,
    OpusEncoder,
    packet_has_fec,
    packet_samples,
)
from media_processors.errors import CodecError
from media_processors.findings import ProcessorStatus
from media_processors.frames import TrackRef
from media_processors.laps import Laps
from sfu.rtp import opus
from sfu.tap import OpenTrack, TapPacket, TapResult

DEFAULT_SAMPLES = 960
CONCEAL_SAMPLES = RATE_HZ * 60 // 1000
"""Concealment after the last real sound; then silence (longer is audibly robotic)."""
FLUSH_SAMPLES = RATE_HZ * 60 // 1000
"""Silence that the transforms and the VAD hear of a pause, however long it is."""
INDEPENDENT_PACKETS = 3
"""Packets without prediction after a start, for decoders that heard something else before."""
ENCODER_COMPLEXITY = 5
DTX_LEVEL = 60
"""DTX only where the sound is at most this loud (-dBov). Left to itself at this complexity, Opus takes a held vowel for silence."""
REORDERED_PACKETS = 100
"""A packet may come so much later than its successors and still belong to them (2 s at 20 ms; a retransmission takes less)."""
LONGEST_SAMPLES = RATE_HZ * MAX_PACKET_MS // 1000
_LOSS_SMOOTHING = 0.01
_SILENT_LEVEL = 127


@dataclass(slots=True)
class PathCounters:
    """What happened to packets; one object per host."""

    packets: int = 0
    processed: int = 0
    dry: int = 0
    late: int = 0
    """Read from the tap too late for anybody to want the result: decoded only."""
    old: int = 0
    """Out of order or repeated: answered with nothing."""
    damaged: int = 0
    """Not Opus: concealed."""
    repaired_fec: int = 0
    repaired_plc: int = 0
    silenced: int = 0
    """Lost packets beyond what concealment may cover."""
    pauses: int = 0
    """DTX."""
    malformed: int = 0
    """Tap messages that could not be read."""
    unknown: int = 0
    """Packets of tracks that are not open here."""
    refused: int = 0
    """Results that did not fit into the tap."""
    guard_trips: int = 0
    """How often a transform was found to lose speech."""
    failed: int = 0
    """Tracks whose packets go back untouched because handling one of them raised."""

    def as_dict(self) -> dict[str, int]:
        """For the channel."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


class Step(NamedTuple):
    """How a packet continues those before it."""

    old: bool
    """It does not: it is a repetition or comes after its successor."""
    lost: int
    """Packets missing before it, each as long as the last one."""
    lost_samples: int
    """The length of each of them."""
    pause_samples: int
    """Time before it in which nothing was sent (DTX)."""


class Timeline:
    """Sequence numbers and timestamps of one publisher (RFC 3550, Section 5.1; Opus runs at 48 kHz, RFC 7587).

    A publisher that begins again under another SSRC counts from anywhere. Where that looks older than what was, it is believed when
    a second packet follows the first (RFC 3550, Appendix A.1); late packets of the old numbering are told by their timestamps.
    """

    def __init__(self) -> None:
        self.samples = DEFAULT_SAMPLES
        self._seq: int | None = None
        self._next_timestamp = 0
        self._expected_after_jump: int | None = None

    def accept(self, seq: int, timestamp: int, samples: int) -> Step:
        """The next packet to arrive, `samples` long."""
        if self._seq is None:
            return self._advance(seq, timestamp, samples, Step(False, 0, self.samples, 0))
        ahead = (seq - self._seq) & 0xFFFF
        if ahead == 0 or ahead >= 0x8000:
            if not self._begins_anew(seq, timestamp, 0x10000 - ahead):
                return Step(True, 0, self.samples, 0)
            return self._advance(seq, timestamp, samples, Step(False, 0, self.samples, 0))
        elapsed = (timestamp - self._next_timestamp) & 0xFFFFFFFF
        if elapsed >= 0x80000000:  # the clock went back: a new beginning under the same SSRC
            return self._advance(seq, timestamp, samples, Step(False, 0, self.samples, 0))
        lost = min(ahead - 1, elapsed // self.samples)
        return self._advance(seq, timestamp, samples, Step(False, lost, self.samples, elapsed - lost * self.samples))

    def _begins_anew(self, seq: int, timestamp: int, behind: int) -> bool:
        back = (self._next_timestamp - timestamp) & 0xFFFFFFFF
        if behind == 0x10000 or (behind <= REORDERED_PACKETS and 0 < back <= (behind + 1) * LONGEST_SAMPLES):
            return False
        if seq == self._expected_after_jump:
            return True
        self._expected_after_jump = (seq + 1) & 0xFFFF
        return False

    def _advance(self, seq: int, timestamp: int, samples: int, step: Step) -> Step:
        self._expected_after_jump = None
        self._seq = seq
        self._next_timestamp = timestamp + samples & 0xFFFFFFFF
        self.samples = samples
        return step


class PathStream:
    """A track, from `OpenTrack` to `CloseTrack`.

    The consent epoch of a packet is only copied to its result. Consent is about what observers may find; the sound of both epochs
    goes to the same listeners, so a packet of an older one is processed like any other.
    """

    def __init__(
        self, opened: OpenTrack, transforms: dict[str, Transform], vad: SileroStream, counters: PathCounters
    ) -> None:
        """`transforms` are those that can run. Raises ProcessorError if one of them does not open, or without libopus."""
        track = TrackRef(
            opened.room_id, opened.participant_id, opened.track_id, opened.kind, opened.source, opened.epoch
        )
        self.opened = opened
        self.laps = Laps()
        self.chain = Chain(transforms, track, self.laps)
        self._counters = counters
        self._vad = vad
        self._gate = SpeechGate()
        self._rest = Rest()
        self._downsampler = Downsampler()
        self._timeline = Timeline()
        self._decoder = OpusDecoder()
        self._encoder = OpusEncoder()
        self._encoder.set_complexity(ENCODER_COMPLEXITY)
        self._concealed_samples = 0
        self._loss = 0.0
        self._fec_percent = -1
        self._dtx = False
        self._independent = 0
        self._unheard = False
        """Listeners heard silence that is not the encoder's. Their decoders begin anew after it, so it needs no more than a reset:
        without prediction there would be no FEC, just where words begin."""
        self.restart()
        self.configure(opened)

    def configure(self, opened: OpenTrack) -> None:
        """Switches, bitrate, loss. Raises CodecError for a bitrate that Opus does not have; nothing changed then."""
        self._encoder.set_bitrate(opened.bitrate_bps)
        self.opened = opened
        self.chain.switch(opened.processors)
        self._rest.end()

    def restart(self) -> None:
        """The listeners heard something else meanwhile: the next packets must make sense without a past."""
        self._encoder.reset()
        self._encoder.set_prediction_disabled(True)
        self._independent = INDEPENDENT_PACKETS

    def continues(self, opened: OpenTrack, transforms: dict[str, Transform]) -> bool:
        """Whether `opened` is only another configuration of this very track."""
        return self.opened.track_id == opened.track_id and self.chain.names == sorted(transforms)

    def take_changes(self) -> list[ProcessorStatus]:
        """The statuses that changed since the last call."""
        return self.chain.take_changes()

    def push(self, packet: TapPacket, late: bool) -> TapResult:
        """Exactly one result. An empty payload means: nothing to send under this sequence number.

        Packets of a length that no encoder makes (30 ms, say) come back as they are. `late`: nobody waits for the result any
        more, only the decoder has to hear the packet.
        """
        self._counters.packets += 1
        damaged = False
        try:
            samples = packet_samples(packet.payload)
        except CodecError:
            samples, damaged = self._timeline.samples, True
        step = self._timeline.accept(packet.seq, packet.timestamp, samples)
        if step.old:
            self._counters.old += 1
            return _result(packet, b"", _SILENT_LEVEL, dry=True)
        self._note_loss(step.lost)
        self._bridge(packet, step)
        sound = self._decode(packet.payload, samples, damaged)
        self.laps.note("decode")
        if packet.restart:
            self.restart()
        if late:
            self._counters.late += 1
            return _result(packet, b"", _SILENT_LEVEL, dry=True)
        if samples not in PACKET_SAMPLES:
            self._counters.dry += 1
            return untouched(packet)
        processed = self._transform(sound)
        dry = self.chain.dry
        self._counters.dry += dry
        self._counters.processed += not dry
        if self._rest.settled:
            self._unheard = True
            return _result(packet, opus.silence(samples), _SILENT_LEVEL, dry)
        level = level_of(processed)
        return _result(packet, self._encode(processed, level), level, dry)

    def _bridge(self, packet: TapPacket, step: Step) -> None:
        """Hear what should have come before this packet: first what was lost, then the pause."""
        recoverable = step.lost > 0 and not step.pause_samples and packet_has_fec(packet.payload)
        concealable = -(-CONCEAL_SAMPLES // step.lost_samples)
        concealed = min(step.lost - recoverable, concealable)
        for _ in range(concealed):
            self._counters.repaired_plc += 1
            self._repair(self._conceal(step.lost_samples))
        silenced = step.lost - recoverable - concealed
        self._counters.silenced += silenced
        self._pause(silenced * step.lost_samples)
        if recoverable:
            self._counters.repaired_fec += 1
            self._repair(self._recover(packet.payload, step.lost_samples))
        self._counters.pauses += step.pause_samples > 0
        self._pause(step.pause_samples)

    def _repair(self, sound: Samples) -> None:
        self.laps.note("decode")
        processed = self._transform(sound)
        if len(processed) in PACKET_SAMPLES:
            self._encode(processed, level_of(processed))

    def _pause(self, samples: int) -> None:
        """Nothing was sent: let transforms and VAD hear enough silence to finish what they hold."""
        silence = np.zeros(DEFAULT_SAMPLES, np.float32)
        for _ in range(0, min(samples, FLUSH_SAMPLES), DEFAULT_SAMPLES):
            self._transform(silence)
        if samples > FLUSH_SAMPLES:
            self._vad.reset()
            self._gate.reset()

    def _decode(self, payload: bytes, samples: int, damaged: bool) -> Samples:
        try:
            sound = self._decoder.decode(payload)
        except CodecError:
            damaged = True
        if damaged:
            self._counters.damaged += 1
            return self._conceal(samples)
        self._concealed_samples = 0
        return sound

    def _recover(self, payload: bytes, samples: int) -> Samples:
        """The packet before `payload`, from the copy in it."""
        try:
            sound = self._decoder.decode_fec(payload, samples)
        except CodecError:
            return self._conceal(samples)
        self._concealed_samples = 0
        return sound

    def _conceal(self, samples: int) -> Samples:
        """Concealment as long as it may go on, then silence."""
        count = min(samples, max(0, CONCEAL_SAMPLES - self._concealed_samples))
        self._concealed_samples += samples
        silence = np.zeros(samples - count, np.float32)
        return np.concatenate((self._decoder.conceal(count), silence)) if count else silence

    def _transform(self, sound: Samples) -> Samples:
        if self.chain.idle:
            self._rest.end()
            return self.chain.process(sound, 0.0, False)
        if self._rest.push(sound):
            self._vad.reset()
            self._gate.reset()
            return np.zeros_like(sound)
        speech = self._vad.push(self._downsampler.push(sound))
        speaking = self._gate.update(speech, len(sound) * 1000 / RATE_HZ)
        self.laps.note("vad")
        trips = self.chain.trips
        processed = self.chain.process(sound, speech, speaking)
        self._counters.guard_trips += self.chain.trips - trips
        return processed

    def _encode(self, sound: Samples, level: int) -> bytes:
        if self._unheard:
            self._unheard = False
            self._encoder.reset()
        if self._dtx != (level >= DTX_LEVEL):
            self._dtx = not self._dtx
            self._encoder.set_dtx(self._dtx)
        payload = self._encoder.encode(sound)
        self.laps.note("encode")
        if self._independent:
            self._independent -= 1
            if not self._independent:
                self._encoder.set_prediction_disabled(False)
        return payload

    def _note_loss(self, lost: int) -> None:
        """What we lost, our listeners lost too: the encoder's FEC is for the worse of both losses."""
        self._loss += _LOSS_SMOOTHING * (min(lost, 1) - self._loss)
        percent = max(self.opened.loss_percent, round(100 * self._loss))
        if percent != self._fec_percent:
            self._fec_percent = percent
            self._encoder.set_fec(percent > 0, min(percent, 100))


def level_of(sound: Samples) -> int:
    """The audio level of RFC 6464: 0 (overload) to 127 (silence), in -dBov."""
    power = float(np.dot(sound, sound)) / len(sound)
    return min(_SILENT_LEVEL, max(0, round(-10 * math.log10(power)))) if power > 0 else _SILENT_LEVEL


def untouched(packet: TapPacket) -> TapResult:
    """The packet itself as its result."""
    return _result(packet, packet.payload, packet.level, dry=True)


def _result(packet: TapPacket, payload: bytes, level: int, dry: bool) -> TapResult:
    return TapResult(packet.handle, int(dry), packet.seq, packet.timestamp, packet.epoch, level, payload)
