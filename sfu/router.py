"""One room of the media plane: its participants' transports, its tracks, who speaks in it."""

import asyncio
from collections.abc import Callable
from typing import Any

import structlog

from sfu.active_speaker import ActiveSpeakers
from sfu.channel.messages import (
    ActiveSpeaker,
    ChannelMessage,
    OpenSubscribe,
    PublishOffer,
    Speakers,
    TrackGone,
    TransportState,
    WantedTrack,
)
from sfu.dataplane.base import DataPlane
from sfu.errors import UnknownTargetError
from sfu.net.peer import PeerState
from sfu.producer import Producer
from sfu.publish_transport import PeerFactory, PublishTransport, parse
from sfu.subscribe_transport import SubscribeTransport
from sfu.tap_server import TapServer

log = structlog.get_logger()

Notify = Callable[[str, ChannelMessage], None]


class Participant:
    """What the router holds of a participant."""

    def __init__(self, participant_id: str) -> None:
        self.participant_id = participant_id
        self.state: dict[str, Any] = {}
        """Signaling's own notes, kept for its successor."""
        self.publish: PublishTransport | None = None
        self.subscribe: SubscribeTransport | None = None
        self.lock = asyncio.Lock()
        """Requests about one participant are handled one after the other."""


class Router:
    """A room. All its media is on this worker."""

    def __init__(self, room_id: str, plane: DataPlane, taps: TapServer, make_peer: PeerFactory, notify: Notify) -> None:
        self.room_id = room_id
        self.state: dict[str, Any] = {}
        self.participants: dict[str, Participant] = {}
        self.tracks: dict[str, Producer] = {}
        self.speakers = ActiveSpeakers()
        self._closing: set[asyncio.Task[None]] = set()
        self._plane = plane
        self._taps = taps
        self._make_peer = make_peer
        self._notify = notify

    def participant(self, participant_id: str) -> Participant:
        """Find or add."""
        return self.participants.setdefault(participant_id, Participant(participant_id))

    def producer(self, track_id: str) -> Producer | None:
        """The live producer of a track, once its transport is connected."""
        producer = self.tracks.get(track_id)
        if producer is None or producer.peer.state is not PeerState.CONNECTED:
            return None
        return producer

    # --- publish

    async def publish(self, request: PublishOffer) -> str:
        """Answer a publish offer; a new client (another DTLS fingerprint) gets a new transport."""
        offer = parse(request.sdp)
        participant = self.participant(request.participant_id)
        async with participant.lock:
            transport = participant.publish
            gone = transport is not None and transport.peer.state in (PeerState.FAILED, PeerState.CLOSED)
            if transport is not None and (gone or not transport.serves(offer)):
                participant.publish = None
                await transport.close()
                transport = None
            if transport is None:
                transport = participant.publish = PublishTransport(
                    request.participant_id,
                    self._plane,
                    self._make_peer,
                    self._publish_state,
                    self._producer_added,
                    self._producer_gone,
                )
            return await transport.offered(offer, request.tracks)

    def _producer_added(self, producer: Producer) -> None:
        self.tracks[producer.track_id] = producer
        self._taps.open(self.room_id, producer)
        self._room_changed()

    def _producer_gone(self, producer: Producer) -> None:
        if self.tracks.get(producer.track_id) is not producer:
            return
        del self.tracks[producer.track_id]
        self._taps.close_track(producer.track_id)
        self.speakers.remove(producer.track_id)
        self._notify("track_gone", TrackGone(track_id=producer.track_id, participant_id=producer.participant_id))
        self._room_changed()

    def _publish_state(self, transport: PublishTransport, state: PeerState) -> None:
        """Tracks are offered while their transport is connected; one that failed for good is closed with its tracks."""
        self._tell_state(transport.participant_id, "publish", state)
        self._room_changed()
        participant = self.participants.get(transport.participant_id)
        if state is PeerState.FAILED and participant is not None and participant.publish is transport:
            participant.publish = None
            closing = asyncio.create_task(transport.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    # --- subscribe

    async def open_subscribe(self, request: OpenSubscribe) -> None:
        """Create the subscribe transport; `fresh` replaces an existing one."""
        participant = self.participant(request.participant_id)
        async with participant.lock:
            current = participant.subscribe
            gone = current is not None and current.peer.state in (PeerState.FAILED, PeerState.CLOSED)
            if current is not None:
                if not (request.fresh or gone):
                    return
                participant.subscribe = None
                await current.close()
            participant.subscribe = SubscribeTransport(
                request.participant_id,
                request.stable_ssrcs,
                self._plane,
                self,
                self._make_peer,
                self._subscribe_state,
                lambda offer: self._notify("offer", offer),
            )
            participant.subscribe.start()

    def _subscribe_state(self, transport: SubscribeTransport, state: PeerState) -> None:
        self._tell_state(transport.participant_id, "subscribe", state)

    def subscription(self, participant_id: str) -> SubscribeTransport:
        """Raises UnknownTargetError."""
        participant = self.participants.get(participant_id)
        if participant is None or participant.subscribe is None:
            raise UnknownTargetError("no subscribe transport")
        return participant.subscribe

    def want(self, participant_id: str, tracks: list[WantedTrack]) -> None:
        """Desired state of a participant's subscriptions; never its own tracks."""
        own = {t.track_id for t in self.tracks.values() if t.participant_id == participant_id}
        self.subscription(participant_id).want([t for t in tracks if t.track_id not in own])

    def _room_changed(self) -> None:
        for participant in self.participants.values():
            if participant.subscribe is not None:
                participant.subscribe.room_changed()

    # --- timers

    def tick_speakers(self, now_ns: int) -> None:
        """Every 100 ms: tell who speaks, if that changed."""
        changed = self.speakers.tick(now_ns)
        if changed is None:
            return
        speakers = [
            ActiveSpeaker(participant_id=self.tracks[t].participant_id, track_id=t, level_dbov=level)
            for t, level in changed
            if t in self.tracks
        ]
        self._notify("speakers", Speakers(room_id=self.room_id, speakers=speakers))

    def tick_layers(self, now_ns: int) -> None:
        """Every 250 ms: choose layers."""
        for participant in self.participants.values():
            if participant.subscribe is not None:
                participant.subscribe.layers.tick(now_ns)

    # --- the end

    async def drop(self, participant_id: str) -> None:
        """Close both transports of a participant; idempotent."""
        participant = self.participants.pop(participant_id, None)
        if participant is None:
            return
        async with participant.lock:
            if participant.publish is not None:
                await participant.publish.close()
            if participant.subscribe is not None:
                await participant.subscribe.close()

    async def close(self) -> None:
        """Close everything; idempotent."""
        for participant_id in list(self.participants):
            await self.drop(participant_id)
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _tell_state(self, participant_id: str, direction: str, state: PeerState) -> None:
        message = {"participant_id": participant_id, "direction": direction, "state": state.value}
        self._notify("transport_state", TransportState.model_validate(message))
