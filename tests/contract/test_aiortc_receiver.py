"""What bots/README.md says about aiortc's audio. If an upgrade changes it, change the README too."""

from typing import Any

import numpy as np
import pytest
from aiortc.codecs.opus import OpusEncoder
from aiortc.jitterbuffer import JitterBuffer
from aiortc.rtp import RtpPacket

from bots.publication import AudioPublication
from bots.sources import PcmSource

# As RTCRtpReceiver makes it for audio.
CAPACITY, PREFETCH = 16, 4
FRAME_MS = 20


def delays_ms(lost: set[int], packets: int = 200) -> dict[int, int]:
    """For each packet that aiortc hands to its decoder: how long it waited, if one packet arrives every 20 ms."""
    buffer = JitterBuffer(capacity=CAPACITY, prefetch=PREFETCH)
    waited = {}
    for number in range(packets):
        if number in lost:
            continue
        packet: Any = RtpPacket(payload_type=111, sequence_number=number, timestamp=960 * number)
        packet._data = b"x"
        _, frame = buffer.add(packet)
        if frame is not None:
            out = frame.timestamp // 960
            waited[out] = (number - out) * FRAME_MS
    return waited


def test_without_loss_sound_is_80_ms_late() -> None:
    assert set(delays_ms(set()).values()) == {80}


@pytest.mark.parametrize("lost", [50, 51, 52])
def test_one_lost_packet_costs_five_and_280_ms_for_good(lost: int) -> None:
    waited = delays_ms({lost})
    missing = {number for number in range(180) if number not in waited}
    assert missing == set(range(lost - 4, lost + 1))
    assert {waited[number] for number in range(lost + 1, 180)} == {280}


async def test_the_encoder_is_96_kb_s_stereo() -> None:
    encoder = OpusEncoder()
    assert (encoder.codec.bit_rate, encoder.codec.layout.name) == (96_000, "stereo")
    noise = np.random.default_rng(1).integers(-8000, 8000, 48_000).astype(np.int16)
    publication = AudioPublication(PcmSource(noise), "microphone")
    sizes = []
    for _ in range(5):
        payloads, _ = encoder.encode(await publication.next_frame())
        sizes += [len(payload) for payload in payloads]
    assert 100 < np.mean(sizes[1:]) < 400, "96 kb/s is 240 bytes in 20 ms"
