"""The tap's wire format and socket."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfu.tap import (
    CloseTrack,
    Hello,
    OpenTrack,
    SelectLayer,
    Step,
    TapPacket,
    TapResult,
    TapSocket,
    Trace,
    Traced,
    VideoResult,
    WantKeyframe,
    decode,
    encode,
)

PACKET = TapPacket(3, 1, 1, 65535, 2**32 - 1, 2**60, 7, 127, 1, b"payload")
RESULT = TapResult(3, 1, 9, 960, 7, 30, b"result")
OPEN = OpenTrack(
    handle=1,
    track_id="t",
    room_id="r",
    participant_id="p",
    kind="audio",
    source="microphone",
    codec="opus",
    clock_hz=48_000,
    processors={"denoise": True},
    epoch=2,
)


def test_frames_of_a_message_come_back_in_order() -> None:
    frames = [
        Hello(role="path", pid=1),
        OPEN,
        PACKET,
        RESULT,
        SelectLayer(3, 65535),
        WantKeyframe(2**32 - 1),
        VideoResult(3, 7, 1, 2**32 - 1, b"picture"),
        VideoResult(3, 7, 1, 0, b""),
        Trace(2**32 - 1, 65535),
        Traced(handle=3, seq=9, steps=(Step(name="denoise", model="rnnoise@1", ended_ns=2**62),)),
        CloseTrack(3),
    ]
    assert list(decode(b"".join(encode(frame) for frame in frames))) == frames


@given(st.binary(max_size=300))
def test_decode_raises_nothing_but_value_error(data: bytes) -> None:
    try:
        list(decode(data))
    except ValueError:
        return


@given(st.integers(0, 400), st.integers(0, 255))
def test_a_damaged_message_raises_nothing_but_value_error(at: int, value: int) -> None:
    message = bytearray(encode(OPEN) + encode(PACKET))
    message[at % len(message)] = value
    try:
        list(decode(bytes(message)))
    except ValueError:
        return


def test_a_frame_too_large_is_refused() -> None:
    with pytest.raises(ValueError, match="tap frame"):
        encode(PACKET._replace(payload=bytes(70_000)))


def test_a_full_socket_drops_and_counts_and_the_end_is_seen() -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sender, receiver = TapSocket(left), TapSocket(right)
    for _ in range(3000):
        sender.queue(PACKET._replace(payload=bytes(1000)))
        sender.flush()
    assert sender.dropped_full > 0
    received = 0
    while frames := receiver.receive():
        received += len(frames)
    assert received + sender.dropped_full == 3000
    sender.close()
    assert receiver.receive() is None
    receiver.close()
    receiver.close()
