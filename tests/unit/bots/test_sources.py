"""Sources and publications: what leaves, frame by frame, without a clock that passes."""

import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from aiortc.mediastreams import MediaStreamError

from bots.pacing import Pacer
from bots.publication import AudioPublication, VideoPublication
from bots.sources import PatternSource, PcmSource, SilenceSource, audio_frame, play_file, read_counter
from tests.unit.bots.test_pacing_and_feed import Clock

RAMP = np.arange(2400, dtype=np.int16)


def pacer(clock: Clock) -> Pacer:
    return Pacer(clock.read_ns, clock.sleep)


async def test_sound_leaves_in_20_ms_frames_then_silence() -> None:
    publication = AudioPublication(PcmSource(RAMP), "microphone", pacer(Clock()))
    frames = [await publication.next_frame() for _ in range(4)]
    assert [frame.pts for frame in frames] == [0, 960, 1920, 2880]
    assert {(frame.samples, frame.sample_rate, frame.layout.name) for frame in frames} == {(960, 48_000, "mono")}
    assert frames[0].time_base == Fraction(1, 48_000)
    sound = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    assert np.array_equal(sound[:2400], RAMP)
    assert not sound[2400:].any()
    await publication.finished()


async def test_play_replaces_the_source_and_its_end() -> None:
    publication = AudioPublication(SilenceSource(), "microphone", pacer(Clock()))
    await publication.next_frame()
    publication.play(PcmSource(RAMP[960:1920]))
    assert np.array_equal((await publication.next_frame()).to_ndarray()[0], RAMP[960:1920])
    await publication.next_frame()
    await publication.finished()


async def test_muted_sound_is_silence_and_the_source_goes_on() -> None:
    publication = AudioPublication(PcmSource(RAMP), "microphone", pacer(Clock()))
    publication.muted = True
    assert not (await publication.next_frame()).to_ndarray().any()
    publication.muted = False
    assert np.array_equal((await publication.next_frame()).to_ndarray()[0], RAMP[960:1920])


async def test_a_generator_at_another_rate_is_a_source_and_music_is_stereo() -> None:
    async def tone():  # type: ignore[no-untyped-def]  # the shortest possible source
        for _ in range(10):
            frame = audio_frame(np.full(441, 1000, np.int16))
            frame.sample_rate = 44_100
            yield frame

    publication = AudioPublication(tone(), "music", pacer(Clock()))
    frame = await publication.next_frame()
    assert (frame.samples, frame.layout.name) == (960, "stereo")
    assert abs(int(np.median(frame.to_ndarray())) - 707) < 300


async def test_after_a_stall_timestamps_skip_what_was_not_sent() -> None:
    clock = Clock()
    publication = AudioPublication(SilenceSource(), "microphone", pacer(clock))
    await publication.next_frame()
    clock.now_ns += 1_000_000_000
    frame = await publication.next_frame()
    assert frame.pts == 960 + 49 * 960
    assert publication.skipped_ns == 980_000_000


async def test_pictures_without_time_are_paced_by_rate() -> None:
    publication = VideoPublication(PatternSource(), "camera", 25.0, pacer(Clock()))
    frames = [await publication.next_frame() for _ in range(3)]
    assert [frame.pts for frame in frames] == [0, 3600, 7200]
    assert [read_counter(frame) for frame in frames] == [0, 1, 2]


@pytest.mark.parametrize("number", [0, 1, 0x5A5A, 0xFFFF])
def test_the_counter_survives_scaling_down(number: int) -> None:
    frame = av.VideoFrame.from_ndarray(PatternSource(640, 480).picture(number), format="gray")
    assert read_counter(frame.reformat(width=160, height=120)) == number


async def test_the_end_of_a_video_source_ends_the_track() -> None:
    async def one():  # type: ignore[no-untyped-def]  # the shortest possible source
        yield av.VideoFrame.from_ndarray(np.zeros((16, 16), np.uint8), format="gray")

    publication = VideoPublication(one(), "camera", pacer=pacer(Clock()))
    track = publication.make_track()
    await track.recv()
    with pytest.raises(MediaStreamError):
        await track.recv()
    await publication.finished()


def write_wav(path: Path, samples: np.ndarray, rate_hz: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.tobytes())


async def test_a_sound_file_plays_once_or_in_a_loop(tmp_path: Path) -> None:
    path = tmp_path / "ramp.wav"
    write_wav(path, RAMP, 48_000)
    file = play_file(path)
    assert file.video is None
    assert file.audio is not None
    once = np.concatenate([frame.to_ndarray()[0] async for frame in file.audio])
    assert np.array_equal(once, RAMP)
    looped = play_file(path, loop=True).audio
    assert looped is not None
    publication = AudioPublication(looped, "microphone", pacer(Clock()))
    sound = np.concatenate([(await publication.next_frame()).to_ndarray()[0] for _ in range(10)])
    assert np.array_equal(sound[:4800], np.tile(RAMP, 2))


async def test_a_looped_video_file_keeps_its_time_growing(tmp_path: Path) -> None:
    path = tmp_path / "pattern.webm"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for number in range(4):
            picture = av.VideoFrame.from_ndarray(PatternSource(160, 120).picture(number), format="gray")
            container.mux(stream.encode(picture.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    video = play_file(path, loop=True).video
    assert video is not None
    publication = VideoPublication(video, "camera", pacer=pacer(Clock()))
    frames = [await publication.next_frame() for _ in range(10)]
    assert [read_counter(frame) for frame in frames] == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert [frame.pts for frame in frames] == [3600 * index for index in range(10)]


def test_what_is_no_media_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.wav"
    path.write_text("not sound")
    with pytest.raises(ValueError, match="not a media file"):
        play_file(path)
    with pytest.raises(OSError, match="missing"):
        play_file(tmp_path / "missing.wav")


def test_samples_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="samples"):
        PcmSource(np.zeros((2, 10), np.int16))
    with pytest.raises(ValueError, match="rate_hz"):
        VideoPublication(PatternSource(), "camera", 0)
