"""Standing alerts: of whom the latest evidence says that a voice or a face may be synthetic.

An alert stands until the next evidence about the same voice or face says something else, and no longer than what it rests on:
who changes their consent, or ends a track, begins anew, as the observers do.
"""

from media_processors.findings import Authenticity, FaceAuthenticity

_ADOPTED = ("", "")
"""An alert that stood when an earlier signaling process ended."""


class Alerts:
    """Those of one participant. True while there is one."""

    __slots__ = ("_standing",)

    def __init__(self) -> None:
        self._standing: set[tuple[str, str]] = set()
        """(track, face), the face empty for a voice."""

    def __bool__(self) -> bool:
        return bool(self._standing)

    def note(self, evidence: Authenticity) -> None:
        """The latest about a voice or a face."""
        about = evidence.track_id, evidence.face_id if isinstance(evidence, FaceAuthenticity) else ""
        self._standing.discard(_ADOPTED)
        if evidence.verdict == "likely_synthetic":
            self._standing.add(about)
        else:
            self._standing.discard(about)

    def adopt(self) -> None:
        """One stands, nobody here knows why: until there is evidence again."""
        self._standing.add(_ADOPTED)

    def forget(self, track_id: str) -> None:
        """A track is gone."""
        self._standing = {about for about in self._standing if about[0] != track_id}

    def clear(self) -> None:
        """What was found before does not count any more."""
        self._standing.clear()
