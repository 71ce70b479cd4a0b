"""Bots in a room of the real server: they see, hear and read each other."""

import numpy as np
import pytest
from av import AudioFrame, VideoFrame

from bots import BotError, MeetingBot, PatternSource, RawRtp, ReceivedTrack, read_counter
from candor.measure import OpusPacket, count_packets
from candor.node import Node
from signaling.protocol import messages as wire
from signaling.protocol.codes import CloseReason, ErrorCode
from tests.integration.test_bots_media import source
from tests.until import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def frequency_hz(track: ReceivedTrack) -> float:
    """The strongest frequency in 200 ms of a track."""
    parts = []
    while len(parts) < 10:
        frame = await anext(track)
        assert isinstance(frame, AudioFrame)
        parts.append(frame.to_ndarray()[0][::2].astype(np.float64))
    sound = np.concatenate(parts)
    if np.abs(sound).max() < 500:
        return 0.0
    return float(np.argmax(np.abs(np.fft.rfft(sound))) * 48_000 / len(sound))


async def heard(bot: MeetingBot, track_id: str) -> ReceivedTrack:
    await until(lambda: "" if track_id in bot.tracks else f"a subscription to {track_id}")
    return bot.tracks[track_id]


async def test_two_bots_hear_each_other(server: Node) -> None:
    url = server.url
    async with MeetingBot(url, "hear", "Ann") as ann, MeetingBot(url, "hear", "Bob") as bob:
        from_ann = await ann.publish_audio(source(), "music")
        from_bob = await bob.publish_audio(source(), "music")
        for listener, publication in ((ann, from_bob), (bob, from_ann)):
            track = await heard(listener, publication.track_id)
            frequencies: list[float] = []
            while not frequencies or frequencies[-1] == 0:
                frequencies.append(await frequency_hz(track))
            assert abs(frequencies[-1] - 440) < 10


async def test_pictures_arrive_in_order_and_a_latecomer_gets_them_too(server: Node) -> None:
    url = server.url
    async with MeetingBot(url, "see", "Ann", subscribe=False) as ann:
        camera = await ann.publish_video(PatternSource(), rate_hz=15)
        for name in ("Bob", "Late Lisa"):
            async with MeetingBot(url, "see", name) as viewer:
                track = await heard(viewer, camera.track_id)
                counters = []
                while len(counters) < 10:
                    frame = await anext(track)
                    assert isinstance(frame, VideoFrame)
                    counters.append(read_counter(frame))
                assert counters == sorted(counters)
                assert len(set(counters)) == 10


async def test_no_packet_is_lost_on_the_way_and_the_hook_names_the_track(server: Node) -> None:
    packets: list[RawRtp] = []
    listener = MeetingBot(server.url, "count", "Listener")
    listener.on_rtp(packets.append)
    async with MeetingBot(server.url, "count", "Ann", subscribe=False) as ann, listener:
        microphone = await ann.publish_audio(source(), "music")
        await until(lambda: "" if len(packets) > 100 else f"100 packets, have {len(packets)}")
        assert {packet.track_id for packet in packets} == {microphone.track_id}
        rtp = [OpusPacket(p.sequence_number, p.timestamp, p.payload, p.arrival_ns) for p in packets]
        count = count_packets(rtp)
        assert (count.lost, count.duplicates) == (0, 0)


async def test_the_room_is_the_same_for_both(server: Node) -> None:
    url = server.url
    async with MeetingBot(url, "talk", "Ann") as ann, MeetingBot(url, "talk", "Bob") as bob:
        lines: list[str] = []
        bob.on(wire.ChatMessage, lambda event: lines.append(event.line.text))
        await until(lambda: "" if bob.participant_id in ann.room.participants else "Bob in Ann's room")
        assert ann.room.name_of(bob.participant_id) == "Bob"
        await ann.say("<img onerror=alert(1)>")
        await until(lambda: "" if lines else "the line of chat")
        assert lines == ["<img onerror=alert(1)>"]
        microphone = await ann.publish_audio(source())
        await until(lambda: "" if microphone.track_id in bob.room.tracks else "Ann's track in Bob's room")
        await ann.mute(microphone)
        await until(lambda: "" if bob.room.tracks[microphone.track_id].muted else "the mute in Bob's room")
        await ann.unpublish(microphone)
        await until(lambda: "" if microphone.track_id not in bob.room.tracks else "the track's end in Bob's room")
        await ann.leave()
        await until(lambda: "" if ann.participant_id not in bob.room.participants else "Ann's leaving in Bob's room")
        assert ann.close_reason is CloseReason.LEFT


async def test_an_unknown_processor_is_refused_with_its_code(server: Node) -> None:
    async with MeetingBot(server.url, "refuse", "Ann") as ann:
        with pytest.raises(BotError) as refused:
            await ann.set_processor("no_such_thing", True)
        assert refused.value.code is ErrorCode.NO_SUCH_PROCESSOR


async def test_a_bot_that_loses_its_socket_comes_back_as_the_same_participant(server: Node) -> None:
    url = server.url
    async with MeetingBot(url, "resume", "Ann") as ann, MeetingBot(url, "resume", "Bob") as bob:
        microphone = await ann.publish_audio(source(), "music")
        track = await heard(bob, microphone.track_id)
        before = ann.participant_id
        await ann._client.close()  # what a dead network looks like to the bot
        await until(lambda: "" if ann.state.value == "reconnecting" else "the loss noticed")
        await until(lambda: "" if ann.state.value == "joined" else "the way back")
        assert ann.participant_id == before
        await ann.say("still here")
        await until(lambda: "" if bob.room.chat else "the line of chat")
        assert not track.closed, "nothing was announced again"
        await anext(track)
