"""The subscribe side: our offers with their pool of m-lines, and the client's answers."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from sfu.negotiation import description
from sfu.negotiation.description import RemoteTransport, is_token
from sfu.negotiation.sections import (
    FEEDBACK,
    OPUS_FMTP,
    CodecName,
    Kind,
    LocalTransport,
    codec_lines,
    extension_lines,
    joined,
    session_lines,
    transport_lines,
)

PAYLOAD_TYPES: dict[CodecName, tuple[int, int | None]] = {
    "opus": (111, None),
    "vp8": (96, 97),
    "h264": (102, 103),
    "vp9": (98, 99),
    "av1": (45, 46),
}
"""Room-wide (payload type, that of its RTX): what every subscriber receives, whatever the publisher used."""

EXTENSION_IDS: dict[Kind, dict[str, int]] = {
    "audio": {"audio-level": 1, "abs-send-time": 2, "transport-cc": 3, "mid": 4},
    "video": {"abs-send-time": 2, "transport-cc": 3, "mid": 4},
}

_CODECS: dict[Kind, tuple[CodecName, ...]] = {"audio": ("opus",), "video": ("vp8", "h264", "vp9", "av1")}
_FMTP: dict[CodecName, str] = {
    "opus": OPUS_FMTP,
    "vp8": "",
    "h264": "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
    "vp9": "profile-id=0",
    "av1": "level-idx=5;profile=0;tier=0",
}
MAX_ANSWER_LENGTH = 1024 * 1024
MAX_ANSWER_LENGTH_PER_MEDIA = 16 * 1024
MAX_ID_LENGTH = 64


class SectionState(Enum):
    """FREE -> OFFERED -> LIVE -> RETIRING -> FREE; leaving OFFERED or RETIRING takes an offer and its answer."""

    FREE = "free"
    OFFERED = "offered"
    LIVE = "live"
    RETIRING = "retiring"


@dataclass(slots=True)
class Section:
    """One m-line of a subscribe transport."""

    mid: str
    kind: Kind
    state: SectionState
    ssrc: int
    rtx_ssrc: int
    """0 for audio, which has no RTX."""
    track_id: str | None
    """None while FREE or RETIRING."""
    participant_id: str | None
    uses: int
    """How many tracks it has carried so far."""


class Wanted(NamedTuple):
    """A track that a subscriber shall receive. Both ids are SDP tokens of at most 64 characters."""

    track_id: str
    participant_id: str
    kind: Kind


class AnsweredMedia(NamedTuple):
    """What the client takes on one m-line. `direction` is the client's: "recvonly" where it receives."""

    payload_types: frozenset[int]
    extension_ids: dict[str, int]
    direction: str


class SubscribeAnswer(NamedTuple):
    """A client's answer to a subscribe offer; rejected m-lines (port 0) are not in `media`."""

    remote: RemoteTransport
    media: dict[str, AnsweredMedia]


def parse_answer(sdp: str, *, max_media: int) -> SubscribeAnswer:
    """Read a client's answer to an offer of at most `max_media` m-lines: an answer has as many, and its size goes with them.

    Raises ValueError naming what is wrong, also if every m-line is rejected.
    """
    max_length = min(MAX_ANSWER_LENGTH, max_media * MAX_ANSWER_LENGTH_PER_MEDIA)
    text = description.parse(sdp, max_length=max_length, max_media=max_media)
    accepted = {section.mid: section for section in text.media if not section.rejected}
    if not accepted:
        raise ValueError("sdp: every m-line is rejected")
    if not accepted.keys() <= set(text.bundle):
        raise ValueError("group: not everything is in one BUNDLE")
    tagged = next(mid for mid in text.bundle if mid in accepted)
    remote = description.remote_transport(text.session, accepted[tagged].attributes)
    if remote.setup == "actpass":
        raise ValueError("setup: actpass in an answer")
    media = {}
    for mid, section in accepted.items():
        payload_types = frozenset(codec.payload_type for codec in description.codecs(section))
        ids = description.extension_ids(section, sender=False)
        media[mid] = AnsweredMedia(payload_types, ids, section.direction)
    return SubscribeAnswer(remote, media)


