"""The types that negotiation hands to the media plane, and the lines that all our m-sections share."""

from dataclasses import dataclass
from typing import Literal

from sfu.negotiation.description import RemoteTransport
from sfu.rtp import extensions

__all__ = ["CodecName", "Kind", "LocalTransport", "PublishedMedia", "RemoteTransport"]

Kind = Literal["audio", "video"]
CodecName = Literal["opus", "vp8", "h264", "vp9", "av1"]

RTPMAPS: dict[CodecName, str] = {
    "opus": "opus/48000/2",  # always written so, whatever the number of channels (RFC 7587 section 7)
    "vp8": "VP8/90000",
    "h264": "H264/90000",
    "vp9": "VP9/90000",
    "av1": "AV1/90000",
}
VIDEO_CLOCK_HZ = 90_000
OPUS_FMTP = "minptime=10;useinbandfec=1;usedtx=1"  # Chromium's encoder obeys the fmtp of the answer
OPUS_STEREO_FMTP = "minptime=10;useinbandfec=1;stereo=1"  # DTX would cut into quiet music
FEEDBACK: dict[Kind, tuple[str, ...]] = {
    "audio": ("transport-cc",),
    "video": ("transport-cc", "ccm fir", "nack", "nack pli", "goog-remb"),
}


@dataclass(frozen=True, slots=True)
class LocalTransport:
    """Our end of a transport, as it is written into an offer or answer."""

    ufrag: str
    password: str
    fingerprint: str
    """SHA-256, hexadecimal bytes with colons."""
    candidates: tuple[str, ...]
    """Values of `a=candidate:`, without that prefix (RFC 8839 section 5.1)."""


@dataclass(frozen=True, slots=True)
class PublishedMedia:
    """One accepted m-line of a publish offer, in the publisher's own numbers."""

    mid: str
    kind: Kind
    codec: CodecName
    clock_hz: int
    payload_type: int
    rtx_payload_type: int | None
    extension_ids: dict[str, int]
    """By the short names of `sfu.rtp.extensions`."""
    rids: tuple[str, ...]
    """Simulcast layers from low to high; empty without simulcast."""
    ssrcs: tuple[int, ...]
    """Announced by `a=ssrc`, without those of RTX; empty for Chromium's simulcast."""
    rtx_ssrcs: dict[int, int]
    """SSRC of RTX to the SSRC that it repairs (`a=ssrc-group:FID`, RFC 5576 section 4.2)."""
    stereo: bool
    fmtp: str
    """What the publisher wrote, empty if nothing."""


def session_lines(session_id: int, version: int, bundle: list[str], *, mixed_extensions: bool) -> list[str]:
    """The session part (RFC 8829 section 5.2.1). aiortc gives tracks their ids only if there is an msid-semantic."""
    lines = ["v=0", f"o=- {session_id} {version} IN IP4 127.0.0.1", "s=-", "t=0 0"]
    if bundle:
        lines.append("a=group:BUNDLE " + " ".join(bundle))
    if mixed_extensions:
        lines.append("a=extmap-allow-mixed")
    lines.append("a=msid-semantic: WMS *")
    return lines


def transport_lines(local: LocalTransport, setup: str) -> list[str]:
    """ICE and DTLS of one m-section. Every section repeats them: aiortc reads them from each."""
    return [
        f"a=ice-ufrag:{local.ufrag}",
        f"a=ice-pwd:{local.password}",
        f"a=fingerprint:sha-256 {local.fingerprint}",
        f"a=setup:{setup}",
        "a=rtcp-mux",
        "a=rtcp-rsize",
        *(f"a=candidate:{candidate}" for candidate in local.candidates),
        "a=end-of-candidates",
    ]


def codec_lines(codec: CodecName, payload_type: int, rtx: int | None, fmtp: str, feedback: list[str]) -> list[str]:
    """rtpmap, fmtp and rtcp-fb of a codec and of its retransmission (RFC 4588 section 8.6)."""
    lines = [f"a=rtpmap:{payload_type} {RTPMAPS[codec]}"]
    lines += [f"a=rtcp-fb:{payload_type} {entry}" for entry in feedback]
    if fmtp:
        lines.append(f"a=fmtp:{payload_type} {fmtp}")
    if rtx is not None:
        lines += [f"a=rtpmap:{rtx} rtx/{VIDEO_CLOCK_HZ}", f"a=fmtp:{rtx} apt={payload_type}"]
    return lines


def extension_lines(ids: dict[str, int]) -> list[str]:
    """RFC 8285 section 5."""
    return [f"a=extmap:{number} {extensions.URIS[name]}" for name, number in ids.items()]


def joined(lines: list[str]) -> str:
    """The description as text."""
    return "\r\n".join(lines) + "\r\n"
