"""The path of one track: one packet in, one out, whatever happens on the way."""

from typing import ClassVar, Literal, NamedTuple

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from media_processors.audio.rnnoise import Rnnoise
from media_processors.audio.vad import SileroVad
from media_processors.base import Samples
from media_processors.codec import OpusDecoder, OpusEncoder, packet_has_fec, packet_samples
from media_processors.findings import ProcessorInfo
from media_processors.frames import TrackRef
from media_processors.streams import PathCounters, PathStream, Step, Timeline, level_of
from sfu.rtp import opus
from sfu.tap import TapPacket, TapResult
from tests.unit.processors.sounds import (
    HOSTILE,
    PACKET,
    RATE_HZ,
    level_db,
    noise,
    opened,
    packet,
    pieces,
    publish,
    speech,
    voice,
)


class Halve:
    """A transform that is quick: half as loud, no delay."""

    kind: ClassVar[Literal["transform"]] = "transform"
    sample_rate_hz = 48_000
    frame_samples = 480
    delay_samples = 0

    def info(self) -> ProcessorInfo:
        return ProcessorInfo(name="denoise", kind="transform", media="audio", available=True)

    def open(self, track: TrackRef) -> "Halve":
        return self

    def process(self, samples: Samples) -> Samples:
        assert len(samples) % self.frame_samples == 0
        return samples * np.float32(0.5)

    def reset(self) -> None:
        return


def stream_of(vad: SileroVad, **changes: object) -> tuple[PathStream, PathCounters]:
    counters = PathCounters()
    return PathStream(opened(**changes), {"denoise": Halve()}, vad.open(), counters), counters


def run(stream: PathStream, packets: list[TapPacket]) -> list[TapResult]:
    return [stream.push(each, late=False) for each in packets]


class Sent(NamedTuple):
    """What happens to one packet of a publisher."""

    samples: int
    lost: int
    pause: int
    fate: str
    on: bool


SENT = st.builds(
    Sent,
    samples=st.sampled_from([120, 480, 960, 960, 960, 1_440, 1_920, 2_880, 5_760]),
    lost=st.sampled_from([0, 0, 0, 0, 1, 2, 5, 40_000]),
    pause=st.sampled_from([0, 0, 0, 960, 19_200, 10_000_000]),
    fate=st.sampled_from(["sent", "sent", "sent", "late", "repeated", "damaged", "empty", "restart"]),
    on=st.booleans(),
)


def payload_of(samples: int) -> bytes:
    """A packet of that length; 30 ms is three times 10 ms in one packet (RFC 6716, code 3)."""
    if samples != 1_440:
        return OpusEncoder(bitrate_bps=24_000).encode(voice(140, 0.12)[:samples])
    encoder = OpusEncoder(bitrate_bps=24_000)
    frame = encoder.encode(voice(140, 0.12)[:480])
    return bytes([frame[0] | 3, 3]) + frame[1:].ljust(60, b"\0")[:60] * 3


PAYLOADS = {samples: payload_of(samples) for samples in (120, 480, 960, 1_440, 1_920, 2_880, 5_760)}


@settings(max_examples=40, deadline=None)
@given(sent=st.lists(SENT, max_size=12), first_seq=st.integers(0, 65_535), first_timestamp=st.integers(0, 2**32 - 1))
def test_one_packet_in_one_out(vad: SileroVad, sent: list[Sent], first_seq: int, first_timestamp: int) -> None:
    stream, counters = stream_of(vad)
    seq, timestamp = first_seq, first_timestamp
    for each in sent:
        stream.configure(opened(processors={"denoise": each.on}))
        repeated = each.fate == "repeated"
        if not repeated:
            seq += 1 + each.lost
            timestamp += each.lost * 960 + each.pause
        payload = {"damaged": b"\xff\xff\xff", "empty": b""}.get(each.fate, PAYLOADS[each.samples])
        arrived = TapPacket(
            3, 0, 0, seq & 0xFFFF, timestamp & 0xFFFFFFFF, 0, 9, 30, int(each.fate == "restart"), payload
        )
        result = stream.push(arrived, late=each.fate == "late")
        assert (result.handle, result.seq, result.timestamp, result.epoch) == (3, arrived.seq, arrived.timestamp, 9)
        assert 0 <= result.level <= 127
        if each.fate == "sent" and each.lost < 32_000 and result.payload:
            assert packet_samples(result.payload) == each.samples
        if not repeated:
            timestamp += each.samples
    assert counters.packets == len(sent)


