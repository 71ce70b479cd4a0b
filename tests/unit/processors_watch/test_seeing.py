"""Real VP8 and H.264 of real encoders through the whole of seeing: sizes, rates, losses, damage, overload."""

from collections import deque
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from media_processors.errors import CodecError
from media_processors.frames import VideoFrame
from media_processors.video import decode
from media_processors.video.decode import VideoDecoder
from media_processors.video.depacketize import FrameAssembler, SightCounters
from media_processors.video.watching import ASK_AGAIN_NS, QUEUE_PACKETS, Seeing
from sfu.tap import OpenTrack, SelectLayer, TapPacket, WantKeyframe
from tests.fakes.camera import Camera, Film
from tests.integration.sight import Sight

CODECS = pytest.mark.parametrize("codec", ["vp8", "h264"])


class Eye:
    """`Seeing` with one observer."""

    def __init__(self, codec: str = "vp8") -> None:
        self.counters = SightCounters()
        self.asked: list[SelectLayer | WantKeyframe] = []
        opened = OpenTrack(
            handle=1,
            track_id="track",
            room_id="room",
            participant_id="participant",
            kind="video",
            source="camera",
            codec=codec,
            clock_hz=90_000,
            processors={"sight": True},
            epoch=0,
        )
        self.seeing = Seeing(opened, self.counters, self.asked.append)
        self.seeing.attach("sight", Sight())

    def sees(self, packets: list[TapPacket]) -> list[VideoFrame]:
        return [frame for packet in packets for _, frame in self.seeing.push(packet)]


@CODECS
def test_two_pictures_a_second_in_the_size_of_the_camera(codec: str) -> None:
    eye, film = Eye(codec), Film(Camera(codec, rate_hz=15))
    pictures = [picture for _ in range(46) for picture in eye.sees(film.frame())]
    assert {picture.image.shape for picture in pictures} == {(180, 320, 3)}
    assert {picture.image.dtype for picture in pictures} == {np.dtype(np.uint8)}
    assert pictures[0].start_ms == 0
    assert all(500 <= after.start_ms - before.start_ms <= 567 for before, after in pairwise(pictures))
    assert len(pictures) == 6
    assert (eye.counters.frames, eye.counters.pictures, eye.asked) == (46, 6, [])
    with pytest.raises(ValueError, match="read-only"):
        pictures[0].image[0, 0, 0] = 1


@CODECS
def test_the_picture_is_the_right_one(codec: str) -> None:
    eye, film = Eye(codec), Film(Camera(codec))
    (picture,) = eye.sees(film.frame())
    expected = film.camera._source.picture(0)
    inner = np.abs(picture.image[:, :, 1].astype(int) - expected.astype(int))  # green is nearest to the luma
    assert np.median(inner) <= 6


@CODECS
def test_after_a_loss_it_asks_and_goes_on_with_a_key_frame(codec: str) -> None:
    eye, film = Eye(codec), Film(Camera(codec, rate_hz=2))
    assert len(eye.sees(film.frame())) == 1
    film.frame()  # lost
    assert [len(eye.sees(film.frame())) for _ in range(3)] == [0, 0, 0]
    assert eye.asked == [WantKeyframe(1)]
    assert len(eye.sees(film.frame(keyframe=True))) == 1
    assert len(eye.sees(film.frame())) == 1
    assert eye.counters.lost >= 1


def test_wishes_for_key_frames_are_repeated_but_seldom() -> None:
    eye, film = Eye(), Film(Camera(rate_hz=10))
    film.frame()
    packets = [packet for _ in range(40) for packet in film.frame()]
    assert eye.sees(packets) == []
    assert len(eye.asked) == 1 + 39 * 100_000_000 // ASK_AGAIN_NS


@CODECS
def test_another_layer_is_another_size(codec: str) -> None:
    eye = Eye(codec)
    small, large = Film(Camera(codec, rate_hz=2)), Camera(codec, 640, 360, rate_hz=2)
    sizes = {picture.image.shape for _ in range(2) for picture in eye.sees(small.frame())}
    large.frames = 2
    switched = Film(large, seq=small._seq)
    sizes_after = {picture.image.shape for _ in range(2) for picture in eye.sees(switched.frame())}
    assert (sizes, sizes_after) == ({(180, 320, 3)}, {(360, 640, 3)})
    assert eye.asked == []


@CODECS
def test_after_damage_a_key_frame_helps(codec: str) -> None:
    eye, film = Eye(codec), Film(Camera(codec, rate_hz=2))
    assert len(eye.sees(film.frame())) == 1
    broken = film.frame()
    if codec == "vp8":  # a frame of one byte is too short for any header
        broken = [broken[0]._replace(payload=broken[0].payload[:4] + b"\x11", marker=1), *broken[1:]]
    else:  # a slice of a picture parameter set that does not exist
        broken = [broken[0]._replace(payload=b"\x41\xff\xff\xff", marker=1), *broken[1:]]
    eye.sees(broken)
    assert eye.counters.undecodable >= 1
    assert eye.asked == [WantKeyframe(1)]
    assert len(eye.sees(film.frame(keyframe=True))) == 1


def test_what_the_decoder_had_to_make_up_is_not_shown() -> None:
    film, assembler = Film(Camera("h264")), FrameAssembler("h264", SightCounters())
    first, second = (frame for _ in range(2) for packet in film.frame() for frame in assembler.push(packet))
    decoder = VideoDecoder("h264")
    assert decoder.decode(first.data, 0) is not None
    with pytest.raises(CodecError, match="conceal"):
        decoder.decode(second.data[: len(second.data) // 2], 1)


@CODECS
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_stream_raises_nothing(codec: str, data: st.DataObject) -> None:
    eye, film = Eye(codec), Film(Camera(codec, 160, 90))
    for at in range(8):
        for packet in film.frame(keyframe=at == 4):
            payload = bytearray(packet.payload)
            for _ in range(data.draw(st.integers(0, 3))):
                payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
            eye.sees([packet._replace(payload=bytes(payload[: data.draw(st.integers(0, len(payload)))]))])
    pictures = [picture for _ in range(6) for picture in eye.sees(film.frame(keyframe=True))]
    assert pictures, "a key frame after all the damage must be seen"


def test_overload_drops_all_that_waits_and_goes_on_with_a_key_frame() -> None:
    eye, film = Eye(), Film(Camera(rate_hz=2))
    eye.sees(film.frame())
    (packet,) = film.frame()
    waiting = deque([packet] * QUEUE_PACKETS)
    assert eye.seeing.bound(waiting) == 0
    waiting.append(packet)
    assert (eye.seeing.bound(waiting), len(waiting)) == (QUEUE_PACKETS + 1, 0)
    waiting.extend([packet, packet._replace(arrival_ns=packet.arrival_ns + 2_000_000_001)])
    assert (eye.seeing.bound(waiting), len(waiting)) == (2, 0)
    assert eye.sees(film.frame()) == []
    assert eye.asked == [WantKeyframe(1)]
    assert len(eye.sees(film.frame(keyframe=True))) == 1


@CODECS
def test_a_picture_too_large_is_refused(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "MAX_PIXELS", 320 * 180 - 1)
    packets = Film(Camera(codec)).frame()
    eye = Eye(codec)
    assert eye.sees(packets) == []
    assert eye.counters.undecodable == 1


def test_a_vp8_frame_cannot_claim_memory() -> None:
    with pytest.raises(CodecError):
        VideoDecoder("vp8").decode(bytes.fromhex("10 02 00 9d 01 2a ff 3f ff 3f") + bytes(100), 0)