class SectionPool:
    """The m-lines of one subscribe transport. They are never removed, only emptied and used again.

    `reconcile` (as often as one likes) -> `offer` -> `answered` -> `reconcile` ...; one offer is in flight at a time, and what
    changes meanwhile goes into the next one. Whoever calls `reconcile` stops forwarding into sections that became RETIRING.

    Chromium shows nothing on a reused m-line under its old SSRC, so each use gets new ones. aiortc reads the SSRCs of an m-line
    only when it first receives on it, so a client built on it asks for `stable_ssrcs`.
    """

    def __init__(self, *, stable_ssrcs: bool, random_ssrc: Callable[[], int]) -> None:
        self.sections: list[Section] = []
        self._stable_ssrcs = stable_ssrcs
        self._random_ssrc = random_ssrc
        self._in_flight: dict[str, SectionState] | None = None
        self._offers = 0
        for kind in ("audio", "video"):  # ICE and DTLS come up on these, before anybody publishes
            self._add(kind)

    @property
    def in_flight(self) -> bool:
        """Whether an offer waits for its answer."""
        return self._in_flight is not None

    def reconcile(self, wanted: list[Wanted]) -> bool:
        """Move the sections towards `wanted`. True if an offer is needed (now, or as soon as the one in flight is answered).

        Raises ValueError, changing nothing, if an id is not a token or a track is wanted twice.
        """
        if not all(is_token(entry.track_id, MAX_ID_LENGTH) for entry in wanted):
            raise ValueError("track id: not a token")
        if not all(is_token(entry.participant_id, MAX_ID_LENGTH) for entry in wanted):
            raise ValueError("participant id: not a token")
        wanted_ids = {entry.track_id for entry in wanted}
        if len(wanted_ids) < len(wanted):
            raise ValueError("track id: wanted twice")
        for section in self.sections:
            if section.track_id is not None and section.track_id not in wanted_ids:
                self._retire(section)
        carried = {section.track_id for section in self.sections}
        for entry in wanted:
            if entry.track_id not in carried:
                self._use(entry)
        return self._offers == 0 or any(self._untold(section) for section in self.sections)

    def _untold(self, section: Section) -> bool:
        told = (self._in_flight or {}).get(section.mid)
        return section.state in (SectionState.OFFERED, SectionState.RETIRING) and section.state is not told

    def _retire(self, section: Section) -> None:
        never_told = section.state is SectionState.OFFERED and self._untold(section)
        section.state = SectionState.FREE if never_told else SectionState.RETIRING
        section.track_id = section.participant_id = None

    def _use(self, entry: Wanted) -> None:
        free = (s for s in self.sections if s.state is SectionState.FREE and s.kind == entry.kind)
        section = next(free, None) or self._add(entry.kind)
        if section.uses and not self._stable_ssrcs:
            self._number(section)
        section.state = SectionState.OFFERED
        section.track_id = entry.track_id
        section.participant_id = entry.participant_id
        section.uses += 1

    def _add(self, kind: Kind) -> Section:
        section = Section(str(len(self.sections)), kind, SectionState.FREE, 0, 0, None, None, 0)
        self._number(section)
        self.sections.append(section)
        return section

    def _number(self, section: Section) -> None:
        taken = {0} | {ssrc for other in self.sections for ssrc in (other.ssrc, other.rtx_ssrc)}
        fresh: list[int] = []
        while len(fresh) < 2:
            ssrc = self._random_ssrc()
            if ssrc not in taken and ssrc not in fresh:
                fresh.append(ssrc)
        section.ssrc = fresh[0]
        section.rtx_ssrc = fresh[1] if section.kind == "video" else 0

    def offered_tracks(self) -> dict[str, Section]:
        """The sections that carry a track, by mid."""
        return {section.mid: section for section in self.sections if section.track_id is not None}

    def offer(self, local: LocalTransport, *, session_id: int, version: int) -> str:
        """The offer for the sections as they are: always every m-line, in order, an empty one inactive but in the BUNDLE.

        Raises RuntimeError while another offer is in flight.
        """
        if self.in_flight:
            raise RuntimeError("an offer is in flight already")
        self._in_flight = {section.mid: section.state for section in self.sections}
        self._offers += 1
        lines = session_lines(session_id, version, [s.mid for s in self.sections], mixed_extensions=True)
        for section in self.sections:
            lines += _section_lines(section, local)
        return joined(lines)

    def answered(self, answer: SubscribeAnswer) -> tuple[list[Section], list[Section]]:
        """(sections that now carry their track, sections that are free again), of what the answered offer contained.

        A track that the client refuses (port 0, or not receiving) is not among the first, and stays refused until it goes away.
        Raises ValueError if no offer is in flight or the answer has an m-line that the offer had not.
        """
        told = self._in_flight
        if told is None:
            raise ValueError("sdp: no offer waits for this answer")
        if not answer.media.keys() <= told.keys():
            raise ValueError("mid: not in the offer")
        self._in_flight = None
        attached: list[Section] = []
        freed: list[Section] = []
        for section in self.sections:
            if section.state is not told.get(section.mid):
                continue
            if section.state is SectionState.OFFERED:
                section.state = SectionState.LIVE
                media = answer.media.get(section.mid)
                if media is not None and media.direction in ("recvonly", "sendrecv"):
                    attached.append(section)
            elif section.state is SectionState.RETIRING:
                section.state = SectionState.FREE
                freed.append(section)
        return attached, freed


def _section_lines(section: Section, local: LocalTransport) -> list[str]:
    payload_types = [pt for codec in _CODECS[section.kind] for pt in PAYLOAD_TYPES[codec] if pt is not None]
    lines = [
        f"m={section.kind} 9 UDP/TLS/RTP/SAVPF " + " ".join(map(str, payload_types)),
        "c=IN IP4 0.0.0.0",
        f"a=mid:{section.mid}",
        "a=inactive" if section.track_id is None else "a=sendonly",
        *transport_lines(local, "actpass"),
        *extension_lines(EXTENSION_IDS[section.kind]),
    ]
    for codec in _CODECS[section.kind]:
        lines += codec_lines(codec, *PAYLOAD_TYPES[codec], _FMTP[codec], list(FEEDBACK[section.kind]))
    if section.track_id is not None:
        lines += _stream_lines(section)
    return lines


def _stream_lines(section: Section) -> list[str]:
    """msid and SSRCs. One stream per participant: Chromium keeps what is in one stream (and under one cname) in sync."""
    lines = [f"a=msid:{section.participant_id} {section.track_id}"]
    ssrcs = [section.ssrc]
    if section.rtx_ssrc:
        ssrcs.append(section.rtx_ssrc)
        lines.append(f"a=ssrc-group:FID {section.ssrc} {section.rtx_ssrc}")
    return lines + [f"a=ssrc:{ssrc} cname:{section.participant_id}" for ssrc in ssrcs]
