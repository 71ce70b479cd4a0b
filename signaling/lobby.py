"""How people come and go: join, resume, the 30 seconds after a lost socket, leave, removal, the end of a room."""

import asyncio
import time

import structlog

from signaling import auth
from signaling.cluster.claims import Claims
from signaling.errors import GrantError, MediaError, MessageError, RoomError, SignalingError
from signaling.events import Event
from signaling.insights import Insights
from signaling.media import MediaPlane
from signaling.participants import Outlet, Participant, expired
from signaling.protocol.codes import CloseReason, ErrorCode
from signaling.protocol.messages import (
    PROTOCOL_VERSION,
    Closed,
    Join,
    JoinResult,
    Moved,
    ParticipantJoined,
    ParticipantLeft,
    Redirect,
    TrackUnpublished,
    TransportReplace,
)
from signaling.rooms import Room, Rooms, RoomState
from signaling.settings import SignalingSettings
from signaling.turn import IceServers

NO_TOKEN = "this room needs an invitation"  # a sentence, not a secret  # nosec B105
RESUME_REFUSED = "this session is over; join again"

log = structlog.get_logger()


class Lobby:
    """Gives seats and takes them away."""

    def __init__(
        self,
        settings: SignalingSettings,
        rooms: Rooms,
        media: MediaPlane,
        insights: Insights,
        ice: IceServers,
        claims: Claims,
    ) -> None:
        self._settings = settings
        self._rooms = rooms
        self._ice = ice
        self._media = media
        self._insights = insights
        self._claims = claims

    # --- in

    async def join(self, request: Join, outlet: Outlet, base_url: str) -> tuple[Participant, JoinResult] | Redirect:
        """Give a seat, or the old one back, or say where the room is. Raises `SignalingError`.

        `base_url` is how this client reaches us.
        """
        if request.protocol_version != PROTOCOL_VERSION:
            raise MessageError(ErrorCode.BAD_MESSAGE, f"protocol_version: this server speaks {PROTOCOL_VERSION}")
        grant = self._grant(request) if request.session_key is None else None
        settled = await self._media.settled()
        try:
            url = await self._claims.claim(request.room_id, request.hops)
            if url is not None:
                return Redirect(redirect=url)
            return await self._sit_down(request, grant, outlet, base_url, settled)
        finally:
            self._claims.unused(request.room_id)

    async def _sit_down(
        self, request: Join, grant: auth.Grant | None, outlet: Outlet, base_url: str, settled: bool
    ) -> tuple[Participant, JoinResult]:
        """In a room that is on this machine."""
        if request.session_key is not None:
            participant = self._seat_of(request, settled)
            key = await self._resume(participant, request, outlet)
            return participant, self._result(participant, key, base_url, resumed=True)
        participant, key = await self._enter(request, grant, outlet)
        return participant, self._result(participant, key, base_url, resumed=False)

    async def _enter(self, request: Join, grant: auth.Grant | None, outlet: Outlet) -> tuple[Participant, str]:
        room = self._rooms.find(request.room_id)
        if room is not None:
            self._admit(room, grant)
        else:
            room = self._rooms.open(request.room_id, self._media.place(self._rooms))
        participant = self._seat(room, request, grant)
        participant.outlet = outlet  # so that the first offer finds its way
        key = participant.new_session_key()
        try:
            await self._media.open(room, participant)
            self._rooms.of(participant)
        except SignalingError:
            self.dismiss(participant, participant.close_reason or CloseReason.CONNECTION_LOST)
            raise
        self._choose_host(room)
        participant.arrive(outlet)
        room.broadcast(ParticipantJoined(participant=participant.info()), besides=participant)
        self._media.keep_subscriptions(room)
        return participant, key

    def _grant(self, request: Join) -> auth.Grant | None:
        """What the token allows; None without one, where that is enough."""
        if request.token is None:
            if not self._settings.open_rooms:
                raise GrantError(ErrorCode.BAD_TOKEN, NO_TOKEN)
            return None
        if self._settings.secret is None:
            raise GrantError(ErrorCode.BAD_TOKEN, "this server has no secret, so it cannot verify invitations")
        return auth.verify(self._settings.secret.get_secret_value(), request.token, request.room_id)

    def _admit(self, room: Room, grant: auth.Grant | None) -> None:
        """Raises unless a newcomer may enter. Who is here already, and hosts, pass a locked door."""
        identity = grant.identity if grant else ""
        if identity and identity in room.banned:
            raise RoomError(ErrorCode.FORBIDDEN, "you were removed from this room")
        if grant and grant.inv and not {self._trace(one) for one in room.banned}.isdisjoint(grant.inv):
            raise RoomError(ErrorCode.FORBIDDEN, "whom this invitation came from was removed from this room")
        twin = room.by_identity(identity) if identity else None
        if room.locked and twin is None and not (grant and grant.host):
            raise RoomError(ErrorCode.ROOM_LOCKED, "the room is locked")
        seats = len(room.participants) - (twin is not None)
        if seats >= self._settings.room_capacity:
            raise RoomError(ErrorCode.ROOM_FULL, f"the room is full ({self._settings.room_capacity})")

    def _seat(self, room: Room, request: Join, grant: auth.Grant | None) -> Participant:
        """Seat a newcomer; whoever sat there under the same identity is replaced."""
        participant = Participant(
            room.id,
            (grant.name if grant else None) or request.name,
            host=bool(grant and grant.host),
            bot=request.bot,
            identity=grant.identity if grant else "",
            lineage=grant.inv if grant else (),
            expires_at=grant.exp if grant else None,
            stable_ssrcs=request.stable_ssrcs,
        )
        twin = room.by_identity(participant.identity)
        self._rooms.enter(room, participant)  # before the twin goes, so that the room is never empty
        if twin is not None:
            participant.budget, participant.chat_bucket = twin.budget, twin.chat_bucket
            self.dismiss(twin, CloseReason.DUPLICATE_IDENTITY, tell=True)
        return participant

    # --- back in

    def _seat_of(self, request: Join, settled: bool) -> Participant:
        """Whose session key this is; uses it up for now. Raises `GrantError`."""
        key = request.session_key or ""
        participant = self._rooms.participant(auth.owner_of(key))
        if participant is None and not settled:
            raise MediaError(ErrorCode.MEDIA_UNAVAILABLE, "the server is starting; try again in a moment")
        if participant is None or participant.room_id != request.room_id or not participant.use_session_key(key):
            raise GrantError(ErrorCode.RESUME_REFUSED, RESUME_REFUSED)
        if expired(participant, time.time()):  # only now: who does not hold the key must not be able to end a seat
            self.dismiss(participant, CloseReason.TOKEN_EXPIRED, tell=True)
            raise GrantError(ErrorCode.TOKEN_EXPIRED, "the invitation has expired; ask for a new one")
        return participant

    async def _resume(self, participant: Participant, request: Join, outlet: Outlet) -> str:
        """Bring somebody back through a new socket; their next session key."""
        room = self._rooms.of(participant)
        old = participant.outlet
        if old is not None:
            old.send(Event.of(Closed(reason=CloseReason.DUPLICATE_IDENTITY)))
            old.release()
        participant.lose_socket()
        participant.stop_window()
        participant.stable_ssrcs = request.stable_ssrcs
        if request.fresh_transports:
            await self._reopen(room, participant, request.session_key or "")
        participant.outlet = outlet
        key = participant.new_session_key()
        participant.spare_session_key(request.session_key or "")
        participant.arrive(outlet)
        self._media.keep_participant(room, participant)
        self._catch_up(participant, request.fresh_transports)
        return key

    async def _reopen(self, room: Room, participant: Participant, key: str) -> None:
        """New transports for somebody who comes back. If that fails the seat is kept, and the key is good once more.

        Until then they are offered nothing: what the old transport has on its way would spoil the new one.
        """
        self.unpublish_all(room, participant)
        try:
            await self._media.reopen(room, participant)
        except MediaError:
            if not participant.gone:
                participant.spare_session_key(key)
                participant.lose_socket()
                self.open_window(participant)
            raise
        self._rooms.of(participant)

    def _catch_up(self, participant: Participant, fresh: bool) -> None:
        """Send what was said to their transports while nobody listened."""
        if participant.needs_new_transports and not fresh:
            participant.send(TransportReplace())
        if participant.unseen_offer is not None:
            participant.send(participant.unseen_offer)
        participant.needs_new_transports = False
        participant.unseen_offer = None

    def _result(self, participant: Participant, key: str, base_url: str, resumed: bool) -> JoinResult:
        room = self._rooms.of(participant)
        return JoinResult(
            participant_id=participant.id,
            host=participant.host,
            resumed=resumed,
            session_key=key,
            room=room.snapshot(self._insights.described(room), self._insights.status(room)),
            ice_servers=self._ice.of(participant.id),
            protocol_version=PROTOCOL_VERSION,
            invite_url=self.invite_url(participant, base_url),
            nodes=self._claims.others,
        )

    def invite_url(self, participant: Participant, base_url: str) -> str:
        """A link for others. In a closed room it holds a guest token that lives no longer than the inviter's own.

        It names the inviter, and who invited them. After `auth.LINEAGE_MAX` generations of guests it holds no token.
        """
        url = f"{self._settings.public_url or base_url}/r/{participant.room_id}"
        secret = self._settings.secret
        lineage = (*participant.lineage, self._trace(participant.identity))
        if self._settings.open_rooms or secret is None or len(lineage) > auth.LINEAGE_MAX:
            return url
        ttl_s = self._settings.invite_ttl_s
        if participant.expires_at is not None:
            ttl_s = min(ttl_s, participant.expires_at - int(time.time()))
        token = auth.mint(secret.get_secret_value(), participant.room_id, lineage=lineage, ttl_s=ttl_s)
        return f"{url}?token={token}"

    def _trace(self, identity: str) -> str:
        secret = self._settings.secret
        return auth.trace_of(identity, secret.get_secret_value() if secret else "")

    # --- out

    def socket_lost(self, participant: Participant, outlet: Outlet) -> None:
        """The socket closed: keep the seat for the resume window. Nothing if another socket has taken over."""
        if participant.gone or participant.outlet is not outlet:
            return
        participant.lose_socket()
        self.open_window(participant)

    def open_window(self, participant: Participant) -> None:
        """Begin to wait for somebody to come back."""
        participant.stop_window()
        loop = asyncio.get_running_loop()
        over = self._settings.resume_window_s
        participant.window = loop.call_later(over, self.dismiss, participant, CloseReason.CONNECTION_LOST)

    def dismiss(self, participant: Participant, reason: CloseReason, tell: bool = False) -> None:
        """Take the seat away for good; `tell` them why."""
        room = self._rooms.find(participant.room_id)
        if participant.gone or room is None:
            return
        announced = participant.state.value != "joining"
        if tell:
            participant.send(Closed(reason=reason))
        participant.leave(reason)
        for track_id in list(participant.tracks):
            self._forget_track(room, track_id)
        self._rooms.remove(participant)
        self._media.drop_participant(room, participant.id, reason)
        if not room.participants:
            self._close(room)
            return
        if room.state is RoomState.ENDED:
            return
        if announced:
            room.broadcast(ParticipantLeft(participant_id=participant.id, reason=reason))
        if self._choose_host(room):
            room.broadcast(room.changed())
        self._media.keep_subscriptions(room)

    def close(self) -> None:
        """Stop waiting for anybody; seats are left as they are, for whoever adopts them."""
        for room in self._rooms:
            for participant in room.participants.values():
                participant.stop_window()

    def remove(self, room: Room, participant: Participant) -> None:
        """A host sends somebody away for as long as the room lives: their key, their identity and their invites are void."""
        room.banned.append(participant.identity)
        self._media.keep_room(room)
        self.dismiss(participant, CloseReason.REMOVED, tell=True)

    def end(self, room: Room) -> None:
        """A host ends the meeting for everybody."""
        room.end()
        for participant in list(room.participants.values()):
            self.dismiss(participant, CloseReason.ROOM_ENDED, tell=True)

    def hand_over(self, room: Room, url: str | None) -> None:
        """The room goes on on another machine (None: which one is not known), and everybody is sent there."""
        room.end()
        for participant in list(room.participants.values()):
            participant.send(Moved(url=url))
            participant.leave(CloseReason.MOVED)
            for track_id in list(participant.tracks):
                self._forget_track(room, track_id)
            self._rooms.remove(participant)
            self._media.drop_participant(room, participant.id, CloseReason.MOVED)
        self._close(room)

    def _close(self, room: Room) -> None:
        self._rooms.close(room)
        self._media.drop_room(room.worker, room.id)

    def unpublish_all(self, room: Room, participant: Participant) -> None:
        """All tracks of somebody are gone, they themselves are not."""
        for track_id in list(participant.tracks):
            self.unpublish(room, participant, track_id)

    def unpublish(self, room: Room, participant: Participant, track_id: str) -> None:
        """A track is gone. Nothing if it was not there."""
        if self._rooms.unpublish(participant, track_id) is None:
            return
        self._forget_track(room, track_id)
        self._insights.unpublished(room, participant, track_id)
        room.broadcast(TrackUnpublished(track_id=track_id, participant_id=participant.id))
        self._media.keep_subscriptions(room)

    def _forget_track(self, room: Room, track_id: str) -> None:
        self._media.drop_track(room, track_id)
        self._insights.forget(track_id)

    def _choose_host(self, room: Room) -> bool:
        """In an open room nobody brings a grant: the first person is host, and when no host is left, the next one.

        True if somebody became host.
        """
        if not self._settings.open_rooms or room.has_host():
            return False
        heir = room.heir()
        if heir is None:
            return False
        heir.host = True
        self._media.keep_participant(room, heir)
        return True
