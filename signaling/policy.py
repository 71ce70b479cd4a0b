"""Consent: which processors may hear whom. Runtime state per participant, with an epoch that findings carry.

Every change counts the participant's epoch up. What was heard under an older epoch is dropped, wherever it comes from.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from media_processors.findings import Finding, ProcessorInfo
from signaling.protocol.messages import TrackKind

# Only a microphone is a person speaking to the room, only a camera shows one; music and what is shared are never looked into.
PROCESSED_SOURCES: Mapping[str, TrackKind] = {"microphone": "audio", "camera": "video"}
Audience = Literal["room", "hosts", "person"]
# Everybody may read what was said, hosts and the person what speaks against (or for) a voice or a face being theirs; how
# something was said, and what a face shows, is for that person alone.
_AUDIENCES: dict[str, Audience] = {"caption": "room", "voice_authenticity": "hosts", "face_authenticity": "hosts"}


@dataclass(slots=True)
class Consent:
    """What one participant chose. A processor without a choice follows its own `default_on`."""

    choices: dict[str, bool] = field(default_factory=dict)
    epoch: int = 0

    def choose(self, processor: str, on: bool) -> None:
        """Record a choice under a new epoch, also when it repeats the last one."""
        self.choices[processor] = on
        self.epoch += 1

    def allows(self, processor: ProcessorInfo) -> bool:
        """Whether this processor may run now."""
        return self.choices.get(processor.name, processor.default_on)


def processing_of(
    source: str, consent: Consent, known: Iterable[ProcessorInfo], before: Mapping[str, bool]
) -> dict[str, bool]:
    """Which processors run on a track: processor -> on.

    Availability plays no part: what is wanted survives a restart of the host. `before` is what the track had; it speaks
    for processors whose host has not been heard yet (signaling may be younger than the track).
    """
    media = PROCESSED_SOURCES.get(source)
    if media is None:
        return {}
    wanted = {name: consent.choices.get(name, on) for name, on in before.items()}
    wanted.update({info.name: consent.allows(info) for info in known if info.media == media})
    return wanted


def audience(finding: Finding) -> Audience:
    """Who may read a finding: the room, the person whom it is about and the hosts, or that person alone."""
    return _AUDIENCES.get(finding.kind, "person")