@settings(max_examples=60, deadline=None)
@given(
    sent=st.lists(
        st.tuples(HOSTILE, st.integers(0, 4) | st.integers(0, 65_535), st.integers(0, 2**32 - 1) | st.none()),
        max_size=8,
    ),
    late=st.booleans(),
)
@example(sent=[(b"\x03\x00", 1, None)] * 2, late=False)
def test_any_bytes_get_their_answer(vad: SileroVad, sent: list[tuple[bytes, int, int | None]], late: bool) -> None:
    stream, counters = stream_of(vad)
    seq = 0
    for payload, ahead, timestamp in sent:
        seq += ahead
        result = stream.push(packet(seq, payload, timestamp, restart=ahead % 2), late)
        assert result.seq == seq & 0xFFFF
    assert counters.packets == len(sent)


def test_a_30_ms_packet_comes_back_as_it_is(vad: SileroVad) -> None:
    stream, counters = stream_of(vad)
    result = stream.push(packet(0, PAYLOADS[1_440]), late=False)
    assert result.payload == PAYLOADS[1_440]
    assert (result.dry, counters.dry) == (1, 1)


@pytest.mark.parametrize(
    ("seq", "timestamp", "step"),
    [
        (11, 1_960, Step(False, 0, 960, 0)),
        (10, 1_000, Step(True, 0, 960, 0)),
        (9, 40, Step(True, 0, 960, 0)),
        (12, 2_920, Step(False, 1, 960, 0)),
        (11, 1_960 + 19_200, Step(False, 0, 960, 19_200)),
        (13, 3_880 + 480, Step(False, 2, 960, 480)),
        (14, 1_960 + 960, Step(False, 1, 960, 0)),
        (11, 500, Step(False, 0, 960, 0)),
    ],
    ids=["next", "repeated", "older", "one lost", "DTX", "loss and DTX", "less time than packets", "clock went back"],
)
def test_a_timeline_tells_loss_from_pauses(seq: int, timestamp: int, step: Step) -> None:
    timeline = Timeline()
    timeline.accept(10, 1_000, 960)
    assert timeline.accept(seq, timestamp, 960) == step


def test_a_timeline_wraps() -> None:
    timeline = Timeline()
    timeline.accept(0xFFFF, 0xFFFFFFFF - 479, 960)
    assert timeline.accept(0, 480, 960) == Step(False, 0, 960, 0)
    assert timeline.accept(2, 480 + 1_920, 960) == Step(False, 1, 960, 0)


BACK = 20_000


@pytest.mark.parametrize(
    ("seq", "timestamp"),
    [(50_000 - BACK, 7_000_000), (49_950, 3_000_000_000), (49_950, 7_000_000), (49_000, 10_000), (50_000 - 0x7FFF, 0)],
    ids=["far behind", "near, clock far back", "near, clock ahead", "not near, clock back a little", "farthest"],
)
def test_a_numbering_that_begins_anew_behind_the_old_is_followed_from_its_second_packet(
    seq: int, timestamp: int
) -> None:
    timeline = Timeline()
    timeline.accept(50_000, 1_000_000, 960)
    assert timeline.accept(seq, timestamp, 960).old
    assert timeline.accept(seq + 1, timestamp + 960, 960) == Step(False, 0, 960, 0)
    assert timeline.accept(seq + 3, timestamp + 3 * 960, 960) == Step(False, 1, 960, 0)


def test_the_last_packet_of_the_old_numbering_does_not_hide_the_new() -> None:
    timeline = Timeline()
    timeline.accept(50_000, 1_000_000, 960)
    assert timeline.accept(30_000, 7_000_000, 960).old
    assert timeline.accept(50_002, 1_001_920, 960) == Step(False, 1, 960, 0)
    steps = [timeline.accept(30_000 + index, 7_000_000 + index * 960, 960) for index in (1, 2, 3)]
    assert [step.old for step in steps] == [True, False, False]


