"""Standing alerts: of whom the latest evidence says that a voice or a face may be synthetic.

An alert stands until the next evidence about the same voice or face says something else, and no longer than what it rests on: the
track, and the person's consent to be judged on it. Any other change of consent makes observers begin anew, so too little evidence
then says nothing against it; it stands until there is enough.
"""

from collections.abc import Iterable

from media_processors.findings import Authenticity, FaceAuthenticity

_ANY = "*"
"""Whichever face it was: observers that begin anew number faces anew."""

About = tuple[str, str]
"""(track, face), the face empty for a voice."""


class Alerts:
    """Those of one participant. True while there is one."""

    __slots__ = ("_standing",)

    def __init__(self, standing: Iterable[About] = ()) -> None:
        self._standing = set(standing)

    def __bool__(self) -> bool:
        return bool(self._standing)

    def standing(self) -> list[About]:
        """All, in order: what a worker keeps for the next signaling process."""
        return sorted(self._standing)

    def note(self, evidence: Authenticity) -> None:
        """The latest about a voice or a face."""
        about = evidence.track_id, evidence.face_id if isinstance(evidence, FaceAuthenticity) else ""
        self._standing.discard(about)
        if evidence.verdict != "insufficient_evidence":
            self._standing.discard((evidence.track_id, _ANY))
        if evidence.verdict == "likely_synthetic":
            self._standing.add(about)

    def carry(self) -> None:
        """Observers begin anew."""
        self._standing = {(track_id, _ANY) for track_id, _ in self._standing}

    def forget(self, track_id: str) -> None:
        """A track is gone, or nobody may judge it any more."""
        self._standing = {about for about in self._standing if about[0] != track_id}

    def clear(self) -> None:
        """What was found before does not count any more."""
        self._standing.clear()
