"""Publish offers of real clients, and what we answer."""

import pytest

from sfu.negotiation.answer import answer, parse_offer
from sfu.negotiation.sections import LocalTransport, PublishedMedia
from tests.unit.negotiation.clients import FIXTURES, LOCAL


def fixture(name: str) -> str:
    return (FIXTURES / f"{name}.sdp").read_bytes().decode()


def answered(
    sdp: str, wanted: set[str], processed: frozenset[str] = frozenset(), local: LocalTransport = LOCAL
) -> tuple[str, list[PublishedMedia]]:
    return answer(parse_offer(sdp), local, session_id=7, version=3, wanted_mids=wanted, processed_mids=set(processed))


def section(sdp: str, mid: str) -> list[str]:
    return next(block for block in sdp.split("\r\nm=")[1:] if f"\r\na=mid:{mid}\r\n" in block + "\r\n").split("\r\n")


def test_chromium_simulcast() -> None:
    sdp, media = answered(fixture("chromium-simulcast"), {"0", "1"})
    audio, video = media
    assert (audio.mid, audio.kind, audio.codec, audio.clock_hz, audio.payload_type) == (
        "0",
        "audio",
        "opus",
        48000,
        111,
    )
    assert (audio.rtx_payload_type, audio.stereo, audio.rids, len(audio.ssrcs)) == (None, False, (), 1)
    assert audio.extension_ids == {"audio-level": 1, "abs-send-time": 2, "transport-cc": 3, "mid": 4}
    assert (video.codec, video.clock_hz, video.payload_type, video.rtx_payload_type) == ("vp8", 90000, 96, 97)
    assert (video.rids, video.ssrcs, video.rtx_ssrcs) == (("q", "h", "f"), (), {})
    assert video.extension_ids == {"abs-send-time": 2, "transport-cc": 3, "mid": 4, "rid": 10, "repaired-rid": 11}
    assert sdp.startswith("v=0\r\no=- 7 3 IN IP4 127.0.0.1\r\n")
    assert "a=group:BUNDLE 0 1\r\n" in sdp
    lines = section(sdp, "1")
    assert lines[0] == "video 9 UDP/TLS/RTP/SAVPF 96 97"
    assert {"a=recvonly", "a=setup:passive", "a=rtcp-mux", "a=simulcast:recv q;h;f", "a=rid:q recv"} <= set(lines)
    assert {"a=rtcp-fb:96 nack pli", "a=rtcp-fb:96 transport-cc", "a=fmtp:97 apt=96"} <= set(lines)
    assert {"a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id", "a=ice-ufrag:abcd"} <= set(lines)
    assert "a=fmtp:111 minptime=10;useinbandfec=1;usedtx=1" in section(sdp, "0")
    assert "red/" not in sdp


def test_chromium_h264_beside_a_data_channel() -> None:
    sdp, media = answered(fixture("chromium-h264-data"), {"0", "1"})
    video = media[1]
    assert (video.codec, video.payload_type, video.rtx_payload_type) == ("h264", 102, 103)
    assert len(video.ssrcs) == 1
    assert list(video.rtx_ssrcs.values()) == list(video.ssrcs)
    assert "a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f" in section(sdp, "1")
    assert section(sdp, "2")[0] == "application 0 UDP/DTLS/SCTP webrtc-datachannel"
    assert "a=group:BUNDLE 0 1\r\n" in sdp


def test_a_reoffer_keeps_the_order_and_what_is_not_wanted_becomes_inactive() -> None:
    sdp, media = answered(fixture("chromium-reoffer"), {"0", "2"})
    assert [entry.mid for entry in media] == ["0", "2"]
    assert [block.split("\r\n")[0].split()[0] for block in sdp.split("\r\nm=")[1:]] == ["audio", "video", "video"]
    camera = section(sdp, "1")
    assert camera[0].startswith("video 9 ")
    assert {"a=inactive", "a=simulcast:recv q;h;f"} <= set(camera)
    assert "a=group:BUNDLE 0 1 2\r\n" in sdp