def test_late_and_repeated_packets_that_follow_each_other_stay_old() -> None:
    timeline = Timeline()
    for index in (0, 1, 2, 6, 3, 4, 5, 3, 4, 6, 6):
        step = timeline.accept(65_534 + index & 0xFFFF, index * 960, 960)
        assert step.old == (index in (3, 4, 5) or (index == 6 and step.lost == 0))
    assert timeline.accept(65_541 & 0xFFFF, 7 * 960, 960) == Step(False, 0, 960, 0)


def test_after_another_ssrc_the_path_goes_on(vad: SileroVad) -> None:
    stream, counters = stream_of(vad)
    run(stream, [packet(50_000 + index, PAYLOADS[960]) for index in range(5)])
    results = run(stream, [packet(30_000 + index, PAYLOADS[960], 7_000_000 + index * 960) for index in range(5)])
    assert [bool(result.payload) for result in results] == [False, True, True, True, True]
    assert counters.old == 1


def test_loss_is_repaired_from_fec_else_concealed_else_silent(vad: SileroVad) -> None:
    payloads = publish(speech(), loss_percent=20)
    carrier = next(i for i in range(60, len(payloads)) if packet_has_fec(payloads[i]))
    stream, counters = stream_of(vad)
    run(stream, [packet(i, payloads[i]) for i in range(carrier - 1)])
    run(stream, [packet(carrier, payloads[carrier])])
    assert (counters.repaired_fec, counters.repaired_plc, counters.silenced) == (1, 0, 0)
    plain = publish(speech())
    stream, counters = stream_of(vad)
    run(stream, [packet(i, plain[i]) for i in (0, 1, 2, 12)])
    assert (counters.repaired_fec, counters.repaired_plc, counters.silenced) == (0, 3, 6)


def test_dtx_conceals_nothing(vad: SileroVad) -> None:
    payloads = publish(speech())
    stream, counters = stream_of(vad)
    run(stream, [packet(0, payloads[0]), packet(1, payloads[1], timestamp=20 * PACKET)])
    assert (counters.pauses, counters.repaired_plc, counters.silenced) == (1, 0, 0)


def test_our_fec_gives_a_listener_what_the_publisher_lost(vad: SileroVad) -> None:
    """Every tenth packet never reaches the server; the listener recovers it from the server's own FEC."""
    payloads = publish(speech()[: 6 * 48_000], loss_percent=20)
    reference, _ = stream_of(vad, processors={"denoise": False}, loss_percent=10)
    repairing, counters = stream_of(vad, processors={"denoise": False}, loss_percent=10)
    truth_decoder, decoder = OpusDecoder(), OpusDecoder()
    recovered, concealed = [], []
    previous_lost = False
    for index, payload in enumerate(payloads):
        arrived = packet(index, payload)
        truth = truth_decoder.decode(reference.push(arrived, late=False).payload)
        if index % 10 == 9:
            previous_lost, lost_truth = True, truth
            continue
        out = repairing.push(arrived, late=False).payload
        if previous_lost and packet_has_fec(out) and level_db(lost_truth) > -40:
            recovered.append(abs(level_db(decoder.decode_fec(out, PACKET)) - level_db(lost_truth)))
        elif previous_lost:
            concealed.append(level_db(decoder.conceal(PACKET)))
        previous_lost = False
        decoder.decode(out)
    assert counters.repaired_fec > 10
    assert len(recovered) > 5
    assert np.median(recovered) < 3


def test_a_late_packet_is_heard_but_not_answered(vad: SileroVad) -> None:
    payloads = publish(voice(140, 0.5))
    stream, counters = stream_of(vad)
    run(stream, [packet(i, payloads[i]) for i in range(10)])
    assert stream.push(packet(10, payloads[10]), late=True).payload == b""
    assert counters.late == 1
    after = stream.push(packet(11, payloads[11]), late=False)
    assert counters.repaired_plc == counters.repaired_fec == 0  # it was not taken for lost
    assert after.payload


