"""The smallest transform: half as loud. `pip install examples/candor_gain` beside Candor, and rooms can switch `gain` on."""

import numpy as np

from media_processors.base import Samples
from media_processors.findings import ProcessorInfo
from media_processors.frames import TrackRef


class GainStream:
    """One track. A gain needs no state and adds no delay."""

    delay_samples = 0

    def process(self, samples: Samples) -> Samples:
        return samples * np.float32(0.5)

    def reset(self) -> None:
        return


class Gain:
    kind = "transform"
    sample_rate_hz = 48_000
    frame_samples = 120  # any packet will do: 2.5 ms is the shortest

    def info(self) -> ProcessorInfo:
        return ProcessorInfo(
            name="gain", kind="transform", media="audio", available=True, model="gain@1", default_on=False
        )

    def open(self, track: TrackRef) -> GainStream:
        return GainStream()