def test_aiortc() -> None:
    sdp, media = answered(fixture("aiortc-publish"), {"0", "1"})
    assert [entry.codec for entry in media] == ["opus", "vp8"]
    assert all(entry.ssrcs for entry in media)
    assert list(media[1].rtx_ssrcs.values()) == list(media[1].ssrcs)
    offered = parse_offer(fixture("aiortc-publish"))
    assert (offered.remote.fingerprint_algorithm, len(offered.remote.fingerprint)) == ("sha-256", 95)
    assert "transport-cc" not in sdp, "only what was offered may be answered"


def test_candidates_are_in_the_answer() -> None:
    candidate = "1 1 udp 2130706431 127.0.0.1 40000 typ host"
    local = LocalTransport("abcd", "abcdefghijklmnopqrstuv", "AB", (candidate,))
    sdp, _ = answered(fixture("chromium-simulcast"), set(), local=local)
    assert f"a=candidate:{candidate}" in section(sdp, "0")


def test_stereo_is_answered_only_where_nothing_processes_it() -> None:
    stereo = fixture("chromium-simulcast").replace("useinbandfec=1", "useinbandfec=1;stereo=1")
    sdp, media = answered(stereo, {"0"})
    assert media[0].stereo
    assert "a=fmtp:111 minptime=10;useinbandfec=1;stereo=1" in section(sdp, "0")
    sdp, media = answered(stereo, {"0"}, processed=frozenset({"0"}))
    assert not media[0].stereo
    assert "a=fmtp:111 minptime=10;useinbandfec=1;usedtx=1" in section(sdp, "0")


@pytest.mark.parametrize(
    ("offered", "known"),
    [("f;h;q", ("q", "h", "f")), ("h;m;l", ("l", "m", "h")), ("~f;q,h", ("q", "f")), ("b;a", ("b", "a"))],
)
def test_layers_are_ordered_low_to_high_by_known_names(offered: str, known: tuple[str, ...]) -> None:
    rids = "".join(f"a=rid:{rid} send\r\n" for rid in "fhqmlab")
    sdp = fixture("chromium-simulcast").replace("a=simulcast:send q;h;f", f"{rids}a=simulcast:send {offered}")
    text, media = answered(sdp, {"1"})
    assert media[0].rids == known
    as_offered = ";".join(layer.split(",")[0].strip("~") for layer in offered.split(";"))
    assert f"a=simulcast:recv {as_offered}" in section(text, "1")


@pytest.mark.parametrize(
    ("order", "codec"),
    [("98 96", "vp9"), ("45 46 96 97", "av1"), ("104 96", "vp8"), ("116 108", "h264"), ("100 96", "vp8")],
)
def test_the_first_offered_codec_that_every_subscriber_can_be_sent(order: str, codec: str) -> None:
    """104: H.264 without packetization mode 1; 116: Main profile; 100: VP9 profile 2."""
    lines = fixture("chromium-reoffer").split("\r\n")
    screen = next(index for index, line in enumerate(lines) if line.startswith("m=video") and " 96 97 102" in line)
    lines[screen] = f"m=video 9 UDP/TLS/RTP/SAVPF {order}"
    _, media = answered("\r\n".join(lines), {"2"})
    assert media[0].codec == codec


def test_extension_directions() -> None:
    sdp = fixture("chromium-simulcast")
    sdp = sdp.replace("a=extmap:2 ", "a=extmap:2/recvonly ").replace("a=extmap:3 ", "a=extmap:15 ")
    _, media = answered(sdp, {"0"})
    assert media[0].extension_ids == {"audio-level": 1, "mid": 4}


def edited(old: str, new: str, name: str = "chromium-simulcast") -> str:
    sdp = fixture(name)
    assert old in sdp
    return sdp.replace(old, new)


