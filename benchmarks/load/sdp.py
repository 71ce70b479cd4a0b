"""Just enough SDP for the load: its publish offer, its answer to whatever a server offers, and what it reads of the server's.

Written apart from `sfu.negotiation`, so that the load talks to any server.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

OPUS, VP8 = 111, 96
AUDIO_LEVEL, ABS_SEND_TIME, TRANSPORT_CC, MID, RID = 1, 2, 3, 4, 5
"""Header extension ids of the publisher."""
AUDIO_SSRC, VIDEO_SSRC = 1_000_001, 1_000_002

_EXTENSIONS = {
    AUDIO_LEVEL: "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
    ABS_SEND_TIME: "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
    TRANSPORT_CC: "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
    MID: "urn:ietf:params:rtp-hdrext:sdes:mid",
    RID: "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
}
_KEPT = ("rtpmap", "fmtp", "rtcp-fb", "extmap")


class Local(NamedTuple):
    """A client's own end."""

    ufrag: str
    password: str
    fingerprint: str
    port: int


@dataclass(frozen=True, slots=True)
class Remote:
    """What a client needs of the server's description."""

    ufrag: str
    password: str
    fingerprint: str
    address: tuple[str, int]
    clocks_hz: dict[int, int]
    """By payload type."""
    rtx_types: frozenset[int]
    transport_cc: int
    """Its header extension id, 0 if there is none."""


def read(sdp: str) -> Remote:
    """Read a server's offer or answer. Raises ValueError if something that the load needs is missing."""
    clocks_hz = {int(number): int(hz) for number, hz in re.findall(r"a=rtpmap:(\d+) [^/\s]+/(\d+)", sdp)}
    return Remote(
        ufrag=_one(r"a=ice-ufrag:(\S+)", sdp),
        password=_one(r"a=ice-pwd:(\S+)", sdp),
        fingerprint=_one(r"a=fingerprint:(?i:sha-256) (\S+)", sdp).upper(),
        address=_address(sdp),
        clocks_hz=clocks_hz,
        rtx_types=frozenset(int(number) for number in re.findall(r"a=rtpmap:(\d+) rtx/", sdp)),
        transport_cc=next((int(n) for n in re.findall(r"a=extmap:(\d+) \S*transport-wide-cc", sdp)), 0),
    )


def _one(pattern: str, sdp: str) -> str:
    match = re.search(pattern, sdp)
    if match is None:
        raise ValueError(f"sdp: nothing matches {pattern}")
    return str(match.group(1))


def _address(sdp: str) -> tuple[str, int]:
    """The first IPv4 candidate over UDP."""
    match = re.search(r"a=candidate:\S+ 1 (?i:udp) \d+ (\d+\.\d+\.\d+\.\d+) (\d+) ", sdp)
    if match is None:
        raise ValueError("sdp: no IPv4 candidate")
    return match.group(1), int(match.group(2))


def publish_offer(local: Local, *, layers: bool) -> str:
    """Opus and VP8 from one client, as a browser offers them; with `layers`, the video in two of which one is sent."""
    simulcast = ["a=rid:l send", "a=rid:h send", "a=simulcast:send l;h", *_extensions(RID)]
    lines = [
        *_session("0 1"),
        *_section("audio", [OPUS], "0", "sendonly", local),
        f"a=rtpmap:{OPUS} opus/48000/2",
        f"a=fmtp:{OPUS} minptime=10;useinbandfec=1",
        f"a=rtcp-fb:{OPUS} transport-cc",
        *_extensions(AUDIO_LEVEL, ABS_SEND_TIME, TRANSPORT_CC, MID),
        *_ssrc(AUDIO_SSRC),
        *_section("video", [VP8], "1", "sendonly", local),
        f"a=rtpmap:{VP8} VP8/90000",
        *(f"a=rtcp-fb:{VP8} {kind}" for kind in ("nack", "nack pli", "ccm fir", "transport-cc")),
        *_extensions(ABS_SEND_TIME, TRANSPORT_CC, MID),
        *(simulcast if layers else _ssrc(VIDEO_SSRC)),
    ]
    return "\r\n".join(lines) + "\r\n"


def answer(offer: str, local: Local) -> str:
    """Take everything that is offered, as the DTLS client."""
    bundle = _one(r"a=group:BUNDLE ([^\r\n]+)", offer)
    lines = _session(bundle)
    for block in re.split(r"^m=", offer, flags=re.MULTILINE)[1:]:
        kind, _, _, types = block.splitlines()[0].split(" ", 3)
        direction = "inactive" if "a=inactive" in block else "recvonly"
        mid = _one(r"a=mid:(\S+)", block)
        lines += _section(kind, [int(number) for number in types.split()], mid, direction, local)
        lines += [line for line in block.splitlines() if line.startswith(tuple(f"a={name}:" for name in _KEPT))]
    return "\r\n".join(lines) + "\r\n"


def _session(bundle: str) -> list[str]:
    return ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0", f"a=group:BUNDLE {bundle}", "a=msid-semantic: WMS *"]


def _section(kind: str, payload_types: list[int], mid: str, direction: str, local: Local) -> list[str]:
    return [
        f"m={kind} 9 UDP/TLS/RTP/SAVPF " + " ".join(map(str, payload_types)),
        "c=IN IP4 127.0.0.1",
        f"a=mid:{mid}",
        f"a={direction}",
        f"a=ice-ufrag:{local.ufrag}",
        f"a=ice-pwd:{local.password}",
        f"a=fingerprint:sha-256 {local.fingerprint}",
        "a=setup:active",
        "a=rtcp-mux",
        "a=rtcp-rsize",
        f"a=candidate:1 1 udp 2130706431 127.0.0.1 {local.port} typ host",
        "a=end-of-candidates",
    ]


def _extensions(*numbers: int) -> list[str]:
    return [f"a=extmap:{number} {_EXTENSIONS[number]}" for number in numbers]


def _ssrc(ssrc: int) -> list[str]:
    return [f"a=msid:load track{ssrc}", f"a=ssrc:{ssrc} cname:load"]
