"""The transforms of a track, one behind the other, each beside a dry path of the same delay.

Whether the transformed (wet) or the original (dry) sound is heard is a cross-fade of 20 ms at any time: the two are aligned, so
neither delay nor encoder changes and there is no seam.
"""

import math
import time
from enum import Enum

import numpy as np
import structlog

from media_processors.base import Samples, Transform, TransformStream
from media_processors.findings import ProcessorStatus
from media_processors.frames import TrackRef
from media_processors.guard import Guard, GuardState
from media_processors.laps import Laps

RATE_HZ = 48_000
FADE_SAMPLES = 960
WARM_UP_SAMPLES = 4_800
"""How much a transform hears before it is heard, when it comes back. At the start of a track it is heard at once."""
SLOW_SHARE = 0.5
"""A transform that needs more than this share of a core, smoothed, is bypassed. What waiting for a core costs, the worker sees."""
SLOW_RETRY_SAMPLES = 10 * RATE_HZ
_SMOOTHING = 0.02

log = structlog.get_logger()


class StageState(Enum):
    """As in `ProcessorStatus`."""

    ON = "on"
    OFF = "off"
    GUARD = "guard"
    BYPASS = "bypass"


class DelayLine:
    """Sound that comes out `samples` later than it went in."""

    def __init__(self, samples: int) -> None:
        self._held: Samples = np.zeros(samples, np.float32)

    def push(self, samples: Samples) -> Samples:
        """As many samples out as in."""
        joined = np.concatenate((self._held, samples))
        self._held = joined[len(samples) :]
        return joined[: len(samples)]

    def lengthen(self, samples: int) -> None:
        """Delay by so much more from now on."""
        self._held = np.concatenate((np.zeros(samples, np.float32), self._held))


class CrossFade:
    """Between two aligned sounds, linear, over `FADE_SAMPLES`. `gain` is the share of the wet one."""

    def __init__(self) -> None:
        self.gain = 0.0

    def mix(self, dry: Samples, wet: Samples, to_wet: bool) -> Samples:
        """The mix, moving towards `wet` or towards `dry`."""
        target = 1.0 if to_wet else 0.0
        if self.gain == target:
            return wet if to_wet else dry
        step = 1.0 / FADE_SAMPLES if to_wet else -1.0 / FADE_SAMPLES
        ramp = np.clip(self.gain + step * np.arange(1, len(dry) + 1), 0.0, 1.0).astype(np.float32)
        self.gain = float(ramp[-1])
        if abs(self.gain - target) < 1e-6:
            self.gain = target
        mixed: Samples = dry + ramp * (wet - dry)
        return mixed


class Framer:
    """Gives a transform whole frames, whatever the length of packets.

    Packets that are multiples of the frame pass without extra delay. The first that is not adds `frame_samples` of delay for
    good: one short gap, then steady.
    """

    def __init__(self, stream: TransformStream, frame_samples: int) -> None:
        self._stream = stream
        self.frame_samples = frame_samples
        self._waiting: Samples = np.zeros(0, np.float32)
        self._ready: Samples = np.zeros(0, np.float32)
        self.extra_samples = 0
        self._interrupted = False

    def needs_more_delay(self, samples: int) -> bool:
        """Whether a packet of this length will add delay."""
        return self.extra_samples == 0 and samples % self.frame_samples != 0

    def add_delay(self) -> None:
        """From now on, any length will do."""
        self.extra_samples = self.frame_samples
        self.reset()

    def reset(self) -> None:
        """Forget the past; the transform forgets its own before it hears the next sound."""
        self._interrupted = True
        self._waiting = self._waiting[:0]
        self._ready = np.zeros(self.extra_samples, np.float32)

    def process(self, samples: Samples) -> Samples:
        """As many samples out as in. Raises whatever the transform raises."""
        if self._interrupted:
            self._stream.reset()
            self._interrupted = False
        if self.extra_samples == 0:
            return self._stream.process(samples)
        waiting = np.concatenate((self._waiting, samples))
        whole = len(waiting) // self.frame_samples * self.frame_samples
        if whole:
            self._ready = np.concatenate((self._ready, self._stream.process(waiting[:whole])))
        self._waiting = waiting[whole:]
        out, self._ready = self._ready[: len(samples)], self._ready[len(samples) :]
        return out


class _Absent:
    """Stands where a transform did not open. It never runs."""

    delay_samples = 0

    def process(self, samples: Samples) -> Samples:
        return samples

    def reset(self) -> None:
        return


