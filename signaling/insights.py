"""What the processors say: which exist, what they do on each track, and their findings, to those who may read them.

Two hosts: `path` (transforms, in the path of the sound) and `watch` (observers). While a host is away its processors are
unavailable and say so; what participants chose stands, and the worker applies it again when the host is back.
"""

import asyncio
import logging
from pathlib import Path
from typing import Any

import structlog
from pydantic import TypeAdapter, ValidationError

from media_processors.findings import FINDING, Authenticity, ProcessorInfo, ProcessorStatus
from sfu.channel import Channel, ChannelError
from signaling.alerts import About
from signaling.errors import RoomError
from signaling.limits import Calm
from signaling.links import REQUEST_TIMEOUT_S, Link
from signaling.media import MediaPlane
from signaling.participants import Participant, Track
from signaling.policy import PROCESSED_SOURCES, WATERMARK, Policy, PolicySettings, processing_of
from signaling.protocol.codes import ErrorCode
from signaling.protocol.messages import FindingEvent, ProcessorsChanged
from signaling.rooms import Room, Rooms

ANNOUNCE_S = 0.1
POLL_S = 5.0  # a model may be pulled, or an engine die, while we run
STATUS_MAX = 8192  # a host may be ahead of us, so also of tracks not known yet; the oldest is dropped
RESTARTING = "host is restarting"
STARTING = "starting"
_WEIGHERS = {"voice_authenticity", "face_authenticity"}
_INFOS = TypeAdapter(list[ProcessorInfo])

log = structlog.get_logger()
audit = structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET)).bind(
    audit=True
)
"""Not silenced by any log level."""


