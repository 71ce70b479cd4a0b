"""Who speaks in a room, from the audio levels that packets carry (RFC 6464). Pure; time is an argument.

Levels are in -dBov: 0 is the loudest, 127 silence. A track speaks when its smoothed level is loud enough and stands out of its own
noise floor, which is the quietest moment of the last seconds (minimum statistics, Martin 2001): speech has pauses, a fan has none.
"""

from dataclasses import dataclass

SILENCE = 127.0
LOUD = 45.0  # quieter than -45 dBov is no speech, whatever the floor
ABOVE_FLOOR_DB = 8.0
SMOOTHING = 0.3  # per packet: 60 ms at 20 ms packets
SLOW_SMOOTHING = 0.02  # 1 s
ONSET_NS = 100_000_000
RELEASE_NS = 500_000_000
GAP_NS = 150_000_000  # longer than any packet lasts: nothing was sent, as under DTX
FLOOR_NS = 1_500_000_000  # half of the floor's memory
TAKEOVER_DB = 6.0  # how much louder the next dominant speaker must be,
TAKEOVER_NS = 1_000_000_000  # for how long


@dataclass(slots=True)
class _Track:
    heard_ns: int
    level: float = SILENCE
    slow_level: float = SILENCE
    floor: float = 0.0
    """The quietest of this half and the last one."""
    next_floor: float = 0.0
    """The quietest of this half."""
    floor_since_ns: int = 0
    loud_since_ns: int | None = None
    loud_ns: int = 0
    speaking_since_ns: int | None = None


class ActiveSpeakers:
    """The speakers of one room. `heard` for every audio packet, `tick` some times a second."""

    def __init__(self) -> None:
        self._tracks: dict[str, _Track] = {}
        self._speaking: list[str] = []
        self._rival: tuple[str, int] | None = None

    def heard(self, track_id: str, level: int, now_ns: int) -> None:
        """A packet of this track has come with this level, 0 to 127 in -dBov."""
        track = self._tracks.get(track_id)
        if track is None:
            track = self._tracks[track_id] = _Track(now_ns, float(level), floor=float(level), next_floor=float(level))
            track.floor_since_ns = now_ns
        elif now_ns - track.heard_ns > GAP_NS:
            track.level = track.next_floor = SILENCE
            track.loud_since_ns = None
        track.heard_ns = now_ns
        track.level += SMOOTHING * (level - track.level)
        track.slow_level += SLOW_SMOOTHING * (level - track.slow_level)
        track.next_floor = max(track.next_floor, track.level)
        track.floor = max(track.floor, track.next_floor)
        if now_ns - track.floor_since_ns > FLOOR_NS:
            track.floor = track.next_floor
            track.next_floor = track.level
            track.floor_since_ns = now_ns
        if track.level >= LOUD or track.level > track.floor - ABOVE_FLOOR_DB:
            track.loud_since_ns = None
            return
        track.loud_ns = now_ns
        if track.loud_since_ns is None:
            track.loud_since_ns = now_ns
        if track.speaking_since_ns is None and now_ns - track.loud_since_ns >= ONSET_NS:
            track.speaking_since_ns = now_ns

    def remove(self, track_id: str) -> None:
        """The track is gone, or muted; idempotent."""
        self._tracks.pop(track_id, None)

    def tick(self, now_ns: int) -> list[tuple[str, int]] | None:
        """(track id, level in dBov, -127 to 0) of all who speak, the dominant one first and the others by when they began.

        None if they and their order are as they were at the last tick.
        """
        for track in self._tracks.values():
            if track.speaking_since_ns is not None and now_ns - track.loud_ns > RELEASE_NS:
                track.speaking_since_ns = None
        began = {i: t.speaking_since_ns for i, t in self._tracks.items() if t.speaking_since_ns is not None}
        speaking = sorted(began, key=lambda track_id: began[track_id])
        dominant = self._dominant(speaking, now_ns)
        if dominant is not None:
            speaking.remove(dominant)
            speaking.insert(0, dominant)
        if speaking == self._speaking:
            return None
        self._speaking = speaking
        return [(track_id, -round(self._tracks[track_id].level)) for track_id in speaking]

    def _dominant(self, speaking: list[str], now_ns: int) -> str | None:
        """The dominant speaker stays until he falls silent, or somebody is clearly louder for a while."""
        if not speaking:
            return None
        loudest = min(speaking, key=lambda track_id: self._tracks[track_id].slow_level)
        current = self._speaking[0] if self._speaking else None
        if current not in speaking:
            self._rival = None
            return loudest
        lead_db = self._tracks[current].slow_level - self._tracks[loudest].slow_level
        if loudest == current or lead_db < TAKEOVER_DB:
            self._rival = None
            return current
        if self._rival is None or self._rival[0] != loudest:
            self._rival = (loudest, now_ns)
        if now_ns - self._rival[1] < TAKEOVER_NS:
            return current
        self._rival = None
        return loudest
