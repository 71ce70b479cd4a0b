"""Header extensions by name, and the contents of two of them."""

URIS = {
    "audio-level": "urn:ietf:params:rtp-hdrext:ssrc-audio-level",  # RFC 6464
    "abs-send-time": "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
    "transport-cc": "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
    "mid": "urn:ietf:params:rtp-hdrext:sdes:mid",  # RFC 9143
    "rid": "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",  # RFC 8852
    "repaired-rid": "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",  # RFC 8852
}
NAMES = {uri: name for name, uri in URIS.items()}


def abs_send_time(unix_seconds: float) -> int:
    """Seconds as 24-bit 6.18 fixed point, wrapping every 64 s (webrtc.org/experiments/rtp-hdrext/abs-send-time).

    The format counts from 1900; that epoch is a multiple of 64 s before 1970, so it cancels.
    """
    return int(unix_seconds * (1 << 18)) & 0xFFFFFF


def parse_audio_level(value: bytes) -> tuple[int, bool]:
    """(level, voice): the level in -dBov, 0 loudest and 127 silent; whether the sender hears speech (RFC 6464 section 3).

    Raises ValueError unless the value is one byte.
    """
    if len(value) != 1:
        raise ValueError("audio level: not one byte")
    return value[0] & 0x7F, value[0] >= 0x80
