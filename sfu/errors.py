"""Errors of the media plane, and every reason for which it drops a packet.

SfuError
  NegotiationError     an SDP or its answer cannot be used
  UnknownTargetError   a participant, track or transport that is not here
  TransportError       ICE or DTLS did not come up
"""

from enum import StrEnum
from typing import ClassVar


class SfuError(Exception):
    """Base; `code` crosses the channel."""

    code: ClassVar[str] = "media_unavailable"


class NegotiationError(SfuError):
    """An SDP cannot be used; the message says why."""

    code = "bad_sdp"


class UnknownTargetError(SfuError):
    """The request names something that is not here."""

    code = "no_such_track"


class TransportError(SfuError):
    """ICE or DTLS failed."""


class DropReason(StrEnum):
    """Why a packet was not passed on. Every exit of the packet path that is not a send counts one of these."""

    UNKNOWN_ADDRESS = "unknown_address"
    UNKNOWN_UFRAG = "unknown_ufrag"
    ADDRESS_TAKEN = "address_taken"
    ADDRESS_LIMIT = "address_limit"
    MALFORMED_STUN = "malformed_stun"
    MALFORMED_RTP = "malformed_rtp"
    MALFORMED_RTCP = "malformed_rtcp"
    OVERSIZED = "oversized"
    NOT_READY = "not_ready"
    DTLS_QUEUE_FULL = "dtls_queue_full"
    SRTP_REJECTED = "srtp_rejected"
    SSRC_LIMIT = "ssrc_limit"
    PROTECT_REFUSED = "protect_refused"
    SEND_FAILED = "send_failed"
    UNROUTABLE = "unroutable"
    DUPLICATE = "duplicate"
    PADDING = "padding"
    MUTED = "muted"
    RATE = "rate"
    LATE = "late"
    NO_KEYFRAME = "no_keyframe"
    BEFORE_SWITCH = "before_switch"
    PATH_DEADLINE = "path_deadline"
    PATH_SUPERSEDED = "path_superseded"
    PATH_STRAY = "path_stray"
    TAP_FULL = "tap_full"
    TAP_VIDEO_FULL = "tap_video_full"
    DERIVED_STRAY = "derived_stray"
    DERIVED_WAITS = "derived_waits"
    RTX_GONE = "rtx_gone"
    RTX_CAPPED = "rtx_capped"
    NACK_CAPPED = "nack_capped"
    FEEDBACK_CAPPED = "feedback_capped"
    KEYFRAME_CAPPED = "keyframe_capped"
