"""The connection on which a participant receives: we offer, the client answers. Always, so there is no glare.

Subscriptions are desired state. One loop reconciles the m-lines towards it: it wakes on a nudge, lets changes of the next 20 ms
coalesce, offers, waits for the answer, and only then forwards. Whatever changes meanwhile goes into the next offer.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable
from typing import Protocol

import structlog
from opentelemetry.context import Context

from sfu.channel import tracing
from sfu.channel.messages import Offer, OfferedMedia, WantedTrack
from sfu.consumer import Consumer, Numbers
from sfu.dataplane.base import DataPlane
from sfu.downlink import Downlink
from sfu.errors import NegotiationError, TransportError
from sfu.layer_control import LayerControl
from sfu.negotiation.offer import (
    PAYLOAD_TYPES,
    Section,
    SectionPool,
    SectionState,
    SubscribeAnswer,
    Wanted,
    parse_answer,
)
from sfu.net.peer import Peer, PeerState
from sfu.producer import Producer
from sfu.publish_transport import PeerFactory, local_transport

log = structlog.get_logger()

COALESCE_S = 0.02
ANSWER_TIMEOUT_S = 20.0
BACKOFF_S = 1.0


class Tracks(Protocol):
    """Where producers are found."""

    def producer(self, track_id: str) -> Producer | None:
        """The live producer of a track in this room, if its transport is connected."""


class SubscribeTransport:
    """One per participant."""

    def __init__(
        self,
        participant_id: str,
        stable_ssrcs: bool,
        plane: DataPlane,
        tracks: Tracks,
        make_peer: PeerFactory,
        on_state: Callable[["SubscribeTransport", PeerState], None],
        on_offer: Callable[[Offer], None],
    ) -> None:
        self.participant_id = participant_id
        self.stable_ssrcs = stable_ssrcs
        self.peer: Peer = make_peer(controlling=True, on_state=lambda peer: on_state(self, peer.state))
        self.layers = LayerControl(plane)
        self.consumers: dict[str, Consumer] = {}
        """By mid; what is sent now."""
        self._plane = plane
        self._tracks = tracks
        self._on_offer = on_offer
        self._pool = SectionPool(stable_ssrcs=stable_ssrcs, random_ssrc=lambda: secrets.randbelow(2**32 - 1) + 1)
        self._numbers: dict[str, Numbers] = {}
        """By mid: where the last consumer there stopped."""
        self._accepted: dict[str, frozenset[int]] = {}
        """By mid: the payload types that the client takes, by its last answer."""
        self._downlink = Downlink(self.peer, self.layers)
        self._wanted: list[WantedTrack] = []
        self._session_id = secrets.randbits(62)
        self._version = 0
        self._offer: Offer | None = None
        """The last one, sent again if its answer does not come."""
        self._offer_restarts = False
        self._answers: asyncio.Queue[tuple[int, SubscribeAnswer | None]] = asyncio.Queue(8)
        self._nudge = asyncio.Event()
        self._restart_wanted = False
        self._connected_once = False
        self._loop: asyncio.Task[None] | None = None
        self._restarting: asyncio.Task[None] | None = None
        self._cause = Context()
        """The span of the request that the next round answers; that others come and go is part of none."""

    def start(self) -> None:
        """Begin to negotiate; the first offer brings ICE and DTLS up even if there is nothing to receive yet."""
        self._cause = tracing.cause(self._cause)
        self._nudge.set()
        self._loop = asyncio.create_task(self._negotiate(), name=f"subscribe-{self.participant_id}")

    def want(self, tracks: list[WantedTrack]) -> None:
        """Replace the desired state."""
        self._cause = tracing.cause(self._cause)
        self._wanted = tracks
        self.layers.show({t.track_id: (t.width, t.height) for t in tracks}, time.monotonic_ns())
        self._nudge.set()

    def room_changed(self) -> None:
        """A track came or went."""
        self._nudge.set()

    def restart(self) -> None:
        """Offer new ICE credentials; an offer that still waits for its answer may be lost, so it is sent again first."""
        self._cause = tracing.cause(self._cause)
        self._restart_wanted = True
        with contextlib.suppress(asyncio.QueueFull):
            self._answers.put_nowait((self._version, None))
        self._nudge.set()

    def answered(self, sdp: str, version: int) -> None:
        """The client's answer. Raises NegotiationError; an answer to an older offer is ignored."""
        try:
            answer = parse_answer(sdp, max_media=len(self._pool.sections))
        except ValueError as error:
            raise NegotiationError(str(error)) from error
        with contextlib.suppress(asyncio.QueueFull):
            self._answers.put_nowait((version, answer))

    # --- the loop

    async def _negotiate(self) -> None:
        await self.peer.gather()
        while True:
            await self._nudge.wait()
            if self._version:
                await asyncio.sleep(COALESCE_S)
            self._nudge.clear()
            try:
                await self._round()
            except Exception as error:  # whatever it was, it must not end the loop that all media depends on
                log.warning("subscribe_round_failed", participant=self.participant_id, error=type(error).__name__)
                await asyncio.sleep(BACKOFF_S)
                self._nudge.set()

    async def _round(self) -> None:
        needed = self._pool.reconcile(self._resolved())
        self._follow_producers()
        if not (needed or self._restart_wanted or self._pool.in_flight):
            return
        cause, self._cause = self._cause, Context()
        with tracing.span("negotiate", cause, direction="subscribe", participant_id=self.participant_id) as running:
            answered = await self._offer_and_follow()
            running.set_attribute("candor.outcome", "answered" if answered else "unanswered")

    async def _offer_and_follow(self) -> bool:
        """Whether the client answered; then it is sent what it takes."""
        if not self._pool.in_flight:
            await self._make_offer()
        if self._offer is not None:
            self._on_offer(self._offer)
        answer = await self._answer()
        if answer is None:
            self._nudge.set()  # offer it again: the client may have lost it with its socket
            return False
        self._pool.answered(answer)
        for mid, media in answer.media.items():
            receives = media.direction in ("recvonly", "sendrecv")
            self._accepted[mid] = media.payload_types if receives else frozenset()
        if not self._connected_once:
            await self._connect(answer)
        elif self._offer_restarts:
            self._restarting = asyncio.create_task(self._complete_restart(answer))
        self._follow_producers()
        self._nudge.set()  # what changed meanwhile, and m-lines that became free
        return True

    async def _make_offer(self) -> None:
        self._offer_restarts, self._restart_wanted = self._restart_wanted and self._connected_once, False
        if self._offer_restarts:
            if self._restarting is not None:
                self._restarting.cancel()
            await self.peer.prepare_restart()
        self._version += 1
        self._drain_answers()
        sdp = self._pool.offer(local_transport(self.peer), session_id=self._session_id, version=self._version)
        self._offer = Offer(participant_id=self.participant_id, sdp=sdp, version=self._version, tracks=self._map())

    def _resolved(self) -> list[Wanted]:
        producers = (self._tracks.producer(track.track_id) for track in self._wanted)
        return [Wanted(p.track_id, p.participant_id, p.kind) for p in producers if p is not None]

    def _map(self) -> dict[str, OfferedMedia]:
        return {
            mid: OfferedMedia(track_id=s.track_id or "", participant_id=s.participant_id or "", kind=s.kind)
            for mid, s in self._pool.offered_tracks().items()
        }

    def _drain_answers(self) -> None:
        while not self._answers.empty():
            self._answers.get_nowait()

    async def _answer(self) -> SubscribeAnswer | None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                while True:
                    version, answer = await self._answers.get()
                    if version == self._version:
                        return answer
        return None

    async def _connect(self, answer: SubscribeAnswer) -> None:
        remote = answer.remote
        with tracing.span("connect", direction="subscribe", participant_id=self.participant_id):
            await self.peer.connect(
                remote.ufrag,
                remote.password,
                remote.fingerprint_algorithm,
                remote.fingerprint,
                remote_is_passive=remote.setup == "passive",
            )
        self._connected_once = True

    async def _complete_restart(self, answer: SubscribeAnswer) -> None:
        """Beside the loop: changes of the room do not wait for it, and media goes on over the old path meanwhile."""
        try:
            await self.peer.complete_restart(answer.remote.ufrag, answer.remote.password)
        except TransportError:
            log.warning("ice_restart_failed", participant=self.participant_id)

    # --- consumers

    def _follow_producers(self) -> None:
        """Feed every live m-line from its track's producer of now, and nothing else."""
        carried = self._pool.offered_tracks()
        for mid, consumer in list(self.consumers.items()):
            section = carried.get(mid)
            producer = self._tracks.producer(consumer.producer.track_id)
            gone = section is None or section.track_id != consumer.producer.track_id
            if gone or (producer is not None and producer is not consumer.producer):
                self._detach(mid)
        for mid, section in carried.items():
            if mid not in self.consumers and section.state is SectionState.LIVE:
                self._attach(mid, section)

    def _detach(self, mid: str) -> None:
        consumer = self.consumers.pop(mid)
        self._plane.remove_consumer(consumer)
        self.layers.remove(consumer)
        self._downlink.transport_wide = self.layers.has_choice
        self._numbers[mid] = consumer.numbers()

    def _attach(self, mid: str, section: Section) -> None:
        producer = self._tracks.producer(section.track_id or "")
        if producer is None:
            return
        if PAYLOAD_TYPES[producer.codec][0] not in self._accepted.get(mid, frozenset()):
            log.debug("codec_not_accepted", participant=self.participant_id, track=producer.track_id)
            return
        consumer = Consumer(producer, self._downlink, section.ssrc, section.rtx_ssrc)
        if (numbers := self._numbers.get(mid)) is not None:
            if numbers.ssrc == consumer.ssrc:
                consumer.go_on_from(numbers)
            else:
                self._forget_ssrcs(numbers)
        self.consumers[mid] = consumer
        self._plane.add_consumer(consumer)
        self.layers.add(consumer, time.monotonic_ns())
        self._downlink.transport_wide = self.layers.has_choice

    def _forget_ssrcs(self, numbers: Numbers) -> None:
        """The m-line has new SSRCs: the old ones are never used again, so SRTP need not remember them."""
        if self.peer.outbound is not None:
            self.peer.outbound.forget(numbers.ssrc)
            if numbers.rtx_ssrc:
                self.peer.outbound.forget(numbers.rtx_ssrc)

    async def close(self) -> None:
        """Stop negotiating and sending; idempotent."""
        for task in (self._loop, self._restarting):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        for mid in list(self.consumers):
            self._detach(mid)
        self._plane.remove_peer(self.peer)
        await self.peer.close()
