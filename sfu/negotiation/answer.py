"""The publish side: read a client's offer, answer it as the passive, receiving end."""

import re
from dataclasses import dataclass, replace

from sfu.negotiation import description
from sfu.negotiation.description import Codec, Description, Media, RemoteTransport
from sfu.negotiation.sections import (
    FEEDBACK,
    OPUS_FMTP,
    OPUS_STEREO_FMTP,
    VIDEO_CLOCK_HZ,
    CodecName,
    Kind,
    LocalTransport,
    PublishedMedia,
    codec_lines,
    extension_lines,
    joined,
    session_lines,
    transport_lines,
)

MAX_OFFER_LENGTH = 256 * 1024
MAX_MEDIA = 32
MAX_LAYERS = 4
MAX_SSRCS = 16
_RID = re.compile(r"[A-Za-z0-9]{1,16}")  # RFC 8852 section 3.1; 16 fit a one-byte header extension
_SSRC = re.compile(r"([0-9]{1,10})(?: .*)?")
_PROFILE_PARAMETERS = (
    *("level-asymmetry-allowed", "packetization-mode", "profile-level-id"),  # H.264, RFC 6184 section 8.2.2
    *("profile-id",),  # VP9, RFC 9628 section 7
    *("level-idx", "profile", "tier"),  # AV1, its RTP payload format section 7.2.1
)
_LADDERS = (("q", "h", "f"), ("l", "m", "h"), ("low", "middle", "high"), ("low", "medium", "high"))


@dataclass(frozen=True, slots=True)
class OfferedMedia:
    """One m-line of an offer. `published` is what it becomes if it is wanted, None if we cannot receive it."""

    mid: str
    kind: str
    sends: bool
    published: PublishedMedia | None
    simulcast: str
    """The layers as the offer lists them in `a=simulcast:send`; empty without simulcast."""
    section: Media


@dataclass(frozen=True, slots=True)
class PublishOffer:
    """A publish offer, read and checked."""

    remote: RemoteTransport
    media: tuple[OfferedMedia, ...]
    bundle: tuple[str, ...]
    mixed_extensions: bool


def parse_offer(sdp: str) -> PublishOffer:
    """Read a publish offer. Raises ValueError naming what is wrong, also if nothing in it can be received."""
    offer = description.parse(sdp, max_length=MAX_OFFER_LENGTH, max_media=MAX_MEDIA)
    media = tuple(_offered(section) for section in offer.media)
    usable = [entry for entry in media if entry.published]
    if not usable:
        raise ValueError("sdp: no audio or video m-line that we can receive")
    remote = description.remote_transport(offer.session, _tagged(offer, usable).section.attributes)
    if remote.setup == "passive":
        raise ValueError("setup: passive, and so are we")
    return PublishOffer(remote, media, offer.bundle, offer.session.has("extmap-allow-mixed"))


def _tagged(offer: Description, usable: list[OfferedMedia]) -> OfferedMedia:
    """The section whose transport everything uses: the first of the group that we accept (RFC 8843 section 7.3.2)."""
    by_mid = {entry.mid: entry for entry in usable}
    if not by_mid.keys() <= set(offer.bundle) and (len(usable) > 1 or offer.bundle):
        raise ValueError("group: not everything is in one BUNDLE")
    return next((by_mid[mid] for mid in offer.bundle if mid in by_mid), usable[0])


def _offered(section: Media) -> OfferedMedia:
    published = None
    simulcast = ""
    if section.kind in ("audio", "video") and section.is_rtp and not section.rejected:
        rids = _simulcast_rids(section)
        simulcast = ";".join(rids)
        published = _published(section, rids)
    sends = section.direction in ("sendrecv", "sendonly")
    return OfferedMedia(section.mid, section.kind, sends, published, simulcast, section)


def _published(section: Media, rids: tuple[str, ...]) -> PublishedMedia | None:
    """What we agree to receive, None if no offered codec is ours."""
    offered = description.codecs(section)
    found = next(((codec, name) for codec in offered if (name := _usable(codec, section.kind))), None)
    if found is None:
        return None
    codec, name = found
    apt = str(codec.payload_type)
    rtx = (c.payload_type for c in offered if c.name == "rtx" and description.parameters(c.fmtp).get("apt") == apt)
    ssrcs, rtx_ssrcs = _ssrcs(section)
    parameters = description.parameters(codec.fmtp)
    kind: Kind = "audio" if section.kind == "audio" else "video"
    return PublishedMedia(
        mid=section.mid,
        kind=kind,
        codec=name,
        clock_hz=codec.clock_hz,
        payload_type=codec.payload_type,
        rtx_payload_type=next(rtx, None) if kind == "video" else None,
        extension_ids=description.extension_ids(section, sender=True),
        rids=_low_to_high(rids),
        ssrcs=ssrcs,
        rtx_ssrcs=rtx_ssrcs,
        stereo=name == "opus" and "1" in (parameters.get("stereo"), parameters.get("sprop-stereo")),
        fmtp=codec.fmtp,
    )


def _usable(codec: Codec, kind: str) -> CodecName | None:
    """Our name for a codec that every subscriber can be sent under the payload types of `offer`, None for others."""
    if kind == "audio":
        return "opus" if codec[1:4] == ("opus", 48_000, 2) else None
    parameters = description.parameters(codec.fmtp)
    if codec.clock_hz != VIDEO_CLOCK_HZ:
        return None
    if codec.name == "vp8":
        return "vp8"
    if codec.name == "h264":
        # (Constrained) Baseline only: subscribers are offered nothing higher.
        baseline = parameters.get("profile-level-id", "42e01f").lower().startswith("42")
        return "h264" if baseline and parameters.get("packetization-mode") == "1" else None
    if codec.name == "vp9":
        return "vp9" if parameters.get("profile-id", "0") == "0" else None
    if codec.name == "av1":
        return "av1" if parameters.get("profile", "0") == "0" else None
    return None