class Stage:
    """One transform on one track. What the transform raises, when it is opened or later, ends its use here and nothing else."""

    def __init__(self, name: str, transform: Transform, track: TrackRef) -> None:
        self.name = name
        self.guard = Guard()
        self.state = StageState.OFF
        self.reason = ""
        self.changed = True
        self.broken = ""
        """Why the transform is used no more; empty if nothing is wrong."""
        self._track = track
        self._framer, self._dry = self._open(transform)
        self._fade = CrossFade()
        self._wanted = False
        self._run_samples = WARM_UP_SAMPLES
        self._slow_share = 0.0
        self._rest_samples = 0

    @property
    def dry(self) -> bool:
        """Whether nothing of the transformed sound is heard."""
        return self._fade.gain == 0.0

    @property
    def idle(self) -> bool:
        """Whether the transform does not run, not even unheard."""
        return self.dry and not self._may_run()

    def switch(self, on: bool) -> None:
        """Somebody wants it on or off; the sound follows in 20 ms."""
        self._wanted = on
        self._update_state()

    def status(self) -> ProcessorStatus:
        """For people."""
        return ProcessorStatus(
            track_id=self._track.track_id, processor=self.name, state=self.state.value, reason=self.reason
        )

    def process(self, samples: Samples, speech: float, speaking: bool) -> Samples:
        """As many samples out as in, shape (n,), 48 kHz; later by the transform's delay whether it is heard or not."""
        if self._framer.needs_more_delay(len(samples)):
            self._framer.add_delay()
            self._dry.lengthen(self._framer.extra_samples)
        dry = self._dry.push(samples)
        self._rest_samples = max(0, self._rest_samples - len(samples))
        if self.idle:
            self._run_samples = 0
            self._update_state()
            return dry
        wet = self._run(samples, dry)
        warm = self._run_samples >= WARM_UP_SAMPLES
        allowed = warm and self.guard.allows(dry, wet, speech, speaking)
        mixed = self._fade.mix(dry, wet, allowed and self._may_run())
        self._update_state()
        return mixed

    def _open(self, transform: Transform) -> tuple[Framer, DelayLine]:
        try:
            stream, frame_samples = transform.open(self._track), transform.frame_samples
            if frame_samples < 1:
                raise ValueError(f"frames of {frame_samples} samples")
            return Framer(stream, frame_samples), DelayLine(stream.delay_samples)
        except Exception as error:  # anybody's code
            self._fail(error)
            return Framer(_Absent(), 1), DelayLine(0)

    def _may_run(self) -> bool:
        return self._wanted and not self.broken and not self._rest_samples

    def _run(self, samples: Samples, dry: Samples) -> Samples:
        """The transformed sound; the dry one if the transform fails, which ends its use on this track."""
        if self._run_samples == 0:
            self._framer.reset()
            self.guard.restart()
        self._run_samples += len(samples)
        started_ns = time.thread_time_ns()
        try:
            wet = self._framer.process(samples)
            if wet.shape != samples.shape:
                raise ValueError(f"{len(samples)} samples in, shape {wet.shape} out")
            if not math.isfinite(float(wet.sum())):
                raise ValueError("its sound is not a number")
        except Exception as error:  # anybody's code: it must not take the track with it
            self._fail(error)
            self._fade.gain = 0.0
            return dry
        self._clock(time.thread_time_ns() - started_ns, len(samples))
        return wet

    def _fail(self, error: Exception) -> None:
        log.error("transform_failed", processor=self.name, track_id=self._track.track_id, error=type(error).__name__)
        self.broken = f"failed: {type(error).__name__}"

    def _clock(self, took_ns: int, samples: int) -> None:
        share = took_ns * RATE_HZ / (samples * 1e9)
        self._slow_share += _SMOOTHING * (share - self._slow_share)
        if self._slow_share > SLOW_SHARE:
            self._slow_share = 0.0
            self._rest_samples = SLOW_RETRY_SAMPLES

    def _update_state(self) -> None:
        if self.broken:
            self._set_state(StageState.BYPASS, self.broken)
        elif not self._wanted:
            self._set_state(StageState.OFF, "")
        elif self._rest_samples:
            self._set_state(StageState.BYPASS, "too_slow")
        elif self.guard.state is GuardState.DRY:
            self._set_state(StageState.GUARD, self.guard.reason)
        else:
            self._set_state(StageState.ON, "")

    def _set_state(self, state: StageState, reason: str) -> None:
        if (state, reason) == (self.state, self.reason):
            return
        self.changed = True
        self.state = state
        self.reason = reason


class Chain:
    """All transforms of a track that can run here, in the order of their names."""

    def __init__(self, transforms: dict[str, Transform], track: TrackRef, laps: Laps) -> None:
        self.names = sorted(transforms)
        self._laps = laps
        self.stages = [Stage(name, transforms[name], track) for name in self.names]

    @property
    def dry(self) -> bool:
        """Whether what comes out is the (delayed) original."""
        return all(stage.dry for stage in self.stages)

    @property
    def idle(self) -> bool:
        """Whether no transform runs, not even unheard."""
        return all(stage.idle for stage in self.stages)

    @property
    def trips(self) -> int:
        """How often the guard found that speech is lost."""
        return sum(stage.guard.trips for stage in self.stages)

    def switch(self, wanted: dict[str, bool]) -> None:
        """Turn transforms on and off by name."""
        for stage in self.stages:
            stage.switch(wanted.get(stage.name, False))

    def process(self, samples: Samples, speech: float, speaking: bool) -> Samples:
        """Through all of them; as many samples out as in, shape (n,), 48 kHz."""
        for stage in self.stages:
            samples = stage.process(samples, speech, speaking)
            self._laps.note(stage.name)
        return samples

    def take_changes(self) -> list[ProcessorStatus]:
        """The statuses that changed since the last call."""
        changed = [stage for stage in self.stages if stage.changed]
        for stage in changed:
            stage.changed = False
        return [stage.status() for stage in changed]
