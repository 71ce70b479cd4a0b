"""VP8 frames to RTP payloads and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media_processors.video.depacketize import FrameAssembler, SightCounters
from media_processors.video.packetize import MAX_PAYLOAD_BYTES, Vp8Packetizer
from sfu.rtp import vp8
from sfu.tap import Sound, TapPacket

KEYFRAME_HEADER = b"\x10\x00\x00\x9d\x01\x2a\x80\x02\x68\x01"


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 5_000), min_size=1, max_size=8),
    picture_id=st.integers(0, 0x7FFF),
    seed=st.integers(0, 99),
)
def test_what_is_packed_comes_out_again(sizes: list[int], picture_id: int, seed: int) -> None:
    chance = np.random.default_rng(seed)
    frames = [KEYFRAME_HEADER + chance.bytes(size) for size in sizes]
    packetizer = Vp8Packetizer(picture_id)
    assembler = FrameAssembler("vp8", SightCounters())
    found: list[bytes] = []
    seq = 0
    for number, frame in enumerate(frames):
        payloads = packetizer.packets(frame)
        assert max(map(len, payloads)) <= MAX_PAYLOAD_BYTES
        for index, payload in enumerate(payloads):
            described = vp8.parse(payload)
            assert (described.starts_frame, described.keyframe) == (index == 0, index == 0)
            assert (described.picture_id, described.picture_id_long) == ((picture_id + number) & 0x7FFF, True)
            assert (described.tl0, described.temporal_id) == (number & 0xFF, 0)
            marker = int(index == len(payloads) - 1)
            packet = TapPacket(1, Sound.RAW, marker, seq, number * 3_000, seq, 0, 0, 0, payload)
            found += [assembled.data for assembled in assembler.push(packet)]
            seq += 1
    assert found == frames


def test_what_a_viewer_is_told_can_be_rewritten() -> None:
    (payload,) = Vp8Packetizer(0x7FFF).packets(KEYFRAME_HEADER)
    buffer = bytearray(payload)
    vp8.rewrite(buffer, 0, vp8.parse(payload), 77, 200)
    described = vp8.parse(bytes(buffer))
    assert (described.picture_id, described.tl0, described.width, described.height) == (77, 200, 640, 360)


def test_no_frame_is_no_packet() -> None:
    with pytest.raises(ValueError, match="empty"):
        Vp8Packetizer().packets(b"")
