"""Why signaling refuses something, and how the media plane's codes become codes of the wire.

SignalingError             any of the below; carries an `ErrorCode`, a sentence for people, and whether a retry may help
  MessageError             the message itself is malformed, too large, or comes too fast
  GrantError               a token or a session key does not let you in
  RoomError                the room, or what is in it, does not allow the request
  MediaError               the worker behind the room refused, or cannot be reached
"""

from pydantic import ValidationError

from sfu.channel import ChannelError
from signaling.protocol.codes import RETRYABLE, ErrorCode
from signaling.protocol.messages import Error

# What a worker may answer, and what the client reads. Anything else is our fault: `internal`.
CHANNEL_CODES: dict[str, ErrorCode] = {
    "bad_sdp": ErrorCode.BAD_SDP,
    "channel_closed": ErrorCode.MEDIA_UNAVAILABLE,
    "media_unavailable": ErrorCode.MEDIA_UNAVAILABLE,
    "no_such_participant": ErrorCode.NO_SUCH_PARTICIPANT,
    "no_such_track": ErrorCode.NO_SUCH_TRACK,
    "timeout": ErrorCode.TIMEOUT,
    "too_large": ErrorCode.TOO_LARGE,
}
_TOO_LARGE_TYPES = frozenset({"string_too_long", "too_long"})


class SignalingError(Exception):
    """A request is refused. `code` is stable; the message is for people and names no person."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def wire(self) -> Error:
        """As it is sent in an ack."""
        return Error(code=self.code, message=self.message, retryable=self.code in RETRYABLE)


class MessageError(SignalingError):
    """The message is malformed, too large, or one too many."""


class GrantError(SignalingError):
    """Neither token nor session key lets the caller in."""


class RoomError(SignalingError):
    """The room does not allow it."""


class MediaError(SignalingError):
    """The media plane refused or is away."""


def from_channel(error: ChannelError) -> MediaError:
    """The wire's error for a worker's refusal."""
    code = CHANNEL_CODES.get(error.code)
    if code is None:  # its text is for us, and may repeat what a client sent
        return MediaError(ErrorCode.INTERNAL, "the media server failed")
    return MediaError(code, error.message)


def from_validation(error: ValidationError) -> MessageError:
    """The wire's error for a payload that does not fit its model; names the field and never repeats its value."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "message"
    code = ErrorCode.TOO_LARGE if first["type"] in _TOO_LARGE_TYPES else ErrorCode.BAD_MESSAGE
    return MessageError(code, f"{field[:100]}: {first['msg']}")