def test_off_is_the_delayed_original_through_the_same_encoder(vad: SileroVad, rnnoise: Rnnoise) -> None:
    sound = voice(140, 1.0)
    decoder, publisher_decoder = OpusDecoder(), OpusDecoder()
    stream = PathStream(opened(processors={"denoise": False}), {"denoise": rnnoise}, vad.open(), PathCounters())
    heard, raw = [], []
    for index, payload in enumerate(publish(sound, bitrate_bps=64_000)):
        result = stream.push(packet(index, payload), late=False)
        assert result.dry == 1
        heard.append(decoder.decode(result.payload))
        raw.append(publisher_decoder.decode(payload))
    # 20 ms of the transform's delay, and what the second Opus adds.
    assert level_db(np.concatenate(heard[10:])) == pytest.approx(level_db(np.concatenate(raw[10:])), abs=1)
    assert level_db(heard[0]) < -60


def test_a_held_vowel_is_not_silence_but_silence_is(vad: SileroVad) -> None:
    stream, _ = stream_of(vad, processors={"denoise": False})
    vowel = publish(voice(140, 3.0))
    silence = publish(np.zeros(96_000, np.float32))
    results = run(stream, [packet(index, payload) for index, payload in enumerate([*vowel, *silence])])
    sizes = [len(result.payload) for result in results]
    assert min(sizes[: len(vowel)]) > 20
    assert min(sizes[len(vowel) + 50 :]) <= 2
    decoder = OpusDecoder()
    heard = [level_db(decoder.decode(result.payload)) for result in results[: len(vowel)]]
    assert min(heard[10:]) > level_db(voice(140, 3.0)) - 6


def test_the_level_is_that_of_what_is_sent(vad: SileroVad) -> None:
    stream, _ = stream_of(vad)
    quiet = [packet(i, payload) for i, payload in enumerate(publish(noise(48_000, rms=0.2)))]
    levels = [result.level for result in run(stream, quiet)]
    assert levels[-1] == pytest.approx(-20 * np.log10(0.1), abs=2)  # halved


def test_level_of_follows_rfc_6464() -> None:
    assert level_of(np.ones(960, np.float32)) == 0
    assert level_of(np.zeros(960, np.float32)) == 127
    assert level_of(np.full(960, 0.1, np.float32)) == 20
    assert level_of(np.full(960, 1e-9, np.float32)) == 127


def test_after_a_restart_a_decoder_with_another_past_follows(vad: SileroVad) -> None:
    """The listener heard the raw stream until packet 50 and our stream from there on."""
    payloads = publish(speech()[48_000:])
    stream, _ = stream_of(vad, processors={"denoise": False})
    listener, faithful = OpusDecoder(), OpusDecoder()
    heard, truth = [], []
    for index, payload in enumerate(payloads[:70]):
        result = stream.push(packet(index, payload, restart=int(index == 50)), late=False)
        truth.append(faithful.decode(result.payload))
        heard.append(listener.decode(payload if index < 50 else result.payload))
    settled = slice(54, None)
    error = np.concatenate(heard[settled]) - np.concatenate(truth[settled])
    assert level_db(error) < level_db(np.concatenate(truth[settled])) - 15


def test_packets_of_2_5_ms_pass_through_frames_of_10_ms(vad: SileroVad) -> None:
    sound = voice(140, 0.5)
    stream, _ = stream_of(vad)
    decoder = OpusDecoder()
    heard = []
    for index, payload in enumerate(publish(sound, bitrate_bps=64_000, samples=120)):
        result = stream.push(packet(index, payload, timestamp=index * 120), late=False)
        heard.append(decoder.decode(result.payload))
    assert {len(piece) for piece in heard} == {120}
    tail = np.concatenate(heard)[9_600:]
    assert level_db(tail) == pytest.approx(level_db(sound[9_600:]) - 6, abs=1.5)


def test_one_piece_per_packet_whatever_is_held_back(vad: SileroVad) -> None:
    """Results keep the order and number of packets over many seconds of speech."""
    stream, counters = stream_of(vad)
    results = run(stream, [packet(i, payload) for i, payload in enumerate(publish(speech()[: 3 * 48_000]))])
    assert [result.seq for result in results] == list(range(len(pieces(speech()[: 3 * 48_000]))))
    assert counters.processed + counters.dry == len(results)


