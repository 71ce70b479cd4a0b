"""SDP text into blocks of attributes, and the attributes that every m-section shares (RFC 8866).

Bounded and strict: whatever is wrong raises ValueError naming it, so that nothing that reached a block can break a line of ours.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

from sfu.rtp import extensions

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`{|}~0-9A-Za-z]+")  # RFC 8866 section 9, token
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)")
_MEDIA = re.compile(
    r"([a-z]{1,16}) ([0-9]{1,5})(?:/[0-9]{1,5})? ([A-Za-z/]{1,32}) ([!-~]{1,128}(?: [!-~]{1,128}){0,63})"
)
_RTPMAP = re.compile(r"([0-9]{1,3}) ([A-Za-z0-9\-_.]{1,32})/([0-9]{1,9})(?:/([0-9]{1,3}))?")
_FMTP = re.compile(r"([0-9]{1,3}) ([ -~]{1,1024})")
_FEEDBACK = re.compile(r"([0-9]{1,3}|\*) ([ -~]{1,64})")
_EXTMAP = re.compile(r"([0-9]{1,5})(?:/([a-z]{8}))? (\S{1,256})(?: .*)?")
_ICE = re.compile(r"[A-Za-z0-9+/]+")  # RFC 8839 section 5.4, ice-char
_HEX_BYTES = re.compile(r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2})*")
_DIGEST_BYTES = {"sha-256": 32, "sha-384": 48, "sha-512": 64}
_DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")
_RTP_PROTOCOLS = frozenset(
    {"UDP/TLS/RTP/SAVPF", "TCP/TLS/RTP/SAVPF", "RTP/SAVPF"}
)  # all the same thing (RFC 8829 section 5.1.2)
MAX_SESSION_LINES = 256
MAX_LINES_PER_MEDIA = 256  # on average: Chromium's longest m-section, with every codec and SSRC, has below 200
MAX_MID_LENGTH = 16  # what fits a one-byte header extension (RFC 8285 section 4.2)


@dataclass(frozen=True, slots=True)
class RemoteTransport:
    """What a peer's description says about its end of the ICE and DTLS transport."""

    ufrag: str
    password: str
    fingerprint_algorithm: str
    """sha-256, sha-384 or sha-512."""
    fingerprint: str
    """Upper case hexadecimal bytes with colons."""
    setup: str
    """actpass, active or passive (RFC 8842 section 5)."""


class Codec(NamedTuple):
    """One payload type of an m-section: `name` in lower case, `fmtp` empty if there is none."""

    payload_type: int
    name: str
    clock_hz: int
    channels: int
    fmtp: str


@dataclass(frozen=True, slots=True)
class Attributes:
    """The `a=` lines of one block in their order, as (name, value); a property such as `a=sendonly` has an empty value."""

    lines: tuple[tuple[str, str], ...]

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.lines if key == name]

    def first(self, name: str) -> str | None:
        return next((value for key, value in self.lines if key == name), None)

    def has(self, name: str) -> bool:
        return any(key == name for key, _ in self.lines)


@dataclass(frozen=True, slots=True)
class Media:
    """One m-section, as it was written."""

    mid: str
    kind: str
    port: int
    protocol: str
    formats: str
    direction: str
    attributes: Attributes

    @property
    def rejected(self) -> bool:
        """Port 0 means no, unless it only says that the section has no transport of its own (RFC 8843 section 6)."""
        return self.port == 0 and not self.attributes.has("bundle-only")

    @property
    def is_rtp(self) -> bool:
        return self.protocol in _RTP_PROTOCOLS and self.attributes.has("rtcp-mux")


@dataclass(frozen=True, slots=True)
class Description:
    """A session description with all its m-sections; `bundle` holds the mids of its BUNDLE group in their order."""

    session: Attributes
    media: tuple[Media, ...]
    bundle: tuple[str, ...]


def parse(sdp: str, *, max_length: int, max_media: int) -> Description:
    """Read a description. Raises ValueError for anything that is not SDP, is too long, or has m-sections without unique mids.

    Too long is `max_length` characters, `max_media` m-lines, 256 lines for each of these, or 256 lines before the first. The
    time this takes is linear in the length.
    """
    if len(sdp) > max_length:
        raise ValueError(f"sdp: longer than {max_length} characters")
    if sdp.count("\n") > max_media * MAX_LINES_PER_MEDIA:
        raise ValueError(f"sdp: more than {max_media * MAX_LINES_PER_MEDIA} lines")
    if _CONTROL.search(sdp):
        raise ValueError("sdp: control character")
    blocks: list[list[str]] = [[]]
    for line in sdp.replace("\r\n", "\n").removesuffix("\n").split("\n"):
        if len(line) < 2 or line[1] != "=":
            raise ValueError("sdp: a line is not type=value")
        if line[0] == "m":
            blocks.append([])
        blocks[-1].append(line)
    if not blocks[0] or blocks[0][0] != "v=0":
        raise ValueError("sdp: does not start with v=0")
    if len(blocks) - 1 > max_media:
        raise ValueError(f"sdp: more than {max_media} m-lines")
    if len(blocks[0]) > MAX_SESSION_LINES:
        raise ValueError(f"sdp: more than {MAX_SESSION_LINES} session lines")
    session = _attributes(blocks[0])
    direction = _direction(session) or "sendrecv"
    media = tuple(_media(block, direction) for block in blocks[1:])
    mids = [section.mid for section in media]
    if len(set(mids)) < len(mids):
        raise ValueError("mid: not unique")
    return Description(session, media, _bundle(session, mids))


def _attributes(block: list[str]) -> Attributes:
    pairs = (line[2:].partition(":") for line in block if line[0] == "a")
    return Attributes(tuple((name, value.strip()) for name, _, value in pairs))


