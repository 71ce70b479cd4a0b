"""The bot's two connections against plain aiortc connections in the same process, over loopback."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamTrack
from av import VideoFrame

from bots import loopback
from bots.errors import BotError
from bots.media import PublishConnection, ReceivedTrack, SubscribeConnection
from bots.publication import AudioPublication, VideoPublication
from bots.rtp_hook import RawRtp
from bots.sources import AudioSource, PatternSource, audio_frame, read_counter
from signaling.protocol import messages as wire
from signaling.protocol.codes import ErrorCode
from tests.until import until


async def tone() -> AsyncIterator[Any]:
    position = 0
    while True:
        phase = 2 * np.pi * 440 * np.arange(position, position + 960) / 48_000
        yield audio_frame((8000 * np.sin(phase)).astype(np.int16))
        position += 960


def source() -> AudioSource:
    return tone()


class FarEnd:
    """Answers what a SignalingClient is asked, with an aiortc connection instead of an SFU."""

    def __init__(self) -> None:
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.remote: list[MediaStreamTrack] = []
        self.published: list[wire.Publish] = []
        self.refuse: ErrorCode | None = None
        self.connection.on("track", self.remote.append)

    async def request(self, request: wire.Message, result: Any = None) -> Any:
        if isinstance(request, wire.Publish):
            return await self._answer(request)
        assert isinstance(request, wire.SubscribeAnswer)
        await self.connection.setRemoteDescription(RTCSessionDescription(request.sdp, "answer"))
        return None

    async def _answer(self, request: wire.Publish) -> wire.PublishResult:
        if self.refuse is not None:
            raise BotError(self.refuse, "not now", retryable=False)
        self.published.append(request)
        await self.connection.setRemoteDescription(RTCSessionDescription(request.sdp, "offer"))
        with loopback.gathering(loopback=True):
            await self.connection.setLocalDescription(await self.connection.createAnswer())
        ids = {track.mid: f"track-{track.mid}" for track in request.tracks}
        return wire.PublishResult(sdp=self.connection.localDescription.sdp, track_ids=ids)

    async def offer(self, version: int, tracks: dict[str, wire.OfferedTrack]) -> wire.SubscribeOffer:
        with loopback.gathering(loopback=True):
            await self.connection.setLocalDescription(await self.connection.createOffer())
        return wire.SubscribeOffer(sdp=self.connection.localDescription.sdp, version=version, tracks=tracks)


@pytest.fixture
async def far_end() -> AsyncIterator[FarEnd]:
    end = FarEnd()
    yield end
    await end.connection.close()


def offered(track_id: str, kind: Any) -> wire.OfferedTrack:
    return wire.OfferedTrack(track_id=track_id, participant_id="p", kind=kind)


async def test_sound_and_pictures_arrive_on_one_transport(far_end: FarEnd) -> None:
    publish = PublishConnection(far_end, [], use_loopback=True)  # type: ignore[arg-type]
    audio = AudioPublication(source(), "microphone")
    video = VideoPublication(PatternSource(), "camera", rate_hz=15)
    try:
        await publish.publish([audio])
        await publish.publish([video])
        assert (audio.track_id, video.track_id) == ("track-0", "track-1")
        assert [track.source for track in far_end.published[-1].tracks] == ["microphone", "camera"]
        await until(lambda: "" if len(far_end.remote) == 2 else "two tracks")
        sound, picture = far_end.remote
        frames = [await sound.recv() for _ in range(5)]
        assert np.abs(frames[-1].to_ndarray()).max() > 4000
        counters = [read_counter(await picture.recv()) for _ in range(5)]
        assert counters == list(range(counters[0], counters[0] + 5))
        await publish.unpublish(video)
        assert [track.mid for track in far_end.published[-1].tracks] == ["0"]
    finally:
        await publish.close()


async def test_a_refused_track_leaves_the_others_publishable(far_end: FarEnd) -> None:
    publish = PublishConnection(far_end, [], use_loopback=True)  # type: ignore[arg-type]
    try:
        far_end.refuse = ErrorCode.TOO_LARGE
        with pytest.raises(BotError, match="too_large"):
            await publish.publish([AudioPublication(source(), "music")])
        far_end.refuse = None
        microphone = AudioPublication(source(), "microphone")
        await publish.publish([microphone])
        assert [track.source for track in far_end.published[-1].tracks] == ["microphone"]
        assert microphone.track_id
        await until(lambda: "" if far_end.remote else "the track")
        await far_end.remote[-1].recv()
    finally:
        await publish.close()


async def test_received_tracks_follow_the_offers(far_end: FarEnd) -> None:
    announced: list[ReceivedTrack] = []
    packets: list[RawRtp] = []
    subscribe = SubscribeConnection(
        far_end,  # type: ignore[arg-type]
        [],
        use_loopback=True,
        on_track=announced.append,
        on_rtp=packets.append,
    )
    far_end.connection.addTransceiver(AudioPublication(source(), "microphone").make_track(), direction="sendonly")
    far_end.connection.addTransceiver(VideoPublication(PatternSource(), "camera").make_track(), direction="sendonly")
    try:
        tracks = {"0": offered("a1", "audio"), "1": offered("v1", "video")}
        await subscribe.handle_offer(await far_end.offer(1, tracks))
        first, video = announced
        assert (await anext(first)).sample_rate == 48_000
        picture = await anext(video)
        assert isinstance(picture, VideoFrame)
        assert {packet.track_id for packet in packets} == {"a1", "v1"}

        # The same m-line carries somebody else now: the first feed ends, the second goes on under its own id.
        await subscribe.handle_offer(await far_end.offer(2, tracks | {"0": offered("a2", "audio")}))
        assert first.closed
        second = subscribe.tracks["a2"]
        await anext(second)
        await until(lambda: "" if any(packet.track_id == "a2" for packet in packets) else "a packet of a2")
        assert set(subscribe.tracks) == {"a2", "v1"}
    finally:
        await subscribe.close()
    assert second.closed
    assert video.closed


async def test_a_reader_who_sleeps_loses_the_oldest_frames_only(far_end: FarEnd) -> None:
    announced: list[ReceivedTrack] = []
    subscribe = SubscribeConnection(far_end, [], use_loopback=True, on_track=announced.append)  # type: ignore[arg-type]
    video = VideoPublication(PatternSource(), "camera", rate_hz=60)
    far_end.connection.addTransceiver(video.make_track(), direction="sendonly")
    try:
        await subscribe.handle_offer(await far_end.offer(1, {"0": offered("v1", "video")}))
        await until(lambda: "" if announced[0].dropped > 5 else f"drops, have {announced[0].dropped}")
        frame = await anext(announced[0])
        assert isinstance(frame, VideoFrame)
        assert read_counter(frame) > 5
    finally:
        await subscribe.close()


async def test_who_leaves_while_addresses_are_gathered_leaves_no_socket(
    far_end: FarEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    open_socket = loop.create_datagram_endpoint
    transports: list[asyncio.DatagramTransport] = []
    opened, cancelled = asyncio.Event(), asyncio.Event()

    async def slowly(*arguments: Any, **options: Any) -> Any:
        transport, protocol = await open_socket(*arguments, **options)
        transports.append(transport)
        opened.set()
        await cancelled.wait()
        return transport, protocol

    monkeypatch.setattr(loop, "create_datagram_endpoint", slowly)
    publish = PublishConnection(far_end, [], use_loopback=True)  # type: ignore[arg-type]
    publishing = asyncio.create_task(publish.publish([AudioPublication(source(), "music")]))
    await opened.wait()
    publishing.cancel()
    await asyncio.sleep(0)
    cancelled.set()
    with pytest.raises(asyncio.CancelledError):
        await publishing
    assert far_end.published == []
    await publish.close()
    assert [transport for transport in transports if not transport.is_closing()] == []
