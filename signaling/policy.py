"""Consent and policy: which processors may hear or see whom, and who may read what they find.

Consent is runtime state per participant, with an epoch that findings carry: every change counts it up, and what was heard under
an older one is dropped, wherever it comes from. Policy is what a server, or one of its rooms, decides for everybody: it may
narrow, never widen. What a policy locks nobody can change, and everybody sees that it is locked and by whom.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from media_processors.findings import Authenticity, Faces, Finding, FindingKind, ProcessorInfo
from signaling.protocol.messages import RoomId, TrackKind

# Only a microphone is a person speaking to the room, only a camera shows one; music and what is shared are never looked into.
PROCESSED_SOURCES: Mapping[str, TrackKind] = {"microphone": "audio", "camera": "video"}
Audience = Literal["room", "hosts", "person"]
# Everybody may read what was said, hosts and the person what speaks against (or for) a voice or a face being theirs; how
# something was said, and what a face shows, is for that person alone.
_AUDIENCES: dict[str, Audience] = {"caption": "room", "voice_authenticity": "hosts", "face_authenticity": "hosts"}
_WIDTH: dict[Audience, int] = {"person": 0, "hosts": 1, "room": 2}
EU_WORKPLACE = "eu_workplace"
ON_ALERT = "on_alert"
WATERMARK = "watermark"
"""The transform that burns a label into a camera's picture. Nobody switches it: a standing alert does, where the policy says so."""
_AT_WORK_OFF = frozenset({"emotion", "attention"})
_AT_WORK_UNTOLD = frozenset({"expression", "text_emotion", "voice_emotion", "eye_direction"})