def _direction(attributes: Attributes) -> str | None:
    return next((name for name, _ in attributes.lines if name in _DIRECTIONS), None)


def _media(block: list[str], session_direction: str) -> Media:
    match = _MEDIA.fullmatch(block[0], 2)
    if match is None:
        raise ValueError("m-line: malformed")
    kind, port, protocol, formats = match.groups()
    attributes = _attributes(block)
    mid = attributes.first("mid") or ""
    if not is_token(mid, MAX_MID_LENGTH):
        raise ValueError("mid: missing, too long or not a token")
    return Media(mid, kind, int(port), protocol, formats, _direction(attributes) or session_direction, attributes)


def _bundle(session: Attributes, mids: list[str]) -> tuple[str, ...]:
    groups = [value.split()[1:] for value in session.all("group") if value.split()[:1] == ["BUNDLE"]]
    if len(groups) > 1:
        raise ValueError("group: more than one BUNDLE")
    bundle = tuple(groups[0]) if groups else ()
    if len(set(bundle)) < len(bundle) or not set(bundle) <= set(mids):
        raise ValueError("group: BUNDLE names an unknown mid, or one twice")
    return bundle


def is_token(text: str, max_length: int) -> bool:
    """Whether `text` may stand as a token in a line of ours (RFC 8866 section 9)."""
    return len(text) <= max_length and _TOKEN.fullmatch(text) is not None


def remote_transport(session: Attributes, media: Attributes) -> RemoteTransport:
    """ICE credentials, DTLS fingerprint and role of an m-section, each from the session part if the section does not say.

    Raises ValueError naming what is missing or malformed (RFC 8839 section 5.4, RFC 8122 section 5, RFC 4145 section 4).
    """

    def one(name: str) -> str:
        value = media.first(name) or session.first(name)
        if value is None:
            raise ValueError(f"{name}: missing")
        return value

    ufrag = one("ice-ufrag")
    if not 4 <= len(ufrag) <= 256 or not _ICE.fullmatch(ufrag):
        raise ValueError("ice-ufrag: not 4 to 256 ICE characters")
    password = one("ice-pwd")
    if not 22 <= len(password) <= 256 or not _ICE.fullmatch(password):
        raise ValueError("ice-pwd: not 22 to 256 ICE characters")
    setup = one("setup")
    if setup not in ("actpass", "active", "passive"):
        raise ValueError("setup: not actpass, active or passive")
    algorithm, fingerprint = _fingerprint(media.all("fingerprint") or session.all("fingerprint"))
    return RemoteTransport(ufrag, password, algorithm, fingerprint, setup)


def _fingerprint(values: list[str]) -> tuple[str, str]:
    """The first of the fingerprints whose digest we know; weak ones (SHA-1, MD5) do not count."""
    for value in values:
        algorithm, _, digest = value.partition(" ")
        length = _DIGEST_BYTES.get(algorithm.lower())
        if length is None:
            continue
        if len(digest) != 3 * length - 1 or not _HEX_BYTES.fullmatch(digest):
            raise ValueError(f"fingerprint: not {length} hexadecimal bytes")
        return algorithm.lower(), digest.upper()
    raise ValueError("fingerprint: none with sha-256, sha-384 or sha-512")


def parameters(fmtp: str) -> dict[str, str]:
    """`key=value;key=value` as a dict; keys in lower case, a key without a value maps to an empty string."""
    pairs = (entry.strip().partition("=") for entry in fmtp.split(";"))
    return {key.lower(): value for key, _, value in pairs if key}


def codecs(media: Media) -> list[Codec]:
    """The codecs of an m-section in the order of its m-line, which is the order of preference.

    Raises ValueError for a malformed rtpmap or fmtp.
    """
    formats: dict[str, str] = {}
    for value in media.attributes.all("fmtp"):
        match = _FMTP.fullmatch(value)
        if match is None:
            raise ValueError("fmtp: malformed or too long")
        formats.setdefault(match[1], match[2])
    found: dict[str, Codec] = {}
    for value in media.attributes.all("rtpmap"):
        match = _RTPMAP.fullmatch(value)
        if match is None or int(match[1]) > 127:
            raise ValueError("rtpmap: malformed")
        payload_type, name, clock, channels = match.groups()
        fmtp = formats.get(payload_type, "")
        found.setdefault(payload_type, Codec(int(payload_type), name.lower(), int(clock), int(channels or 1), fmtp))
    return [found[payload_type] for payload_type in media.formats.split() if payload_type in found]


def feedback(media: Media, payload_type: int) -> set[str]:
    """The RTCP feedback offered for a payload type, such as "nack pli" (RFC 4585 section 4.2). Malformed lines do not count."""
    matches = filter(None, map(_FEEDBACK.fullmatch, media.attributes.all("rtcp-fb")))
    return {match[2] for match in matches if match[1] in ("*", str(payload_type))}


def extension_ids(media: Media, *, sender: bool) -> dict[str, int]:
    """Ids of the header extensions that we know by short name, of those that the media sender (or receiver) will use.

    Only ids 1 to 14 count, those of the one-byte form (RFC 8285 section 4.2). Raises ValueError for a malformed or repeated id.
    """
    ids: dict[str, int] = {}
    for value in media.attributes.all("extmap"):
        match = _EXTMAP.fullmatch(value)
        if match is None:
            raise ValueError("extmap: malformed")
        name = extensions.NAMES.get(match[3])
        number = int(match[1])
        useless = "recvonly" if sender else "sendonly"
        if name is None or name in ids or not 1 <= number <= 14 or match[2] in (useless, "inactive"):
            continue
        if number in ids.values():
            raise ValueError("extmap: two extensions under one id")
        ids[name] = number
    return ids