class Insights:
    """Links to the hosts of processors, and the merged picture of what they say."""

    def __init__(self, hosts: list[Path], rooms: Rooms, media: MediaPlane, policy: PolicySettings) -> None:
        self.dropped: dict[str, int] = {"malformed": 0, "unknown_track": 0, "old_epoch": 0, "policy": 0}
        self._policy = policy
        self._unknown: set[str] = set()
        self._rooms = rooms
        self._media = media
        self._infos: dict[str, list[ProcessorInfo]] = {path.stem: [] for path in hosts}
        self._heard_of: set[str] = set()
        """Hosts that have said what they run, be it nothing."""
        self._status: dict[tuple[str, str], ProcessorStatus] = {}
        self._calm: dict[str, Calm] = {}
        self._closing = False
        self._links = [self._link(path) for path in hosts]

    def start(self) -> None:
        """Begin to connect to the hosts."""
        for link in self._links:
            link.start()

    async def close(self) -> None:
        """Disconnect. It is us who go, so what workers hold stays as it is."""
        self._closing = True
        for link in self._links:
            await link.close()
        for calm in self._calm.values():
            calm.close()
        self._calm.clear()

    # --- the picture

    def processors(self) -> list[ProcessorInfo]:
        """Every processor that was ever heard of, by name."""
        return sorted((info for infos in self._infos.values() for info in infos), key=lambda info: info.name)

    def described(self, room: Room) -> list[ProcessorInfo]:
        """Every processor as the room may use it: what its policy locks, and what is on at first."""
        policy = self._policy_of(room)
        return [policy.described(info) for info in self.processors()]

    def _policy_of(self, room: Room) -> Policy:
        return Policy.of(self._policy, room.id)

    def status(self, room: Room) -> list[ProcessorStatus]:
        """What every processor does on every microphone and camera of a room."""
        known = self.processors()
        return [
            self._status_of(track, info)
            for track in room.tracks()
            if track.source in PROCESSED_SOURCES
            for info in known
            if info.media == track.kind
        ]

    def _status_of(self, track: Track, info: ProcessorInfo) -> ProcessorStatus:
        def status(state: str, reason: str = "") -> ProcessorStatus:
            fields = {"track_id": track.track_id, "processor": info.name, "state": state, "reason": reason}
            return ProcessorStatus.model_validate(fields)

        if not info.available:
            return status("unavailable", info.reason)
        if not track.processors.get(info.name, False):
            return status("off")
        told = self._status.get((track.track_id, info.name))
        if track.bypassed is not None and info.kind == "transform" and (told is None or told.state != "unavailable"):
            return status("bypass", track.bypassed)
        return told or status("unavailable", STARTING)

    def announce(self, room: Room) -> None:
        """Tell a room how its processors are: at once, but at most every `ANNOUNCE_S`."""
        calm = self._calm.get(room.id)
        if calm is None:
            calm = Calm(ANNOUNCE_S, lambda: self._tell(room.id), lambda: self._calmed(room.id))
            self._calm[room.id] = calm
        calm.ask()

    def _calmed(self, room_id: str) -> None:
        del self._calm[room_id]

    def _tell(self, room_id: str) -> None:
        room = self._rooms.find(room_id)
        if room is not None:
            room.broadcast(ProcessorsChanged(processors=self.described(room), status=self.status(room)))

    # --- consent

    def refresh(self, participant: Participant, track: Track) -> None:
        """Work out anew which processors a track has."""
        policy = Policy.of(self._policy, participant.room_id)
        labelled = track.processors.get(WATERMARK, False)
        track.processors = processing_of(
            track.source,
            participant.consent,
            self.processors(),
            track.processors,
            policy,
            alert=bool(participant.alerts),
        )
        if track.processors.get(WATERMARK, False) is not labelled:
            audit.info(
                "label_changed",
                room=participant.room_id,
                participant=participant.id,
                track=track.track_id,
                processor=WATERMARK,
                on=not labelled,
                epoch=participant.consent.epoch,
            )

    async def choose(self, room: Room, participant: Participant, name: str, on: bool) -> None:
        """Switch a processor for somebody's own tracks, and wait until it is so; what is so already is not chosen again.

        Raises `RoomError`, or `MediaError` if the worker has not confirmed it yet.
        """
        info = next((info for info in self.processors() if info.name == name), None)
        if info is None:
            raise RoomError(ErrorCode.NO_SUCH_PROCESSOR, "there is no such processor")
        lock = self._policy_of(room).lock(info)
        if lock is not None and name == WATERMARK:  # also not off, where an alert has switched it on
            raise RoomError(ErrorCode.FORBIDDEN, f"nobody switches it ({lock.by})")
        if lock is not None and lock.on is not on:
            raise RoomError(ErrorCode.FORBIDDEN, f"it is {'on' if lock.on else 'off'} for everybody here ({lock.by})")
        if lock is not None:
            return
        if on and not info.available:
            remedy = f"{info.reason}: {info.command}" if info.command else info.reason
            raise RoomError(ErrorCode.PROCESSOR_UNAVAILABLE, remedy)
        if participant.consent.choices.get(name) is not on:
            participant.consent.choose(name, on)
            audit.info(
                "consent_changed",
                room=room.id,
                participant=participant.id,
                processor=name,
                on=on,
                epoch=participant.consent.epoch,
            )
            _alerts_after(participant, info, on)
            self._media.keep_participant(room, participant)
            for track in participant.tracks.values():
                self.refresh(participant, track)
            self.announce(room)
        for track in list(participant.tracks.values()):
            if track.source in PROCESSED_SOURCES:
                await self._media.set_processing(room, participant, track)

    def bypassed(self, track: Track, room: Room, reason: str | None) -> None:
        """The worker sends the raw track (`reason`), or no longer does (None)."""
        if track.bypassed != reason:
            track.bypassed = reason
            self.announce(room)

    def unpublished(self, room: Room, participant: Participant, track_id: str) -> None:
        """Somebody ended a track: alerts that rest on it stand no longer."""
        before = participant.alerts.standing()
        participant.alerts.forget(track_id)
        self._follow_alerts(room, participant, before)

    def forget(self, track_id: str) -> None:
        """A track is gone."""
        for key in [key for key in self._status if key[0] == track_id]:
            del self._status[key]

    # --- alerts

    def _end_alerts(self, room: Room, participant: Participant) -> None:
        """What was found before does not count any more."""
        before = participant.alerts.standing()
        participant.alerts.clear()
        self._follow_alerts(room, participant, before)

    def _follow_alerts(self, room: Room, participant: Participant, standing: list[About]) -> None:
        """A label belongs in the picture of somebody's camera as long as an alert stands, and everybody sees that it does.

        `standing`: those of before.
        """
        if participant.alerts.standing() == standing:
            return
        self._media.keep_participant(room, participant)
        before = [track.processors for track in participant.tracks.values()]
        self._reconsider(room, participant)
        if before != [track.processors for track in participant.tracks.values()]:
            self.announce(room)

    # --- hosts

    def _link(self, path: Path) -> Link:
        host = path.stem

        async def session(channel: Channel) -> None:
            for status in await _statuses(channel):
                self._changed(ProcessorStatus.model_validate(status))
            while True:
                reply = await channel.request("processors", timeout_s=REQUEST_TIMEOUT_S)
                listed = reply.get("processors") if isinstance(reply, dict) else reply
                self._heard(host, _INFOS.validate_python(listed))
                await asyncio.sleep(POLL_S)

        return Link(path, session, self._notified, lambda: self._lost(host))

    def _heard(self, host: str, infos: list[ProcessorInfo]) -> None:
        if host not in self._heard_of or infos != self._infos[host]:
            self._heard_of.add(host)
            self._take(host, infos)

    def _take(self, host: str, infos: list[ProcessorInfo]) -> None:
        self._infos[host] = infos
        self._check_policy()
        for room in self._rooms:
            for participant in room.participants.values():
                self._reconsider(room, participant)
            self.announce(room)

    def _check_policy(self) -> None:
        """Say once of a name in the policy that no processor has: a slip there is one that nobody notices."""
        if self._heard_of != set(self._infos):
            return
        known = {info.name for info in self.processors()}
        named = self._policy.names.union(*(rules.names for rules in self._policy.rooms.values()))
        for name in sorted(named - known - self._unknown):
            self._unknown.add(name)
            log.error("policy_names_no_processor", processor=name)

    def _reconsider(self, room: Room, participant: Participant) -> None:
        for track in participant.tracks.values():
            before = track.processors
            self.refresh(participant, track)
            if track.processors != before:
                self._media.keep_processing(room, participant, track)

    def _lost(self, host: str) -> None:
        if self._closing:
            return
        names = {info.name for info in self._infos[host]}
        for key in [key for key in self._status if key[1] in names]:
            del self._status[key]
        if _WEIGHERS & names:  # what they had found is gone with them
            for room in self._rooms:
                for participant in room.participants.values():
                    self._end_alerts(room, participant)
        away = {"available": False, "reason": RESTARTING, "command": ""}
        infos = [info.model_copy(update=away) for info in self._infos[host]]
        if infos != self._infos[host]:
            self._take(host, infos)

    def _notified(self, event: str, params: dict[str, Any]) -> None:
        try:
            if event == "finding":
                self._found(params)
            elif event == "processor_status":
                self._changed(ProcessorStatus.model_validate(params))
            else:
                self._drop("malformed")
        except ValidationError:
            self._drop("malformed")

    def _found(self, params: dict[str, Any]) -> None:
        finding = FINDING.validate_python(params)
        track = self._rooms.track(finding.track_id)
        participant = self._rooms.participant(track.participant_id) if track else None
        room = self._rooms.find(participant.room_id) if participant else None
        if participant is None or room is None or finding.participant_id != participant.id:
            self._drop("unknown_track")
            return
        if finding.epoch < participant.consent.epoch:
            self._drop("old_epoch")
            return
        policy = self._policy_of(room)
        told = policy.told(finding)
        if told is None:
            self._drop("policy")
            return
        if policy.alerts(finding) and isinstance(finding, Authenticity):
            before = participant.alerts.standing()
            participant.alerts.note(finding)
            self._follow_alerts(room, participant, before)
        event = FindingEvent(finding=told)
        match policy.audience(finding):
            case "room":
                room.broadcast(event)
            case "hosts":
                self._send(event, {participant, *(other for other in room.participants.values() if other.host)})
            case "person":
                self._send(event, {participant})

    def _send(self, event: FindingEvent, readers: set[Participant]) -> None:
        for reader in readers:
            if reader.present:
                reader.send(event)

    def _changed(self, status: ProcessorStatus) -> None:
        track = self._rooms.track(status.track_id)
        participant = self._rooms.participant(track.participant_id) if track else None
        room = self._rooms.find(participant.room_id) if participant else None
        key = (status.track_id, status.processor)
        if self._status.pop(key, None) == status:
            room = None  # nothing new to announce
        self._status[key] = status
        while len(self._status) > STATUS_MAX:
            del self._status[next(iter(self._status))]
        if room is not None:
            self.announce(room)

    def _drop(self, reason: str) -> None:
        self.dropped[reason] += 1
        if self.dropped[reason] == 1:
            log.warning("finding_dropped", reason=reason)


def _alerts_after(participant: Participant, changed: ProcessorInfo, on: bool) -> None:
    """What a change of consent does to what was found: it ends where nobody may judge any more, and else stands."""
    participant.alerts.carry()
    for track in participant.tracks.values():
        if not on and changed.media == track.kind and _may_weigh(changed, track):
            participant.alerts.forget(track.track_id)


def _may_weigh(info: ProcessorInfo, track: Track) -> bool:
    """Whether alerts about a track may rest on this processor: one of ours, or, while none of ours is on, somebody else's."""
    ours = any(on for name, on in track.processors.items() if name in _WEIGHERS)
    return info.name in _WEIGHERS or (info.kind == "observer" and info.about == "biometric" and not ours)


async def _statuses(channel: Channel) -> list[Any]:
    """What a host has said before we connected; not every host can repeat it."""
    try:
        return list(await channel.request("statuses", timeout_s=REQUEST_TIMEOUT_S))
    except ChannelError as error:
        if error.code != "no_such_method":
            raise
        return []
