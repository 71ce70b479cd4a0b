"""The bot's two connections: it offers on the publish transport, the server offers on the subscribe transport.

Each side has exactly one offerer and one offer in flight, so there is no glare. aiortc cannot restart ICE: a transport that
failed is replaced, never repaired.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from aiortc import (
    RTCBundlePolicy,
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpTransceiver,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import AudioFrame, VideoFrame

from bots import loopback
from bots.client import SignalingClient
from bots.errors import BotError
from bots.feed import Feed
from bots.publication import Publication
from bots.rtp_hook import RawRtp, tap_receiver
from signaling.protocol import messages as wire

AUDIO_FRAMES_WAITING = 50  # one second
VIDEO_FRAMES_WAITING = 8


class ReceivedTrack(Feed[AudioFrame | VideoFrame]):
    """Decoded frames of somebody's track: `async for frame in track`. Unread frames beyond the bound drop oldest first.

    Frames come out of aiortc's own receiver; bots/README.md says what that does under loss.
    """

    def __init__(self, track_id: str, participant_id: str, kind: wire.TrackKind) -> None:
        super().__init__(AUDIO_FRAMES_WAITING if kind == "audio" else VIDEO_FRAMES_WAITING)
        self.track_id = track_id
        self.participant_id = participant_id
        self.kind = kind


def configuration(ice_servers: list[wire.IceServer]) -> RTCConfiguration:
    """The servers of the join ack, and no others: aiortc's default would ask a public STUN server."""
    return RTCConfiguration(iceServers=_aiortc_servers(ice_servers), bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)


def _aiortc_servers(ice_servers: list[wire.IceServer]) -> list[RTCIceServer]:
    return [RTCIceServer(urls=item.urls, username=item.username, credential=item.credential) for item in ice_servers]


async def _whole(gathering: Coroutine[Any, Any, None]) -> None:
    """Gather to the end even if cancelled: aioice forgets the sockets of candidates that it was about to have."""
    task = asyncio.ensure_future(gathering)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise


class PublishConnection:
    """Sends the bot's tracks. Its owner makes one call at a time, so that there is one offer in flight."""

    def __init__(self, signaling: SignalingClient, ice_servers: list[wire.IceServer], use_loopback: bool) -> None:
        self._signaling = signaling
        self._configuration = configuration(ice_servers)
        self._connection = RTCPeerConnection(self._configuration)
        self._loopback = use_loopback
        self._senders: dict[Publication, RTCRtpTransceiver] = {}

    @property
    def connection(self) -> RTCPeerConnection:
        """The connection, for its state and statistics."""
        return self._connection

    def use_ice_servers(self, ice_servers: list[wire.IceServer]) -> None:
        """For what is gathered from now on: aiortc reads the configuration that it was given when it begins to gather."""
        self._configuration.iceServers = _aiortc_servers(ice_servers)

    def use(self, signaling: SignalingClient) -> None:
        """Make further offers over a new Socket.IO connection of the same participant."""
        self._signaling = signaling

    async def publish(self, publications: list[Publication]) -> None:
        """Add tracks in one offer; sets each publication's `track_id`. Raises BotError if the server refuses."""
        for publication in publications:
            track = publication.make_track()
            self._senders[publication] = self._connection.addTransceiver(track, direction="sendonly")
        try:
            await self._offer()
        except BotError:
            for publication in publications:
                self._withdraw(publication)
            raise

    async def unpublish(self, publication: Publication) -> None:
        """Stop sending a track."""
        self._withdraw(publication)
        await self._offer()

    def _withdraw(self, publication: Publication) -> None:
        transceiver = self._senders.pop(publication)
        transceiver.sender.replaceTrack(None)
        transceiver.direction = "inactive"

    async def _offer(self) -> None:
        with loopback.gathering(self._loopback):
            await _whole(self._connection.setLocalDescription(await self._connection.createOffer()))
        by_mid = {str(transceiver.mid): publication for publication, transceiver in self._senders.items()}
        tracks = [
            wire.PublishedTrack(mid=mid, source=publication.source_kind, muted=publication.muted)
            for mid, publication in by_mid.items()
        ]
        request = wire.Publish(sdp=self._connection.localDescription.sdp, tracks=tracks)
        answer = await self._signaling.request(request, wire.PublishResult)
        for mid, track_id in answer.track_ids.items():
            by_mid[mid].track_id = track_id
        await self._connection.setRemoteDescription(RTCSessionDescription(answer.sdp, "answer"))

    async def close(self) -> None:
        """Stop sending. The publications stay usable for another connection."""
        await self._connection.close()