def _simulcast_rids(section: Media) -> tuple[str, ...]:
    """Layers in the order of `a=simulcast:send`, the first alternative of each (RFC 8853 section 5.1)."""
    words = (section.attributes.first("simulcast") or "").split()
    directions = dict(zip(words[::2], words[1::2], strict=False))
    layers = directions["send"].split(";") if "send" in directions else []
    rids = tuple(layer.partition(",")[0].removeprefix("~") for layer in layers)
    if len(rids) > MAX_LAYERS or len(set(rids)) < len(rids):
        raise ValueError(f"simulcast: more than {MAX_LAYERS} layers, or one twice")
    declared = {value.partition(" ")[0] for value in section.attributes.all("rid") if value.split()[1:2] == ["send"]}
    if not all(rid in declared and _RID.fullmatch(rid) for rid in rids):
        raise ValueError("simulcast: a layer without a well-formed a=rid")
    if rids and not {"mid", "rid"} <= description.extension_ids(section, sender=True).keys():
        raise ValueError("simulcast: without the mid and rid header extensions")
    return rids


def _low_to_high(rids: tuple[str, ...]) -> tuple[str, ...]:
    """Layers with known names by that knowledge, others as offered: Chromium keeps the order of `sendEncodings`."""
    for ladder in _LADDERS:
        if set(rids) <= set(ladder):
            return tuple(rid for rid in ladder if rid in rids)
    return rids


def _ssrcs(section: Media) -> tuple[tuple[int, ...], dict[int, int]]:
    """(media SSRCs, {SSRC of RTX: media SSRC}). Raises ValueError if one is malformed or there are too many."""
    announced = dict.fromkeys(_ssrc(value) for value in section.attributes.all("ssrc"))
    if len(announced) > MAX_SSRCS:
        raise ValueError(f"ssrc: more than {MAX_SSRCS}")
    repairs: dict[int, int] = {}
    for value in section.attributes.all("ssrc-group"):
        semantics, *members = value.split()[:3] or [""]
        if semantics == "FID" and len(members) == 2:
            repairs[_ssrc(members[1])] = _ssrc(members[0])
    if len(repairs) > MAX_SSRCS:
        raise ValueError(f"ssrc-group: more than {MAX_SSRCS}")
    return tuple(ssrc for ssrc in announced if ssrc not in repairs), repairs


def _ssrc(value: str) -> int:
    match = _SSRC.fullmatch(value)
    if match is None or int(match[1]) >= 1 << 32:
        raise ValueError("ssrc: malformed")
    return int(match[1])


def answer(
    offer: PublishOffer,
    local: LocalTransport,
    *,
    session_id: int,
    version: int,
    wanted_mids: set[str],
    processed_mids: set[str],
) -> tuple[str, list[PublishedMedia]]:
    """(the answer, what it agreed to receive): `a=recvonly` for what sends and is wanted, else `a=inactive`.

    A processed track is answered in mono. m-lines that we cannot receive are rejected with port 0, in their place.
    Raises ValueError if a wanted mid is not in the offer or cannot be received.
    """
    usable = {entry.mid for entry in offer.media if entry.published}
    if not wanted_mids <= usable:
        raise ValueError("mid: wanted, but the offer has no m-line with it that we can receive")
    lines: list[str] = []
    agreed: list[PublishedMedia] = []
    for entry in offer.media:
        media = entry.published
        if media is None:
            lines += _rejected(entry.section)
            continue
        receive = entry.sends and entry.mid in wanted_mids
        if entry.mid in processed_mids:
            media = replace(media, stereo=False)
        if receive:
            agreed.append(media)
        lines += _accepted(entry, media, local, "recvonly" if receive else "inactive")
    bundle = [mid for mid in offer.bundle if mid in usable]
    head = session_lines(session_id, version, bundle, mixed_extensions=offer.mixed_extensions)
    return joined(head + lines), agreed


def _rejected(section: Media) -> list[str]:
    return [
        f"m={section.kind} 0 {section.protocol} {section.formats}",
        "c=IN IP4 0.0.0.0",
        "a=inactive",
        f"a=mid:{section.mid}",
    ]


def _fmtp(media: PublishedMedia) -> str:
    """What we ask the sender's encoder for: Opus in our way, video in the profile that it offered."""
    if media.codec == "opus":
        return OPUS_STEREO_FMTP if media.stereo else OPUS_FMTP
    parameters = description.parameters(media.fmtp)
    return ";".join(f"{key}={parameters[key]}" for key in _PROFILE_PARAMETERS if key in parameters)


def _accepted(entry: OfferedMedia, media: PublishedMedia, local: LocalTransport, direction: str) -> list[str]:
    offered_feedback = description.feedback(entry.section, media.payload_type)
    feedback = [name for name in FEEDBACK[media.kind] if name in offered_feedback]
    rtx = "" if media.rtx_payload_type is None else f" {media.rtx_payload_type}"
    lines = [
        f"m={media.kind} 9 {entry.section.protocol} {media.payload_type}{rtx}",
        "c=IN IP4 0.0.0.0",
        f"a=mid:{media.mid}",
        f"a={direction}",
        *transport_lines(local, "passive"),
        *extension_lines(media.extension_ids),
        *codec_lines(media.codec, media.payload_type, media.rtx_payload_type, _fmtp(media), feedback),
    ]
    if entry.simulcast:
        # Also while inactive: left out, Chromium keeps the first layer and offers the others only as paused from then on.
        lines += [f"a=rid:{rid} recv" for rid in entry.simulcast.split(";")]
        lines.append(f"a=simulcast:recv {entry.simulcast}")
    return lines