class Rules(BaseModel):
    """What is decided for everybody in a room."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    eu_workplace: bool = Field(
        default=False,
        description="emotion and attention are off for everybody: no inference of emotions at work (EU AI Act, Art. 5(1)(f))",
    )
    off: list[str] = Field(default=[], description="processors that nobody can switch on")
    on: list[str] = Field(
        default=[], description="processors that nobody can switch off; of no effect on what is about a person's body"
    )
    defaults: dict[str, bool] = Field(
        default={},
        description="what a participant begins with; nothing about a person's body is ever on before they say so",
    )
    audience: dict[FindingKind, Audience] = Field(
        default={}, description="who reads a kind of finding: narrower than usual, never wider"
    )

    watermark: Literal["off", "on_alert"] = Field(
        default="off",
        description="on_alert: while evidence says that somebody's voice or face may be synthetic, the picture of their camera "
        "carries a label that the whole room sees; everybody is told of this rule",
    )

    @property
    def names(self) -> set[str]:
        """Of all processors that are mentioned."""
        return {*self.off, *self.on, *self.defaults}


class PolicySettings(Rules):
    """The rules of every room of a server, and more of them for some."""

    rooms: dict[RoomId, Rules] = Field(default={}, description="by room; what the server locks stays locked")

    @property
    def labels_somewhere(self) -> bool:
        """Whether any room labels pictures."""
        return any(Policy.of(self, room_id).labels for room_id in ("", *self.rooms))


@dataclass(frozen=True, slots=True)
class Lock:
    """A processor that nobody in a room can switch."""

    on: bool
    by: str
    """`server`, `room`, or the name of the rule."""


class Policy:
    """The rules that hold in one room."""

    def __init__(self, server: Rules, room: Rules | None = None) -> None:
        self._layers = [("server", server)] + ([("room", room)] if room is not None else [])

    @classmethod
    def of(cls, settings: PolicySettings, room_id: str) -> "Policy":
        """Those of a room of this server."""
        return cls(settings, settings.rooms.get(room_id))

    def lock(self, info: ProcessorInfo) -> Lock | None:
        """Whether nobody can switch this processor, and who decided that. What is locked off anywhere is not locked on."""
        if info.about in _AT_WORK_OFF and any(rules.eu_workplace for _, rules in self._layers):
            return Lock(False, EU_WORKPLACE)
        for by, rules in self._layers:
            if info.name in rules.off:
                return Lock(False, by)
        if info.name == WATERMARK:
            return Lock(False, ON_ALERT if self.labels else "server")
        for by, rules in self._layers:
            if info.name in rules.on and _harmless(info):
                return Lock(True, by)
        return None

    def default(self, info: ProcessorInfo) -> bool:
        """Whether it is on for somebody who chose nothing."""
        if not _harmless(info):
            return False
        chosen = [rules.defaults[info.name] for _, rules in self._layers if info.name in rules.defaults]
        return all(chosen) if chosen else info.default_on

    def described(self, info: ProcessorInfo) -> ProcessorInfo:
        """A processor as a client of the room should see it."""
        lock = self.lock(info)
        update: dict[str, object] = {"default_on": self.default(info)}
        if lock is not None:
            update |= {"locked": "on" if lock.on else "off", "locked_by": lock.by}
        return info.model_copy(update=update)

    def audience(self, finding: Finding) -> Audience:
        """Who may read a finding: the room, the person whom it is about and the hosts, or that person alone."""
        usual = _AUDIENCES.get(finding.kind, "person")
        wanted = [rules.audience[finding.kind] for _, rules in self._layers if finding.kind in rules.audience]
        return min([usual, *wanted], key=lambda one: _WIDTH[one])

    @property
    def labels(self) -> bool:
        """Whether a standing alert becomes a label in the picture."""
        off = any(WATERMARK in rules.off for _, rules in self._layers)
        return not off and any(rules.watermark == ON_ALERT for _, rules in self._layers)

    def alerts(self, finding: Finding) -> bool:
        """Whether this evidence may be shown to the room by a label: where hosts may not read it, the room may not either."""
        return self.labels and isinstance(finding, Authenticity) and self.audience(finding) == "hosts"

    def told(self, finding: Finding) -> Finding | None:
        """What may be told of a finding at all: all of it, less attention, or nothing.

        Processors that are locked are not on; this is for what a host of processors found before it heard of the lock.
        """
        if not any(rules.eu_workplace for _, rules in self._layers):
            return finding
        if finding.kind in _AT_WORK_UNTOLD:
            return None
        return finding.model_copy(update={"facing_share": None}) if isinstance(finding, Faces) else finding


def _harmless(info: ProcessorInfo) -> bool:
    """Whether it may run on somebody who was not asked: it looks into no camera, and is not about a body or feelings."""
    return info.about == "content" and (info.media == "audio" or info.kind == "transform")


@dataclass(slots=True)
class Consent:
    """What one participant chose. A processor without a choice follows the policy's default."""

    choices: dict[str, bool] = field(default_factory=dict)
    epoch: int = 0

    def choose(self, processor: str, on: bool) -> None:
        """Record a choice under a new epoch, also when it repeats the last one."""
        self.choices[processor] = on
        self.epoch += 1

    def allows(self, processor: ProcessorInfo, policy: Policy) -> bool:
        """Whether this processor may run now."""
        lock = policy.lock(processor)
        if lock is not None:
            return lock.on
        return self.choices.get(processor.name, policy.default(processor))


def processing_of(
    source: str,
    consent: Consent,
    known: Iterable[ProcessorInfo],
    before: Mapping[str, bool],
    policy: Policy,
    *,
    alert: bool = False,
) -> dict[str, bool]:
    """Which processors run on a track: processor -> on.

    Availability plays no part: what is wanted survives a restart of the host. `before` is what the track had; it speaks
    for processors whose host has not been heard yet (signaling may be younger than the track). `alert`: one stands against the
    person's voice or face.
    """
    media = PROCESSED_SOURCES.get(source)
    if media is None:
        return {}
    wanted = {name: consent.choices.get(name, on) for name, on in before.items()}
    wanted.update({info.name: consent.allows(info, policy) for info in known if info.media == media})
    if WATERMARK in wanted:
        wanted[WATERMARK] = policy.labels and alert
    return wanted