class SubscribeConnection:
    """Receives the tracks of others. `handle_offer` is called in the order of arrival by one task, the bot's event loop.

    `on_track` is called once per track when its m-line first carries it. An m-line that carries another track later ends
    the first one's feed. `on_rtp`, if not None, sees each packet before aiortc's jitter buffer.
    """

    def __init__(
        self,
        signaling: SignalingClient,
        ice_servers: list[wire.IceServer],
        use_loopback: bool,
        on_track: Callable[[ReceivedTrack], None],
        on_rtp: Callable[[RawRtp], None] | None = None,
    ) -> None:
        self.tracks: dict[str, ReceivedTrack] = {}
        self._signaling = signaling
        self._configuration = configuration(ice_servers)
        self._connection = RTCPeerConnection(self._configuration)
        self._loopback = use_loopback
        self._on_track = on_track
        self._on_rtp = on_rtp
        self._by_mid: dict[str, ReceivedTrack] = {}
        self._pumps: set[asyncio.Task[None]] = set()
        self._connection.on("track", self._on_remote_track)

    @property
    def connection(self) -> RTCPeerConnection:
        """The connection, for its state and statistics."""
        return self._connection

    def use_ice_servers(self, ice_servers: list[wire.IceServer]) -> None:
        """For what is gathered from now on: aiortc reads the configuration that it was given when it begins to gather."""
        self._configuration.iceServers = _aiortc_servers(ice_servers)

    def use(self, signaling: SignalingClient) -> None:
        """Answer over a new Socket.IO connection of the same participant."""
        self._signaling = signaling

    async def handle_offer(self, offer: wire.SubscribeOffer) -> None:
        """Answer an offer. Raises BotError if the answer is refused, ValueError or aiortc's errors if the offer is bad."""
        await self._connection.setRemoteDescription(RTCSessionDescription(offer.sdp, "offer"))
        self._map_tracks(offer.tracks)
        with loopback.gathering(self._loopback):
            await _whole(self._connection.setLocalDescription(await self._connection.createAnswer()))
        answer = wire.SubscribeAnswer(sdp=self._connection.localDescription.sdp, version=offer.version)
        await self._signaling.request(answer)

    async def close(self) -> None:
        """Stop receiving; every track's feed ends."""
        for track in self.tracks.values():
            track.close()
        await self._connection.close()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    def _map_tracks(self, offered: dict[str, wire.OfferedTrack]) -> None:
        for mid, track in list(self._by_mid.items()):
            if mid not in offered or offered[mid].track_id != track.track_id:
                del self._by_mid[mid]
                self.tracks.pop(track.track_id, None)
                track.close()
        for mid, info in offered.items():
            if mid not in self._by_mid:
                track = ReceivedTrack(info.track_id, info.participant_id, info.kind)
                self._by_mid[mid] = track
                self.tracks[track.track_id] = track
                self._on_track(track)

    def _on_remote_track(self, remote: MediaStreamTrack) -> None:
        transceiver = next(item for item in self._connection.getTransceivers() if item.receiver.track is remote)
        mid = str(transceiver.mid)
        if self._on_rtp is not None:
            tap_receiver(transceiver.receiver, remote.kind, lambda: self._track_id(mid), self._on_rtp)
        pump = asyncio.create_task(self._pump(remote, mid))
        self._pumps.add(pump)
        pump.add_done_callback(self._pumps.discard)

    def _track_id(self, mid: str) -> str | None:
        track = self._by_mid.get(mid)
        return track.track_id if track else None

    async def _pump(self, remote: MediaStreamTrack, mid: str) -> None:
        """Always read: aiortc's own queue of decoded frames has no bound."""
        while True:
            try:
                frame = await remote.recv()
            except MediaStreamError:
                return
            track = self._by_mid.get(mid)
            if track is not None and isinstance(frame, AudioFrame | VideoFrame):
                track.push(frame)
