"""The connection on which a participant sends: the client offers, we answer."""

import asyncio
import secrets
from collections.abc import Callable
from typing import Protocol

import structlog

from sfu.channel.messages import TrackWanted
from sfu.channel.tracing import span
from sfu.dataplane.base import DataPlane
from sfu.errors import NegotiationError, TransportError
from sfu.negotiation.answer import PublishOffer, answer, parse_offer
from sfu.negotiation.sections import LocalTransport, PublishedMedia, RemoteTransport
from sfu.net.peer import Peer, PeerState
from sfu.producer import Producer

log = structlog.get_logger()

PROCESSED_SOURCE = "microphone"
"""Music and screen audio are never processed (and may be stereo)."""


class PeerFactory(Protocol):
    """Makes peers on the worker's port."""

    def __call__(self, *, controlling: bool, on_state: Callable[[Peer], None]) -> Peer: ...


def local_transport(peer: Peer) -> LocalTransport:
    """Our end, as negotiation wants it."""
    return LocalTransport(peer.ufrag, peer.password, peer.fingerprint, peer.candidates)


class PublishTransport:
    """One per publishing participant. A new DTLS fingerprint means a new client: it gets a new transport, made by the owner."""

    def __init__(
        self,
        participant_id: str,
        plane: DataPlane,
        make_peer: PeerFactory,
        on_state: Callable[["PublishTransport", PeerState], None],
        on_producer: Callable[[Producer], None],
        on_gone: Callable[[Producer], None],
    ) -> None:
        self.participant_id = participant_id
        self.producers: dict[str, Producer] = {}
        """By mid."""
        self.peer = make_peer(controlling=False, on_state=lambda peer: on_state(self, peer.state))
        self._plane = plane
        self._on_producer = on_producer
        self._on_gone = on_gone
        self._remote: RemoteTransport | None = None
        self._session_id = secrets.randbits(62)
        self._version = 0
        self._connecting: asyncio.Task[None] | None = None

    def serves(self, offer: PublishOffer) -> bool:
        """Whether this offer comes from the client that we are connected to (RFC 8842 section 4: same fingerprint)."""
        return self._remote is None or self._remote.fingerprint == offer.remote.fingerprint

    async def offered(self, offer: PublishOffer, tracks: list[TrackWanted]) -> str:
        """Register what the offer publishes, then answer: media may follow the answer at once. Raises NegotiationError."""
        first = self._remote is None
        restart = not first and self._remote is not None and offer.remote.ufrag != self._remote.ufrag
        if first:
            await self.peer.gather()
        elif restart:
            await self.peer.prepare_restart()
        self._version += 1
        wanted = {track.mid: track for track in tracks}
        processed = {mid for mid, track in wanted.items() if track.source == PROCESSED_SOURCE}
        try:
            sdp, agreed = answer(
                offer,
                local_transport(self.peer),
                session_id=self._session_id,
                version=self._version,
                wanted_mids=set(wanted),
                processed_mids=processed,
            )
        except ValueError as error:
            raise NegotiationError(str(error)) from error
        self._remote = offer.remote
        self._apply(agreed, wanted)
        if first or restart:
            self._connecting = asyncio.create_task(self._connect(offer.remote, restart=restart))
        return sdp

    def _apply(self, agreed: list[PublishedMedia], wanted: dict[str, TrackWanted]) -> None:
        """Everything that ended or changed first, then what is new: two tracks may have changed places."""
        unchanged = {media.mid for media in agreed if self._carries(media, wanted[media.mid])}
        for mid in [mid for mid in self.producers if mid not in unchanged]:
            self._drop(mid)
        for media in agreed:
            track = wanted[media.mid]
            if media.mid in unchanged:
                self.producers[media.mid].set_muted(track.muted)
                continue
            producer = Producer(track.track_id, self.participant_id, track.source, self.peer, media)
            producer.muted = track.muted
            self.producers[media.mid] = producer
            self._plane.add_producer(producer)
            self._on_producer(producer)

    def _carries(self, media: PublishedMedia, track: TrackWanted) -> bool:
        current = self.producers.get(media.mid)
        return current is not None and current.track_id == track.track_id and current.media == media

    def _drop(self, mid: str) -> None:
        producer = self.producers.pop(mid)
        self._on_gone(producer)
        self._plane.remove_producer(producer)

    async def _connect(self, remote: RemoteTransport, *, restart: bool) -> None:
        """As we were asked to: its span is below that of the request."""
        try:
            with span("connect", direction="publish", participant_id=self.participant_id):
                if restart:
                    await self.peer.complete_restart(remote.ufrag, remote.password)
                else:
                    await self.peer.connect(
                        remote.ufrag,
                        remote.password,
                        remote.fingerprint_algorithm,
                        remote.fingerprint,
                        remote_is_passive=False,
                    )
        except TransportError as error:
            log.warning("publish_transport_failed", participant=self.participant_id, restart=restart, error=str(error))

    async def close(self) -> None:
        """Stop everything that is published here; idempotent."""
        if self._connecting is not None:
            self._connecting.cancel()
        for mid in list(self.producers):
            self._drop(mid)
        self._plane.remove_peer(self.peer)
        await self.peer.close()


def parse(sdp: str) -> PublishOffer:
    """An offer, or NegotiationError."""
    try:
        return parse_offer(sdp)
    except ValueError as error:
        raise NegotiationError(str(error)) from error