class Counting(Halve):
    """Notes how much it is asked to process, and changes nothing."""

    def __init__(self) -> None:
        self.samples = 0

    def open(self, track: TrackRef) -> "Counting":
        return self

    def process(self, samples: Samples) -> Samples:
        self.samples += len(samples)
        return samples


def test_a_muted_microphone_is_left_alone_after_a_while_and_heard_at_once_again(vad: SileroVad) -> None:
    counting, counters = Counting(), PathCounters()
    stream = PathStream(opened(), {"denoise": counting}, vad.open(), counters)
    word = speech()[:RATE_HZ]
    sound = np.concatenate([word, np.zeros(2 * RATE_HZ, np.float32), word])
    results = run(stream, [packet(index, payload) for index, payload in enumerate(publish(sound))])
    assert counters.processed + counters.dry == len(results) == len(sound) // PACKET
    assert counting.samples < len(sound) - RATE_HZ
    decoder = OpusDecoder()
    heard = np.concatenate([decoder.decode(result.payload) for result in results])
    first, pause, second = (level_db(heard[at : at + RATE_HZ]) for at in (0, 2 * RATE_HZ - 960, 3 * RATE_HZ))
    assert pause < -80
    assert abs(second - first) < 1


def test_long_silence_is_not_encoded_and_speech_after_it_needs_no_past(vad: SileroVad) -> None:
    stream, _ = stream_of(vad)
    sound = np.concatenate((voice(140, 1.0), noise(2 * RATE_HZ, rms=2e-4), voice(140, 1.0)))
    payloads = [result.payload for result in run(stream, [packet(i, one) for i, one in enumerate(publish(sound))])]
    silent = [index for index, payload in enumerate(payloads) if payload == opus.silence(PACKET)]
    assert silent == list(range(silent[0], silent[-1] + 1))
    assert 70 < silent[0] < 80, "400 ms of silence are encoded"
    assert 145 <= silent[-1] <= 151
    decoder, fresh = OpusDecoder(), OpusDecoder()
    after = [decoder.decode(payload) for payload in payloads][silent[-1] + 1 :]
    alone = [fresh.decode(payload) for payload in payloads[silent[-1] + 1 :]]
    assert level_db(np.concatenate(after) - np.concatenate(alone)) < level_db(np.concatenate(after)) - 30


@pytest.mark.parametrize("lost", [False, True], ids=["whole", "onset lost on the way in"])
def test_where_words_begin_after_silence_their_beginning_is_sent_twice(vad: SileroVad, lost: bool) -> None:
    stream, _ = stream_of(vad, loss_percent=20)
    sound = np.concatenate((voice(140, 1.0), noise(2 * RATE_HZ, rms=2e-4), voice(140, 1.0)))
    packets = [packet(index, payload) for index, payload in enumerate(publish(sound, loss_percent=20))]
    if lost:
        del packets[151]
    results = run(stream, packets)
    [after] = [result for result in results if result.seq == 152]
    assert packet_has_fec(after.payload)


def test_a_switch_in_silence_takes_effect_before_the_next_word(vad: SileroVad) -> None:
    counting = Counting()
    stream = PathStream(opened(processors={"denoise": False}), {"denoise": counting}, vad.open(), PathCounters())
    silence = [packet(index, payload) for index, payload in enumerate(publish(np.zeros(2 * RATE_HZ, np.float32)))]
    run(stream, silence[:50])
    assert counting.samples == 0
    stream.configure(opened(processors={"denoise": True}))
    run(stream, silence[50:])
    assert 0 < counting.samples < RATE_HZ // 2
    assert not stream.chain.dry


def test_silence_before_a_transform_was_idle_does_not_count_after_it(vad: SileroVad) -> None:
    stream = PathStream(opened(), {"denoise": Counting()}, vad.open(), PathCounters())
    packets = [packet(index, payload) for index, payload in enumerate(publish(np.zeros(RATE_HZ, np.float32)))]
    run(stream, packets[:20])
    stage = stream.chain.stages[0]
    stage._rest_samples, stage._fade.gain = PACKET, 0.0  # as if it had been too slow for a moment
    run(stream, packets[20:21])
    counting = stage._framer._stream
    assert isinstance(counting, Counting)
    before = counting.samples
    run(stream, packets[21:26])
    assert counting.samples == before + 5 * PACKET
