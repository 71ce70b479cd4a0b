"""The demo's denoise conditions, met by the real denoiser on the demo's passage: Opus, RNNoise, Opus, without a network."""

import av
import numpy as np

from candor.demo_report import MAX_STOI_LOSS, MIN_NOISE_REDUCTION_DB, DenoiseLine
from candor.measure import OpusPacket, assess, decode
from candor.speech import RATE_HZ, Sound, load_script
from media_processors.audio.rnnoise import Rnnoise
from media_processors.base import TrackRef

BIT_RATE_BPS = 32_000


def through_opus(sound: Sound) -> Sound:
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format, encoder.bit_rate = RATE_HZ, "mono", "flt", BIT_RATE_BPS
    payloads: list[bytes] = []
    for start in range(0, len(sound) - 959, 960):
        frame = av.AudioFrame.from_ndarray(sound[start : start + 960].reshape(1, -1), format="flt", layout="mono")
        frame.sample_rate, frame.pts = RATE_HZ, start
        payloads += [bytes(packet) for packet in encoder.encode(frame)]
    return decode([OpusPacket(i, 960 * i, payload, i * 20_000_000) for i, payload in enumerate(payloads)])


async def test_the_passage_comes_out_quieter_in_its_pauses_and_no_less_clear() -> None:
    script = await load_script()
    sent = through_opus(script.passage.sound)
    stream = Rnnoise().open(TrackRef("r", "p", "t", kind="audio", source="microphone", epoch=0))
    denoised = np.concatenate(
        [stream.process(block) for block in np.split(sent[: len(sent) // 480 * 480], len(sent) // 480)]
    )
    line = DenoiseLine(
        available=True,
        off=assess(script.passage_clean, through_opus(sent)),
        on=assess(script.passage_clean, through_opus(denoised)),
    )
    assert line.reduction_db is not None
    assert line.stoi_change is not None
    assert line.reduction_db > 2 * MIN_NOISE_REDUCTION_DB
    assert line.stoi_change > MAX_STOI_LOSS