BAD = {
    "sdp: longer": "v=0\r\n" + "a=x\r\n" * 60_000,
    "sdp: more than 8192 lines": fixture("chromium-simulcast") + "a=x\r\n" * 8192,
    "sdp: more than 256 session lines": edited("s=-", "s=-" + "\r\na=x" * 256),
    "sdp: control": edited("s=-", "s=\x00"),
    "sdp: a line is not": edited("s=-", "hello"),
    "sdp: does not start": edited("v=0\r\n", ""),
    "sdp: more than 32": fixture("chromium-simulcast") + "m=audio 9 RTP/SAVPF 0\r\na=mid:x\r\n" * 31,
    "sdp: no audio or video": edited("UDP/TLS/RTP/SAVPF", "RTP/AVP"),
    "m-line: malformed": edited("m=audio 9", "m=audio nine"),
    "mid: not unique": edited("a=mid:1", "a=mid:0"),
    "mid: missing": edited("a=mid:1\r\n", ""),
    "mid: missing, too long": edited("a=mid:1\r\n", "a=mid:" + "1" * 17 + "\r\n"),
    "group: BUNDLE names": edited("BUNDLE 0 1", "BUNDLE 0 1 2"),
    "group: not everything": edited("BUNDLE 0 1", "BUNDLE 0"),
    "group: more than one": edited("a=group:BUNDLE 0 1", "a=group:BUNDLE 0\r\na=group:BUNDLE 1"),
    "ice-ufrag: missing": "\r\n".join(x for x in fixture("chromium-simulcast").split("\r\n") if "ufrag" not in x),
    "ice-ufrag: not 4": edited("a=ice-ufrag:", "a=ice-ufrag:?"),
    "ice-pwd: not 22": edited("a=ice-pwd:", "a=ice-pwd:x\r\na=old-pwd:"),
    "fingerprint: none": edited("a=fingerprint:sha-256", "a=fingerprint:sha-1"),
    "fingerprint: not 48": edited("a=fingerprint:sha-256", "a=fingerprint:sha-384"),
    "fingerprint: not 32": edited("a=fingerprint:sha-256 ", "a=fingerprint:sha-256 xx"),
    "setup: not": edited("a=setup:actpass", "a=setup:holdconn"),
    "setup: passive": edited("a=setup:actpass", "a=setup:passive"),
    "rtpmap: malformed": edited("a=rtpmap:96 VP8/90000", "a=rtpmap:96 VP8"),
    "fmtp: malformed": edited("a=fmtp:111 ", "a=fmtp:111 \u00e9"),
    "extmap: malformed": edited("a=extmap:1 ", "a=extmap:one "),
    "extmap: two": edited("a=extmap:2 ", "a=extmap:4 "),
    "simulcast: a layer": edited("a=rid:h send\r\n", ""),
    "simulcast: more than 4": edited("send q;h;f", "send q;h;f;1;2"),
    "simulcast: without": edited("a=extmap:10 ", "a=extmap:99 "),
    "ssrc: malformed": edited("a=ssrc-group:FID ", "a=ssrc-group:FID x", "chromium-h264-data"),
    "ssrc: more than": edited("a=rid:q send", "".join(f"a=ssrc:{i} cname:x\r\n" for i in range(17)) + "a=rid:q send"),
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_offer_is_refused_with_its_reason(reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}"):
        parse_offer(BAD[reason])


def test_a_mid_that_cannot_be_received_cannot_be_wanted() -> None:
    offer = parse_offer(fixture("chromium-h264-data"))
    with pytest.raises(ValueError, match=r"^mid: wanted"):
        answer(offer, LOCAL, session_id=1, version=1, wanted_mids={"2"}, processed_mids=set())


def test_transport_attributes_may_stand_in_the_session_part() -> None:
    lines = fixture("aiortc-publish").split("\r\n")
    shared = ("a=ice-", "a=fingerprint", "a=setup")
    moved = [line for line in dict.fromkeys(lines) if line.startswith(shared)]
    rest = [line for line in lines if not line.startswith(shared)]
    at = rest.index("t=0 0") + 1
    offer = parse_offer("\r\n".join(rest[:at] + moved + rest[at:]))
    assert offer.remote == parse_offer(fixture("aiortc-publish")).remote


def test_a_section_without_a_direction_has_that_of_the_session() -> None:
    sdp = edited("s=-", "s=-\r\na=recvonly\r\na=inactive").replace("a=sendonly\r\n", "", 1)
    first, second = parse_offer(sdp).media
    assert (first.section.direction, second.section.direction) == ("recvonly", "sendonly")
