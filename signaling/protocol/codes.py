"""Every code that can appear in an ack or a close, in one place."""

from enum import StrEnum


class ErrorCode(StrEnum):
    """Why a request was refused. `RETRYABLE` says for which of them the same request may succeed later."""

    BAD_MESSAGE = "bad_message"
    BAD_TOKEN = "bad_token"  # a code, not a secret  # nosec B105
    TOKEN_EXPIRED = "token_expired"  # a code, not a secret  # nosec B105
    FORBIDDEN = "forbidden"
    NOT_JOINED = "not_joined"
    ALREADY_JOINED = "already_joined"
    ROOM_FULL = "room_full"
    ROOM_LOCKED = "room_locked"
    ROOM_ENDED = "room_ended"
    NO_SUCH_TRACK = "no_such_track"
    NO_SUCH_PARTICIPANT = "no_such_participant"
    NO_SUCH_PROCESSOR = "no_such_processor"
    PROCESSOR_UNAVAILABLE = "processor_unavailable"
    BAD_SDP = "bad_sdp"
    RESUME_REFUSED = "resume_refused"
    RATE_LIMITED = "rate_limited"
    TOO_LARGE = "too_large"
    MEDIA_UNAVAILABLE = "media_unavailable"
    TIMEOUT = "timeout"
    INTERNAL = "internal"


RETRYABLE = frozenset({ErrorCode.RATE_LIMITED, ErrorCode.MEDIA_UNAVAILABLE, ErrorCode.TIMEOUT, ErrorCode.ROOM_FULL})


class CloseReason(StrEnum):
    """Why a participant is no longer in the room."""

    LEFT = "left"
    DUPLICATE_IDENTITY = "duplicate_identity"
    REMOVED = "removed"
    ROOM_ENDED = "room_ended"
    CONNECTION_LOST = "connection_lost"
    TOKEN_EXPIRED = "token_expired"  # a code, not a secret  # nosec B105
    SERVER_SHUTDOWN = "server_shutdown"
    MOVED = "moved"
